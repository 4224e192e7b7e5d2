r"""Networks whose weights are multiples of the identity: each unit is a network of its own.

From the second layer on no sum of many terms makes pre-activations Gaussian: a unit's are a function of what it got
from the first layer, $z_l = f_l(x)$, x ~ N(0, 1), and all expectations are integrals over x.

Shapes: N nodes of x, H hidden layers, L layers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._branch import Moments, Norm

Array = NDArray[np.float64]

_X_N = np.linspace(-8.0, 8.0, 8001)
_WEIGHT_N = np.exp(-0.5 * _X_N**2) / np.exp(-0.5 * _X_N**2).sum()


@final
@dataclass(frozen=True)
class Step:
    """One hidden layer of every unit.

    Args:
        gain: what its weight multiplies by.
        bias: of every unit.
        scale: of the branch, 1 where nothing is added.
        residual: whether the layer's input is added to its output.
    """

    gain: float
    bias: float
    scale: float
    residual: bool


@final
@dataclass(frozen=True)
class Unmixed:
    """What becomes of the units.

    Attributes:
        z: moments of each hidden layer's pre-activations.
        activations: moments of its activations.
        log_gradient_H: log of the mean squared gradient at each hidden layer's pre-activations, over that at the last
            layer's outputs.
        output: moments of the last layer's outputs.
    """

    z: Sequence[Moments]
    activations: Sequence[Moments]
    log_gradient_H: Array
    output: Moments


def unmixed(
    value: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    norm: Norm,
    steps: Sequence[Step],
    length: float,
) -> Unmixed:
    """Follow the units through the layers and their gradient back.

    A unit's values over examples and an example's over units are distributed alike, so batch and layer norm are one.

    Args:
        value: the activation.
        slope: its derivative.
        norm: of the layers.
        steps: the hidden layers; of the first, gain and bias don't count.
        length: mean square of the first layer's pre-activations.
    """
    z_N = math.sqrt(length) * _X_N
    h_N = z_N / steps[0].gain if steps[0].gain else z_N
    z, activations, slopes = [], [], []
    for i, step in enumerate(steps):
        if i:
            z_N = step.gain * h_N + step.bias
        u_N, divided = _normed(norm, z_N) if norm.first else (z_N, 1.0)
        a_N = value(u_N)
        v_N, divided_behind = (a_N, 1.0) if norm.first else _normed(norm, a_N)
        h_N = h_N + step.scale * v_N if step.residual else v_N
        z.append(_moments(z_N))
        activations.append(_moments(a_N))
        slopes.append(step.scale * slope(u_N) / (divided * divided_behind))
    g_N, squares = np.ones_like(_X_N), []
    for step, slope_N in zip(reversed(steps), reversed(slopes), strict=True):
        delta_N = slope_N * g_N
        squares.append(_expected(delta_N**2))
        g_N = step.gain * delta_N + (g_N if step.residual else 0.0)
    with np.errstate(divide="ignore"):
        log_gradient_H = np.log(squares[::-1])
    return Unmixed(z, activations, log_gradient_H, _moments(h_N))


def _expected(values_N: Array) -> float:
    return float(_WEIGHT_N @ values_N)


def _normed(norm: Norm, values_N: Array) -> tuple[Array, float]:
    """The values behind the norm, and what it divides the gradient by."""
    if norm.kind == "none":
        return values_N, 1.0
    mean = 0.0 if norm.kind == "rms" else _expected(values_N)
    divisor = math.sqrt(_expected((values_N - mean) ** 2) + norm.eps)
    return (values_N - mean) / divisor, divisor


def _moments(values_N: Array) -> Moments:
    """Those of two independent inputs."""
    mean = _expected(values_N)
    return Moments(mean, _expected(values_N**2), mean**2)
