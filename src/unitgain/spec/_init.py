"""The shipped options of ``init``, ``first_init``, ``output_init`` and ``bias_init``."""

import math
from typing import Annotated, Literal

from pydantic import Field

from unitgain.spec._base import Component, Count, NonNegative, Positive, Rate

Distribution = Literal["normal", "uniform"]
Draw = Literal["normal", "orthogonal"]
Base = Literal["he", "lecun", "xavier", "orthogonal", "torch_default", "critical"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Cutoff = Annotated[float, Field(ge=0.1, allow_inf_nan=False)]
"""Below 0.1 standard deviations a truncated normal is a uniform distribution."""


class Zeros(Component):
    """Every weight 0."""

    target: Literal["unitgain.nn.init.zeros"] = Field(alias="_target_")


class Constant(Component):
    """Every weight the same."""

    target: Literal["unitgain.nn.init.constant"] = Field(alias="_target_")
    value: Number = 0.1


class Normal(Component):
    """N(0, std^2)."""

    target: Literal["unitgain.nn.init.normal"] = Field(alias="_target_")
    std: Positive = 0.01


class Uniform(Component):
    """U(-bound, bound)."""

    target: Literal["unitgain.nn.init.uniform"] = Field(alias="_target_")
    bound: Positive = 0.05


class Xavier(Component):
    """Variance gain^2 * 2 / (fan_in + fan_out)."""

    target: Literal["unitgain.nn.init.xavier"] = Field(alias="_target_")
    distribution: Distribution = "normal"
    gain: Positive = 1.0


class He(Component):
    """Variance 2 / ((1 + negative_slope^2) * fan)."""

    target: Literal["unitgain.nn.init.he"] = Field(alias="_target_")
    distribution: Distribution = "normal"
    mode: Literal["fan_in", "fan_out"] = "fan_in"
    negative_slope: NonNegative = 0.0


class LeCun(Component):
    """Variance 1 / fan_in."""

    target: Literal["unitgain.nn.init.lecun"] = Field(alias="_target_")
    distribution: Distribution = "normal"


class Orthogonal(Component):
    """A random matrix with orthonormal rows or columns."""

    target: Literal["unitgain.nn.init.orthogonal"] = Field(alias="_target_")
    gain: Positive = 1.0


class TruncatedNormal(Component):
    """N(0, std^2) within cutoff * std of zero."""

    target: Literal["unitgain.nn.init.truncated_normal"] = Field(alias="_target_")
    std: Positive = 0.02
    cutoff: Cutoff = 2.0


class Sparse(Component):
    """N(0, std^2) on a share of (1 - sparsity) of each unit's inputs."""

    target: Literal["unitgain.nn.init.sparse"] = Field(alias="_target_")
    sparsity: Rate = 0.9
    std: Positive = 0.01


class Identity(Component):
    """The diagonal alone."""

    target: Literal["unitgain.nn.init.identity"] = Field(alias="_target_")
    gain: Positive = 1.0


class MeanField(Component):
    """Weights N(0, sigma_w^2 / fan_in), biases N(0, sigma_b^2)."""

    target: Literal["unitgain.nn.init.mean_field"] = Field(alias="_target_")
    sigma_w: Positive = math.sqrt(2.0)
    sigma_b: NonNegative = 0.0


class TorchDefault(Component):
    """What torch.nn.Linear does."""

    target: Literal["unitgain.nn.init.torch_default"] = Field(alias="_target_")


class Lsuv(Component):
    """Orthogonal, then rescaled on a batch of data."""

    target: Literal["unitgain.nn.init.lsuv"] = Field(alias="_target_")
    target_std: Positive = 1.0
    tolerance: Positive = 0.01
    max_iterations: Count = 10


class Critical(Component):
    """The critical point of the run's activation, dropout and norm."""

    target: Literal["unitgain.nn.init.critical"] = Field(alias="_target_")
    q: Positive = 1.0
    distribution: Draw = "normal"


class ScaledResidual(Component):
    """Residual branches scaled so that signals and gradients are O(1) at any depth."""

    target: Literal["unitgain.nn.init.scaled_residual"] = Field(alias="_target_")
    q: Positive = 1.0
    distribution: Draw = "normal"


class Spectral(Component):
    """A base initializer whose spread and learning rates follow the width."""

    target: Literal["unitgain.nn.init.spectral"] = Field(alias="_target_")
    base: Base = "he"
    base_width: Count = 64


class BiasZeros(Component):
    """Every bias 0."""

    target: Literal["unitgain.nn.init.bias_zeros"] = Field(alias="_target_")


class BiasConstant(Component):
    """Every bias the same."""

    target: Literal["unitgain.nn.init.bias_constant"] = Field(alias="_target_")
    value: Number = 0.1


class BiasNormal(Component):
    """N(0, std^2)."""

    target: Literal["unitgain.nn.init.bias_normal"] = Field(alias="_target_")
    std: Positive = 0.01


class BiasUniform(Component):
    """U(-bound, bound)."""

    target: Literal["unitgain.nn.init.bias_uniform"] = Field(alias="_target_")
    bound: Positive = 0.05


INITIALIZERS: tuple[type[Component], ...] = (
    Zeros,
    Constant,
    Normal,
    Uniform,
    Xavier,
    He,
    LeCun,
    Orthogonal,
    TruncatedNormal,
    Sparse,
    Identity,
    MeanField,
    TorchDefault,
    Lsuv,
    Critical,
    ScaledResidual,
    Spectral,
)
"""Each shipped option of ``init``."""

BIAS_INITIALIZERS: tuple[type[Component], ...] = (
    BiasZeros,
    BiasConstant,
    BiasNormal,
    BiasUniform,
)
"""Each shipped option of ``bias_init`` but ``from_init``, which is the empty node."""
