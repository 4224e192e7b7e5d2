"""The fixed point that the length map leads to, found without iterating the map.

Iteration is slow where it matters: at a point that attracts from one side only, or not exponentially.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._roots import minimum_between, root_between

Array = NDArray[np.float64]
Gap = Callable[[Array], Array]

LARGEST = 1e8  # a length that grows beyond it is unbounded
SMALLEST = 1e-14  # one that falls below it collapses, if nothing holds it up
SLOW = 1e-4  # a relative change a layer that the deepest network, of 10 000 layers, hardly notices

_A_DECADE = 16
_NEAR = 1e-5  # a gap that takes a thousand layers to pass: as good as closed
_ROUNDING = 1e-13
_PROMINENT = 1e-8  # what a dip of the gap is deeper than rounding by


def fixed_length(gap: Gap, start: float, held: float) -> float:
    r"""The length that $q \mapsto V(q)$, increasing, tends to from a start: a number, 0, or infinity.

    Args:
        gap: log(V(q) / q) of an array of q.
        start: The first q.
        held: V(0), which holds every length up.

    Example:
        >>> fixed_length(lambda q: np.log((0.5 * q + 1.0) / q), 1.0, 1.0)
        2.0
        >>> fixed_length(lambda q: np.log(2.0 * q / q), 1.0, 0.0)
        inf
    """

    def at(log_q: float) -> float:
        return float(gap(np.array([math.exp(log_q)]))[0])

    first = at(math.log(start))
    if abs(first) <= _NEAR:
        beside = gap(start * np.array([0.99, 1.01]))
        if max(abs(first), *np.abs(beside)) <= _ROUNDING:
            return start
        if beside[0] * beside[1] < 0.0:
            low, high = math.log(0.99 * start), math.log(1.01 * start)
            return math.exp(root_between(at, low, high, float(beside[0]), float(beside[1])))
    sign = math.copysign(1.0, first)
    limit = LARGEST if sign > 0.0 else (0.5 * held if held > 0.0 else SMALLEST * min(1.0, start))
    logs, gaps = _scan(gap, math.log(start), math.log(limit), sign)
    crossed = np.flatnonzero(gaps <= 0.0)
    last = int(crossed[0]) if crossed.size else gaps.size
    dip = _dip(at, sign, logs[: last + 1], gaps[: last + 1])
    if dip is not None:
        return math.exp(dip)
    if crossed.size:
        return math.exp(_crossing(at, float(logs[last - 1]), float(logs[last])))
    if (gaps < SLOW).all():
        return start
    return math.inf if sign > 0.0 else 0.0


def _scan(gap: Gap, start: float, end: float, sign: float) -> tuple[Array, Array]:
    """The logarithms of q from the start on, and |gap| there, up to the first crossing and at most two decades on."""
    count = max(2, math.ceil(abs(end - start) / math.log(10.0) * _A_DECADE) + 1)
    logs = np.linspace(start, end, count)
    gaps: list[Array] = []
    for part in np.array_split(logs, math.ceil(count / (2 * _A_DECADE))):
        gaps.append(sign * gap(np.exp(part)))
        if (gaps[-1] <= 0.0).any():
            break
    found = np.concatenate(gaps)
    return logs[: found.size], found


def _dip(at: Callable[[float], float], sign: float, logs: Array, gaps: Array) -> float | None:
    """The first place on the way where the gap closes, or nearly, between two points of the scan."""
    inner = np.arange(1, gaps.size - 1)
    lowest = inner[(gaps[inner] < gaps[inner - 1]) & (gaps[inner] <= gaps[inner + 1])]
    for i in lowest:
        before, after = gaps[: i + 1].max(), gaps[i : i + _A_DECADE].max()
        if min(before, after) - gaps[i] < _PROMINENT or gaps[i] > 0.05:
            continue
        place = minimum_between(lambda x: sign * at(x), float(logs[i - 1]), float(logs[i + 1]))
        depth = sign * at(place)
        if depth < 0.0:
            return _crossing(at, float(logs[i - 1]), place)
        if depth <= _NEAR:
            return place
    return None


def _crossing(at: Callable[[float], float], near: float, far: float) -> float:
    return root_between(at, near, far, at(near), at(far))
