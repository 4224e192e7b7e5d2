"""Finite widths against sampled networks."""

import math

import numpy as np
import pytest

from unitgain.errors import ConfigError
from unitgain.theory import dead_at_birth, log_norm


@pytest.mark.parametrize("a", [0.0, 0.3])
def test_log_norms_of_sampled_networks(a):
    width, depth, draws = 64, 8, 800
    rng = np.random.default_rng(0)
    h = np.ones((draws, width, 1))
    for _ in range(depth):
        weight = rng.standard_normal((draws, width, width), dtype=np.float32)
        u = math.sqrt(2.0 / (1.0 + a * a) / width) * (weight @ h)
        h = np.where(u > 0.0, u, a * u)
    logs = np.log(np.square(h).sum((1, 2)) / width)
    expected = log_norm([width] * depth, a)
    # The next order in 1 / width is a few times smaller than the first divided by the width.
    slack = 5.0 / width
    error = logs.std(ddof=1) / math.sqrt(draws)
    assert abs(logs.mean() - expected.mean) < 4.5 * error + slack * abs(expected.mean)
    error = logs.var(ddof=1) * math.sqrt(2.0 / draws)
    assert abs(logs.var(ddof=1) - expected.variance) < 4.5 * error + slack * expected.variance


def test_relu_has_five_a_unit():
    found = log_norm([100, 50, 200])
    total = 1 / 100 + 1 / 50 + 1 / 200
    assert (found.mean, found.variance) == pytest.approx((-2.5 * total, 5.0 * total))
    assert log_norm([10], negative_slope=1.0).variance == pytest.approx(0.2)


def test_dead_networks_are_counted():
    widths, draws = [3, 4, 3, 3], 20_000
    rng = np.random.default_rng(1)
    h = np.ones((draws, 2, 1))
    for width in widths:
        h = np.maximum(rng.standard_normal((draws, width, h.shape[1])) @ h, 0.0)
    dead = float((h == 0.0).all((1, 2)).mean())
    p = dead_at_birth(widths)
    assert abs(dead - p) < 4.5 * math.sqrt(p * (1.0 - p) / draws)


def test_dead_at_birth_keeps_its_digits():
    assert dead_at_birth([60] * 10) == pytest.approx(10 * 2.0**-60, rel=1e-12)
    assert dead_at_birth([4000]) < 1e-300
    assert dead_at_birth([2] * 3) == pytest.approx(1.0 - (1.0 - 2.0**-2) ** 3)


@pytest.mark.parametrize("function", [log_norm, dead_at_birth])
def test_widths_of_no_units(function):
    with pytest.raises(ConfigError, match="widths: 1 or more units"):
        function([4, 0])
