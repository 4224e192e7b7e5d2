"""From the runs to the numbers and the figure: accuracy over sigma_w and depth, and theory's depth over it.

Shapes: D depths, W values of sigma_w.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.theory import activations
from unitgain.theory.criticality import critical_sigma_w
from unitgain.theory.mean_field import MeanField

Array = NDArray[np.float64]

CHANCE = 0.1
HALF_WAY = (1 + CHANCE) / 2
CORRELATION_DEPTHS = 6.0
ORDERED, CHAOTIC, INK, MUTED = "#2f6f9f", "#c8553d", "#262626", "#6b6b6b"


@dataclass(frozen=True)
class Diagram:
    """The runs on their grid.

    Args:
        depth_D: hidden layers.
        sigma_w_W: of the initialization.
        accuracy_DW: on the training data, the mean of the seeds.
        sigma_b: of the initialization.
    """

    depth_D: Array
    sigma_w_W: Array
    accuracy_DW: Array
    sigma_b: float

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Diagram":
        cells: dict[tuple[float, float], list[float]] = defaultdict(list)
        for result in results:
            accuracy = result.metric("train/accuracy")
            # A run whose loss diverged has learned nothing.
            learned = accuracy if np.isfinite(accuracy) else CHANCE
            key = (result.key("model.depth"), round(result.key("init.sigma_w"), 9))
            cells[key].append(learned)
        depths, sigmas = (sorted(set(axis)) for axis in zip(*cells, strict=True))
        accuracy_DW = np.array([[np.mean(cells[d, s]) for s in sigmas] for d in depths])
        sigma_b = float(results[0].key("init.sigma_b"))
        return cls(np.array(depths, float), np.array(sigmas), accuracy_DW, sigma_b)

    @property
    def half_way(self) -> Array:
        """The depth at which accuracy falls to half way, by interpolation; NaN where it doesn't."""
        return np.array([_crossing(self.depth_D, column_D) for column_D in self.accuracy_DW.T])


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """What decides on the claim."""
    diagram = Diagram.of(results)
    xi_W = np.array([correlation_depth(s, diagram.sigma_b) for s in diagram.sigma_w_W])
    predicted_DW = diagram.depth_D[:, None] < CORRELATION_DEPTHS * xi_W
    trains_DW = diagram.accuracy_DW > HALF_WAY
    critical = critical_sigma_w(activations.tanh(), diagram.sigma_b).sigma_w
    nearest = np.abs(diagram.sigma_w_W - critical).argmin()
    best = diagram.sigma_w_W[diagram.accuracy_DW[-1].argmax()]
    reached_W = diagram.half_way / xi_W
    ordered_W = diagram.sigma_w_W < critical
    return {
        "agreement": float((predicted_DW == trains_DW).mean()),
        "reached_ordered": _median(reached_W[ordered_W]),
        "reached_chaotic": _median(reached_W[~ordered_W]),
        "best_sigma_w": float(best),
        "critical_accuracy": float(diagram.accuracy_DW[-1, nearest]),
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: accuracy over sigma_w and depth. Right: the same against depth in units of xi_c."""
    diagram = Diagram.of(results)
    figure = Figure(figsize=(10.2, 4.5))
    left = figure.add_axes((0.062, 0.125, 0.43, 0.715))
    key = figure.add_axes((0.502, 0.125, 0.0115, 0.715))
    right = figure.add_axes((0.625, 0.125, 0.355, 0.715))
    _draw_diagram(left, key, diagram)
    _draw_collapse(right, diagram)
    figure.suptitle(
        "A tanh network trains up to about six correlation depths",
        x=0.0145,
        y=0.975,
        horizontalalignment="left",
        verticalalignment="top",
        fontsize=12,
        fontweight="bold",
    )
    return figure


@cache
def correlation_depth(sigma_w: float, sigma_b: float) -> float:
    """xi_c of tanh."""
    return float(MeanField(activations.tanh(), sigma_w, sigma_b).xi_c)


def _draw_diagram(axes: Axes, key: Axes, diagram: Diagram) -> None:
    image = axes.pcolormesh(
        _edges(diagram.sigma_w_W),
        np.exp(_edges(np.log(diagram.depth_D))),
        diagram.accuracy_DW,
        cmap="viridis",
        vmin=0.0,
        vmax=1.0,
        linewidth=0,
        rasterized=True,
    )
    low, high = np.exp(_edges(np.log(diagram.depth_D)))[[0, -1]]
    first, last = _edges(diagram.sigma_w_W)[[0, -1]]
    fine = np.linspace(first, last, 108)
    reach = CORRELATION_DEPTHS * np.array([correlation_depth(s, diagram.sigma_b) for s in fine])
    critical = critical_sigma_w(activations.tanh(), diagram.sigma_b).sigma_w
    outline = [patheffects.Stroke(linewidth=4.2, foreground=INK), patheffects.Normal()]
    axes.plot(fine, reach, color="white", linewidth=2.0, path_effects=outline)
    axes.axvline(critical, color=INK, linewidth=1.0, linestyle=(0, (2, 2.5)))
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_xlim(first, last)
    axes.set_yticks(diagram.depth_D, [f"{depth:.0f}" for depth in diagram.depth_D])
    axes.minorticks_off()
    axes.grid(False)
    axes.set_xlabel(r"$\sigma_w$ of the initialization")
    axes.set_ylabel("hidden layers")
    axes.set_title("Training accuracy; white: theory's depth $6\\,\\xi_c$", pad=8)
    for x, text in (((first + critical) / 2 - 0.1, "ordered"), ((critical + last) / 2, "chaotic")):
        axes.text(x, high * 0.93, text, color="white", va="top", ha="center", fontsize=9.5)
    axes.text(critical + 0.025, low * 1.05, "critical", color=INK, va="bottom", fontsize=8.5)
    bar = axes.figure.colorbar(image, cax=key)
    bar.outline.set_visible(False)
    bar.set_ticks([0, CHANCE, 0.5, 1], labels=["0", "chance", "0.5", "1"])
    key.tick_params(length=0)


def _draw_collapse(axes: Axes, diagram: Diagram) -> None:
    critical = critical_sigma_w(activations.tanh(), diagram.sigma_b).sigma_w
    span = max(critical - diagram.sigma_w_W[0], diagram.sigma_w_W[-1] - critical)
    for sigma_w, accuracy_D in zip(diagram.sigma_w_W, diagram.accuracy_DW.T, strict=True):
        colour = ORDERED if sigma_w < critical else CHAOTIC
        axes.plot(
            diagram.depth_D / correlation_depth(sigma_w, diagram.sigma_b),
            accuracy_D,
            color=colour,
            alpha=0.35 + 0.6 * abs(sigma_w - critical) / span,
            linewidth=1.3,
            marker="o",
            markersize=2.6,
        )
    axes.axvline(CORRELATION_DEPTHS, color=INK, linewidth=1.2)
    axes.axhline(CHANCE, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2.5)))
    axes.set_xscale("log")
    ticks = [0.1, 1, CORRELATION_DEPTHS, 10, 100]
    axes.set_xticks(ticks, ["0.1", "1", "6", "", "100"])
    axes.set_ylim(0, 1.03)
    for height, colour, name in ((0.30, ORDERED, "ordered"), (0.235, CHAOTIC, "chaotic")):
        axes.text(0.03, height, name, transform=axes.transAxes, color=colour, fontweight="bold")
    axes.text(0.03, 0.122, "chance", transform=axes.transAxes, color=MUTED, fontsize=8.5)
    axes.set_xlabel(r"hidden layers / $\xi_c(\sigma_w)$")
    axes.set_ylabel("training accuracy")
    axes.set_title("The same against depth in units of $\\xi_c$", pad=8)


def _edges(centre: Array) -> Array:
    """The edges of cells around these centres."""
    middle = (centre[1:] + centre[:-1]) / 2
    return np.concatenate([[2 * centre[0] - middle[0]], middle, [2 * centre[-1] - middle[-1]]])


def _crossing(depth_D: Array, accuracy_D: Array) -> float:
    """Where accuracy falls through half way, in log depth; NaN where all or none of the depths train."""
    below = np.flatnonzero(accuracy_D <= HALF_WAY)
    if not below.size or below[0] == 0:
        return float("nan")
    i = below[0]
    share = (accuracy_D[i - 1] - HALF_WAY) / (accuracy_D[i - 1] - accuracy_D[i])
    return float(np.exp(np.interp(share, [0, 1], np.log(depth_D[i - 1 : i + 1]))))


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
