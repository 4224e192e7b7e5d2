"""Intervals and corrections for many tests, of arrays."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval.

    Attributes:
        value: the estimate.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float
    high: float


def normal_interval(value: float, error: float, level: float) -> Interval:
    r"""The interval :math:`v \pm z_{(1 + level) / 2} s` of an estimate that is close to normal.

    Args:
        value: the estimate v.
        error: its standard error s.
        level: the probability to cover.

    Example:
        >>> interval = normal_interval(1.0, 0.5, 0.95)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.02, 1.98)
    """
    half = float(ndtri((1 + level) / 2)) * error
    return Interval(value, value - half, value + half)


def permutation_p_value(observed: float, permuted_B: Array) -> float:
    r"""The valid p-value :math:`\frac{1 + \#\{b: t_b \ge t\}}{1 + B}` of a statistic: never 0.

    Values that differ by rounding alone count as equal.

    Example:
        >>> permutation_p_value(3.0, np.array([1.0, 2.0, 3.0]))
        0.5

    Reference:
        Phipson and Smyth (2010), arXiv 1603.05766, section 4.
    """
    slack = 1e-9 * float(np.abs(np.append(permuted_B, observed)).max())
    return float((1 + np.sum(permuted_B >= observed - slack)) / (1 + len(permuted_B)))


def bonferroni(p_values_T: Array) -> Array:
    r"""P-values adjusted for T tests: :math:`\min(1, T p)`.

    Example:
        >>> bonferroni(np.array([0.01, 0.6]))
        array([0.02, 1.  ])
    """
    return np.minimum(1.0, len(p_values_T) * p_values_T)


def holm(p_values_T: Array) -> Array:
    r"""P-values adjusted for T tests step by step: :math:`\max_{s \le t} \min(1, (T - s + 1) p_{(s)})`.

    Never larger than Bonferroni's, and as valid under any dependence.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])

    Reference:
        Holm (1979), Scandinavian Journal of Statistics 6, section 2.
    """
    order = np.argsort(p_values_T)
    factors = np.arange(len(p_values_T), 0, -1)
    adjusted = np.empty(len(p_values_T))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * p_values_T[order]))
    return adjusted
