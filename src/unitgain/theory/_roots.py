"""Roots and minima of functions of one number, without the import of an optimizer."""

import math
from collections.abc import Callable

_MOST_STEPS = 200
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)


def root_between(
    function: Callable[[float], float], low: float, high: float, at_low: float, at_high: float
) -> float:
    """A root between two points at which a function has different signs, to the last digits.

    Inverse quadratic interpolation where it is safe, else bisection.

    Example:
        >>> round(root_between(lambda x: x * x - 2.0, 1.0, 2.0, -1.0, 2.0), 14)
        1.4142135623731

    Reference:
        Chandrupatla 1997, Advances in Engineering Software 28, 145 to 149.
    """
    a, b, f_a, f_b = high, low, at_high, at_low
    c, f_c = a, f_a
    share = 0.5
    for _ in range(_MOST_STEPS):
        x = a + share * (b - a)
        f_x = function(x)
        if (f_x > 0.0) == (f_a > 0.0):
            c, f_c = a, f_a
        else:
            c, b, f_c, f_b = b, a, f_b, f_a
        a, f_a = x, f_x
        best = a if abs(f_a) < abs(f_b) else b
        slack = 2.0 * 2.3e-16 * abs(best) + 1e-300
        least = slack / max(abs(b - a), 1e-300)
        if least > 0.5 or f_a == 0.0 or f_b == 0.0:
            return best
        # Rounding may make two of the values equal: no parabola goes through them.
        distinct = f_c not in (f_a, f_b)
        xi, phi = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b) if distinct else 0.0
        if distinct and 1.0 - math.sqrt(1.0 - xi) < phi < math.sqrt(xi):
            share = f_a / (f_b - f_a) * f_c / (f_b - f_c)
            share += (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
        else:
            share = 0.5
        share = min(max(share, least), 1.0 - least)
    return best


def minimum_between(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum between two points has it, to about 1e-8 of their distance.

    Example:
        >>> round(minimum_between(lambda x: (x - 0.3) ** 2, 0.0, 1.0), 6)
        0.3
    """
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    f_left, f_right = function(left), function(right)
    while right - left > 1e-9 * max(1.0, abs(left)):
        if f_left < f_right:
            high, right, f_right = right, left, f_left
            left = high - _GOLDEN * (high - low)
            f_left = function(left)
        else:
            low, left, f_left = left, right, f_right
            right = low + _GOLDEN * (high - low)
            f_right = function(right)
    return 0.5 * (left + right)
