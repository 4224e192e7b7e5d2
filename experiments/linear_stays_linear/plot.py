"""From the runs to the numbers and the figure: what depth is worth without an activation.

Shapes: N rows, E epochs, S seeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.data import Prepared, open_data
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_metrics
from unitgain.spec import parse

Array = NDArray[np.float64]
Target = tuple[str, int]

NAMES = {
    ("linear", 1): "a line",
    ("linear", 2): "a plane",
    ("teacher", 1): "a bent line",
    ("teacher", 2): "a bent surface",
}
COLOURS = {"Identity": "#2f6f9f", "ReLU": "#c8553d"}
LABELS = {"Identity": "linear layers", "ReLU": "ReLU layers"}
INK, MUTED = "#262626", "#6b6b6b"


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Training errors in units of the least-squares error of a linear map."""
    ratios = _ratios(results)
    straight = [key for key in ratios if key[0][0] == "linear"]
    bent = [key for key in ratios if key[0][0] == "teacher"]
    found = {}
    for name, keys in (("straight", straight), ("bent", bent)):
        linear = np.concatenate([ratios[key] for key in keys if key[1] == "Identity"])
        rectified = np.concatenate([ratios[key] for key in keys if key[1] == "ReLU"])
        found[f"linear_{name}_least"] = float(linear.min())
        found[f"linear_{name}_most"] = float(linear.max())
        found[f"relu_{name}"] = float(np.median(rectified))
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Upper: data of one feature with their least-squares line. Lower: training errors over depth."""
    ratios = _ratios(results)
    tables = _tables(results)
    figure = Figure(figsize=(10.2, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, len(NAMES))
    for column, (target, name) in enumerate(NAMES.items()):
        _draw_data(upper[column], tables[target])
        upper[column].set_title(name)
        axes = lower[column]
        for activation, colour in COLOURS.items():
            keys = [key for key in ratios if key[:2] == (target, activation)]
            for key in keys:
                (points,) = axes.plot(
                    [key[2]] * ratios[key].size, ratios[key], "o", color=colour, markersize=4
                )
            points.set_label(LABELS[activation] if column == 0 else "_")
            middle = [np.median(ratios[key]) for key in keys]
            axes.plot([key[2] for key in keys], middle, color=colour, linewidth=1.3)
        axes.axhline(1.0, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        axes.set_xscale("log", base=2)
        depths = sorted({key[2] for key in ratios})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.set_yscale("log")
        axes.set_ylim(0.02, 1.6)
        axes.set_yticks([0.03, 0.1, 0.3, 1.0], ["0.03", "0.1", "0.3", "1"])
        axes.minorticks_off()
        axes.set_xlabel("hidden layers")
    lower[0].set_ylabel("training error / least squares'")
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(
        "Stacked linear layers are one linear map; a ReLU bends",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def floor(table: Prepared) -> float:
    """The mean squared error of the best linear map of the training rows, scaled as the networks see them."""
    x_ND, y_NT = _design(table), table.y[table.split.train]
    weights, *_ = np.linalg.lstsq(x_ND, y_NT, rcond=None)
    return float(((y_NT - x_ND @ weights) ** 2).mean())


def _design(table: Prepared) -> Array:
    """Features and a column of ones."""
    x_ND = table.x[table.split.train]
    return np.column_stack([x_ND, np.ones(len(x_ND))])


def _target(result: Result) -> Target:
    source = result.key("data._target_").rpartition(".")[2]
    return source, result.key("data.n_features")


def _tables(results: Sequence[Result]) -> dict[Target, Prepared]:
    """The data that the runs saw."""
    first = {_target(result): result for result in reversed(results)}
    return {target: open_data(parse(dict(result.config))) for target, result in first.items()}


def _ratios(results: Sequence[Result]) -> dict[tuple[Target, str, int], Array]:
    """(S,) loss of the last epoch over the floor, by target, activation and depth."""
    floors = {target: floor(table) for target, table in _tables(results).items()}
    found: dict[tuple[Target, str, int], list[float]] = defaultdict(list)
    for result in results:
        target = _target(result)
        activation = result.key("activation._target_").rpartition(".")[2]
        losses_E = read_metrics(RunDirectory(result.directory).metrics)["train/loss"]
        key = (target, activation, result.key("model.depth"))
        found[key].append(float(losses_E[-1]) / floors[target])
    return {key: np.array(values) for key, values in found.items()}


def _draw_data(axes: Axes, table: Prepared) -> None:
    """Targets against the feature, or against what the least-squares plane says of them."""
    x_ND, y_N = _design(table), table.y[table.split.train, 0]
    weights, *_ = np.linalg.lstsq(x_ND, y_N, rcond=None)
    fitted_N = x_ND @ weights
    across_N = x_ND[:, 0] if x_ND.shape[1] == 2 else fitted_N
    order = np.argsort(across_N)
    axes.plot(across_N, y_N, "o", color=MUTED, markersize=2.5, alpha=0.7)
    axes.plot(across_N[order], fitted_N[order], color=COLOURS["Identity"], linewidth=1.6)
    axes.set_xlabel("feature" if x_ND.shape[1] == 2 else "the least-squares plane")
    axes.set_ylabel("target")
