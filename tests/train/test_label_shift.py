"""Class shares of target rows without labels, against a classifier of scikit-learn's and shares that are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from unitgain.data import Split, open_data
from unitgain.errors import DataError
from unitgain.train.label_shift import (
    label_shift_of,
    moved_p_value,
    posterior_scores,
    remainder_of,
)
from unitgain.train.representations import Representations

DIGITS = {"_target_": "unitgain.data.sources.digits", "task": "classification"}
TWEAKED = {"_target_": "unitgain.data.shifts.LabelTweakOne", "label": 3, "share": 0.6}
TILTED = {"_target_": "unitgain.data.shifts.PCATilt", "strength": 3.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def digits(make_spec):
    """Digits under a shift, and what a logistic regression says of their rows."""

    def make(shift):
        table = open_data(make_spec(data=DIGITS, shift=shift))
        train = table.split.train
        model = LogisticRegression(max_iter=300).fit(table.x[train], table.y[train])

        def seen(rows):
            x = torch.from_numpy(table.x[rows])
            return Representations(x, None, torch.from_numpy(model.predict_proba(x.numpy())), True)

        return table, seen(table.split.val), seen(table.split.test)

    return make


def test_class_shares_of_a_label_shift_are_found_without_labels(digits):
    table, source, target = digits(TWEAKED)
    found = label_shift_of(table, source, target, seeded(), resamples=50)
    truth_C = np.bincount(table.y[table.split.test], minlength=10) / len(table.split.test)
    counted_C = np.bincount(target.said_RT.argmax(1).numpy(), minlength=10) / len(table.split.test)
    # Closer than counting predictions, which errs by a tenth of the rows here.
    error, counted = (
        np.abs(share_C - truth_C).sum() for share_C in (found.ratio.target_C.numpy(), counted_C)
    )
    assert error < counted
    assert found.ratio.target_C.numpy() == pytest.approx(truth_C, abs=0.05)
    train_C = np.bincount(table.y[table.split.train], minlength=10) / len(table.split.train)
    rest_C = train_C * (1 - 0.6) / (1 - train_C[3])
    rest_C[3] = 0.6
    assert found.truth_C.numpy() == pytest.approx(rest_C / train_C)
    assert found.train_C.numpy() == pytest.approx(train_C)
    for weight_C in (*found.others.values(), found.ratio.weight_C):
        assert weight_C[3] == pytest.approx(0.6 / train_C[3], rel=0.2)
    low_C, high_C = found.intervals.weight_2C
    assert low_C[3] < 0.6 / train_C[3] < high_C[3]
    low_C, high_C = found.intervals.share_2C
    assert low_C[3] < 0.6 < high_C[3] < 1
    assert found.given
    assert found.indicated
    assert found.p_value < 0.001
    assert found.remainder.p_value > 0.05


def test_posteriors_are_corrected_by_the_rule_of_bayes(digits):
    table, source, target = digits(TWEAKED)
    found = label_shift_of(table, source, target, seeded(), resamples=2)
    calibration = found.ratio.calibration
    raised = target.said_RT.numpy() ** (1 / calibration.temperature)
    calibrated = raised * np.exp(calibration.bias_C.numpy())
    calibrated /= calibrated.sum(1, keepdims=True)
    corrected = calibrated * (found.ratio.target_C / found.ratio.source_C).numpy()
    corrected /= corrected.sum(1, keepdims=True)
    labels, one_hot = table.y[table.split.test], np.eye(10)[table.y[table.split.test]]
    variants = (target.said_RT.numpy(), calibrated, corrected)
    for name, posterior in zip(("as trained", "calibrated", "corrected"), variants, strict=True):
        scores = found.scores[name]
        assert scores["accuracy"] == pytest.approx(accuracy_score(labels, posterior.argmax(1)))
        assert scores["log_loss"] == pytest.approx(log_loss(labels, posterior, labels=range(10)))
        assert scores["brier"] == pytest.approx(((posterior - one_hot) ** 2).sum(1).mean())
    assert found.scores["corrected"]["log_loss"] < found.scores["calibrated"]["log_loss"]


def test_a_covariate_shift_is_not_taken_for_one_of_labels(digits):
    table, source, target = digits(TILTED)
    found = label_shift_of(table, source, target, seeded(), resamples=2)
    assert found.p_value < 0.05
    assert found.remainder.p_value < 0.01
    assert not found.indicated
    assert not found.holds
    assert (found.truth_C, found.intervals) == (None, None)


def test_the_p_value_of_moved_classes_is_that_of_chi_squared():
    counts = np.array([[160, 120, 80, 40], [105, 85, 70, 40]])
    one, other = (torch.arange(4).repeat_interleave(torch.from_numpy(row)) for row in counts)
    wanted = scipy.stats.chi2_contingency(counts).pvalue
    assert 0.01 < wanted < 0.5
    found = moved_p_value(one, other, 5, seeded())
    # Four standard errors of 9999 permutations, and as much for the limit that chi squared is.
    assert found == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 9999) + 0.01)


def test_classes_that_have_not_moved_are_seldom_said_to_have():
    rng, alarms = np.random.default_rng(1), 0
    for trial in range(200):
        rows = torch.from_numpy(rng.choice(3, 150, p=[0.7, 0.2, 0.1]))
        alarms += moved_p_value(rows[:90], rows[90:], 3, seeded(trial)) <= 0.05
    assert alarms <= scipy.stats.binom.ppf(0.999, 200, 0.05)


def clusters(seed, target, moved):
    """Three Gaussian classes in four dimensions, target rows moved along the last: a table, and its class weights."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.4, 0.35, 0.25])
    y = np.concatenate([rng.choice(3, 120, p=shares), rng.choice(3, 100, p=target)])
    x = rng.normal(size=(220, 4)) + 1.5 * np.eye(3, 4)[y]
    x[120:, 3] += moved
    rows = np.arange(220)
    split = Split(rows[:80], rows[80:120], rows[120:])
    return SimpleNamespace(split=split, x=x, y=y), torch.from_numpy(target / shares)


def test_a_label_shift_is_seldom_said_to_be_more_and_more_seldom_missed():
    """At .05, with the true weights: the rows that are kept are a sample of the target's distribution."""
    target = np.array([0.15, 0.15, 0.7])
    alarms = [
        remainder_of(*clusters(seed, target, 0.0), seeded(seed)).p_value <= 0.05
        for seed in range(60)
    ]
    assert sum(alarms) <= scipy.stats.binom.ppf(0.999, 60, 0.05)
    found = [
        remainder_of(*clusters(seed, target, 1.0), seeded(seed)).p_value <= 0.05
        for seed in range(10)
    ]
    assert sum(found) >= 8


def test_brier_scores_are_those_of_scikit_learn():
    from sklearn.metrics import brier_score_loss

    rng = np.random.default_rng(0)
    p, y = rng.random(50), rng.integers(0, 2, 50)
    posterior = torch.from_numpy(np.stack([1 - p, p], 1))
    # Over two classes the square counts twice.
    found = posterior_scores(posterior, torch.from_numpy(y))["brier"]
    assert found == pytest.approx(2 * brier_score_loss(y, p))


def test_what_has_no_class_weights(make_spec, diabetes, digits):
    table = open_data(make_spec(data=diabetes))
    rows = Representations(torch.zeros(3, 1), None, torch.zeros(3, 1), False)
    with pytest.raises(DataError, match=r"^diabetes: class weights need classes, but the task is"):
        label_shift_of(table, rows, rows, seeded())
    table, source, target = digits(TWEAKED)
    table.y[table.split.val] = 0
    with pytest.raises(DataError, match="class 1"):
        label_shift_of(table, source, target, seeded())
