"""The figure of a coordinate check: the size of each layer's activations, and of their change, against width."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.report._style import MUTED, save, style

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def coordinates_figure(
    widths: Sequence[int], size_WL: "Array", change_WL: "Array", steps: int, path: Path
) -> Path:
    """Draw a coordinate check into a file that ends in .png or .svg.

    Args:
        widths: of the hidden layers.
        size_WL: pre-activations at initialization, by width and layer, the output layer last.
        change_WL: what ``steps`` steps add.
        steps: of the optimizer.
        path: where to.
    """
    figure = draw_coordinates(widths, size_WL, change_WL, steps)
    save(figure, path.parent, path.stem, (path.suffix.lstrip("."),))
    return path


@style()
def draw_coordinates(
    widths: Sequence[int], size_WL: "Array", change_WL: "Array", steps: int
) -> "Figure":
    """The figure of `coordinates_figure`, not yet on disk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, widths, size_WL, "at initialization")
    _draw(right, widths, change_WL, f"change after {steps} steps")
    left.set_ylabel("RMS of pre-activations")
    lines = right.get_lines()
    # Of many layers a few in the legend: the colour tells the others.
    last = len(lines) - 1
    chosen = sorted({round(i * last / 5) for i in range(6)}) if last > 5 else range(last + 1)
    labels = ["output" if i == last else f"layer {i + 1}" for i in chosen]
    figure.legend([lines[i] for i in chosen], labels, loc="outside right center")
    return figure


def _draw(axes: "Axes", widths: Sequence[int], value_WL: "Array", title: str) -> None:
    import matplotlib as mpl
    import numpy as np
    from matplotlib.ticker import NullLocator

    layers = value_WL.shape[1]
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, max(layers - 1, 1)))
    for i in range(layers):
        colour, dashes = (MUTED, "--") if i == layers - 1 else (colours[i], "-")
        shown = np.where(value_WL[:, i] > 0, value_WL[:, i], np.nan)
        axes.plot(widths, shown, color=colour, linestyle=dashes, marker="o", markersize=3)
    axes.set_xscale("log")
    if (value_WL > 0).any():
        axes.set_yscale("log")
    axes.set_xticks(list(widths), [str(width) for width in widths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("width")
    axes.set_title(title)
