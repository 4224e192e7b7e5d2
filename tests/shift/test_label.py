"""Label shift with known shares, and with posteriors that are exactly right or wrong."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from unitgain.errors import ConfigError, DataError
from unitgain.shift import (
    BBSE,
    MLLS,
    RLLS,
    Calibrator,
    bootstrap_weights,
    correct_posteriors,
)

ESTIMATORS = {
    "bbse": BBSE(),
    "bbse_soft": BBSE(soft=True),
    "rlls": RLLS(),
    "rlls_soft": RLLS(soft=True),
    "em": MLLS(calibration="none"),
    "em_temperature": MLLS(calibration="temperature"),
    "em_bias_corrected": MLLS(),
}
MEANS = torch.tensor([[0.0, 2.0], [2.0, 0.0], [-1.5, -1.5]], dtype=torch.float64)


def rows_of(shares, rows, seed):
    """Rows of three Gaussians with such shares, and their classes."""
    g = torch.Generator().manual_seed(seed)
    label = torch.multinomial(torch.tensor(shares), rows, replacement=True, generator=g)
    return MEANS[label] + torch.randn(rows, 2, generator=g, dtype=torch.float64), label


def posterior(x, shares, sharpness=1.0, bias=(0.0, 0.0, 0.0)):
    """The Bayes posterior, or one with a wrong temperature and wrong biases."""
    log = -0.5 * (x[:, None] - MEANS).square().sum(-1) + torch.tensor(shares).double().log()
    return (sharpness * log + torch.tensor(bias)).softmax(1)


SOURCE, TARGET = [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]
TRUTH = torch.tensor([0.4, 2 / 3, 3.0], dtype=torch.float64)


def problem(rows=3000, seed=0, **wrong):
    (x, y), (z, _) = rows_of(SOURCE, rows, seed), rows_of(TARGET, rows, seed + 1000)
    return posterior(x, SOURCE, **wrong), y, posterior(z, SOURCE, **wrong)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_weights_of_exact_posteriors(name):
    fitted = ESTIMATORS[name].fit(*problem())
    # The standard error of a share over 3000 rows is .009, and shares are divided by .2 or more.
    assert torch.allclose(fitted.weight_C, TRUTH, atol=0.2)
    assert float(fitted.source_C @ fitted.weight_C) == pytest.approx(1.0)
    assert float(fitted.target_C.sum()) == pytest.approx(1.0)
    assert 0.05 < fitted.smallest_singular_value < 0.5


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_shift_gives_weights_of_one(name):
    (x, y), (z, _) = rows_of(SOURCE, 3000, 5), rows_of(SOURCE, 3000, 6)
    fitted = ESTIMATORS[name].fit(posterior(x, SOURCE), y, posterior(z, SOURCE))
    assert torch.allclose(fitted.weight_C, torch.ones(3, dtype=torch.float64), atol=0.15)


@pytest.mark.parametrize("name", ["bbse", "rlls", "em_bias_corrected"])
def test_order_of_rows_does_not_matter(name):
    source, label, target = problem(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    one = ESTIMATORS[name].fit(source, label, target)
    other = ESTIMATORS[name].fit(source[order], label[order], target[order])
    assert torch.allclose(one.weight_C, other.weight_C, atol=1e-5)


def test_calibration_mends_wrong_posteriors():
    wrong = {"sharpness": 2.5, "bias": (1.5, 0.0, -1.0)}
    squares = [
        float((MLLS().fit(*problem(1500, s, **wrong)).weight_C - TRUTH).square().mean())
        for s in range(5)
    ]
    assert np.mean(squares) < 0.04


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_digits_with_one_class_at_nine_tenths():
    """Logistic regression, class 3 from .1 to .9: the mean over seeds of the mean square over classes."""
    x, y = load_digits(return_X_y=True)
    squares = {"bbse": [], "em_bias_corrected": []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(y))
        train, source, rest = order[:600], order[600:1200], order[1200:]
        model = LogisticRegression(C=0.01, max_iter=200).fit(x[train], y[train])
        three, others = rest[y[rest] == 3], rest[y[rest] != 3]
        target = np.concatenate([rng.choice(three, 540), rng.choice(others, 60)])
        posteriors = [torch.from_numpy(model.predict_proba(x[rows])) for rows in (source, target)]
        label = torch.from_numpy(y[source])
        truth = np.bincount(y[target], minlength=10) / 600 / (np.bincount(y[source]) / 600)
        for name, values in squares.items():
            found = ESTIMATORS[name].fit(posteriors[0], label, posteriors[1])
            values.append(np.mean((found.weight_C.numpy() - truth) ** 2))
    assert np.mean(squares["em_bias_corrected"]) <= 0.002
    assert np.mean(squares["em_bias_corrected"]) < np.mean(squares["bbse"])


def test_error_falls_like_the_root_of_n():
    sizes, errors = [500, 8000], []
    for rows in sizes:
        squares = [
            float(
                (MLLS(calibration="none").fit(*problem(rows, s)).weight_C - TRUTH).square().mean()
            )
            for s in range(12)
        ]
        errors.append(math.sqrt(np.mean(squares)))
    slope = math.log(errors[1] / errors[0]) / math.log(sizes[1] / sizes[0])
    assert -0.75 < slope < -0.25


def test_likelihood_is_at_its_maximum():
    """No other shares near those of EM give the target a larger likelihood."""
    source, label, target = problem(800)
    weight = MLLS(calibration="none").fit(source, label, target)
    share = source.mean(0)
    at = weight.weight_C * share / (weight.weight_C @ share)

    def likelihood(q):
        return float((target @ (q / share)).log().mean())

    for step in torch.eye(3, dtype=torch.float64):
        for size in (1e-3, -1e-3):
            moved = (at + size * (step - at)).clamp(min=0)
            assert likelihood(moved / moved.sum()) < likelihood(at)


def test_corrected_posteriors_are_those_of_the_target():
    x, _ = rows_of(TARGET, 50, 0)
    corrected = correct_posteriors(posterior(x, SOURCE), TRUTH)
    assert torch.allclose(corrected, posterior(x, TARGET), atol=1e-6)


def test_ratio_corrects_posteriors_after_calibrating_them():
    wrong = {"sharpness": 2.0, "bias": (1.0, 0.0, 0.0)}
    source, label, target = problem(4000, **wrong)
    fitted = MLLS().fit(source, label, target)
    x, _ = rows_of(TARGET, 200, 7)
    corrected = fitted.posteriors(posterior(x, SOURCE, **wrong))
    assert float((corrected - posterior(x, TARGET)).abs().mean()) < 0.02


def test_rows_on_classes_of_no_weight_keep_their_posterior():
    result = correct_posteriors(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 2.0]))
    assert result.tolist() == [[1.0, 0.0]]


def test_calibration_recovers_temperature_and_bias():
    x, y = rows_of(SOURCE, 20_000, 3)
    found = Calibrator().fit(posterior(x, SOURCE, sharpness=2.0, bias=(1.0, 0.0, -1.0)), y)
    assert found.temperature == pytest.approx(2.0, abs=0.1)
    assert found.bias_C.tolist() == pytest.approx([-0.5, 0.0, 0.5], abs=0.1)


def test_bootstrap_covers_the_truth():
    inside, seeds = 0, 12
    for seed in range(seeds):
        source, label, target = problem(300, seed)
        low, high = bootstrap_weights(
            BBSE(), source, label, target, torch.Generator().manual_seed(seed), resamples=60
        )
        inside += int(((low <= TRUTH) & (high >= TRUTH)).sum())
    # 36 intervals at 95 %, three of a seed together.
    assert inside >= 30


def test_rare_classes_survive_the_bootstrap():
    source, label, target = problem(60)
    label = label.clamp(max=1)
    label[0] = 2
    low, high = bootstrap_weights(
        RLLS(), source, label, target, torch.Generator().manual_seed(0), resamples=5
    )
    assert bool((low <= high).all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s, y, t: (s[:, :2] / s[:, :2].sum(1, True), y.clamp(max=1), t),
            "must have posteriors of 2",
        ),
        (lambda s, y, t: (2 * s, y, t), "source: rows must be distributions"),
        (lambda s, y, t: (s, y, t[:0]), "target: must be posteriors"),
        (lambda s, y, t: (s, y[:5], t), "labels: must be 30 class indices"),
        (lambda s, y, t: (s, y.clamp(max=1), t), "class 2 has none"),
        (lambda s, y, t: (s, y + 1, t), "labels: must be from 0 to 2"),
    ],
)
def test_faults_are_one_line(change, words):
    arguments = change(*problem(30))
    with pytest.raises(DataError, match=words) as caught:
        BBSE().fit(*arguments)
    assert "\n" not in str(caught.value)


def test_predictions_that_tell_nothing():
    same = torch.full((30, 3), 1 / 3)
    label = torch.arange(30) % 3
    with pytest.raises(DataError, match="must tell all classes apart"):
        BBSE().fit(same, label, same)
    assert torch.allclose(RLLS().fit(same, label, same).weight_C, torch.ones(3).double(), atol=1e-3)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="alpha: must be"):
        RLLS(alpha=-1.0)
    with pytest.raises(ConfigError, match="calibration: must be one of"):
        MLLS(calibration="platt")
    with pytest.raises(ConfigError, match="bootstrap: must have"):
        bootstrap_weights(BBSE(), *problem(30), torch.Generator(), resamples=1)
