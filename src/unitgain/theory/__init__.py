"""Signal propagation in wide networks at initialization: pure functions of numbers, in float64.

Maps of lengths and correlations (Poole et al. 2016, arXiv 1606.05340), their fixed points and depth scales
(Schoenholz et al. 2017, arXiv 1611.01232), Jacobian spectra (Pennington et al. 2017, arXiv 1711.04735).
"""

from unitgain.theory.activations import (
    Activation,
    elu,
    erf,
    from_callable,
    gelu,
    identity,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from unitgain.theory.criticality import (
    Critical,
    critical,
    critical_line,
    critical_sigma_w,
    double_critical,
)
from unitgain.theory.finite_width import LogNorm, dead_at_birth, log_norm
from unitgain.theory.gaussian import (
    Moments,
    Nodes,
    PairMoments,
    moments,
    nodes,
    pair_expectation,
)
from unitgain.theory.jacobian import Jacobian, product_density
from unitgain.theory.kernels import arc_cosine, erf_kernel, leaky_relu_kernel
from unitgain.theory.mean_field import MeanField, Phase

__all__ = [
    "Activation",
    "Critical",
    "Jacobian",
    "LogNorm",
    "MeanField",
    "Moments",
    "Nodes",
    "PairMoments",
    "Phase",
    "arc_cosine",
    "critical",
    "critical_line",
    "critical_sigma_w",
    "dead_at_birth",
    "double_critical",
    "elu",
    "erf",
    "erf_kernel",
    "from_callable",
    "gelu",
    "identity",
    "leaky_relu",
    "leaky_relu_kernel",
    "log_norm",
    "moments",
    "nodes",
    "pair_expectation",
    "product_density",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]
