"""Coverage of conformal intervals under covariate shift: the airfoil experiment of arXiv 1904.06019, section 2.2."""

from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unitgain.data.sources import airfoil
from unitgain.shift import Classifier, conformal_interval

TITLE = "Conformal intervals under covariate shift, airfoil: coverage at 90 %"
PUBLISHED = {"no shift": 0.9021, "unweighted": 0.8220, "oracle": 0.9086, "logistic": 0.9102}
"""Means of 5000 trials."""
TILT = (-1.0, 0.0, 0.0, 0.0, 1.0)
LOGISTIC = Classifier(features=("linear",), ridges=(0.01,), folds=1)


def table() -> tuple[Tensor, Tensor]:
    """Features, with frequency and thickness as logarithms, and answers."""
    loaded = airfoil()
    x = loaded.x.copy()
    x[:, [0, 4]] = np.log(x[:, [0, 4]])
    return torch.from_numpy(x), torch.from_numpy(loaded.y[:, 0])


def tilted(rows_RD: Tensor) -> Tensor:
    """The weights exp(x beta), up to a factor."""
    return (rows_RD @ rows_RD.new_tensor(TILT)).exp()


def trial(x_RD: Tensor, y_R: Tensor, seed: int) -> dict[str, tuple[float, float]]:
    """Coverage and median width of each method, with one split in 25 % to train, 25 % to calibrate, 50 % to test."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x_RD), generator=generator)
    quarter = len(order) // 4
    train, calibration, test = order.split([quarter, quarter, len(order) - 2 * quarter])
    drawn = torch.multinomial(tilted(x_RD[test]), len(test) // 2, True, generator=generator)
    shifted = test[drawn]
    design = torch.cat([torch.ones_like(y_R)[:, None], x_RD], 1)
    predicted_R = design @ torch.linalg.lstsq(design[train], y_R[train]).solution
    source = torch.cat([train, calibration])
    ratio = LOGISTIC.fit(x_RD[source], x_RD[shifted], generator)
    one_R, oracle_R, logistic_R = torch.ones_like(y_R), tilted(x_RD), ratio(x_RD)
    methods = {
        "no shift": (one_R, test),
        "unweighted": (one_R, shifted),
        "oracle": (oracle_R, shifted),
        "logistic": (logistic_R, shifted),
    }
    found = {}
    for name, (weight_R, at) in methods.items():
        low, high = conformal_interval(
            predicted_R[calibration],
            y_R[calibration],
            weight_R[calibration],
            predicted_R[at],
            weight_R[at],
        )
        inside = (low <= y_R[at]) & (y_R[at] <= high)
        found[name] = float(inside.double().mean()), float((high - low).median())
    return found


def coverages(trials: int) -> dict[str, Any]:
    """Means over trials, each beside what was published."""
    x_RD, y_R = table()
    found = [trial(x_RD, y_R, seed) for seed in range(trials)]
    result = {}
    for name, published in PUBLISHED.items():
        values = [each[name][0] for each in found]
        result[name] = {
            "published": published,
            "coverage": round(fmean(values), 4),
            "error": round(float(np.std(values, ddof=1)) / trials**0.5, 4),
            "width": round(median(each[name][1] for each in found), 1),
        }
    return result


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {"trials": 1000, "tolerance": 0.01, "methods": coverages(1000)}
