"""Two samples against each other: tests, intervals of the difference, effect sizes, seeds that a claim needs.

Everywhere a difference is x minus y. Shapes: N values of x, M of y.
"""

import math
from dataclasses import dataclass
from typing import Literal, final, get_args

import numpy as np
from scipy.stats import (  # type: ignore[attr-defined]
    bootstrap,
    mannwhitneyu,
    nct,
    ttest_1samp,
    ttest_ind,
    wilcoxon,
)
from scipy.stats import t as student_t  # type: ignore[attr-defined]

from unitgain.errors import ConfigError, DataError
from unitgain.stats.bootstrap import RESAMPLES, check_level, check_values, location_interval
from unitgain.stats.intervals import Array, Interval

Test = Literal["t", "rank"]
MOST_SEEDS = 10_000
"""So many seeds are looked at for a claim."""


@final
@dataclass(frozen=True)
class Difference:
    """What two samples say of the difference of their means.

    Attributes:
        interval: the difference of means, x minus y, with its Student interval.
        p_value: two-sided, of the test.
        effect: the difference in standard deviations: of the differences if paired (Cohen's d_z), pooled if not (d).
        paired: whether values were paired.
        size: the pairs, or the values of the smaller sample.
    """

    interval: Interval
    p_value: float
    effect: float
    paired: bool
    size: int


def paired_difference(
    x_N: Array, y_N: Array, *, test: Test = "t", level: float = 0.95
) -> Difference:
    r"""The mean of the differences of pairs, by Student's or Wilcoxon's signed rank test.

    Pairs without any spread of their differences have p = 0, or 1 where the difference is 0; as have two samples
    without spread: what is deterministic is no sample.

    Args:
        x_N: values.
        y_N: their partners, in the same order.
        test: ``t`` is exact for normal differences; ``rank`` is exact whatever the distribution is, if symmetric, but
            can't give less than :math:`2^{1 - N}`.
        level: of the interval.

    Raises:
        ConfigError: a level outside (0, 1), or an unknown test.
        DataError: fewer than two pairs, vectors of two lengths, or values that aren't finite.

    Example:
        >>> found = paired_difference(np.array([3.0, 4.0, 6.0]), np.array([1.0, 3.0, 3.0]))
        >>> found.interval.value, found.effect, round(found.p_value, 4)
        (2.0, 2.0, 0.0742)

    Reference:
        Student (1908), doi 10.1093/biomet/6.1.1; Wilcoxon (1945), doi 10.2307/3001968; Lakens (2013), doi
        10.3389/fpsyg.2013.00863, equation 6, for d_z.
    """
    x, y = _both(x_N, y_N, test)
    if len(x) != len(y):
        raise DataError(f"pairs: must be of two equal lengths, got {len(x)} and {len(y)}")
    gap = _without_rounding(x - y, x, y)
    # Student's interval is the one of the differences' mean: it draws nothing.
    interval = location_interval(gap, np.random.default_rng(0), level=level)
    spread = float(gap.std(ddof=1))
    if np.ptp(gap) == 0:
        return Difference(interval, *_certain(interval.value), True, len(gap))
    found = ttest_1samp(gap, 0.0) if test == "t" else wilcoxon(gap)
    p_value = float(found.pvalue)
    return Difference(interval, p_value, interval.value / spread, True, len(gap))


def unpaired_difference(
    x_N: Array, y_M: Array, *, test: Test = "t", level: float = 0.95
) -> Difference:
    r"""The difference of two samples' means, by Welch's test or that of Mann and Whitney.

    Args:
        x_N: values.
        y_M: others, of any number.
        test: ``t`` is Welch's; ``rank`` that of Mann and Whitney.
        level: of the interval, which is Welch's.

    Raises:
        ConfigError: a level outside (0, 1), or an unknown test.
        DataError: fewer than two values, or values that aren't finite.

    Example:
        >>> found = unpaired_difference(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))
        >>> found.interval.value, found.effect, round(found.p_value, 4)
        (2.0, 2.0, 0.0705)

    Reference:
        Welch (1947), doi 10.1093/biomet/34.1-2.28; Mann and Whitney (1947), doi 10.1214/aoms/1177730491.
    """
    x, y = _both(x_N, y_M, test)
    check_level(level)
    value, size = float(x.mean() - y.mean()), min(len(x), len(y))
    if x.max() == x.min() and y.max() == y.min():
        return Difference(Interval(value, value, value), *_certain(value), False, size)
    found = ttest_ind(x, y, equal_var=False)
    ends = found.confidence_interval(level)
    interval = Interval(value, float(ends.low), float(ends.high))
    p_value = float(found.pvalue if test == "t" else mannwhitneyu(x, y).pvalue)
    return Difference(interval, p_value, cohens_d(x, y), False, size)


def bootstrap_difference(
    x_N: Array,
    y_M: Array,
    rng: np.random.Generator,
    *,
    paired: bool,
    level: float = 0.95,
) -> Interval:
    """The difference of means with its BCa interval: of resampled pairs, or of two samples resampled apart.

    Args:
        x_N: values.
        y_M: others; their partners if ``paired``.
        rng: of the resamples.
        paired: whether they are pairs.
        level: the probability to cover.

    Raises:
        ConfigError: a level outside (0, 1).
        DataError: fewer than two values, values that aren't finite, or pairs of two lengths.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> bootstrap_difference(x, x - 1, np.random.default_rng(0), paired=True)
        Interval(value=1.0, low=1.0, high=1.0)

    Reference:
        Efron (1987), doi 10.1080/01621459.1987.10478410.
    """
    x, y = _both(x_N, y_M, "t")
    check_level(level)
    if paired:
        if len(x) != len(y):
            raise DataError(f"pairs: must be of two equal lengths, got {len(x)} and {len(y)}")
        return location_interval(_without_rounding(x - y, x, y), rng, method="bca", level=level)
    value = float(x.mean() - y.mean())
    if x.max() == x.min() and y.max() == y.min():
        return Interval(value, value, value)

    def difference(a: Array, b: Array, axis: int = -1) -> Array:
        return np.asarray(a.mean(axis) - b.mean(axis))

    ends = bootstrap(
        (x, y),
        difference,
        confidence_level=level,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=rng,
        vectorized=True,
    ).confidence_interval
    return Interval(value, float(ends.low), float(ends.high))


def probability_of_improvement(x_N: Array, y_M: Array) -> float:
    r"""The share of pairs in which x is above y: :math:`\frac{1}{N M} \sum_{ij} [x_i > y_j] + \frac12 [x_i = y_j]`.

    Args:
        x_N: values; infinite ones, such as a diverged loss, have their rank.
        y_M: others.

    Example:
        >>> probability_of_improvement(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
        0.875

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.3.
    """
    x, y = np.asarray(x_N, dtype=np.float64)[:, None], np.asarray(y_M, dtype=np.float64)[None]
    return float(np.mean((x > y) + 0.5 * (x == y)))


def cliffs_delta(x_N: Array, y_M: Array) -> float:
    r"""How far one sample is above the other: :math:`P(x > y) - P(x < y)`, from -1 to 1.

    Example:
        >>> cliffs_delta(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
        0.75

    Reference:
        Cliff (1993), doi 10.1037/0033-2909.114.3.494.
    """
    return 2 * probability_of_improvement(x_N, y_M) - 1


def cohens_d(x_N: Array, y_M: Array) -> float:
    r"""The difference of means in pooled standard deviations.

    :math:`(\bar x - \bar y) / s` with :math:`s^2 = ((N - 1) s_x^2 + (M - 1) s_y^2) / (N + M - 2)`.

    Example:
        >>> cohens_d(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0]))
        2.0

    Reference:
        Cohen (1988), Statistical power analysis for the behavioral sciences, equation 2.5.1.
    """
    x, y = _both(x_N, y_M, "t")
    squares = len(x) * x.var() + len(y) * y.var()
    gap = float(x.mean() - y.mean())
    return gap / math.sqrt(squares / (len(x) + len(y) - 2)) if squares else _certain(gap)[1]


def power(effect: float, size: int, *, paired: bool, alpha: float = 0.05) -> float:
    r"""The probability that a two-sided t test finds a true effect.

    The test's statistic is noncentral t: of N pairs with N - 1 degrees of freedom and noncentrality
    :math:`d_z \sqrt N`, of two samples of N with 2 N - 2 and :math:`d \sqrt{N / 2}`.

    Args:
        effect: in standard deviations, d_z or d.
        size: N, 2 or more.
        paired: which.
        alpha: the test's level.

    Example:
        >>> round(power(0.5, 64, paired=False), 3)
        0.801

    Reference:
        Cohen (1988), Statistical power analysis for the behavioral sciences, chapter 2.
    """
    freedom = size - 1 if paired else 2 * size - 2
    shift = abs(effect) * math.sqrt(size if paired else size / 2)
    critical = student_t.ppf(1 - alpha / 2, freedom)
    if math.isinf(shift):
        return 1.0
    return float(nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift))


def least_size(
    effect: float, *, paired: bool, wanted: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The fewest pairs, or values of either sample, with which a t test finds a true effect as often as wanted.

    Args:
        effect: in standard deviations, d_z or d.
        paired: which.
        wanted: the power.
        alpha: the test's level.

    Returns:
        N, None where it is above `MOST_SEEDS`.

    Example:
        >>> least_size(0.5, paired=False), least_size(0.5, paired=True)
        (64, 34)

    Reference:
        Cohen (1988), Statistical power analysis for the behavioral sciences, table 2.4.1.
    """
    low, high = 1, 2
    while power(effect, high, paired=paired, alpha=alpha) < wanted:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(effect, middle, paired=paired, alpha=alpha) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def least_effect(size: int, *, paired: bool, wanted: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true effect that a t test of so many finds as often as wanted, in standard deviations.

    Args:
        size: the pairs, or the values of either sample, 2 or more.
        paired: which.
        wanted: the power.
        alpha: the test's level.

    Example:
        >>> round(least_effect(5, paired=True), 2)
        1.68
    """
    low, high = 0.0, 1.0
    while power(high, size, paired=paired, alpha=alpha) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        enough = power(middle, size, paired=paired, alpha=alpha) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def _both(x_N: Array, y_M: Array, test: str) -> tuple[Array, Array]:
    if test not in get_args(Test):
        raise ConfigError(f"test: must be t or rank, got {test}")
    x, y = check_values(x_N), check_values(y_M)
    if min(len(x), len(y)) < 2:
        raise DataError(
            f"values: must be two or more of each, got {len(x)} and {len(y)}; train more seeds"
        )
    return x, y


def _without_rounding(gap: Array, x: Array, y: Array) -> Array:
    """Differences of pairs, those that differ by rounding alone made equal: constant shifts have no spread."""
    slack = 8 * np.finfo(np.float64).eps * float(max(np.abs(x).max(), np.abs(y).max()))
    middle = float(np.median(gap))
    return np.full_like(gap, middle) if np.ptp(gap) <= slack else gap


def _certain(value: float) -> tuple[float, float]:
    """The p-value and the effect of a difference without spread."""
    return (1.0, 0.0) if value == 0 else (0.0, math.copysign(math.inf, value))
