import math

import numpy as np
import pytest
from scipy import stats

from unitgain.errors import ConfigError, DataError
from unitgain.stats.bootstrap import interquartile_mean, location_interval, stratified_interval


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 10, 11])
def test_the_interquartile_mean_leaves_a_quarter_out_at_either_end(size):
    x = rng().normal(size=size)
    cut = size // 4
    assert interquartile_mean(x) == pytest.approx(np.sort(x)[cut : size - cut].mean())


def test_student_s_interval_is_scipy_s():
    x = rng().normal(size=6)
    found = location_interval(x, rng(), level=0.9)
    wanted = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_the_trimmed_interval_is_that_of_yuen_s_test():
    # Its end is where Yuen's test of "the trimmed mean is this" has p = 1 - level.
    x = rng(1).normal(size=9)
    found = location_interval(x, rng(), location="iqm", level=0.95)
    winsorised = stats.mstats.winsorize(x, (2 / 9 + 1e-9,) * 2)
    error = np.std(winsorised, ddof=1) / ((1 - 4 / 9) * 3)
    assert found.value == pytest.approx(stats.trim_mean(x, 0.25))
    t = (found.value - found.low) / error
    assert 2 * stats.t.sf(t, 4) == pytest.approx(0.05)


def test_bca_is_scipy_s_and_takes_its_generator_from_the_caller():
    x = rng(2).exponential(size=12)
    found = [location_interval(x, rng(s), method="bca") for s in (3, 3, 4)]
    assert found[0] == found[1] != found[2]
    wanted = stats.bootstrap((x,), np.mean, rng=rng(9), method="BCa").confidence_interval
    spread = (wanted.high - wanted.low) / 20
    assert found[0].low == pytest.approx(wanted.low, abs=spread)
    assert found[0].high == pytest.approx(wanted.high, abs=spread)


def coverage(interval, truth, draws):
    hits = [found.low <= truth <= found.high for found in map(interval, draws)]
    return np.mean(hits), 4 * math.sqrt(0.95 * 0.05 / len(hits))


@pytest.mark.parametrize("size", [3, 5, 10])
def test_student_s_interval_covers_95_of_100_normal_samples(size):
    draws = rng(size).normal(1.0, 2.0, (2000, size))
    share, tolerance = coverage(lambda x: location_interval(x, rng()), 1.0, draws)
    assert share == pytest.approx(0.95, abs=tolerance)


@pytest.mark.parametrize("size", [8, 20])
def test_the_trimmed_interval_covers_about_95_of_100(size):
    # Tukey and McLaughlin's degrees of freedom are an approximation: two percentage points for it.
    draws = rng(size).normal(1.0, 2.0, (2000, size))
    share, tolerance = coverage(lambda x: location_interval(x, rng(), location="iqm"), 1.0, draws)
    assert share == pytest.approx(0.95, abs=tolerance + 0.02)


def test_the_bootstrap_covers_with_many_values_and_falls_short_with_five(monkeypatch):
    monkeypatch.setattr("unitgain.stats.bootstrap.RESAMPLES", 499)

    def of(method):
        return lambda x: location_interval(x, rng(), method=method)

    for method in ("bca", "percentile"):
        share, tolerance = coverage(of(method), 0.0, rng(5).normal(size=(400, 40)))
        assert share == pytest.approx(0.95, abs=tolerance + 0.02)
        share, tolerance = coverage(of(method), 0.0, rng(6).normal(size=(400, 5)))
        assert 0.7 < share < 0.95 - tolerance


def test_the_stratified_interval_knows_that_conditions_are_fixed():
    # Two conditions far apart: resampled together, the mean would vary with how many come from either.
    draws = rng(7).normal(size=(400, 2, 20)) + np.array([0.0, 100.0])[:, None]
    found = [
        stratified_interval(list(each), rng(), location="mean", resamples=400) for each in draws
    ]
    widths = np.array([each.high - each.low for each in found])
    assert widths.max() < 1.5
    share = np.mean([each.low <= 50.0 <= each.high for each in found])
    assert share == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400) + 0.02)


def test_stratified_values_are_those_of_all_conditions_together():
    x = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0])]
    wanted = stats.trim_mean(np.concatenate(x), 0.25)
    assert stratified_interval(x, rng()).value == pytest.approx(wanted)


@pytest.mark.parametrize("method", ["student", "bca", "percentile"])
def test_one_value_has_no_interval_and_equal_ones_have_no_width(method):
    alone = location_interval(np.array([2.0]), rng(), method=method)
    assert alone.value == 2.0
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    equal = location_interval(np.full(4, 2.0), rng(), method=method)
    assert (equal.low, equal.value, equal.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("values", "arguments", "error", "text"),
    [
        ([], {}, DataError, r"values: must be a vector of one value or more, got shape \(0,\)"),
        ([1, math.nan], {}, DataError, "values: must be finite, 1 of 2 are not; leave diverged"),
        ([1, 2], {"level": 1.0}, ConfigError, "level: must be between 0 and 1, got 1; 0.95"),
        ([1, 2], {"location": "mode"}, ConfigError, "location: must be one of mean, iqm, median"),
        ([1, 2], {"method": "z"}, ConfigError, "method: must be one of student, bca, percentile"),
        ([1, 2], {"location": "median"}, ConfigError, "the median has no Student interval"),
    ],
)
def test_what_can_not_be_is_refused(values, arguments, error, text):
    with pytest.raises(error, match=text):
        location_interval(np.array(values), rng(), **arguments)


def test_stratified_values_need_a_condition():
    with pytest.raises(DataError, match="must be of one condition or more"):
        stratified_interval([], rng())
