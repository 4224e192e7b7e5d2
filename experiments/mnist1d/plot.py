"""From the runs to the numbers and the figure: the paper's table, and the best network of the search.

Shapes: S seeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval

Array = NDArray[np.float64]

TABLE = {"logistic regression": 0.32, "MLP": 0.68, "GRU": 0.91, "CNN": 0.94, "human": 0.96}
"""Accuracies of the paper's table."""
COLOURS = {
    "ReLU": "#c8553d",
    "GELU": "#2f6f9f",
    "SiLU": "#5b8c5a",
    "SELU": "#d9a441",
    "Tanh": "#8e6c9e",
}
LINEAR = "Identity"
INK, MUTED = "#262626", "#6b6b6b"


class Setting(NamedTuple):
    """What the search varies.

    Args:
        activation: the class.
        lr: the learning rate.
        p: the rate of dropout.
    """

    activation: str
    lr: float
    p: float


PAPERS = Setting("ReLU", 0.01, 0.0)


class Accuracies(NamedTuple):
    """Of the seeds of one setting, in their order.

    Args:
        val_S: on validation rows.
        test_S: on test rows.
    """

    val_S: Array
    test_S: Array


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """The paper's two accuracies, and those of the setting that half of the seeds choose, on the other half."""
    found = _accuracies(results)
    best = chosen(found)
    fresh_S, papers_S = fresh(found[best].test_S), fresh(found[PAPERS].test_S)
    interval, more = _mean(fresh_S), _mean(fresh_S - papers_S)
    return {
        "logistic": float(found[PAPERS._replace(activation=LINEAR)].test_S.mean()),
        "mlp": float(found[PAPERS].test_S.mean()),
        "best": interval.value,
        "best_low": interval.low,
        "best_high": interval.high,
        "best_more": more.value,
        "best_more_low": more.low,
        "best_lr": best.lr,
        "best_p": best.p,
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: accuracies beside the paper's. Right: each setting on the seeds that choose and on the others."""
    found = _accuracies(results)
    figure = Figure(figsize=(10.2, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_table(left, found)
    _draw_search(right, found)
    figure.suptitle(
        "MNIST-1D: the table's accuracies come back, and no MLP of 500 runs comes near a CNN",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def chosen(found: Mapping[Setting, Accuracies]) -> Setting:
    """The network with an activation that the first half of the seeds finds best on validation rows."""
    networks = {s: accuracies for s, accuracies in found.items() if s.activation != LINEAR}
    return max(networks, key=lambda s: float(choosing(networks[s].val_S).mean()))


def choosing(values_S: Array) -> Array:
    """Of the seeds that choose: the first half."""
    return values_S[: len(values_S) // 2]


def fresh(values_S: Array) -> Array:
    """Of the other seeds, on which nothing was chosen."""
    return values_S[len(values_S) // 2 :]


def _draw_table(axes: Axes, found: Mapping[Setting, Accuracies]) -> None:
    best = chosen(found)
    measured = {
        "logistic regression": _mean(found[PAPERS._replace(activation=LINEAR)].test_S),
        "MLP": _mean(found[PAPERS].test_S),
        "best MLP of the search": _mean(fresh(found[best].test_S)),
    }
    rows = ["logistic regression", "MLP", "best MLP of the search", "GRU", "CNN", "human"]
    for y, name in enumerate(rows):
        if name in TABLE:
            axes.plot(
                TABLE[name],
                y,
                "o",
                color=INK,
                markersize=7,
                markerfacecolor="none",
                label="the paper's table" if y == 0 else None,
            )
        if name in measured:
            ours = measured[name]
            axes.hlines(y, ours.low, ours.high, color=COLOURS["ReLU"], linewidth=2.2)
            axes.plot(
                ours.value,
                y,
                "|",
                color=COLOURS["ReLU"],
                markersize=11,
                markeredgewidth=2.2,
                label="ours, with its 95% interval" if y == 0 else None,
            )
            axes.text(ours.value, y + 0.38, f"{ours.value:.3f}", color=COLOURS["ReLU"], ha="center")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0.25, 1.0)
    axes.set_xlabel("accuracy on test rows")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower left")


def _draw_search(axes: Axes, found: Mapping[Setting, Accuracies]) -> None:
    for name, colour in COLOURS.items():
        settings = [s for s in found if s.activation == name]
        if settings:
            x = [choosing(found[s].val_S).mean() for s in settings]
            y = [fresh(found[s].test_S).mean() for s in settings]
            axes.plot(x, y, "o", color=colour, markersize=5, alpha=0.85, label=name)
    labels = ((PAPERS, "s", "the paper's MLP", (14, -12)), (chosen(found), "o", "chosen", (6, -22)))
    for setting, marker, label, place in labels:
        point = choosing(found[setting].val_S).mean(), fresh(found[setting].test_S).mean()
        axes.plot(*point, marker, color=INK, markersize=11, markerfacecolor="none")
        axes.annotate(label, point, xytext=place, textcoords="offset points")
    axes.set_xlabel("accuracy on validation rows, the 5 seeds that choose")
    axes.set_ylabel("on test rows, the 5 other seeds")
    axes.set_title("The 50 networks of the search")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.05))
    axes.margins(0.06)
    axes.legend(loc="upper left", ncols=2)


def _accuracies(results: Sequence[Result]) -> dict[Setting, Accuracies]:
    cells: dict[Setting, dict[int, tuple[float, float]]] = defaultdict(dict)
    for result in results:
        setting = Setting(
            str(result.key("activation._target_").rpartition(".")[2]),
            float(result.key("optimizer.lr")),
            float(result.key("dropout.p")),
        )
        pair = result.metric("val/accuracy"), result.metric("test/accuracy")
        cells[setting][int(result.key("seed"))] = pair
    found = {}
    for setting, of_seed in sorted(cells.items()):
        val_S, test_S = np.array([of_seed[seed] for seed in sorted(of_seed)]).T
        found[setting] = Accuracies(val_S, test_S)
    return found


def _mean(values: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values, np.random.default_rng(0))
