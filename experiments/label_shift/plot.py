"""From the runs to the numbers and the figure: how well estimators tell the class shares of a target.

Shapes: K networks (one a seed), V validation rows, R test rows, N source rows, M target rows, C classes; measured
values are of seeds S, kinds of shift Q, sizes Z and draws D.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared, Shift
from unitgain.data.shifts import LabelDirichlet, LabelTweakOne
from unitgain.errors import DataError
from unitgain.nn.losses import probabilities
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory
from unitgain.shift import BBSE, MLLS, RLLS, LabelEstimator, correct_posteriors
from unitgain.spec import parse
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.train import PackedDataModule, PackedModule
from unitgain.train.checkpoint import read_checkpoint

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

ESTIMATORS: Mapping[str, LabelEstimator] = {
    "BBSE": BBSE(),
    "RLLS": RLLS(),
    "EM": MLLS(calibration="none"),
    "EM, calibrated": MLLS(),
}
COLOURS = {"BBSE": "#c8553d", "RLLS": "#d9a441", "EM": "#8a8a8a", "EM, calibrated": "#2f6f9f"}
SHIFTS = ("Dirichlet 0.1", "Dirichlet 1", "Dirichlet 10", "one class 0.9")
SIZES = (100, 200, 500, 1000)
"""Rows of source and of target; those that there are enough validation rows for."""
DRAWS = 3


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Ratios of squared errors, how the error falls with rows, and what correction adds to accuracy."""
    error, gain = _measured(_directories(results))
    log = {name: np.log(error_SQZD) for name, error_SQZD in error.items()}
    calibrated = log["EM, calibrated"]
    falls_S = np.array([_slope(each_Z) for each_Z in log["BBSE"].mean(axis=(1, 3))])
    gain_S = gain["EM, calibrated"].mean(axis=(2, 3))
    return {
        "em_to_bbse_high": _ratio(calibrated - log["BBSE"]).high,
        "em_to_rlls_high": _ratio(calibrated - log["RLLS"]).high,
        "em_to_uncalibrated_high": _ratio(calibrated - log["EM"]).high,
        "rlls_to_bbse_few_rows_high": _ratio((log["RLLS"] - log["BBSE"])[:, :, :1]).high,
        "bbse_slope": _mean(falls_S).value,
        "gain_large_shift_low": _mean(gain_S[:, SHIFTS.index("Dirichlet 0.1")]).low,
        "gain_small_shift": _mean(gain_S[:, SHIFTS.index("Dirichlet 10")]).value,
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """The error of the weights over rows, a panel a shift, with 95% intervals over seeds."""
    error, _ = _measured(_directories(results))
    figure = Figure(figsize=(11.4, 3.9), layout="constrained")
    panels = figure.subplots(1, len(SHIFTS), sharey=True)
    for q, (axes, shift) in enumerate(zip(panels, SHIFTS, strict=True)):
        for name, error_SQZD in error.items():
            log_SZ = np.log(error_SQZD[:, q]).mean(axis=2)
            ends = [_ratio(log_S) for log_S in log_SZ.T]
            sizes = SIZES[: len(ends)]
            axes.plot(
                sizes,
                [end.value for end in ends],
                color=COLOURS[name],
                marker="o",
                markersize=3,
                label=name if q == 0 else None,
            )
            low, high = ([getattr(end, side) for end in ends] for side in ("low", "high"))
            axes.fill_between(sizes, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        start = np.exp(np.log(error["BBSE"][:, q, 0]).mean())
        falling = [start * SIZES[0] / size for size in sizes]
        axes.plot(
            sizes,
            falling,
            color="#262626",
            linewidth=1,
            linestyle=(0, (2, 2)),
            label="1 / n" if q == 0 else None,
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("rows of source and of target, n")
        axes.set_title(shift)
    panels[0].set_ylabel("mean squared error of the weights")
    figure.legend(loc="outside lower center", ncols=len(ESTIMATORS) + 1)
    figure.suptitle(
        "Calibrated EM tells class shares best, the more so the larger the shift",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _directories(results: Sequence[Result]) -> tuple[Path, ...]:
    """In the order of seeds."""
    ordered = sorted(results, key=lambda result: int(result.key("seed")))
    return tuple(result.directory for result in ordered)


@cache
def _measured(directories: tuple[Path, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
    """By estimator: squared errors of the weights, and what correction adds to accuracy, (S, Q, Z, D)."""
    tables, val_KVC, test_KRC = _predicted(directories)
    sizes = [size for size in SIZES if size <= len(tables[0].split.val)]
    shape = (len(tables), len(SHIFTS), len(sizes), DRAWS)
    error = {name: np.empty(shape) for name in ESTIMATORS}
    gain = {name: np.empty(shape) for name in ESTIMATORS}
    for s, table in enumerate(tables):
        place = np.empty(len(table.y), dtype=np.int64)
        place[table.split.test] = np.arange(len(table.split.test))
        for q, z, d in np.ndindex(shape[1:]):
            rng = np.random.default_rng([s, q, z, d])
            own = _source_rows(table, sizes[z], rng)
            other = _target_rows(table, q, sizes[z], rng)
            parts = val_KVC[s][own], test_KRC[s][place[other]]
            labels = table.y[table.split.val[own]], table.y[other]
            for name, estimator in ESTIMATORS.items():
                found = estimates(estimator, *parts, *map(torch.from_numpy, labels))
                error[name][s, q, z, d], gain[name][s, q, z, d] = found
    return error, gain


def estimates(
    estimator: LabelEstimator,
    source_NC: Tensor,
    target_MC: Tensor,
    label_N: Tensor,
    label_M: Tensor,
) -> tuple[float, float]:
    """The mean squared error of the weights against the shares of these labels, and the gain of accuracy.

    Where predictions can't tell classes apart, weights are one, as in algorithm 1 of Lipton et al.
    """
    classes = source_NC.shape[1]
    share_2C = [each.bincount(minlength=classes) / len(each) for each in (label_N, label_M)]
    try:
        ratio = estimator.fit(source_NC, label_N, target_MC)
        weight_C, corrected_MC = ratio.weight_C, ratio.posteriors(target_MC)
    except DataError:
        weight_C = torch.ones(classes, dtype=torch.float64)
        corrected_MC = correct_posteriors(target_MC, weight_C)
    error = (weight_C - share_2C[1] / share_2C[0]).square().mean()
    hits = [(each.argmax(1) == label_M).double().mean() for each in (corrected_MC, target_MC)]
    return float(error), float(hits[0] - hits[1])


def _predicted(directories: Sequence[Path]) -> tuple[Sequence[Prepared], Tensor, Tensor]:
    """The tables of the runs, and the posteriors of their best states for validation and test rows."""
    runs = [RunDirectory(directory) for directory in directories]
    specs = [parse(run.read_config()) for run in runs]
    tables = PackedDataModule(specs).tables
    module = PackedModule(specs, tables)
    for k, run in enumerate(runs):
        module.pack.mlp.load_member_state(k, read_checkpoint(run.best_checkpoint)["state_dict"])
    val_KVC, test_KRC = (
        probabilities(module.pack.predict(part).output_KNT.double()) for part in ("val", "test")
    )
    return tables, val_KVC, test_KRC


def _source_rows(table: Prepared, size: int, rng: np.random.Generator) -> Rows:
    """Positions among validation rows; drawn anew until each class has a row."""
    while True:
        own = rng.choice(len(table.split.val), size, replace=False)
        if len(np.unique(table.y[table.split.val[own]])) == table.n_classes:
            return own


def _target_rows(table: Prepared, q: int, size: int, rng: np.random.Generator) -> Rows:
    """Test rows whose classes have other shares, with replacement."""
    seed = int(rng.integers(2**31))
    shifts: tuple[Shift, ...] = (
        LabelDirichlet(0.1, seed),
        LabelDirichlet(1.0, seed),
        LabelDirichlet(10.0, seed),
        LabelTweakOne(seed % table.n_classes, 0.9, seed),
    )
    return rng.choice(shifts[q](table.shifted.table, table.split).split.test, size)


def _slope(log_Z: Array) -> float:
    """Of the logarithm of an error over that of rows."""
    return float(np.polyfit(np.log(SIZES[: len(log_Z)]), log_Z, 1)[0])


def _mean(values_S: Array) -> Interval:
    """Over seeds, with its 95% interval."""
    return location_interval(values_S, np.random.default_rng(0))


def _ratio(log: Array) -> Interval:
    """The geometric mean over seeds, with its 95% interval, of logarithms whose first axis is seeds."""
    found = _mean(log.reshape(len(log), -1).mean(axis=1))
    return Interval(*np.exp([found.value, found.low, found.high]))
