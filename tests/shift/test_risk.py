"""Target risk without target labels, on Gaussians whose risk is known."""

import math

import pytest
import torch

from unitgain.errors import ConfigError, DataError
from unitgain.shift import (
    doubly_robust_risk,
    importance_weighted_risk,
    predict_losses,
    select_exponent,
    should_correct,
)

SHIFT = 0.7


def problem(rows, seed):
    """Losses x^2 + noise of N(0, 1) rows, their weights to N(.7, 1), and target rows: the risk is 1.49."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, generator=g, dtype=torch.float64)
    loss = x.square() + 0.5 * torch.randn(rows, generator=g, dtype=torch.float64)
    target = torch.randn(rows, generator=g, dtype=torch.float64) + SHIFT
    return x, loss, (SHIFT * x - SHIFT**2 / 2).exp(), target


TRUTH = 1 + SHIFT**2


def covered(intervals):
    return sum(i.low <= TRUTH <= i.high for i in intervals) / len(intervals)


def test_both_estimates_cover_the_truth_and_the_robust_one_is_shorter():
    seeds = 300
    plain, robust = [], []
    for seed in range(seeds):
        x, loss, weight, target = problem(500, seed)
        plain.append(importance_weighted_risk(loss, weight).interval)
        predictions = x.square(), target.square()
        robust.append(doubly_robust_risk(loss, weight, *predictions).interval)
    # Four standard errors of a share over 300 seeds, and a little for tails that aren't normal.
    slack = 4 * math.sqrt(0.95 * 0.05 / seeds) + 0.02
    assert covered(plain) == pytest.approx(0.95, abs=slack)
    assert covered(robust) == pytest.approx(0.95, abs=slack)
    lengths = [sum(i.high - i.low for i in found) for found in (plain, robust)]
    assert lengths[1] < 0.8 * lengths[0]


def test_doubly_robust_estimate_with_a_fitted_model_of_the_loss():
    seeds = 80
    plain, robust = [], []
    for seed in range(seeds):
        x, loss, weight, target = problem(500, seed)
        g = torch.Generator().manual_seed(seed)
        predictions = predict_losses(x[:, None], loss, target[:, None], g)
        plain.append(importance_weighted_risk(loss, weight).interval)
        robust.append(doubly_robust_risk(loss, weight, *predictions).interval)
    assert covered(robust) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / seeds)
    lengths = [sum(i.high - i.low for i in found) for found in (plain, robust)]
    assert lengths[1] < 0.8 * lengths[0]


def test_predicted_losses_leave_their_own_out_and_know_no_order():
    x, _, _, target = problem(60, 1)
    noise = torch.randn(60, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    one, _ = predict_losses(x[:, None], noise, target[:, None], torch.Generator().manual_seed(0))
    assert abs(float(torch.corrcoef(torch.stack([one, noise]))[0, 1])) < 0.5
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    other, _ = predict_losses(
        x[order][:, None], noise[order], target[:, None], torch.Generator().manual_seed(0)
    )
    assert torch.allclose(one[order], other, atol=1e-6)


def test_predicted_losses_of_few_or_equal_rows():
    rows = torch.ones(2, 3)
    found = predict_losses(rows, torch.tensor([1.0, 3.0]), rows[:1], torch.Generator())
    assert found[0].tolist() == pytest.approx([3.0, 1.0], abs=1e-3)
    assert found[1].tolist() == pytest.approx([2.0], abs=1e-3)
    with pytest.raises(DataError, match="at least two rows"):
        predict_losses(rows[:1], torch.ones(1), rows, torch.Generator())
    with pytest.raises(ConfigError, match="at least 2 folds"):
        predict_losses(rows, torch.ones(2), rows, torch.Generator(), folds=1)


def test_doubly_robust_is_right_if_either_part_is():
    x, loss, weight, target = problem(200_000, 0)
    wrong_weights = torch.ones_like(weight)
    right = x.square(), target.square()
    wrong = torch.zeros_like(x), torch.zeros_like(target)
    assert doubly_robust_risk(loss, wrong_weights, *right).interval.value == pytest.approx(
        TRUTH, abs=0.03
    )
    assert doubly_robust_risk(loss, weight, *wrong).interval.value == pytest.approx(TRUTH, abs=0.04)
    assert doubly_robust_risk(loss, wrong_weights, *wrong).interval.value == pytest.approx(
        1, abs=0.03
    )


def test_weights_of_one_give_the_plain_mean_and_its_error():
    loss = torch.arange(10.0)
    found = importance_weighted_risk(loss, torch.full((10,), 7.0), level=0.9)
    assert found.interval.value == pytest.approx(4.5)
    assert found.interval.high - 4.5 == pytest.approx(1.6449 * math.sqrt(8.25 / 10), abs=1e-3)
    assert found.ess == pytest.approx(10)


def test_integer_weights_equal_replicated_rows():
    loss, times = torch.tensor([0.3, 1.0, 2.0, 0.1]), torch.tensor([1, 3, 0, 2])
    one = importance_weighted_risk(loss, times)
    other = importance_weighted_risk(loss.repeat_interleave(times), torch.ones(6))
    assert one.interval.value == pytest.approx(other.interval.value)


def _line(x, y):
    """Trains weighted least squares of a line, and scores by squared errors."""

    def train_and_score(rows, weight, scored):
        design = torch.stack([x, torch.ones_like(x)], 1)
        root = weight.sqrt()[:, None]
        solution = torch.linalg.lstsq(design[rows] * root, y[rows][:, None] * root).solution
        return (design[scored] @ solution)[:, 0].sub(y[scored]).square()

    return train_and_score


def test_cross_validation_corrects_a_wrong_model_and_leaves_a_right_one():
    x, _, weight, _ = problem(2000, 3)
    noise = 0.3 * torch.randn(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    bent = select_exponent(_line(x, x.square() + noise), weight, generator)
    assert bent.exponent >= 0.75
    gate = should_correct(bent.loss_EN[0], bent.loss_EN[-1], weight)
    assert gate.answer == "yes"
    assert gate.difference.high < 0
    straight = select_exponent(_line(x, 2 * x + noise), weight, generator)
    gate = should_correct(straight.loss_EN[0], straight.loss_EN[-1], weight)
    assert gate.answer == "no"
    assert straight.loss_EN.shape == (5, 2000)


def test_repeated_folds_move_the_risk_less():
    """Over draws of the folds; the mean of nine independent ones has a third of the deviation of one."""
    x, _, weight, _ = problem(40, 5)
    train = _line(x, x.square())
    deviations = []
    for repeats in (1, 9):
        values = [
            select_exponent(
                train, weight, torch.Generator().manual_seed(s), exponents=(1.0,), repeats=repeats
            )
            .risks[0]
            .interval.value
            for s in range(40)
        ]
        deviations.append(torch.tensor(values).std())
    # A ratio of two deviations of 40 values has a standard error of some 16 %.
    assert 0.2 < float(deviations[1] / deviations[0]) < 0.5


def test_gate_says_no_where_correction_hurts():
    plain = torch.rand(200, generator=torch.Generator().manual_seed(0))
    gate = should_correct(plain, plain + 0.1, torch.ones(200))
    assert gate.answer == "no"
    assert gate.difference.value == pytest.approx(0.1, abs=1e-6)
    assert "do not correct" in gate.text


def test_gate_cannot_tell_with_few_effective_rows_or_a_heavy_tail():
    g = torch.Generator().manual_seed(0)
    plain = torch.rand(2000, generator=g)
    few = torch.full((2000,), 1e-6)
    few[:5] = 1.0
    assert "too few effective rows" in should_correct(plain, plain / 2, few).text
    heavy = torch.rand(2000, generator=g).double() ** -0.9
    gate = should_correct(plain, plain / 2, heavy)
    assert gate.answer == "cannot tell"
    assert gate.pareto_k > 0.7


def test_gate_says_no_where_a_gain_is_within_the_noise():
    plain = torch.rand(100, generator=torch.Generator().manual_seed(0))
    change = torch.randn(100, generator=torch.Generator().manual_seed(1))
    gate = should_correct(plain, plain + change - change.mean() - 0.01, torch.ones(100))
    assert gate.difference.value < 0 < gate.difference.high
    assert gate.answer == "no"


def test_gate_needs_no_trust_to_leave_things_as_they_are():
    plain = torch.rand(100, generator=torch.Generator().manual_seed(0))
    few = torch.full((100,), 1e-6)
    few[:5] = 1.0
    assert should_correct(plain, plain + 1, few).answer == "no"
    assert should_correct(plain, plain - 1, few).answer == "cannot tell"


def test_faults_are_one_line():
    ones = torch.ones(3)
    with pytest.raises(ConfigError, match="level: must be within"):
        importance_weighted_risk(ones, ones, level=1.0)
    with pytest.raises(DataError, match="weights: must hold 3 numbers, holds 2"):
        importance_weighted_risk(ones, ones[:2])
    with pytest.raises(DataError, match="predicted losses of the source: must hold 3"):
        doubly_robust_risk(ones, ones, ones[:2], ones)
    with pytest.raises(ConfigError, match="must have exponents, at least 2 folds"):
        select_exponent(lambda *_: ones, ones, torch.Generator(), folds=1)
    with pytest.raises(DataError, match="losses: must hold 1 numbers, holds 3"):
        select_exponent(lambda *_: ones, ones, torch.Generator())
