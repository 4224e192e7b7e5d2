"""From the runs to the numbers and the figure: the best learning rate of two optimizers over batch sizes.

Shapes: B batch sizes, L learning rates, S seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_metrics
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval

Array = NDArray[np.float64]

NAMES = {"sgd": "SGD", "adam": "Adam"}
COLOURS = {"sgd": "#2f6f9f", "adam": "#c8553d"}
SLOPES = {"sgd": 1.0, "adam": 0.5}
INK, MUTED = "#262626", "#6b6b6b"
MEMORY_STEPS = 1000
"""1 / (1 - beta_2): what Adam's mean of squared gradients reaches back."""
SLACK = 0.1
"""Of the loss, relative to the best rate's: what counts as a rate that does well."""


@dataclass(frozen=True)
class Grid:
    """The runs of one optimizer.

    Args:
        batch_B: batch sizes.
        rate_L: learning rates.
        loss_SBL: on validation rows in the last epoch; infinite where the run diverged.
        steps_B: of a run.
    """

    batch_B: Array
    rate_L: Array
    loss_SBL: Array
    steps_B: Array

    @classmethod
    def of(cls, results: Sequence[Result], optimizer: str) -> "Grid":
        """Those of ``sgd`` or ``adam``."""
        cells: dict[tuple[int, float, int], float] = {}
        steps: dict[int, float] = {}
        for result in results:
            if result.key("optimizer._target_").rpartition(".")[2].lower() != optimizer:
                continue
            batch, rate = int(result.key("data.batch_size")), float(result.key("optimizer.lr"))
            cells[batch, rate, int(result.key("seed"))] = _final_loss(result)
            steps[batch] = max(steps.get(batch, 0.0), float(result.summary.get("step", 0)))
        batches, rates, seeds = (sorted(set(axis)) for axis in zip(*cells, strict=True))
        loss_SBL = np.array([[[cells[b, r, s] for r in rates] for b in batches] for s in seeds])
        steps_B = np.array([steps[batch] for batch in batches])
        return cls(np.array(batches, float), np.array(rates), loss_SBL, steps_B)

    @property
    def is_long(self) -> NDArray[np.bool_]:
        """Where a run has as many steps as Adam's memory; all, should that leave fewer than two."""
        long_B = self.steps_B >= MEMORY_STEPS
        return long_B if long_B.sum() > 1 else np.ones_like(long_B)

    @property
    def best(self) -> Array:
        """The best learning rate of each seed and batch size."""
        log_L = np.log(self.rate_L)
        best = [[best_of(log_L, loss_L) for loss_L in loss_BL] for loss_BL in self.loss_SBL]
        return np.exp(np.array(best))

    @property
    def slope(self) -> Interval:
        """Of log best rate over log batch size where runs are long, over seeds."""
        return _mean(self.slopes)

    @property
    def slopes(self) -> Array:
        """The same of each seed."""
        log_B = np.log(self.batch_B[self.is_long])
        return np.array([slope(log_B, best_B) for best_B in np.log(self.best[:, self.is_long])])

    @property
    def decades(self) -> Array:
        """Powers of ten of rates whose loss is within a tenth of the best."""
        good_SBL = self.loss_SBL <= (1 + SLACK) * self.loss_SBL.min(axis=-1, keepdims=True)
        return good_SBL.sum(axis=-1) * float(np.diff(np.log10(self.rate_L)).mean())


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """The slopes with the ends of their intervals, and over how many decades of rates each does well."""
    grids = {name: Grid.of(results, name) for name in NAMES}
    found = {}
    for name, grid in grids.items():
        interval = grid.slope
        found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        found[f"{name}_decades"] = float(grid.decades.mean())
        found[f"{name}_loss"] = float(grid.loss_SBL.min(axis=-1).mean())
    more = _mean((grids["adam"].decades - grids["sgd"].decades).mean(axis=1))
    return found | {"adam_more_decades_low": more.low, "adam_more_decades_high": more.high}


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: the loss of each cell, a panel an optimizer. Right: the best rates with the rules."""
    figure = Figure(figsize=(10.6, 4.4), layout="constrained")
    *panels, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for axes, name in zip(panels, NAMES, strict=True):
        image = _draw_cells(axes, Grid.of(results, name), name)
    panels[0].set_ylabel("learning rate")
    bar = figure.colorbar(image, ax=panels, location="bottom", aspect=45, shrink=0.8, extend="max")
    bar.set_label(
        "validation loss after 4 passes over the rows; white: the best rate, mean of seeds"
    )
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    for name in NAMES:
        _draw_best(right, Grid.of(results, name), name)
    right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter("{x:g}")
    right.set_yscale("log")
    right.set_xlabel("batch size")
    right.set_title("The best rate, with its 95% interval")
    right.text(
        0.97,
        0.03,
        "dashed: slopes 1 and 1/2\nhollow: fewer than 1000 steps, not fitted",
        transform=right.transAxes,
        color=MUTED,
        fontsize=8.5,
        horizontalalignment="right",
    )
    figure.suptitle(
        "The best learning rate grows nearly as the batch size for SGD, as its square root for Adam",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def best_of(log_L: Array, loss_L: Array) -> float:
    """Where the parabola through the lowest loss and its two neighbours is lowest.

    The lowest one's own place where it is at the edge, or has a neighbour that diverged.
    """
    i = int(np.argmin(loss_L))
    if i in (0, len(loss_L) - 1) or not np.isfinite(loss_L[i - 1 : i + 2]).all():
        return float(log_L[i])
    a, b, _ = np.polyfit(log_L[i - 1 : i + 2] - log_L[i], loss_L[i - 1 : i + 2], 2)
    return float(log_L[i] - b / (2 * a))


def slope(x_B: Array, y_B: Array) -> float:
    """Of the least-squares line."""
    return float(np.polyfit(x_B, y_B, 1)[0])


def _draw_cells(axes: Axes, grid: Grid, name: str) -> AxesImage:
    loss_BL = np.minimum(grid.loss_SBL, 10.0).mean(axis=0)
    best = math.floor(loss_BL.min() * 10) / 10
    image = axes.imshow(
        loss_BL.T,
        origin="lower",
        aspect="auto",
        cmap="viridis_r",
        vmin=best,
        vmax=2 * best,
    )
    place_B = np.interp(
        np.log(grid.best).mean(axis=0), np.log(grid.rate_L), np.arange(len(grid.rate_L))
    )
    axes.plot(place_B, color="white", marker="o", markersize=4.5, linewidth=1.2)
    axes.set_xticks(range(len(grid.batch_B)), [f"{batch:.0f}" for batch in grid.batch_B])
    axes.set_yticks(range(len(grid.rate_L)), [f"{rate:g}" for rate in grid.rate_L])
    axes.grid(False)
    axes.set_xlabel("batch size")
    axes.set_title(NAMES[name])
    return image


def _draw_best(axes: Axes, grid: Grid, name: str) -> None:
    colour = COLOURS[name]
    intervals = [_mean(log_S) for log_S in np.log(grid.best).T]
    value, low, high = (
        np.exp([getattr(each, end) for each in intervals]) for end in ("value", "low", "high")
    )
    axes.vlines(grid.batch_B, low, high, color=colour, linewidth=1.3)
    long_B = grid.is_long
    axes.plot(grid.batch_B[long_B], value[long_B], "o", color=colour, markersize=5)
    axes.plot(
        grid.batch_B[~long_B],
        value[~long_B],
        "o",
        color=colour,
        markersize=5,
        markerfacecolor="white",
    )
    middle = np.exp(np.log(grid.batch_B[long_B]).mean())
    height = np.exp(np.log(value[long_B]).mean())
    line_B = height * (grid.batch_B / middle) ** SLOPES[name]
    axes.plot(grid.batch_B, line_B, color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
    interval = grid.slope
    axes.text(
        0.03,
        0.96 if name == "sgd" else 0.9,
        f"{NAMES[name]}: slope {interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})",
        transform=axes.transAxes,
        color=colour,
        fontweight="bold",
        verticalalignment="top",
        fontsize=8.5,
    )


def _final_loss(result: Result) -> float:
    if result.summary.get("status") != "finished":
        return math.inf
    return float(read_metrics(RunDirectory(result.directory).metrics)["val/loss"][-1])


def _mean(values: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values, np.random.default_rng(0))
