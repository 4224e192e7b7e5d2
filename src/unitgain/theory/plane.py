"""The plane of sigma_w and sigma_b, and how the gradient changes a layer at each of its points.

Shapes: W values of sigma_w, S values of sigma_b, Q lengths.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import moments

Array = NDArray[np.float64]

_LENGTH_Q = np.geomspace(1e-6, 1e6, 481)


@final
@dataclass(frozen=True)
class Plane:
    """Decades a layer of the gradient's norm, towards the input.

    Attributes:
        sigma_w_W: the abscissas.
        sigma_b_S: the ordinates.
        slope_SW: log10(chi_1) / 2 at the fixed point of lengths; where they grow without end, at the largest length.
    """

    sigma_w_W: Array
    sigma_b_S: Array
    slope_SW: Array


def plane(
    activation: Activation,
    keep: float,
    reach: tuple[float, float],
    q_0: float = 1.0,
    points: tuple[int, int] = (121, 81),
) -> Plane:
    """The gradient's slope on a grid of weights and biases.

    One evaluation of the moments on a grid of lengths serves every point: the fixed point is the first length above or
    below the start at which V(q) = q, to the grid's 6 % and interpolated between.

    Args:
        activation: phi.
        keep: the share of units that dropout keeps.
        reach: the largest sigma_w and sigma_b.
        q_0: from which length the fixed point is looked for.
        points: W and S.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> of_relu = plane(relu(), 1.0, (3.0, 1.0))
        >>> bool(np.allclose(of_relu.slope_SW, np.log10(of_relu.sigma_w_W**2 / 2) / 2))
        True
    """
    sigma_w_W = np.linspace(reach[0] / points[0], reach[0], points[0])
    sigma_b_S = np.linspace(0.0, reach[1], points[1])
    m = moments(activation, _LENGTH_Q)
    start = int(np.searchsorted(_LENGTH_Q, q_0).clip(1, _LENGTH_Q.size - 2))
    slope_SW = np.empty((points[1], points[0]))
    for w, sigma_w in enumerate(sigma_w_W):
        # log V(q) / q: above zero lengths grow.
        map_SQ = sigma_w**2 / keep * m.second + sigma_b_S[:, None] ** 2
        gap_SQ = np.log(map_SQ / _LENGTH_Q)
        place_S = np.array([_fixed_place(gap_Q, start) for gap_Q in gap_SQ])
        chi_S = sigma_w**2 / keep * np.interp(place_S, np.arange(_LENGTH_Q.size), m.slope_second)
        slope_SW[:, w] = 0.5 * np.log10(chi_S)
    return Plane(sigma_w_W, sigma_b_S, slope_SW)


def _fixed_place(gap_Q: Array, start: int) -> float:
    """Where on the grid lengths come to rest, as a fractional index."""
    if gap_Q[start] > 0:
        below = np.flatnonzero(gap_Q[start:] <= 0)
        if not below.size:
            return float(gap_Q.size - 1)
        high = start + int(below[0])
        low = high - 1
    else:
        above = np.flatnonzero(gap_Q[: start + 1] > 0)
        if not above.size:
            return 0.0
        low = int(above[-1])
        high = low + 1
    return float(low + gap_Q[low] / (gap_Q[low] - gap_Q[high]))
