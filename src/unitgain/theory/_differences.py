"""Derivatives of functions that come without one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ARM = 4  # points on each side of a stencil: differences of eighth order
_POINTS = np.arange(-_ARM, _ARM + 1, dtype=np.float64)
# Monomial coefficients of the polynomial through the stencil's points, and of its derivative.
_FIT = np.linalg.inv(np.vander(_POINTS, increasing=True))
_DERIVED = _FIT[1:] * np.arange(1, 2 * _ARM + 1)[:, None]


def difference_quotient(
    function: Callable[[Array], Array], kinks: tuple[float, ...], step: float, x: Array
) -> Array:
    """phi'(x) from the polynomial through nine points around x, all on the same side of every kink.

    Shape:
        - x and return: any, the same

    Example:
        >>> difference_quotient(np.abs, (0.0,), 0.01, np.array([-0.001, 3.0])).round(9)
        array([-1.,  1.])
    """
    flat = np.asarray(x, dtype=np.float64).ravel()
    edges = np.array([-np.inf, *kinks, np.inf])
    piece = np.searchsorted(edges, flat, side="right") - 1
    low, high = edges[piece], edges[piece + 1]
    # The outermost points keep off the kink, where the value may belong to the other side.
    spacing = np.minimum(step, (high - low) / (2.0 * _ARM + 1.0))
    reach = (_ARM + 0.5) * spacing
    centre = np.clip(flat, low + reach, high - reach)
    samples = function(centre[:, None] + spacing[:, None] * _POINTS)
    offset = (flat - centre) / spacing
    weights = np.vander(offset, 2 * _ARM, increasing=True) @ _DERIVED
    slope: Array = (weights * samples).sum(1) / spacing
    return slope.reshape(np.shape(x))
