"""The figure of a shift: source against target, the weights, and what they balance.

Shapes: N source rows, M target rows, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from unitgain.report._shift_panels import (
    SOURCE,
    WEIGHTED,
    draw_component,
    draw_weights,
    few_ticks,
    short,
    weight_edges,
)
from unitgain.report._style import INK, MUTED, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_FEATURES = 12
"""Rows of the balance plot: the features that differ most."""

UNBALANCED = 0.1
"""Standardised difference beyond which means are commonly called unbalanced (Austin and Stuart 2015)."""


@final
@dataclass(frozen=True, eq=False)
class ClassShares:
    """The shares of C classes.

    Attributes:
        names: of the classes.
        source_C: in the source.
        target_C: in the target, estimated.
        low_C: lower ends of intervals of the estimate.
        high_C: upper ends.
        true_C: the true shares in the target; None where they aren't known.
    """

    names: Sequence[str]
    source_C: Floats
    target_C: Floats
    low_C: Floats
    high_C: Floats
    true_C: Floats | None


@final
@dataclass(frozen=True, eq=False)
class ShiftPicture:
    """What the figure shows.

    Attributes:
        title: above all panels.
        source_ND: training rows, as the network sees them.
        target_MD: target rows.
        weight_N: estimated weights of the training rows, with mean one.
        truth_N: their true weights with mean one; None where they aren't known.
        names: of the D features.
        before_D: standardised differences of the means before weighting.
        after_D: the same after it.
        classes: their shares; None for no such panel.
    """

    title: str
    source_ND: Floats
    target_MD: Floats
    weight_N: Floats
    truth_N: Floats | None
    names: Sequence[str]
    before_D: Floats
    after_D: Floats
    classes: ClassShares | None = None


def shift_figure(picture: ShiftPicture, folder: Path) -> list[Path]:
    """Draw a shift as ``shift.png`` and ``shift.svg``.

    Args:
        picture: what to draw.
        folder: where to.
    """
    return save(draw_shift(picture), folder, "shift")


@style()
def draw_shift(picture: ShiftPicture) -> "Figure":
    """The figure of `shift_figure`, not yet on disk.

    Left to right: both parts along the first principal component of the two, the source also as weighted; the weights;
    where they are known, the true weights against the estimated ones; the shares of classes, where they are given; the
    standardised differences of the means.
    """
    from matplotlib.figure import Figure

    draw = [_draw_projections, _draw_weights]
    if picture.truth_N is not None:
        draw.append(_draw_truth)
    if picture.classes is not None:
        draw.append(_draw_classes)
    draw.append(_draw_balance)
    figure = Figure(figsize=(3.1 * len(draw) + 1.2, 3.5), layout="constrained")
    figure.suptitle(picture.title, x=0.01, ha="left", fontsize=11, color=INK)
    widths = [1.0] * (len(draw) - 1) + [1.15]
    for axes, panel in zip(figure.subplots(1, len(draw), width_ratios=widths), draw, strict=True):
        panel(axes, picture)
    return figure


def _draw_projections(axes: "Axes", picture: ShiftPicture) -> None:
    draw_component(axes, picture.source_ND, picture.target_MD, picture.weight_N)
    if len(picture.names) == 1:
        axes.set_xlabel(short(picture.names[0]))
    axes.legend(loc="upper right")


def _draw_weights(axes: "Axes", picture: ShiftPicture) -> None:
    truth_N = picture.truth_N
    edges = weight_edges(picture.weight_N, *(() if truth_N is None else (truth_N,)))
    draw_weights(axes, picture.weight_N, edges, "estimated")
    if truth_N is not None:
        shown = truth_N.clip(edges[0])
        axes.hist(shown, edges, histtype="step", color=INK, lw=1.4, label="true")
    axes.set_title("Weights of training rows")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
    axes.legend(loc="upper right")


def _draw_truth(axes: "Axes", picture: ShiftPicture) -> None:
    weight_N, truth_N = picture.weight_N, picture.truth_N
    assert truth_N is not None
    floor = max(1e-6, 1e-3 * float(truth_N[truth_N > 0].min()))
    axes.plot(
        truth_N.clip(floor), weight_N.clip(floor), ".", color=WEIGHTED, ms=4, alpha=0.6, mew=0
    )
    ends = [
        min(truth_N.clip(floor).min(), weight_N.clip(floor).min()),
        max(truth_N.max(), weight_N.max()),
    ]
    axes.plot(ends, ends, color=MUTED, lw=0.8)
    axes.set(title="Against the truth", xlabel="true w", ylabel="estimated w")
    axes.set(xscale="log", yscale="log")
    few_ticks(axes.xaxis)
    few_ticks(axes.yaxis)


def _draw_classes(axes: "Axes", picture: ShiftPicture) -> None:
    classes = picture.classes
    assert classes is not None
    moved_C = np.abs(classes.target_C - classes.source_C)
    shown = np.sort(np.argsort(-moved_C, kind="stable")[:_FEATURES])[::-1]
    places, target_C = np.arange(len(shown)), classes.target_C[shown]
    axes.plot(classes.source_C[shown], places, "o", mfc="white", mec=SOURCE, ms=5, label="source")
    # An estimate may lie outside the percentiles of its resamples.
    below_C = (target_C - classes.low_C[shown]).clip(0)
    above_C = (classes.high_C[shown] - target_C).clip(0)
    axes.errorbar(
        target_C,
        places,
        xerr=[below_C, above_C],
        fmt="o",
        color=WEIGHTED,
        ms=5,
        elinewidth=1.4,
        label="target, estimated",
    )
    if classes.true_C is not None:
        axes.plot(classes.true_C[shown], places, "|", color=INK, ms=11, mew=1.6, label="true")
    axes.set_yticks(places, [short(classes.names[c]) for c in shown])
    axes.grid(False)
    axes.set(title="Shares of classes", xlabel="share, with 95 % intervals")
    axes.set_xlim(left=0)
    axes.set_ylim(-0.8, 1.35 * len(shown) + 0.4)
    axes.legend(loc="upper right")


def _draw_balance(axes: "Axes", picture: ShiftPicture) -> None:
    shown = np.argsort(-np.abs(picture.before_D))[:_FEATURES][::-1]
    places = np.arange(len(shown))
    axes.axvspan(-UNBALANCED, UNBALANCED, color="#eeeeee", lw=0)
    before, after = picture.before_D[shown], picture.after_D[shown]
    axes.hlines(places, before, after, color="#c8c8c8", lw=1)
    axes.plot(before, places, "o", mfc="white", mec=SOURCE, ms=5, label="before")
    axes.plot(after, places, "o", color=WEIGHTED, ms=5, label="after")
    axes.set_yticks(places, [short(picture.names[d]) for d in shown])
    axes.grid(False)
    axes.set(title="Difference of means", xlabel="standard deviations, target less source")
    axes.set_ylim(-0.8, len(shown) + 1.2)
    axes.legend(loc="upper center", ncols=2)
