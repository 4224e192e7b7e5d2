"""Distribution shift against known weights: errors, what correction gains, power of tests, time and memory."""

import subprocess
import sys
from statistics import fmean
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils._testing import ignore_warnings
from torch import Tensor

from benchmarks.shift_problems import Array, Problem, gaussian, pca_tilt, shifted, sinc
from unitgain.shift import (
    BBSE,
    KLIEP,
    KMM,
    MLLS,
    ULSIF,
    Classifier,
    Estimator,
    NearestNeighbour,
    Portfolio,
    RuLSIF,
    flatten,
    select_exponent,
    should_correct,
)

TITLE = "Distribution shift: weights, correction and tests against the truth"
ESTIMATORS: dict[str, Estimator] = {
    "classifier": Classifier(),
    "kmm": KMM(),
    "kliep": KLIEP(),
    "ulsif": ULSIF(),
    "rulsif": RuLSIF(),
    "neighbour": NearestNeighbour(),
}
LARGE = 100_000
POWER = {"sparse .2": 500, "dense .5": 250, "scale 1.5": 500, "correlation .5": 1000}
BEST_SINGLE = {"sparse .2": 0.58, "dense .5": 0.99, "scale 1.5": 0.91, "correlation .5": 0.99}
"""Of the tests that were measured before these were written."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def estimated(problem: Problem, estimator: Estimator, seed: int) -> Tensor:
    """The weights of the source rows."""
    return estimator.fit(*problem.tensors(), generator(seed)).source_weight_N


def summary(values: list[float], digits: int = 4) -> dict[str, float]:
    """The mean with its standard error."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return {"mean": round(fmean(values), digits), "error": round(error, digits)}


def weight_errors() -> dict[str, Any]:
    """Relative squared error of the default's weights, n = 1e4, d = 10, mean shift 1."""
    squares = []
    for seed in range(10):
        source, target, truth = gaussian(10_000, 10, 1.0, seed)
        weights = Classifier().fit(source, target, generator(seed)).source_weight_N
        squares.append(float((weights - truth).square().sum() / truth.square().sum()))
    return {
        "bar": 0.04,
        "relative_squared": summary(squares),
        "root": summary([s**0.5 for s in squares]),
    }


def sinc_risks(seeds: int = 60) -> dict[str, Any]:
    """Excess target risk of a line fitted with weights, over the best line's."""
    grid = np.random.default_rng(10**6).normal(2, 0.25, 100_000)
    design, truth = np.stack([grid, np.ones_like(grid)], 1), np.sinc(grid)
    floor = np.linalg.lstsq(design, truth, rcond=None)[1][0] / len(grid)

    def excess(problem: Problem, weight: Array) -> float:
        root, x = np.sqrt(weight), problem.source_x[:, 0]
        line = np.stack([x, np.ones_like(x)], 1) * root[:, None]
        solution = np.linalg.lstsq(line, problem.source_y * root, rcond=None)[0]
        return float(np.mean((design @ solution - truth) ** 2) - floor)

    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        problem = sinc(seed)
        weights = {name: estimated(problem, e, seed) for name, e in ESTIMATORS.items()}
        weights["none"] = torch.ones(len(problem.weight))
        weights["oracle"] = torch.from_numpy(problem.weight)
        weights["classifier_flattened"] = flatten(weights["classifier"], 0.5)
        weights["oracle_flattened"] = flatten(weights["oracle"], 0.5)
        for name, weight in weights.items():
            found.setdefault(name, []).append(excess(problem, weight.numpy()))
    return {
        "bars": {"classifier_flattened": 0.015, "any": 0.06},
        **{name: summary(values) for name, values in found.items()},
    }


@ignore_warnings(category=ConvergenceWarning)
def tilt_accuracies(name: str, seeds: int, bar: float) -> dict[str, Any]:
    """Target accuracy of a logistic regression (C = .01) trained with weights, and their relative L2 error."""
    found: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for seed in range(seeds):
        problem = pca_tilt(name, seed)
        weights = {key: estimated(problem, e, seed).numpy() for key, e in ESTIMATORS.items()}
        weights |= {"none": np.ones(len(problem.weight)), "oracle": problem.weight}
        for key, weight in weights.items():
            model = LogisticRegression(C=0.01, max_iter=3000)
            model.fit(problem.source_x, problem.source_y, sample_weight=weight / weight.mean())
            score = model.score(problem.target_x, problem.target_y)
            found.setdefault(key, []).append(float(score))
            truth = problem.weight / problem.weight.mean()
            error = np.linalg.norm(weight / weight.mean() - truth) / np.linalg.norm(truth)
            errors.setdefault(key, []).append(float(error))
    return {
        "bar": bar,
        "accuracy": {key: summary(values) for key, values in found.items()},
        "weight_error": {key: summary(values, 2) for key, values in errors.items()},
    }


def gate_answers(name: str, seeds: int) -> dict[str, int]:
    """How often the gate says what, for full weights of the default against none."""
    answers = {"yes": 0, "no": 0, "cannot tell": 0}
    for seed in range(seeds):
        problem = pca_tilt(name, seed)
        weight = estimated(problem, Classifier(), seed)

        def losses(rows: Tensor, weights: Tensor, scored: Tensor, p: Problem = problem) -> Tensor:
            x, y, w = p.source_x[rows], p.source_y[rows], weights.numpy()
            if name == "diabetes":
                fitted = Ridge(alpha=1.0).fit(x, y, sample_weight=w)
                return torch.from_numpy(
                    (fitted.predict(p.source_x[scored]) - p.source_y[scored]) ** 2
                )
            model = LogisticRegression(C=0.01, max_iter=3000).fit(x, y, sample_weight=w)
            right = model.predict_proba(p.source_x[scored])
            place = np.searchsorted(model.classes_, p.source_y[scored]).clip(max=right.shape[1] - 1)
            return torch.from_numpy(-np.log(right[np.arange(len(place)), place].clip(1e-6)))

        found = select_exponent(losses, weight, generator(seed), exponents=(0.0, 1.0))
        answers[should_correct(found.loss_EN[0], found.loss_EN[1], weight).answer] += 1
    return answers


def label_errors(seeds: int = 20) -> dict[str, Any]:
    """Mean squared error of the classes' weights: digits, one class at .9, logistic regression."""
    x, y = load_digits(return_X_y=True)
    found: dict[str, list[float]] = {"bbse": [], "em": [], "em_bias_corrected": []}
    estimators = {"bbse": BBSE(), "em": MLLS(calibration="none"), "em_bias_corrected": MLLS()}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        train, source, rest = np.array_split(rng.permutation(len(y)), [600, 1200])
        model = LogisticRegression(C=0.01, max_iter=300).fit(x[train], y[train])
        tweaked = seed % 10
        own, others = rest[y[rest] == tweaked], rest[y[rest] != tweaked]
        target = np.concatenate([rng.choice(own, 540), rng.choice(others, 60)])
        posteriors = [torch.from_numpy(model.predict_proba(x[rows])) for rows in (source, target)]
        truth = np.bincount(y[target], minlength=10) / np.bincount(y[source])
        for name, estimator in estimators.items():
            fitted = estimator.fit(posteriors[0], torch.from_numpy(y[source]), posteriors[1])
            found[name].append(float(np.mean((fitted.weight_C.numpy() - truth) ** 2)))
    return {"bar": 0.002, **{name: summary(values, 5) for name, values in found.items()}}


def power(repetitions: int = 100) -> dict[str, Any]:
    """Share of repetitions that reject at .05, d = 10."""
    result: dict[str, Any] = {}
    for kind, n in {"none": 250, **POWER}.items():
        rejected: dict[str, int] = {"portfolio": 0}
        for seed in range(repetitions):
            found = Portfolio()(*shifted(kind, n, seed), generator(seed))
            rejected["portfolio"] += found.p_value <= 0.05
            for test in found.detections:
                rejected[test.name] = rejected.get(test.name, 0) + (test.p_value <= 0.05)
        shares = {name: count / repetitions for name, count in rejected.items()}
        result[kind] = shares | (
            {"bar": round(BEST_SINGLE[kind] - 0.05, 2)} if kind in POWER else {}
        )
    return result


_COST = """
import resource, time, torch
from unitgain.shift import *
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
source, target = (torch.randn({n}, 10, generator=generator) for _ in range(2))
target[:, 0] += 1
start = time.perf_counter()
work = {what}
(work.fit if isinstance(work, Estimator) else work)(source, target, generator)
seconds = time.perf_counter() - start
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def cost(what: str, n: int) -> dict[str, float]:
    """Seconds and peak memory of a process of its own, one thread, d = 10."""
    code = _COST.format(what=what, n=n)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, done.stdout.split())
    return {"rows_a_side": n, "seconds": round(seconds, 1), "peak_gigabytes": round(gigabytes, 2)}


def costs() -> dict[str, Any]:
    """Estimators at 1e5 a side, the MMD exact and with random features."""
    result = {name: cost(f"{name}()", LARGE) for name in ("ULSIF", "KLIEP", "KMM", "Classifier")}
    result["MMD"] = cost("MMD(permutations=100)", 5_000)
    result["MMD at 2e4"] = cost("MMD(permutations=100)", 20_000)
    features = "MMD(permutations=100, random_features=256)"
    return {"bar_gigabytes": 1.5, **result, "MMD, random features": cost(features, 1_000_000)}


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "weights": weight_errors(),
        "sinc": sinc_risks(),
        "breast_cancer": tilt_accuracies("breast_cancer", 30, 0.90),
        "digits": tilt_accuracies("digits", 10, 0.875),
        "gate": {name: gate_answers(name, 30) for name in ("breast_cancer", "diabetes")},
        "label_shift": label_errors(),
        "power": power(),
        "cost": costs(),
    }
