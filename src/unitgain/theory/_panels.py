"""Panels of Gauss-Legendre nodes that resolve a function.

Legend: P panel, N node.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

ORDER = 20
NODES_N, WEIGHTS_N = np.polynomial.legendre.leggauss(ORDER)

COARSE = 1e-9  # of the last two coefficients: an integral converges at twice their rate
FINE = 1e-13
_HALVINGS = 44

# Legendre coefficients of the two highest orders, out of values at the nodes.
_TAIL_N2 = (
    np.polynomial.legendre.legvander(NODES_N, ORDER - 1)
    * WEIGHTS_N[:, None]
    * (np.arange(ORDER) + 0.5)
)[:, -2:]


def nodes_of(low: Array, high: Array) -> tuple[Array, Array]:
    """The nodes and weights of panels.

    Shape:
        - low, high: (P,)
        - return: (P, N) both

    Example:
        >>> x, w = nodes_of(np.array([0.0]), np.array([3.0]))
        >>> round(float((w * x**2).sum()), 12)
        9.0
    """
    half = 0.5 * (high - low)
    x_PN = 0.5 * (low + high)[:, None] + half[:, None] * NODES_N
    return x_PN, half[:, None] * WEIGHTS_N


def unresolved(values_PN: Array, slack: float) -> NDArray[np.bool_]:
    """Which panels' polynomials miss the function by about ``slack`` or more.

    Shape:
        - values_PN: (P, N) at the panels' nodes
        - return: (P,)

    Example:
        >>> x, _ = nodes_of(np.array([-1.0, 1.0]), np.array([1.0, 2.0]))
        >>> unresolved(np.abs(x), COARSE)
        array([ True, False])
    """
    tail = np.abs(values_PN @ _TAIL_N2).max(1)
    # Infinite values can't be mended by smaller panels.
    return np.asarray(tail > slack)


def refine(
    functions: Sequence[Function], slacks: Sequence[float], low: Array, high: Array, most: int
) -> tuple[Array, Array]:
    """Halve panels until each function is resolved on each of them, or 44 times.

    Args:
        functions: What to resolve.
        slacks: By how much a panel's polynomial may miss each.
        low: The panels' lower ends.
        high: Their upper ends.
        most: How many panels to look at: what isn't resolved then stays so.

    Returns:
        The lower and upper ends of the panels, ascending.

    Example:
        >>> low, high = refine([np.abs], [COARSE], np.array([-1.0]), np.array([2.0]), 1000)
        >>> narrowest = int((high - low).argmin())
        >>> bool(high[narrowest] - low[narrowest] < 1e-5), bool(abs(low[narrowest]) < 1e-5)
        (True, True)
    """
    lows: list[Array] = []
    highs: list[Array] = []
    count = 0
    for halvings in range(_HALVINGS + 1):
        x_PN, _ = nodes_of(low, high)
        bad = np.zeros(low.size, dtype=np.bool_)
        for function, slack in zip(functions, slacks, strict=True):
            bad |= unresolved(function(x_PN), slack)
        count += low.size
        if halvings == _HALVINGS or count > most:
            bad[:] = False
        lows.append(low[~bad])
        highs.append(high[~bad])
        if not bad.any():
            break
        middle = 0.5 * (low[bad] + high[bad])
        low, high = np.concatenate([low[bad], middle]), np.concatenate([middle, high[bad]])
    order = np.argsort(np.concatenate(lows), kind="stable")
    return np.concatenate(lows)[order], np.concatenate(highs)[order]
