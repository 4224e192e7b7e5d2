"""The panels on which an activation and its slope are resolved, from a small to a large distance from zero.

Panels double in width away from zero, whatever the scale of the Gaussian they will be integrated against: the same ones
serve variances of 1e-12 and of 1e6. Legend: P panel, M node of all panels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._panels import COARSE, nodes_of, refine, unresolved
from unitgain.theory.activations import Activation

Array = NDArray[np.float64]

REACH = 11.0  # standard deviations; the density beyond them is below 1e-26 of its peak
_MOST_PANELS = 1024  # of one octave: beyond them a function is too rough to be resolved
_NOISE = 1e-10  # of the value, in a slope out of difference quotients
# The octave below which an activation isn't looked at, when nothing larger is smooth.
_SMALLEST = -40


@final
@dataclass(frozen=True)
class Grid:
    """An activation at the nodes of its panels.

    Attributes:
        x_M: The nodes.
        weights_M: Their weights.
        value_M: phi.
        slope_M: phi'.
    """

    x_M: Array
    weights_M: Array
    value_M: Array
    slope_M: Array


def octaves_of(sd_low: float, sd_high: float) -> tuple[int, int]:
    """The octaves that Gaussians with standard deviations between two need: 2^k is the panels' outer end.

    Example:
        >>> octaves_of(1.0, 1.0)
        (0, 4)
    """
    return math.floor(math.log2(sd_low)), math.ceil(math.log2(REACH * sd_high))


@lru_cache(maxsize=1024)
def grid_of(activation: Activation, lowest: int, highest: int) -> Grid:
    """Nodes from -2^highest to 2^highest, on panels that are no wider than the octave ``lowest`` at zero.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> grid = grid_of(relu(), 0, 4)
        >>> round(float(grid.weights_M @ grid.slope_M), 9)
        16.0
    """
    edges = edges_of(activation, lowest, highest)
    x_PN, weights_PN = nodes_of(edges[:-1], edges[1:])
    x_M = x_PN.ravel()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return Grid(x_M, weights_PN.ravel(), activation.value(x_M), activation.slope(x_M))


@lru_cache(maxsize=1024)
def edges_of(activation: Activation, lowest: int, highest: int) -> Array:
    """The ends of the panels of `grid_of`, ascending.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> edges_of(relu(), 0, 2)
        array([-4., -2., -1.,  0.,  1.,  2.,  4.])
    """
    inner = min(lowest, _innermost(activation))
    octaves = range(inner + 1, highest + 1)
    right = [np.zeros(1), np.array([2.0**inner]), *(_octave(activation, k, 1.0) for k in octaves)]
    left = [np.array([-(2.0**inner)]), *(_octave(activation, k, -1.0) for k in octaves)]
    return np.unique(np.concatenate([*left, *right]))


@lru_cache(maxsize=4096)
def _octave(activation: Activation, k: int, sign: float) -> Array:
    """The ends of the panels between 2^(k - 1) and 2^k, on one side of zero, but for the nearest to it."""
    inner, outer = 2.0 ** (k - 1), 2.0**k
    splits = [sign * kink for kink in activation.kinks if inner < sign * kink < outer]
    edges = sign * np.array(sorted([inner, *splits, outer]))
    edges.sort()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        slacks = _slacks(activation, k)
        low, high = refine(
            [activation.value, activation.slope], slacks, edges[:-1], edges[1:], _MOST_PANELS
        )
    return high if sign > 0.0 else low


@lru_cache(maxsize=1024)
def _innermost(activation: Activation) -> int:
    """The largest octave k <= 2 that needs no panels between 0 and +-2^k."""
    for k in range(2, _SMALLEST, -1):
        end = 2.0**k
        if any(0.0 < abs(kink) < end for kink in activation.kinks):
            continue
        slacks = _slacks(activation, k)
        x_PN, _ = nodes_of(np.array([-end, 0.0]), np.array([0.0, end]))
        functions = (activation.value, activation.slope)
        if not any(
            unresolved(f(x_PN), slack).any() for f, slack in zip(functions, slacks, strict=True)
        ):
            return k
    return _SMALLEST


def _slacks(activation: Activation, k: int) -> tuple[float, float]:
    """By how much the panels of an octave may miss phi and phi'.

    Functions that fade are judged by what they are three octaves nearer to zero, where a Gaussian that reaches this
    octave has most of its mass.
    """
    x = 2.0 ** (k - np.linspace(0.0, 4.0, 33))
    x = np.concatenate([-x, x])
    value = np.abs(activation.value(x))
    slope = np.abs(activation.slope(x))
    finite = np.isfinite(value) & np.isfinite(slope)
    if not finite.any():
        return math.inf, math.inf
    largest = float(value[finite].max())
    # A slope of zero out of difference quotients is noise of the size of the value's last digits.
    return COARSE * largest, max(COARSE * float(slope[finite].max()), _NOISE * largest)
