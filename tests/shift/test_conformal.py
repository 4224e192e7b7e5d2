"""Weighted split conformal prediction: a slow twin, and coverage."""

import math
import runpy
from pathlib import Path

import pytest
import torch

from unitgain.errors import ConfigError, DataError
from unitgain.shift import conformal_interval, conformal_sets, weighted_threshold


def slow_threshold(score, weight, own, coverage):
    """The definition, one row at a time."""
    total = float(weight.sum()) + own
    reached = 0.0
    for i in score.argsort().tolist():
        reached += float(weight[i]) / total
        if reached >= coverage - 1e-12:
            return float(score[i])
    return math.inf


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.9, 0.99])
def test_threshold_is_that_of_the_definition(coverage):
    g = torch.Generator().manual_seed(0)
    score, weight = torch.rand(40, generator=g).double(), torch.rand(40, generator=g).double()
    own = 5 * torch.rand(30, generator=g).double()
    found = weighted_threshold(score, weight, own, coverage)
    expected = [slow_threshold(score, weight, float(w), coverage) for w in own]
    assert found.tolist() == pytest.approx(expected)


def test_equal_weights_are_the_usual_rank():
    """The ceil((n + 1) c)-th score, in integers where rounding would show."""
    for rows, coverage in ((9, 0.9), (19, 0.9), (99, 0.9), (100, 0.95)):
        score = torch.arange(1.0, rows + 1)
        found = weighted_threshold(score, torch.ones(rows), torch.ones(1), coverage)
        rank = math.ceil((rows + 1) * coverage - 1e-9)
        assert float(found) == (rank if rank <= rows else math.inf)


def test_coverage_under_shift_needs_the_weights():
    """N(0, 1) to N(1, 1), noise that grows with x: 200 trials of 200 calibration rows."""
    weighted, plain, trials = [], [], 200
    for seed in range(trials):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(200, generator=g, dtype=torch.float64)
        z = torch.randn(50, generator=g, dtype=torch.float64) + 1
        y, t = (
            v.exp().sqrt() * torch.randn(len(v), generator=g, dtype=torch.float64) for v in (x, z)
        )
        ratios = [(v - 0.5).exp() for v in (x, z)]
        zero = [torch.zeros_like(v) for v in (x, z)]
        low, high = conformal_interval(zero[0], y, ratios[0], zero[1], ratios[1], 0.9)
        weighted.append(float(((low <= t) & (t <= high)).double().mean()))
        low, high = conformal_interval(zero[0], y, torch.ones(200), zero[1], torch.ones(50), 0.9)
        plain.append(float(((low <= t) & (t <= high)).double().mean()))
    # At least .9, and above it by at most the largest share of a weight, on average.
    assert 0.89 < sum(weighted) / trials < 0.94
    assert sum(plain) / trials < 0.84


def test_sets_cover_their_class():
    g = torch.Generator().manual_seed(0)
    posterior = torch.rand(4000, 4, generator=g).double() ** 3 + 1e-3
    posterior = posterior / posterior.sum(1, keepdim=True)
    label = torch.multinomial(posterior, 1, generator=g)[:, 0]
    half = slice(0, 2000), slice(2000, 4000)
    sets = conformal_sets(
        posterior[half[0]],
        label[half[0]],
        torch.ones(2000),
        posterior[half[1]],
        torch.ones(2000),
        0.8,
    )
    held = sets.gather(1, label[half[1]][:, None]).double().mean()
    assert float(held) == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 2000) * 2)
    assert 1 < float(sets.double().sum(1).mean()) < 3.5


def test_rows_that_outweigh_all_others_rule_nothing_out():
    posterior = torch.full((5, 2), 0.5)
    label = torch.zeros(5, dtype=torch.int64)
    sets = conformal_sets(posterior, label, torch.ones(5), posterior, torch.full((5,), 100.0))
    assert bool(sets.all())
    low, high = conformal_interval(
        torch.zeros(5), torch.ones(5), torch.ones(5), torch.zeros(1), torch.tensor([100.0])
    )
    assert (float(low), float(high)) == (-math.inf, math.inf)


def test_faults_are_one_line():
    ones = torch.ones(3)
    with pytest.raises(ConfigError, match="coverage: must be within"):
        weighted_threshold(ones, ones, ones, 1.0)
    with pytest.raises(DataError, match="weights of the target: must be 0 or above"):
        weighted_threshold(ones, ones, -ones, 0.9)
    with pytest.raises(DataError, match="answers: must hold 3 numbers, holds 2"):
        conformal_interval(ones, ones[:2], ones, ones, ones)
    half = torch.full((3, 2), 0.5)
    with pytest.raises(DataError, match="weights of the target: must hold 3 numbers, holds 2"):
        conformal_sets(half, torch.zeros(3, dtype=torch.int64), ones, half, ones[:2])


def test_coverage_on_airfoil_is_what_was_published():
    """With 50 trials; the spread of one is 0.02 without shift and up to 0.045 under it."""
    path = Path(__file__).parents[2] / "benchmarks" / "shift_conformal.py"
    coverages = runpy.run_path(str(path))["coverages"]
    for name, found in coverages(50).items():
        width = 0.012 if name == "no shift" else 0.026
        assert found["coverage"] == pytest.approx(found["published"], abs=width)
