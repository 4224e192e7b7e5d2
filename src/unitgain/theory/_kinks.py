"""Where a function that comes as a black box isn't smooth."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.errors import ConfigError
from unitgain.theory._panels import FINE, nodes_of, refine

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_OCTAVES = 15  # outward from [-1, 1]: up to +-16384
_INNER = 5  # octaves that a forecast is about, within +-16
_MOST_KINKS = 64
_MOST_PANELS = 1 << 15
_NARROW = 2.0**-12  # of an octave's widest panel: no smooth function is resolved so unevenly
_APART = 1e-3
_LONGEST_STEP = 0.02
_STEPS_A_PANEL = 200.0
# Off one, so that no kink at a round number coincides with a panel's end, where it wouldn't show.
_FIRST, _SECOND = (-1.0137, 1.0211), (-1.0719, 1.0931)


@final
@dataclass(frozen=True)
class Smoothness:
    """What was found out about a function.

    Attributes:
        kinks: Where the value or one of its first two derivatives jumps, ascending.
        step: A step for difference quotients, a small part of the narrowest smooth panel.
    """

    kinks: tuple[float, ...]
    step: float


def find_kinks(function: Function, name: str) -> Smoothness:
    """The places between -16384 and 16384 where a function or a derivative jumps, the 64 nearest to zero at most.

    Panels around a jump shrink without end until what they miss is below the function's rounding.

    Args:
        function: Elementwise, in float64.
        name: What to call it in an error.

    Raises:
        ConfigError: The function is rough everywhere, as one that is computed in float32.

    Example:
        >>> find_kinks(lambda x: np.maximum(x, 0.0) + (x > 2.0), "stairs").kinks
        (0.0, 2.0)
    """
    kinks, step = _search(function, name, *_FIRST)
    again, _ = _search(function, name, *_SECOND)
    # A jump between a panel's last node and its end doesn't show; it doesn't lie there twice.
    kinks += [kink for kink in again if all(abs(kink - known) > _APART for known in kinks)]
    return Smoothness(tuple(sorted(sorted(kinks, key=abs)[:_MOST_KINKS])), step)


def _search(function: Function, name: str, below: float, above: float) -> tuple[list[float], float]:
    """The kinks that show on panels with the given ends, and a step."""
    kinks: list[float] = []
    narrowest = math.inf
    for octave in range(_OCTAVES):
        low, high = _intervals(octave, below, above)
        slack = FINE * float(np.abs(function(nodes_of(low, high)[0])).max())
        low, high = refine([function], [slack], low, high, _MOST_PANELS)
        if low.size > _MOST_PANELS // 4:
            if octave < _INNER:
                raise ConfigError(
                    f"activation: a piecewise smooth function in float64 is needed, but {name} is rough "
                    "everywhere; compute it in float64, or name its slope and kinks"
                )
            break
        width = high - low
        kinks += _located(low, high, width < _NARROW * width.max())
        if octave < _INNER:
            narrowest = min(narrowest, max(float(width.min()), float(width.max()) / 32.0))
        if len(kinks) >= _MOST_KINKS:
            break
    return kinks, min(_LONGEST_STEP, narrowest / _STEPS_A_PANEL)


def _intervals(octave: int, below: float, above: float) -> tuple[Array, Array]:
    """The two intervals, left and right of zero, that an octave adds."""
    if octave == 0:
        return np.array([below]), np.array([above])
    inner, outer = 2.0 ** (octave - 1), 2.0**octave
    return np.array([outer * below, inner * above]), np.array([inner * below, outer * above])


def _located(low: Array, high: Array, narrow: NDArray[np.bool_]) -> list[float]:
    """One place for each run of narrow panels: the roundest number within its narrowest panels."""
    places = []
    for run in np.split(
        np.flatnonzero(narrow), 1 + np.flatnonzero(np.diff(np.flatnonzero(narrow)) > 1)
    ):
        if run.size == 0:
            continue
        width = (high - low)[run]
        closest = run[width <= 2.0 * width.min()]
        start, end = float(low[closest[0]]), float(high[closest[-1]])
        places.append(_roundest(start, end))
    return places


def _roundest(start: float, end: float) -> float:
    """The number of fewest decimals between two."""
    middle = 0.5 * (start + end)
    for decimals in range(16):
        candidate = round(middle, decimals)
        if start <= candidate <= end:
            return candidate + 0.0  # no negative zero
    return middle
