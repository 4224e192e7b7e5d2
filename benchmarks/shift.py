"""Distribution shift against known weights: errors, what correction gains, power of tests, time and memory."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.stats import norm
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
GATE = {"breast_cancer": 30, "digits": 10, "diabetes": 100}
POWER = {"sparse .2": 500, "dense .5": 250, "scale 1.5": 500, "correlation .5": 1000}
LEVEL: dict[str, Any] = {"repetitions": 400, "band": (0.025, 0.085)}
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


def weight_errors(n: int = 10_000, features: int = 10, shift: float = 1.0) -> dict[str, Any]:
    """Relative L2 error of the default's weights under a mean shift, squared and not."""
    squares = []
    for seed in range(20):
        source, target, truth = gaussian(n, features, shift, seed)
        weights = Classifier().fit(source, target, generator(seed)).source_weight_N
        truth /= truth.mean()
        squares.append(float((weights - truth).square().sum() / truth.square().sum()))
    return {
        "bar": 0.04,
        "relative_squared": summary(squares),
        "root": summary([s**0.5 for s in squares]),
        "information_bound_root": round(least_error(n, features, shift), 4),
    }


def least_error(n: int, features: int, shift: float) -> float:
    """The root of the least mean squared error that information leaves a regular estimate of log w = beta x + gamma.

    With n rows a side a row tells w / (1 + w) of the source's second moments about beta. Errors of beta count under
    the density of w^2, which lies twice as far as the target; gamma follows from the mean of one.
    """

    def moment(power: int) -> float:
        def term(u: float) -> float:
            w = np.exp(shift * u - shift**2 / 2)
            return float(norm.pdf(u) * u**power * w / (1 + w))

        return float(quad(term, -12, 12)[0])

    across = 1 / (n * moment(0))
    along = 1 / (n * (moment(2) - moment(1) ** 2 / moment(0)))
    return float((across * (features - 1) + along * (1 + shift**2)) ** 0.5)


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


def fitted_losses(name: str, x: Array, y: Array, weight: Array, at_x: Array, at_y: Array) -> Tensor:
    """Losses of other rows by a ridge or a logistic regression (C = .01) with weights."""
    if name == "diabetes":
        ridge = Ridge(alpha=1.0).fit(x, y, sample_weight=weight)
        return torch.from_numpy((ridge.predict(at_x) - at_y) ** 2)
    model = LogisticRegression(C=0.01, max_iter=3000).fit(x, y, sample_weight=weight)
    found, place = model.predict_proba(at_x), np.searchsorted(model.classes_, at_y)
    known = np.isin(at_y, model.classes_)
    likelihood = np.full(len(at_y), 1e-6)
    likelihood[known] = found[known, place[known]]
    return torch.from_numpy(-np.log(likelihood.clip(1e-6)))


def gate_answers(name: str, seeds: int) -> dict[str, Any]:
    """How often the gate says what for full weights of the default against none, and how often yes was right."""
    answers = {"yes": 0, "no": 0, "cannot tell": 0}
    right = helps = 0
    for seed in range(seeds):
        p = pca_tilt(name, seed)
        weight = estimated(p, Classifier(), seed)

        def losses(rows: Tensor, weights: Tensor, scored: Tensor, p: Problem = p) -> Tensor:
            x, y = p.source_x, p.source_y
            return fitted_losses(name, x[rows], y[rows], weights.numpy(), x[scored], y[scored])

        found = select_exponent(losses, weight, generator(seed), exponents=(0.0, 1.0), repeats=3)
        answer = should_correct(found.loss_EN[0], found.loss_EN[1], weight).answer
        on_target = [
            fitted_losses(name, p.source_x, p.source_y, w, p.target_x, p.target_y).mean()
            for w in (np.ones(len(weight)), weight.numpy())
        ]
        better = bool(on_target[1] < on_target[0])
        answers[answer] += 1
        helps += better
        right += better and answer == "yes"
    return answers | {"helps": helps, "yes_and_helps": right}


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


def p_values(seed: int, kind: str, n: int) -> dict[str, float]:
    """The p-value of each test and of the portfolio."""
    torch.set_num_threads(1)
    found = Portfolio()(*shifted(kind, n, seed), generator(seed))
    return {d.name: d.p_value for d in found.detections} | {"portfolio": found.p_value}


def rejections(kind: str, n: int, repetitions: int) -> dict[str, float]:
    """The share of repetitions in which each test rejects at .05, d = 10, on at most two processes."""
    with ProcessPoolExecutor(min(2, len(os.sched_getaffinity(0)))) as pool:
        work = partial(p_values, kind=kind, n=n)
        found = list(pool.map(work, range(repetitions), chunksize=10))
    return {
        name: round(fmean(each[name] <= 0.05 for each in found), 4) for name in sorted(found[0])
    }


def power(repetitions: int = 100) -> dict[str, Any]:
    """Level without a shift, and power of every test and of the portfolio under each shift."""
    null: dict[str, Any] = LEVEL | rejections("none", 250, LEVEL["repetitions"])
    shares: dict[str, Any] = {}
    for kind, n in POWER.items():
        bar = {"bar": round(BEST_SINGLE[kind] - 0.05, 2)}
        shares[kind] = rejections(kind, n, repetitions) | bar
    return {"none": null, **shares}


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
        "gate": {name: gate_answers(name, seeds) for name, seeds in GATE.items()},
        "label_shift": label_errors(),
        "power": power(),
        "cost": costs(),
    }
