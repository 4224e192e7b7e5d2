"""Weighted metrics against scikit-learn and against rows that stand several times."""

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from unitgain.errors import ConfigError
from unitgain.pack import metrics
from unitgain.pack.weighted_metrics import WEIGHTED, as_weighted

CLASSIFICATION = ("accuracy", "f1_macro", "auroc", "ece", "log_loss")
REGRESSION = ("mae", "mse", "rmse", "r2")


def problem(task, seed, classes=3, rows=60):
    """Predictions, targets and whole weights of two members."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randint(0, 4, (2, rows), generator=g).double()
    if task == "regression":
        target = torch.randn(2, rows, 2, generator=g, dtype=torch.float64)
        return target + 0.5 * torch.randn(2, rows, 2, generator=g).double(), target, weight
    logits = torch.randn(2, rows, classes, generator=g, dtype=torch.float64)
    # Ties: probabilities of a few values.
    p = (4 * logits).round().div(4).softmax(-1)
    return p, torch.randint(0, classes, (2, rows), generator=g), weight


def both(name, task, **how):
    function = getattr(metrics, name)
    return function, as_weighted(name, function), *problem(task, seed=1, **how)


CASES = [(n, "classification", c) for n in CLASSIFICATION for c in (2, 3)]
CASES += [(n, "regression", 0) for n in REGRESSION]


@pytest.mark.parametrize(("name", "task", "classes"), CASES)
def test_whole_weights_are_so_many_rows(name, task, classes):
    plain, weighted, p, y, w = both(name, task, classes=classes)
    for k in range(2):
        copies = torch.arange(p.shape[1]).repeat_interleave(w[k].long())
        expected = plain(p[k : k + 1, copies], y[k : k + 1, copies])
        torch.testing.assert_close(weighted(p, y, w)[k : k + 1], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "task", "classes"), CASES)
def test_a_factor_cancels_and_equal_weights_are_none(name, task, classes):
    plain, weighted, p, y, w = both(name, task, classes=classes)
    torch.testing.assert_close(weighted(p, y, 7.5 * w), weighted(p, y, w), rtol=1e-12, atol=1e-14)
    even = weighted(p, y, torch.full_like(w, 0.3))
    torch.testing.assert_close(even, plain(p, y), rtol=1e-12, atol=1e-14)
    assert not torch.allclose(weighted(p, y, w), plain(p, y), rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_against_scikit_learn(classes):
    p, y, w = (each[0].numpy() for each in problem("classification", seed=3, classes=classes))
    w = w * np.random.default_rng(0).random(len(w))
    given = [torch.from_numpy(each)[None] for each in (p, y, w)]
    found = {
        name: float(as_weighted(name, getattr(metrics, name))(*given)) for name in CLASSIFICATION
    }
    hard = p.argmax(1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, hard, sample_weight=w))
    assert found["f1_macro"] == pytest.approx(
        sk.f1_score(y, hard, average="macro", sample_weight=w)
    )
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, p, sample_weight=w))
    if classes == 2:
        area = sk.roc_auc_score(y, p[:, 1], sample_weight=w)
    else:
        areas = [sk.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in range(classes)]
        area = np.mean(areas)
    assert found["auroc"] == pytest.approx(area)


def test_regression_against_scikit_learn():
    o, y, w = (each[0].numpy() for each in problem("regression", seed=4))
    given = [torch.from_numpy(each)[None] for each in (o, y, w)]
    found = {name: float(as_weighted(name, getattr(metrics, name))(*given)) for name in REGRESSION}
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, o, sample_weight=w))
    assert found["mse"] == pytest.approx(sk.mean_squared_error(y, o, sample_weight=w))
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(y, o, sample_weight=w) ** 0.5)
    assert found["r2"] == pytest.approx(sk.r2_score(y, o, sample_weight=w))


def test_a_member_that_broke_gets_nan_and_the_other_its_own():
    p, y, w = problem("classification", seed=5)
    p[1, 3] = torch.nan
    for name in CLASSIFICATION:
        value = WEIGHTED[getattr(metrics, name)](p, y, w)
        assert value.isnan().tolist() == [False, True], name


def test_a_metric_of_ones_own_needs_the_parameter():
    def mine(p, y, weight_KN=None):
        return y.sum()

    assert as_weighted("mine", mine) is mine
    with pytest.raises(ConfigError, match=r"metrics\.mine: must take weights .* weight_KN"):
        as_weighted("mine", lambda p, y: p)
