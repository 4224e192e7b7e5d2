r"""How far the gradient of a network of finite width strays from its mean over draws of the weights."""

import math
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._branch import moved
from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import moments
from unitgain.theory.network import Network, Signal

Array = NDArray[np.float64]


def log_gradient_variance(
    network: Network, signal: Signal, widths: Sequence[int], *, orthogonal: bool = False
) -> float:
    r"""The variance of log of one example's squared gradient at the first hidden layer over that at the last.

    Given $\delta_{l+1}$, $|\delta_l|^2$ is a sum of n products of independent $\phi'^2$ and $g^2$, g Gaussian: in units
    of its squared mean its variance is

    $(3 \kappa - 1) / n$, $\kappa = E[\phi'^4] / E[\phi'^2]^2$ over dropout's share that is kept,

    and $(3 \kappa - 3) / n$ with orthogonal weights, which keep $|g|$. For ReLU the first is 5 / n. In a residual layer
    it counts with the squared share that the branch has of the gradient. Lengths, which stray as well and change
    $\phi'$, are left out.

    Args:
        network: whose.
        signal: from `propagate`.
        widths: units of each hidden layer.
        orthogonal: whether weights are orthogonal.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> from unitgain.theory.network import Layer, propagate
        >>> network = Network(relu(), (Layer(2**0.5),) * 12)
        >>> round(log_gradient_variance(network, propagate(network), (100,) * 11), 9)
        0.5

    Reference:
        Hanin and Rolnick 2018, arXiv 1803.01719, theorem 5 (ReLU).
    """
    normed = network.norm.kind != "none" and network.norm.first
    keep = 1 - network.dropout.p
    total = 0.0
    for i, width in enumerate(widths[:-1]):
        layer, following = network.layers[i], network.layers[i + 1]
        length = min(float(signal.q[i]), 1e200)
        kurtosis = _slope_kurtosis(
            network.activation,
            0.0 if normed else layer.bias_mean,
            1.0 if normed else float(f"{max(length - layer.bias_mean**2, 0.0):.6g}"),
        )
        variance = 3 * kurtosis / keep - (3 if orthogonal else 1)
        share = 1.0
        if following.residual:
            growth = float(signal.growth[i])
            share = (growth - 1) / growth if growth > 1 else 0.0
        total += share**2 * variance / width
    return total


@lru_cache(maxsize=4096)
def _slope_kurtosis(activation: Activation, mean: float, variance: float) -> float:
    square = _squared_slope(moved(activation, mean, 1.0))
    m = moments(square, variance)
    first = float(m.mean)
    kurtosis = float(m.second) / (first * first) if first > 0 else 1.0
    return kurtosis if math.isfinite(kurtosis) else 1.0


@lru_cache(maxsize=64)
def _squared_slope(activation: Activation) -> Activation:
    value = partial(_square, activation)
    return Activation(f"squared slope of {activation.name}", value, value, activation.kinks)


def _square(activation: Activation, x: Array) -> Array:
    square: Array = activation.slope(x) ** 2
    return square
