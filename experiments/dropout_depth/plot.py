"""From the runs to the numbers and the figure: accuracy over dropout and depth, and theory's depth over it.

Shapes: D depths, P rates of dropout, W values of sigma_w, S seeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib import colormaps, patheffects
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
SIGMA_B = 0.05**0.5
INK, MUTED = "#262626", "#6b6b6b"


@dataclass(frozen=True)
class Diagram:
    """The runs on their grid.

    Args:
        depth_D: hidden layers.
        rate_P: of dropout.
        sigma_w_W: of the initialization.
        accuracy_PWDS: on the training rows, without dropout.
    """

    depth_D: Array
    rate_P: Array
    sigma_w_W: Array
    accuracy_PWDS: Array

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Diagram":
        cells: dict[tuple[float, float, float], list[float]] = defaultdict(list)
        for result in results:
            accuracy = result.metric("train/accuracy")
            # A run whose loss diverged has learned nothing.
            learned = accuracy if np.isfinite(accuracy) else CHANCE
            names = ("dropout.p", "init.sigma_w", "model.depth")
            rate, sigma_w, depth = (result.key(name) for name in names)
            cells[rate, sigma_w, depth].append(learned)
        rates, sigmas, depths = (sorted(set(axis)) for axis in zip(*cells, strict=True))
        accuracy_PWDS = np.array(
            [[[cells[p, w, d] for d in depths] for w in sigmas] for p in rates]
        )
        return cls(np.array(depths, float), np.array(rates), np.array(sigmas), accuracy_PWDS)

    @property
    def theory(self) -> Array:
        """6 xi_c."""
        reach = [[trainable_depth(w, p) for w in self.sigma_w_W] for p in self.rate_P]
        return np.array(reach)

    @property
    def half_way(self) -> Array:
        """The depth at which accuracy falls to half way, by interpolation."""
        accuracy_PWD = self.accuracy_PWDS.mean(-1)
        return np.array([[crossing(self.depth_D, a_D) for a_D in a_WD] for a_WD in accuracy_PWD])

    @property
    def critical(self) -> int:
        """Which sigma_w is next to the critical one."""
        point = critical_sigma_w(activations.tanh(), SIGMA_B).sigma_w
        return int(np.abs(self.sigma_w_W - point).argmin())


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """What decides on the claim."""
    diagram = Diagram.of(results)
    dropped, at = diagram.rate_P > 0, diagram.critical
    accuracy_PWD = diagram.accuracy_PWDS.mean(-1)
    predicted_PWD = diagram.depth_D < diagram.theory[..., None]
    agree_PWD = predicted_PWD == (accuracy_PWD > HALF_WAY)
    reached_PW, theory_PW = diagram.half_way, diagram.theory
    found = {
        "without_dropout": float(accuracy_PWD[0, at, -1]),
        "agreement": float(agree_PWD[dropped].mean()),
        "greatest": float((reached_PW[dropped].max(1) / theory_PW[dropped].max(1)).max()),
    }
    for i in np.flatnonzero(dropped):
        rate = f"reached_{100 * diagram.rate_P[i]:.0f}"
        found[rate] = float(reached_PW[i, at] / theory_PW[i, at])
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: accuracy over dropout and depth at the critical sigma_w. Right: trainable depths at the others."""
    diagram = Diagram.of(results)
    figure = Figure(figsize=(10.2, 4.5))
    left = figure.add_axes((0.062, 0.125, 0.40, 0.715))
    key = figure.add_axes((0.472, 0.125, 0.0115, 0.715))
    right = figure.add_axes((0.600, 0.125, 0.325, 0.715))
    _draw_diagram(left, key, diagram)
    _draw_depths(right, diagram)
    figure.suptitle(
        "With dropout a tanh network trains to a finite depth at any $\\sigma_w$",
        x=0.0145,
        y=0.975,
        horizontalalignment="left",
        verticalalignment="top",
        fontsize=12,
        fontweight="bold",
    )
    return figure


@cache
def trainable_depth(sigma_w: float, rate: float) -> float:
    """6 xi_c of tanh with dropout."""
    field = MeanField(activations.tanh(), sigma_w, SIGMA_B, keep=1.0 - rate)
    return float(CORRELATION_DEPTHS * field.xi_c)


def crossing(depth_D: Array, accuracy_D: Array) -> float:
    """Where accuracy falls through half way, in log depth; infinity where all depths train, 0 where none does."""
    below = np.flatnonzero(accuracy_D <= HALF_WAY)
    if not below.size or below[0] == 0:
        return 0.0 if below.size else float("inf")
    i = below[0]
    share = (accuracy_D[i - 1] - HALF_WAY) / (accuracy_D[i - 1] - accuracy_D[i])
    return float(np.exp(np.interp(share, [0, 1], np.log(depth_D[i - 1 : i + 1]))))


def _draw_diagram(axes: Axes, key: Axes, diagram: Diagram) -> None:
    accuracy_DP = diagram.accuracy_PWDS[:, diagram.critical].mean(-1).T
    edges = np.exp(_edges(np.log(diagram.depth_D)))
    place_P = np.arange(diagram.rate_P.size)
    image = axes.pcolormesh(
        _edges(place_P.astype(float)),
        edges,
        accuracy_DP,
        cmap="viridis",
        vmin=0.0,
        vmax=1.0,
        linewidth=0,
        rasterized=True,
    )
    fine = np.linspace(0.0, place_P[-1], 61)[1:]
    sigma_w = float(diagram.sigma_w_W[diagram.critical])
    reach = [trainable_depth(sigma_w, float(p)) for p in np.interp(fine, place_P, diagram.rate_P)]
    outline = [patheffects.Stroke(linewidth=4.2, foreground=INK), patheffects.Normal()]
    axes.plot(fine, reach, color="white", linewidth=2.0, path_effects=outline)
    axes.set_yscale("log")
    axes.set_ylim(edges[0], edges[-1])
    axes.set_yticks(diagram.depth_D, [f"{depth:.0f}" for depth in diagram.depth_D])
    axes.minorticks_off()
    axes.grid(False)
    axes.set_xticks(place_P, [f"{p:g}" for p in diagram.rate_P])
    axes.set_xlabel("dropout rate")
    axes.set_ylabel("hidden layers")
    axes.set_title(
        f"Training accuracy, $\\sigma_w = {sigma_w:g}$; white: theory, $6\\,\\xi_c$", pad=8
    )
    bar = axes.figure.colorbar(image, cax=key)
    bar.outline.set_visible(False)
    bar.set_ticks([0, CHANCE, 0.5, 1], labels=["0", "chance", "0.5", "1"])
    key.tick_params(length=0)


def _draw_depths(axes: Axes, diagram: Diagram) -> None:
    low, high = diagram.depth_D[0], 2.2 * diagram.depth_D[-1]
    pad = 0.12
    fine = np.linspace(diagram.sigma_w_W[0] - pad, diagram.sigma_w_W[-1] + pad, 80)
    shades = colormaps["plasma"](np.linspace(0.0, 0.85, diagram.rate_P.size))
    for rate, reached_W, shade in zip(diagram.rate_P, diagram.half_way, shades, strict=True):
        curve = np.array([trainable_depth(float(w), float(rate)) for w in fine])
        axes.plot(fine, np.where(curve < high, curve, np.nan), color=shade, linewidth=1.3)
        beyond = np.isinf(reached_W)
        axes.plot(diagram.sigma_w_W, reached_W, "o", color=shade, markersize=5)
        deepest = np.full(int(beyond.sum()), 1.12 * diagram.depth_D[-1])
        axes.plot(diagram.sigma_w_W[beyond], deepest, "^", color=shade, markersize=6)
        axes.annotate(
            f"p = {rate:g}" if rate else "none",
            (fine[-1], curve[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=shade,
            annotation_clip=False,
        )
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks(diagram.depth_D, [f"{depth:.0f}" for depth in diagram.depth_D])
    axes.minorticks_off()
    axes.set_xlim(fine[0], fine[-1])
    axes.set_xlabel(r"$\sigma_w$ of the initialization")
    axes.set_ylabel("hidden layers")
    title = "Depth at which accuracy falls half way; lines: $6\\,\\xi_c$"
    axes.set_title(title, pad=8)


def _edges(centre: Array) -> Array:
    """The edges of cells around these centres."""
    middle = (centre[1:] + centre[:-1]) / 2
    return np.concatenate([[2 * centre[0] - middle[0]], middle, [2 * centre[-1] - middle[-1]]])
