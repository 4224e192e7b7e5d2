"""Concept shift with labelled rows: level, power, a case with a known answer, invariance."""

import pytest
import torch

from unitgain.errors import ConfigError, DataError
from unitgain.shift import detect_concept_shift


def problem(seed, kind, rows=(200, 100), move=0.0, slope=1.0):
    """Gaussian features whose mean moves by one; the target's answers move by `move`, or follow another slope."""
    draw = torch.Generator().manual_seed(seed)

    def answers(x, slope, move):
        line = slope * x[:, 0] - 0.5 * x[:, 1]
        if kind == "regression":
            noise = torch.randn(len(x), generator=draw, dtype=torch.float64)
            return line + noise + move
        uniform = torch.rand(len(x), generator=draw, dtype=torch.float64)
        return (uniform < torch.sigmoid(line + move)).long()

    source, target = (torch.randn(n, 2, generator=draw, dtype=torch.float64) for n in rows)
    target[:, 0] += 1
    return source, answers(source, 1.0, 0.0), target, answers(target, slope, move), draw


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_level_is_kept_under_covariate_shift(kind):
    found = [detect_concept_shift(*problem(s, kind), draws=499).p_value for s in range(200)]
    assert 0.02 <= sum(p <= 0.05 for p in found) / 200 <= 0.09


@pytest.mark.parametrize(("kind", "slope"), [("regression", -1.0), ("classification", -2.0)])
def test_another_function_is_seen(kind, slope):
    found = [detect_concept_shift(*problem(s, kind, slope=slope)) for s in range(10)]
    assert sum(f.p_value <= 0.05 for f in found) >= 9


def test_the_effect_of_a_constant_move_is_that_move():
    """The source's answers have variance 1 + 0.25 + 1."""
    found = [
        detect_concept_shift(*problem(s, "regression", (800, 400), move=0.7)) for s in range(20)
    ]
    mean = sum(f.effect.value for f in found) / 20
    half = (found[0].effect.high - found[0].effect.low) / 2
    assert mean == pytest.approx(0.7 / 1.5, abs=3 * half / 1.96 / 20**0.5)
    assert sum(f.effect.low <= 0.7 / 1.5 <= f.effect.high for f in found) >= 16
    assert all(f.direction == -1 and "everywhere alike" in f.text for f in found)


def test_the_direction_is_that_of_the_slope():
    found = detect_concept_shift(*problem(0, "regression", (800, 400), slope=-1.0))
    assert found.direction == 0
    assert "along feature 0" in found.text


def test_the_order_of_rows_does_not_matter_and_results_repeat():
    x, y, z, v, _ = problem(0, "classification", move=0.5)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(9))
    results = [
        detect_concept_shift(*rows, z, v, torch.Generator().manual_seed(1))
        for rows in ((x, y), (x, y), (x[order], y[order]))
    ]
    assert results[0] == results[1]
    assert results[2].p_value == results[0].p_value
    assert results[2].effect.value == pytest.approx(results[0].effect.value, rel=1e-3)


def test_predictions_of_a_model_take_what_they_explain():
    x, _, z, _, draw = problem(0, "regression")
    truth = [(4 * rows[:, 0]).sin()[:, None] for rows in (x, z)]
    y, v = (t[:, 0] + 0.1 * torch.randn(len(t), generator=draw, dtype=torch.float64) for t in truth)
    widths = []
    for predictions in (None, tuple(truth)):
        own = torch.Generator().manual_seed(0)
        effect = detect_concept_shift(x, y, z, v, own, predictions=predictions).effect
        widths.append(effect.high - effect.low)
    assert widths[1] < 0.3 * widths[0]


def test_what_cannot_be_tested_is_said():
    x, y, z, v, draw = problem(0, "regression")
    with pytest.raises(DataError, match="target: must have at least 10 labelled rows, has 9"):
        detect_concept_shift(x, y, z[:9], v[:9], draw)
    with pytest.raises(DataError, match="answers of the target: must be finite, 1 of 100"):
        detect_concept_shift(x, y, z, torch.cat([v[1:], v.new_tensor([float("nan")])]), draw)
    with pytest.raises(DataError, match="must be finite"):
        detect_concept_shift(x * float("nan"), y, z, v, draw)
    with pytest.raises(DataError, match="answers of the target: must be 100, are 99; one a row"):
        detect_concept_shift(x, y, z, v[1:], draw)
    with pytest.raises(DataError, match="must be classes"):
        detect_concept_shift(x, y, z, v.long(), draw)
    with pytest.raises(DataError, match="answers of the source: must vary, output 0 does not"):
        detect_concept_shift(x, 0 * y, z, v, draw)
    with pytest.raises(DataError, match="one class index of 0 or above"):
        detect_concept_shift(x, -y.abs().long() - 1, z, v.long(), draw)
    with pytest.raises(DataError, match="predictions of the target: must hold 100 rows, holds 99"):
        detect_concept_shift(x, y, z, v, draw, predictions=(x, z[1:]))
    with pytest.raises(ConfigError, match="concept shift: must have 2 folds or more"):
        detect_concept_shift(x, y, z, v, draw, folds=1)
