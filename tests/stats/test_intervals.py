import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from unitgain.stats.intervals import bonferroni, holm, normal_interval, permutation_p_value


def test_permutation_p_values_are_valid_and_never_zero():
    assert permutation_p_value(10.0, np.zeros(199)) == pytest.approx(1 / 200)
    assert permutation_p_value(-1.0, np.zeros(9)) == 1.0
    # Under the null hypothesis the value takes each multiple of 1 / (1 + B) equally often.
    rng = np.random.default_rng(0)
    p = np.array([permutation_p_value(t[0], t[1:]) for t in rng.normal(size=(4000, 20))])
    for level in (0.05, 0.25, 0.5):
        error = np.sqrt(level * (1 - level) / 4000)
        assert np.mean(p <= level + 1e-9) == pytest.approx(level, abs=4 * error)


def test_values_that_differ_by_rounding_are_ties():
    assert permutation_p_value(0.3, np.array([0.1 + 0.2 - 1e-16] * 9)) == 1.0
    assert permutation_p_value(0.1 + 0.2, np.array([0.3] * 9)) == 1.0


def test_holm_is_between_the_raw_values_and_bonferroni():
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.random(7) ** 3
        assert np.all(holm(p) >= p)
        assert np.all(holm(p) <= bonferroni(p))
        assert holm(p).min() == pytest.approx(bonferroni(p).min())
        assert np.all(holm(p) >= false_discovery_control(p, method="bh") - 1e-12)
        order = rng.permutation(7)
        assert np.allclose(holm(p[order]), holm(p)[order])


def test_normal_interval_covers_what_it_says():
    interval = normal_interval(2.0, 0.1, 0.9)
    assert norm.cdf(interval.high, 2, 0.1) - norm.cdf(interval.low, 2, 0.1) == pytest.approx(0.9)
