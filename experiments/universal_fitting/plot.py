"""From the runs to the numbers and the figure: the error of a network over its width, without noise and with it.

Shapes: N rows, S seeds, W widths.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from unitgain.data import Prepared, open_data
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.spec import parse
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval

Array = NDArray[np.float64]
Cell = tuple[str, float, int]
"""The function, the noise's standard deviation, the hidden layers."""

TITLES = {"sinc": "sinc, 1 feature", "friedman1": "friedman1, 10 features"}
COLOURS = {1: "#2f6f9f", 2: "#c8553d"}
LABELS = {1: "1 hidden layer", 2: "2 hidden layers"}
INK, MUTED = "#262626", "#6b6b6b"
BARRON = -0.5
"""Slope of the root of the squared error over the number of units, in logarithms."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Slopes over the width without noise; with noise, the widest network beside a line and the floor."""
    errors, linear, own = _errors(results), _linear(results), _own_errors(results)
    found = {}
    for name in TITLES:
        clean, noisy = (_of(errors, name, noise=noise) for noise in (False, True))
        width_W, error_SW = clean[1]
        slopes_S = np.array([slope(np.log(width_W), log_W) for log_W in np.log(error_SW)])
        found[f"{name}_slope"] = float(slopes_S.mean())
        found[f"{name}_slope_high"] = _mean(slopes_S).high
        for depth, (_, widest_SW) in noisy.items():
            over_S = widest_SW[:, -1] / linear[name, True]
            found[f"{name}_mae_{depth}"] = float(widest_SW[:, -1].mean())
            found[f"{name}_linear_high_{depth}"] = _mean(over_S).high
        found[f"{name}_least"] = min(float(error_SW.min()) for _, error_SW in noisy.values())
        found[f"{name}_clean_2"] = float(clean[max(clean)][1][:, -1].mean())
        found[f"{name}_line"] = linear[name, True]
        found[f"{name}_own"] = own[name]
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """A column a function; upper: without noise, lower: with noise."""
    errors, linear, own = _errors(results), _linear(results), _own_errors(results)
    figure = Figure(figsize=(8.6, 6.2), layout="constrained")
    panels = figure.subplots(2, len(TITLES), sharex=True)
    for column, (name, title) in enumerate(TITLES.items()):
        for row, noise in enumerate((False, True)):
            axes = panels[row][column]
            cells = _of(errors, name, noise=noise)
            for depth, (width_W, error_SW) in cells.items():
                _draw_errors(axes, width_W, error_SW, depth)
            axes.axhline(linear[name, noise], color=MUTED, linewidth=1.1, linestyle=":")
            if noise:
                axes.axhline(own[name], color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
            else:
                width_W, error_SW = cells[1]
                line_W = np.exp(np.log(error_SW[:, 0]).mean()) * (width_W / width_W[0]) ** BARRON
                axes.plot(width_W, line_W, color=INK, linewidth=1.1, linestyle=(0, (1, 1.5)))
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(
                LogLocator(subs=(1.0, 2.0, 5.0) if column or noise else (1.0,))
            )
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.set_xticks(width_W, [f"{width:.0f}" for width in width_W])
            axes.set_title(f"{title}: {'with' if noise else 'without'} noise")
        panels[1][column].set_xlabel("units a layer")
    for row in panels:
        row[0].set_ylabel("mean absolute error on test rows")
    _legend(figure)
    figure.suptitle(
        "Wider networks fit better: at Barron's rate or faster, down to the noise's own error",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def floor(sigma: float) -> float:
    """What no prediction's expected absolute error is below: that of Gaussian noise, sigma sqrt(2 / pi)."""
    return sigma * math.sqrt(2 / math.pi)


def least_linear(x_ND: Array, y_N: Array) -> float:
    """The least mean absolute error that any linear map of these features has on these very rows."""
    from sklearn.linear_model import QuantileRegressor

    fitted = QuantileRegressor(quantile=0.5, alpha=0.0, solver="highs").fit(x_ND, y_N)
    return float(np.abs(y_N - fitted.predict(x_ND)).mean())


def slope(x_W: Array, y_W: Array) -> float:
    """Of the least-squares line."""
    return float(np.polyfit(x_W, y_W, 1)[0])


def _draw_errors(axes: Axes, width_W: Array, error_SW: Array, depth: int) -> None:
    intervals = [_mean(log_S) for log_S in np.log(error_SW).T]
    value, low, high = (
        np.exp([getattr(each, end) for each in intervals]) for end in ("value", "low", "high")
    )
    colour = COLOURS[depth]
    axes.fill_between(width_W, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(width_W, value, "o-", color=colour, markersize=4, linewidth=1.4)


def _legend(figure: Figure) -> None:
    handles = [
        *(
            Line2D([], [], color=COLOURS[d], marker="o", markersize=4, label=LABELS[d])
            for d in COLOURS
        ),
        Line2D([], [], color=INK, linestyle=(0, (1, 1.5)), label="Barron's rate, width$^{-1/2}$"),
        Line2D([], [], color=MUTED, linestyle=":", label="best linear map of the test rows"),
        Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="the true function: noise alone"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _errors(results: Sequence[Result]) -> dict[Cell, tuple[Array, Array]]:
    """(W,) widths and (S, W) test errors, in the target's units, of each cell."""
    found: dict[Cell, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        cell = (_name(result), float(result.key("data.noise")), int(result.key("model.depth")))
        width, seed = int(result.key("model.width")), int(result.key("seed"))
        found[cell][width][seed] = result.metric("test/mae")
    return {cell: _grid(of_width) for cell, of_width in found.items()}


def _grid(of_width: Mapping[int, Mapping[int, float]]) -> tuple[Array, Array]:
    widths = sorted(of_width)
    seeds = sorted(of_width[widths[0]])
    error_SW = np.array([[of_width[width][seed] for width in widths] for seed in seeds])
    return np.array(widths, float), error_SW


def _of(
    errors: Mapping[Cell, tuple[Array, Array]], name: str, *, noise: bool
) -> dict[int, tuple[Array, Array]]:
    """Those of one function, by hidden layers."""
    cells = {
        depth: error
        for (of, sigma, depth), error in errors.items()
        if of == name and (sigma > 0) == noise
    }
    return dict(sorted(cells.items()))


def _linear(results: Sequence[Result]) -> dict[tuple[str, bool], float]:
    """The level to beat on each table's test rows, in the target's units."""
    found = {}
    for key, table in _tables(results).items():
        rows = table.split.test
        found[key] = least_linear(table.x[rows], _targets(table))
    return found


def _own_errors(results: Sequence[Result]) -> dict[str, float]:
    """The true function's on the noisy test rows: a table without noise has the same rows."""
    tables = _tables(results)
    noise = {name: _targets(tables[name, True]) - _targets(tables[name, False]) for name in TITLES}
    return {name: float(np.abs(noise_N).mean()) for name, noise_N in noise.items()}


def _tables(results: Sequence[Result]) -> dict[tuple[str, bool], Prepared]:
    """The data of each function, without noise and with it."""
    first = {(_name(r), r.key("data.noise") > 0): r for r in reversed(results)}
    return {key: open_data(parse(dict(result.config))) for key, result in first.items()}


def _targets(table: Prepared) -> Array:
    """Of the test rows, in the target's units."""
    y_N = table.y[table.split.test, 0]
    return np.asarray(y_N * table.y_scale[0] + table.y_mean[0], dtype=np.float64)


def _name(result: Result) -> str:
    return str(result.key("data._target_").rpartition(".")[2])


def _mean(values: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values, np.random.default_rng(0))
