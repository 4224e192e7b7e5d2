"""From the runs to the numbers and the figure: coverage of conformal intervals on shifted rows.

Shapes: N calibration rows, M target rows, Q units, S splits.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared, open_data
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory
from unitgain.shift import Classifier, conformal_interval
from unitgain.spec import parse
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.train.checkpoint import read_checkpoint

Array = NDArray[np.float64]
Key = tuple[str, str]

LINEAR, NETWORK = "Identity", "ReLU"
MODELS = {LINEAR: "linear regression", NETWORK: "network"}
METHODS = {
    "no shift": "#6b6b6b",
    "unweighted": "#c8553d",
    "oracle": "#2f6f9f",
    "logistic": "#5b8c5a",
}
PUBLISHED = {"no shift": 0.9021, "unweighted": 0.8220, "oracle": 0.9086, "logistic": 0.9102}
"""Means of 5000 splits, of the linear regression."""
COVERAGE = 0.9
LOGISTIC = Classifier(features=("linear",), ridges=(0.01,), folds=1)
"""A logistic regression on the features, with hardly a penalty."""


class Covered(NamedTuple):
    """Of one split by one method.

    Args:
        share: of the rows whose answer is in its interval.
        width: the median width, in dB; infinite where most rows have no bound.
    """

    share: float
    width: float


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Coverage by each method, what weights add to it and to the width."""
    found = _covered(results)
    share = {key: np.array([each.share for each in values]) for key, values in found.items()}
    width = {key: np.array([each.width for each in values]) for key, values in found.items()}
    wider = width[LINEAR, "oracle"] / width[LINEAR, "unweighted"]
    return {
        **{
            f"linear_{name.replace(' ', '_')}": float(share[LINEAR, name].mean())
            for name in METHODS
        },
        "linear_gain_low": _mean(share[LINEAR, "oracle"] - share[LINEAR, "unweighted"]).low,
        "network_oracle_high": _mean(share[NETWORK, "oracle"]).high,
        "network_logistic_high": _mean(share[NETWORK, "logistic"]).high,
        "wider": float(np.median(wider)),
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: coverage on each split. Right: its mean, and the widths."""
    found = _covered(results)
    figure = Figure(figsize=(10.2, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    # A split has 38 shifted rows: shares lie in the middle of bins.
    edges = (np.arange(19, 40) - 0.5) / 38
    for method in ("unweighted", "oracle"):
        share = [each.share for each in found[LINEAR, method]]
        left.hist(share, edges, color=METHODS[method], alpha=0.55)
    left.set_xlabel("share of a split's rows that are covered")
    left.set_ylabel("splits")
    left.set_title("Linear regression, shifted rows")
    _draw_coverage(middle, found)
    for place, model in enumerate(MODELS):
        for shift, (method, colour) in enumerate(METHODS.items()):
            widths = [each.width for each in found[model, method]]
            low, width, high = np.quantile(widths, [0.25, 0.5, 0.75], method="nearest")
            at = place + 0.15 * (shift - 1.5)
            right.errorbar(at, width, ([width - low], [high - width]), color=colour, marker="o")
    right.set_ylim(bottom=0)
    right.set_ylabel("width of intervals, dB")
    right.set_title("Median width, middle half of splits")
    for axes in (middle, right):
        axes.set_xticks(range(len(MODELS)), list(MODELS.values()))
        axes.set_xlim(-0.5, len(MODELS) - 0.5)
    figure.legend(loc="outside lower center", ncols=6)
    figure.suptitle(
        "Conformal intervals lose their coverage on shifted rows; weights give it back, wider",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _draw_coverage(axes: Axes, found: Mapping[Key, Sequence[Covered]]) -> None:
    """Means with their intervals, and what was published."""
    axes.axhline(COVERAGE, color="#262626", linewidth=0.9, linestyle=(0, (2, 2)), label="nominal")
    for shift, (method, colour) in enumerate(METHODS.items()):
        offset = 0.15 * (shift - 1.5)
        for place, model in enumerate(MODELS):
            interval = _mean(np.array([each.share for each in found[model, method]]))
            error = ([interval.value - interval.low], [interval.high - interval.value])
            name = method if place == 0 else "_"
            axes.errorbar(
                place + offset,
                interval.value,
                error,
                color=colour,
                marker="o",
                label=name,
                linestyle="",
            )
        name = "published" if shift == 0 else "_"
        axes.plot(offset - 0.05, PUBLISHED[method], "x", color="#262626", markersize=6, label=name)
    axes.set_ylabel("share of rows that are covered")
    axes.set_title("Coverage, mean of splits")


def _covered(results: Sequence[Result]) -> dict[Key, list[Covered]]:
    """What each method covers, split by split."""
    found: dict[Key, list[Covered]] = {}
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        model = result.key("activation._target_").rpartition(".")[2]
        for method, covered in _of_run(result.directory, model).items():
            found.setdefault((model, method), []).append(covered)
    return found


@cache
def _of_run(directory: Path, model: str) -> dict[str, Covered]:
    """Intervals of a run by each method, on the rows that the shift accepts and, without a shift, on all test rows."""
    spec = parse(RunDirectory(directory).read_config())
    table = open_data(spec)
    state = read_checkpoint(RunDirectory(directory).last_checkpoint)["state_dict"]
    said_N = predicted(tuple(state.values()), table, model)
    answer_N = torch.from_numpy(table.shifted.table.y[:, 0])
    assert table.importance is not None
    split = table.split
    oracle_N = torch.zeros(len(said_N), dtype=torch.float64)
    oracle_N[split.val] = torch.from_numpy(table.importance.full_N[split.val])
    oracle_N[split.test] = torch.from_numpy(table.importance.target_M)
    x_ND = torch.from_numpy(table.x)
    source = np.concatenate([split.train, split.val])
    generator = torch.Generator().manual_seed(spec.seed)
    logistic_N = LOGISTIC.fit(x_ND[source], x_ND[split.test], generator)(x_ND)
    ones_N = torch.ones_like(said_N)
    # What is neither trained nor calibrated on is the test part that the shift accepts rows of.
    rest = np.setdiff1d(np.arange(len(said_N)), source)
    ways = {
        "no shift": (ones_N, rest),
        "unweighted": (ones_N, split.test),
        "oracle": (oracle_N, split.test),
        "logistic": (logistic_N, split.test),
    }
    return {
        name: covered(said_N, answer_N, weight_N, split.val, rows)
        for name, (weight_N, rows) in ways.items()
    }


def predicted(state: Sequence[Tensor], table: Prepared, model: str) -> Tensor:
    """(N,) what a network says of all rows of its table, in dB."""
    bend = torch.relu if model == NETWORK else torch.Tensor.contiguous
    *hidden, weight, bias = (tensor.double() for tensor in state)
    h_NQ = torch.from_numpy(table.x)
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        h_NQ = bend(h_NQ @ w.T + b)
    scaled_N: Tensor = (h_NQ @ weight.T + bias)[:, 0]
    return scaled_N * float(table.y_scale[0]) + float(table.y_mean[0])


def covered(
    said_N: Tensor, answer_N: Tensor, weight_N: Tensor, calibration: Array, rows: Array
) -> Covered:
    """How often, and how widely, intervals of these rows hold the answer."""
    low_M, high_M = conformal_interval(
        said_N[calibration],
        answer_N[calibration],
        weight_N[calibration],
        said_N[rows],
        weight_N[rows],
        COVERAGE,
    )
    inside_M = (low_M <= answer_N[rows]) & (answer_N[rows] <= high_M)
    # Between two infinite widths a quantile is no number.
    width_M = (high_M - low_M).numpy()
    return Covered(
        float(inside_M.double().mean()), float(np.quantile(width_M, 0.5, method="nearest"))
    )


def _mean(values_S: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values_S, np.random.default_rng(0))
