"""The figure of a shifted split: how source and target rows differ, and the true weights.

Shapes: N source rows, M target rows, D features, R rows of the table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from unitgain.data import Prepared
from unitgain.report._shift_panels import (
    SOURCE,
    TARGET,
    WEIGHTED,
    draw_component,
    draw_two,
    draw_weights,
    short,
    weight_edges,
)
from unitgain.report._style import INK, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_WEIGHTED_LABEL = "source, truly weighted"
_ROWS = 20_000
"""Of a part, evenly spaced ones, that distances are taken over."""

_CLASSES = 20
"""Bars of classes that fit in a panel; more are drawn as a histogram of their numbers."""


@final
@dataclass(frozen=True)
class WeightFacts:
    """What is known of the true weights.

    Attributes:
        bound: The largest that the populations allow; infinity where there is none.
        ess_share: 1 / E[w^2] of the population.
        sample_ess: The effective number of training rows.
        pareto_k: The tail index over the training rows.
    """

    bound: float
    ess_share: float
    sample_ess: float
    pareto_k: float


def split_figure(
    table: Prepared, folder: Path, *, title: str, facts: WeightFacts | None
) -> list[Path]:
    """Draw a shifted split as ``split.png`` and ``split.svg``.

    Args:
        table: Prepared from the split.
        folder: Where to.
        title: Above all panels.
        facts: Of the true weights; None where they aren't known.
    """
    return save(draw_split(table, title=title, facts=facts), folder, "split")


@style()
def draw_split(table: Prepared, *, title: str, facts: WeightFacts | None) -> "Figure":
    """The figure of `split_figure`, not yet on disk.

    Left to right: training and target rows along the first principal component of the two, unless there
    is one feature only; along the feature whose distributions are furthest apart (Kolmogorov and
    Smirnov's distance); their labels; the true weights of the training rows, where these are known and
    differ. With these, the others also show the training rows as weighted.
    """
    from matplotlib.figure import Figure

    weight_N = _weights(table)
    shown = [_draw_component] if table.n_features > 1 else []
    shown += [_draw_furthest, _draw_labels]
    panels = len(shown) + (weight_N is not None and facts is not None)
    figure = Figure(figsize=(3.1 * panels + 0.4, 3.5), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    axes = list(figure.subplots(1, panels))
    for place, panel in zip(axes, shown, strict=False):
        panel(place, table, weight_N)
    axes[0].legend(loc="upper right")
    if facts is not None and weight_N is not None:
        _draw_weights(axes[-1], weight_N, facts)
    return figure


def _weights(table: Prepared) -> Floats | None:
    """True weights of the training rows, where they say anything."""
    ratio_R = table.shifted.ratio
    if ratio_R is None or np.ptp(ratio_R[table.split.train]) < 1e-12:
        return None
    return ratio_R[table.split.train]


def _draw_component(axes: "Axes", table: Prepared, weight_N: Floats | None) -> None:
    source, target = table.x[table.split.train], table.x[table.split.test]
    draw_component(axes, source, target, weight_N, _WEIGHTED_LABEL)


def _draw_furthest(axes: "Axes", table: Prepared, weight_N: Floats | None) -> None:
    source, target = table.x[table.split.train], table.x[table.split.test]
    d, distance = _furthest(source, target)
    draw_two(axes, source[:, d], target[:, d], weight_N, _WEIGHTED_LABEL)
    title = f"Feature furthest apart (KS {distance:.2f})"
    axes.set(title=title, xlabel=short(table.feature_names[d]))


def _furthest(source: Floats, target: Floats) -> tuple[int, float]:
    """The feature with the largest distance of Kolmogorov and Smirnov, and that distance."""
    distances = list[float]()
    few = (x[np.linspace(0, len(x) - 1, min(len(x), _ROWS)).astype(int)] for x in (source, target))
    for a, b in zip(*(x.T for x in few), strict=True):
        places = np.concatenate([a, b])
        shares = [np.searchsorted(np.sort(x), places, side="right") / len(x) for x in (a, b)]
        distances.append(float(np.abs(shares[0] - shares[1]).max()))
    d = int(np.argmax(distances))
    return d, distances[d]


def _draw_labels(axes: "Axes", table: Prepared, weight_N: Floats | None) -> None:
    train, test = table.split.train, table.split.test
    if table.task == "regression" or table.n_classes > _CLASSES:
        y = table.shifted.table.y.reshape(len(table.y), -1)[:, 0].astype(np.float64)
        draw_two(axes, y[train], y[test], weight_N, _WEIGHTED_LABEL)
        axes.set(title="Labels", xlabel=short(table.target_names[0]))
        return
    places = np.arange(table.n_classes)

    def shares(rows: NDArray[np.int64], weights: Floats | None = None) -> Floats:
        counts = np.bincount(table.y[rows].astype(np.int64), weights, table.n_classes)
        return np.asarray(counts / counts.sum(), dtype=np.float64)

    axes.bar(places, shares(train), 0.7, color=SOURCE, alpha=0.45, label="source")
    axes.plot(places, shares(test), "o", color=TARGET, ms=5, label="target")
    if weight_N is not None:
        shown = shares(train, weight_N)
        axes.plot(places, shown, "_", color=WEIGHTED, ms=14, mew=2, label=_WEIGHTED_LABEL)
    wide = any(len(name) > 3 for name in table.class_names)
    names = [short(name, 12) for name in table.class_names]
    axes.set_xticks(places, names)
    if wide and len(names) > 2:
        for text in axes.get_xticklabels():
            text.set(rotation=30, ha="right")
    axes.set(title="Labels", ylabel="share of rows")
    axes.set_ylim(0, None)


def _draw_weights(axes: "Axes", weight_N: Floats, facts: WeightFacts) -> None:
    draw_weights(axes, weight_N, weight_edges(weight_N))
    axes.set_title("True weights of training rows")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.5)
    bound = f"at most {facts.bound:.3g}" if np.isfinite(facts.bound) else "unbounded"
    effective = f"{facts.ess_share:.1%} effective" if facts.ess_share > 0 else "E[w^2] infinite"
    tail = f", tail index {facts.pareto_k:.2f}" if np.isfinite(facts.pareto_k) else ""
    lines = [
        f"population: {bound}, {effective}",
        f"rows: {facts.sample_ess:.0f} of {len(weight_N)} effective{tail}",
    ]
    axes.text(
        0.02,
        0.98,
        "\n".join(lines),
        transform=axes.transAxes,
        va="top",
        fontsize=8,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
