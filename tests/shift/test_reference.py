"""Cheap versions of what benchmarks/shift.py measures over many seeds."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from unitgain.shift import KMM, ULSIF, Classifier, flatten


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weights_of_a_gaussian_mean_shift():
    """n = 1e4, d = 10, shift 1; the error of the best fit of 11 parameters is .05 in the root."""
    source, target = (
        torch.randn(10_000, 10, generator=generator(s), dtype=torch.float64) for s in (0, 1)
    )
    target[:, 0] += 1
    truth = (source[:, 0] - 0.5).exp()
    ratio = Classifier(ridges=(1.0,), folds=2).fit(source, target, generator())
    error = (ratio.source_weight_N - truth).square().sum() / truth.square().sum()
    assert float(error) < 0.04
    assert ratio.details["features"] == 0
    assert ratio.diagnostics().ess_share == pytest.approx(np.exp(-1), abs=0.06)


def test_quadratic_features_are_found_where_they_are_needed():
    source, target = (
        torch.randn(1000, 4, generator=generator(s), dtype=torch.float64) for s in (0, 1)
    )
    target[:, 1] *= 0.6
    ratio = Classifier(ridges=(1.0,), folds=2).fit(source, target, generator())
    assert ratio.details["features"] == 1
    truth = (source[:, 1].square() * (1 - 1 / 0.36) / 2).exp() / 0.6
    assert float((ratio.source_weight_N - truth).square().mean() / truth.square().mean()) < 0.1


def test_an_mlp_sees_what_quadratic_features_do_not():
    """Rows of a square are kept with probability (1 + sin(3 x)) / 2, so that w is 1 + sin(3 x) up to a factor."""
    pool = 4 * torch.rand(6000, 2, generator=generator(0), dtype=torch.float64) - 2
    share = (1 + (3 * pool[:, 0]).sin()) / 2
    source = pool[:3000]
    kept = torch.rand(3000, generator=generator(1), dtype=torch.float64) < share[3000:]
    truth = share[:3000] / share[:3000].mean()
    errors = []
    for kinds in (("linear", "quadratic"), ("linear", "quadratic", "mlp")):
        ratio = Classifier(features=kinds, ridges=(0.1,), folds=2, width=16).fit(
            source, pool[3000:][kept], generator()
        )
        errors.append(float((ratio.source_weight_N - truth).square().sum() / truth.square().sum()))
    assert ratio.details["features"] == 2
    assert errors[0] > 0.25
    # 65 parameters and 1500 target rows: an error of their ratio, .043, is what sampling alone leaves.
    assert errors[1] < 0.043


@pytest.mark.parametrize(
    ("estimator", "exponent"), [(Classifier(), 0.5), (ULSIF(), 1.0), (KMM(), 0.5)]
)
def test_sinc_regression(estimator, exponent):
    """Without weights a line's excess target risk is .33 on average."""
    grid = np.random.default_rng(100).normal(2, 0.25, 20_000)
    lines = np.stack([grid, np.ones_like(grid)], 1)
    floor = np.linalg.lstsq(lines, np.sinc(grid), rcond=None)[1][0] / len(grid)
    excesses = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, z = rng.normal(1, 0.5, 150), rng.normal(2, 0.25, 150)
        y = np.sinc(x) + rng.normal(0, 0.25, 150)
        parts = (torch.from_numpy(v)[:, None] for v in (x, z))
        weight = flatten(estimator.fit(*parts, generator(seed)).source_weight_N, exponent)
        root = weight.numpy() ** 0.5
        design = np.stack([x, np.ones_like(x)], 1) * root[:, None]
        solution = np.linalg.lstsq(design, y * root, rcond=None)[0]
        excesses.append(np.mean((lines @ solution - np.sinc(grid)) ** 2) - floor)
    assert np.mean(excesses) < 0.06


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_tilted_breast_cancer():
    """p = clip(sigmoid(-3 z), .02, 1) along the first principal component."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    z = x @ np.linalg.svd(x, full_matrices=False)[2][0]
    z = z / z.std() * np.sign(z[np.argmax(np.abs(z))])
    p = np.clip(1 / (1 + np.exp(3 * z)), 0.02, 1)
    scores = {"none": [], "classifier": []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        pool, target = np.array_split(rng.permutation(len(x)), [len(x) // 2])
        kept = pool[rng.random(len(pool)) < p[pool]]
        ratio = Classifier(features=("linear",), folds=3).fit(
            torch.from_numpy(x[kept]), torch.from_numpy(x[target]), generator(seed)
        )
        weights = {"none": np.ones(len(kept)), "classifier": ratio.source_weight_N.numpy()}
        for name, weight in weights.items():
            model = LogisticRegression(C=0.01, max_iter=3000)
            model.fit(x[kept], y[kept], sample_weight=weight)
            scores[name].append(model.score(x[target], y[target]))
    assert np.mean(scores["classifier"]) > np.mean(scores["none"]) + 0.08
    assert np.mean(scores["classifier"]) > 0.84
