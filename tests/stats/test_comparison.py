import math
import statistics

import numpy as np
import pytest
from scipy import integrate, special, stats

from unitgain.errors import ConfigError, DataError
from unitgain.stats.comparison import (
    bootstrap_difference,
    cliffs_delta,
    cohens_d,
    least_effect,
    least_size,
    paired_difference,
    power,
    probability_of_improvement,
    unpaired_difference,
)

# Student (1908): hours of sleep gained with two drugs, by patient.
SLEEP_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SLEEP_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def rng(seed=0):
    return np.random.default_rng(seed)


def p_of(t, freedom):
    """Two-sided, by the incomplete beta function (Abramowitz and Stegun 26.7.1)."""
    return special.betainc(freedom / 2, 0.5, freedom / (freedom + t * t))


def check(found, value, error, freedom):
    half = special.stdtrit(freedom, 0.975) * error
    assert found.interval.value == pytest.approx(value)
    assert (found.interval.low, found.interval.high) == pytest.approx((value - half, value + half))
    assert found.p_value == pytest.approx(p_of(value / error, freedom))


def test_student_s_sleep_data_paired():
    found = paired_difference(SLEEP_1, SLEEP_2)
    gap = [x - y for x, y in zip(SLEEP_1, SLEEP_2, strict=True)]
    check(found, statistics.mean(gap), statistics.stdev(gap) / math.sqrt(10), 9)
    assert found.p_value == pytest.approx(stats.ttest_rel(SLEEP_1, SLEEP_2).pvalue)
    assert found.effect == pytest.approx(statistics.mean(gap) / statistics.stdev(gap))
    assert (found.paired, found.size) == (True, 10)


def test_student_s_sleep_data_unpaired():
    found = unpaired_difference(SLEEP_1, SLEEP_2)
    a, b = (statistics.variance(each.tolist()) / 10 for each in (SLEEP_1, SLEEP_2))
    # Welch (1947) and Satterthwaite (1946).
    freedom = (a + b) ** 2 / (a**2 / 9 + b**2 / 9)
    check(found, SLEEP_1.mean() - SLEEP_2.mean(), math.sqrt(a + b), freedom)
    assert (found.paired, found.size) == (False, 10)


def test_rank_tests_are_scipy_s():
    x, y = rng().normal(size=(2, 8))
    assert paired_difference(x, y, test="rank").p_value == stats.wilcoxon(x, y).pvalue
    assert unpaired_difference(x, y[:5], test="rank").p_value == stats.mannwhitneyu(x, y[:5]).pvalue


@pytest.mark.parametrize("size", [3, 5, 6])
def test_wilcoxon_can_not_give_less_than_its_least(size):
    x = np.arange(size) + 1.0
    assert paired_difference(x, 0 * x, test="rank").p_value == pytest.approx(2.0 ** (1 - size))


def test_ties_and_zero_differences_are_borne():
    x, y = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 2, 3, 4, 4, 4])
    assert paired_difference(x, y, test="rank").p_value == stats.wilcoxon(x - y).pvalue
    assert unpaired_difference(x, x, test="rank").p_value == 1.0


@pytest.mark.parametrize("of", [paired_difference, unpaired_difference])
def test_without_spread_a_difference_is_certain(of):
    same = of(np.ones(3), np.ones(3))
    assert (same.p_value, same.effect, same.interval.low, same.interval.high) == (1, 0, 0, 0)
    more = of(np.full(3, 2.0), np.ones(3))
    assert (more.p_value, more.effect, more.interval.low, more.interval.high) == (0, math.inf, 1, 1)


def test_a_constant_shift_is_one_in_spite_of_rounding():
    x = rng().random(5)
    found = paired_difference(x + 0.1, x)
    assert found.effect == math.inf
    assert bootstrap_difference(x + 0.1, x, rng(), paired=True).high == pytest.approx(0.1)


def coverage(interval):
    """The share of 2000 pairs of normal samples, correlated at 0.8, whose interval has the true difference."""
    draw, hits = rng(1), []
    for _ in range(2000):
        shared = draw.normal(size=6) * 2
        found = interval(shared + draw.normal(size=6) + 0.5, shared + draw.normal(size=6))
        hits.append(found.low <= 0.5 <= found.high)
    return np.mean(hits), 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_intervals_of_differences_cover():
    share, tolerance = coverage(lambda x, y: paired_difference(x, y).interval)
    assert share == pytest.approx(0.95, abs=tolerance)
    # Pairs taken apart: the interval is far too wide for values that go together.
    share, _ = coverage(lambda x, y: unpaired_difference(x, y).interval)
    assert share > 0.99


@pytest.mark.parametrize("paired", [True, False])
def test_the_bootstrap_of_a_difference_is_close_to_normal_theory_with_many_values(paired):
    x, y = rng(2).normal(size=(2, 200)) + np.array([[0.3], [0.0]])
    found = bootstrap_difference(x, y, rng(), paired=paired)
    wanted = (paired_difference if paired else unpaired_difference)(x, y).interval
    width = wanted.high - wanted.low
    assert found.value == pytest.approx(wanted.value)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.1 * width)


def test_the_probability_of_improvement_is_mann_and_whitney_s_statistic():
    x, y = rng(3).integers(0, 5, (2, 9)).astype(float)
    wanted = stats.mannwhitneyu(x, y).statistic / 81
    assert probability_of_improvement(x, y) == pytest.approx(wanted)
    assert cliffs_delta(x, y) == pytest.approx(2 * wanted - 1)
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1)


def test_the_probability_of_improvement_of_normal_samples():
    x, y = rng(4).normal(size=(2, 3000)) + np.array([[1.0], [0.0]])
    assert probability_of_improvement(x, y) == pytest.approx(stats.norm.cdf(0.5**0.5), abs=0.02)


def test_cohen_s_d_is_student_s_statistic_rescaled():
    x, y = rng(5).normal(size=7), rng(6).normal(size=4)
    t = stats.ttest_ind(x, y, equal_var=True).statistic
    assert cohens_d(x, y) == pytest.approx(t * math.sqrt(1 / 7 + 1 / 4))
    assert cohens_d(np.ones(2), np.zeros(3)) == math.inf


def power_by_integration(effect, size, paired, alpha):
    """The definition: a normal statistic over an estimated deviation, whose distribution is integrated over."""
    freedom = size - 1 if paired else 2 * size - 2
    shift = effect * math.sqrt(size if paired else size / 2)
    critical = special.stdtrit(freedom, 1 - alpha / 2)

    def found(deviation):
        beyond = special.ndtr(shift - critical * deviation)
        beyond += special.ndtr(-shift - critical * deviation)
        return beyond * stats.chi.pdf(deviation * math.sqrt(freedom), freedom) * math.sqrt(freedom)

    return integrate.quad(found, 0, 1 + 12 / math.sqrt(freedom), points=[1.0])[0]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("effect", "size"), [(0.2, 3), (0.8, 5), (1.5, 10), (3.0, 4)])
def test_power_is_its_definition(effect, size, paired):
    for alpha in (0.05, 0.001):
        wanted = power_by_integration(effect, size, paired, alpha)
        assert power(effect, size, paired=paired, alpha=alpha) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("effect", [0.2, 0.5, 0.8])
def test_sizes_are_the_first_with_the_power(effect, paired):
    sizes = range(2, 1000)
    enough = (n for n in sizes if power_by_integration(effect, n, paired, 0.05) >= 0.8)
    size = next(enough)
    assert least_size(effect, paired=paired) == least_size(-effect, paired=paired) == size


@pytest.mark.parametrize("paired", [True, False])
def test_power_is_the_share_of_tests_that_find_the_effect(paired):
    x, y = rng(8).normal(size=(2, 20_000, 6))
    x += 1.2
    found = stats.ttest_1samp(x, 0.0, axis=1) if paired else stats.ttest_ind(x, y, axis=1)
    share = np.mean(found.pvalue < 0.05)
    error = math.sqrt(share * (1 - share) / 20_000)
    assert power(1.2, 6, paired=paired) == pytest.approx(share, abs=4 * error)


def test_power_without_an_effect_is_the_level_and_of_a_huge_one_is_1():
    assert power(0.0, 5, paired=True, alpha=0.01) == pytest.approx(0.01)
    for size in (2, 3, 5, 50):
        assert power(1e3, size, paired=True) == pytest.approx(1.0, abs=1e-6)
        assert power(math.inf, size, paired=False) == pytest.approx(1.0, abs=1e-6)


def test_least_sizes_are_the_least():
    for effect in (0.7, 1.5, 4.0):
        size = least_size(effect, paired=True, alpha=0.01)
        assert power(effect, size, paired=True, alpha=0.01) >= 0.8
        assert size == 2 or power(effect, size - 1, paired=True, alpha=0.01) < 0.8
    assert least_size(1e-3, paired=True) is None
    assert least_size(0.0, paired=True) is None


@pytest.mark.parametrize("paired", [True, False])
def test_the_least_effect_has_the_wanted_power(paired):
    effect = least_effect(5, paired=paired, wanted=0.9, alpha=0.02)
    assert power(effect, 5, paired=paired, alpha=0.02) == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "arguments", "error", "text"),
    [
        ([1, 2], [1, 2, 3], {}, DataError, "pairs: must be of two equal lengths, got 2 and 3"),
        ([1], [2], {}, DataError, "values: must be two or more of each, got 1 and 1; train more"),
        ([1, math.inf], [2, 3], {}, DataError, "values: must be finite, 1 of 2 are not"),
        ([1, 2], [2, 3], {"level": 0}, ConfigError, "level: must be between 0 and 1"),
        ([1, 2], [2, 3], {"test": "z"}, ConfigError, "test: must be t or rank, got z"),
    ],
)
def test_what_can_not_be_compared_is_refused(x, y, arguments, error, text):
    with pytest.raises(error, match=text):
        paired_difference(np.array(x), np.array(y), **arguments)


def test_many_pairs_with_one_difference_are_certain():
    """Fifty equal gaps whose mean rounding moves by a bit: no spread, and no warning of scipy's."""
    found = paired_difference(np.arange(50) * 0.01 - 0.2, np.arange(50) * 0.01)
    assert (found.p_value, found.effect) == (0.0, -np.inf)
