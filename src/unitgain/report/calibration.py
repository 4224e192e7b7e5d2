"""The reliability diagram of a shifted run: accuracy against confidence, in the source, foretold, and in the target."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.report._shift_panels import SOURCE, TARGET, WEIGHTED
from unitgain.report._style import MUTED, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Sequence[Mapping[str, Any]]
"""Of ``shift.json``: "part", "weights", "ece" and "bins", each with "share", "confidence" and "accuracy"."""

_LEAST = 12.0
_LARGEST = 140.0
"""Areas of markers in square points: of a bin without rows, and of one with all of them."""


def curve_name(curve: Mapping[str, Any]) -> str:
    """What a curve is called: ``validation, weighted by inputs``.

    Example:
        >>> curve_name({"part": "validation", "weights": "classes"})
        'validation, weighted by classes'
    """
    if curve["weights"] == "nothing":
        return str(curve["part"])
    return f"{curve['part']}, weighted by {curve['weights']}"


def curve_look(curve: Mapping[str, Any]) -> tuple[str, str, str]:
    """A colour, a marker and a style of line, which tell curves apart without the colour too."""
    if curve["part"] == "target":
        return TARGET, "s", "-"
    return (SOURCE, "o", "--") if curve["weights"] == "nothing" else (WEIGHTED, "^", ":")


def calibration_figure(curves: Curves, folder: Path) -> list[Path]:
    """Draw a reliability diagram as ``calibration.png`` and ``calibration.svg``.

    Args:
        curves: "calibration" of ``shift.json``.
        folder: where to.
    """
    return save(draw_calibration(curves), folder, "calibration")


@style()
def draw_calibration(curves: Curves, *, width: float = 6.6, title: str = "") -> "Figure":
    """The figure of `calibration_figure`, not yet on disk.

    Left: accuracy against confidence, each marker's area the share of the rows in its bin, with the calibration error.
    Right: how confidences are distributed.

    Args:
        curves: "calibration" of ``shift.json``.
        width: in inches.
        title: above both panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 0.58 * width), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    low = min(b["confidence"] for curve in curves for b in curve["bins"])
    left.plot([low, 1], [low, 1], color=MUTED, lw=0.8)
    for curve in curves:
        _draw_curve(left, curve)
        _draw_shares(right, curve)
    left.set(title="Reliability", xlabel="confidence", ylabel="accuracy", ylim=(-0.04, 1.04))
    right.set(title="Confidence", xlabel="confidence", ylabel="share of rows not above")
    for axes in (left, right):
        axes.set_xlim(low - 0.03, 1.03)
    right.set_ylim(0, 1.02)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", handlelength=2.6)
    return figure


def _draw_curve(axes: "Axes", curve: Mapping[str, Any]) -> None:
    colour, marker, line = curve_look(curve)
    x, y, share = (
        [row[key] for row in curve["bins"]] for key in ("confidence", "accuracy", "share")
    )
    label = f"{curve_name(curve)}: calibration error {curve['ece']:.3f}"
    axes.plot(x, y, color=colour, ls=line, lw=1.2)
    axes.plot([], [], marker, color=colour, ls=line, lw=1.2, ms=5, mew=0, label=label)
    sizes = [_LEAST + (_LARGEST - _LEAST) * s for s in share]
    axes.scatter(x, y, sizes, color=colour, marker=marker, lw=0, alpha=0.85)


def _draw_shares(axes: "Axes", curve: Mapping[str, Any]) -> None:
    colour, _, line = curve_look(curve)
    x, heights = [0.0], [0.0]
    for row in sorted(curve["bins"], key=lambda row: float(row["confidence"])):
        x.append(row["confidence"])
        heights.append(heights[-1] + row["share"])
    axes.plot([*x, 1.0], [*heights, heights[-1]], color=colour, ls=line, lw=1.6, ds="steps-post")
