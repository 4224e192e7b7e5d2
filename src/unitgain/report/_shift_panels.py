"""What figures of a shift share: colours, histograms of two parts, weights on a logarithmic axis.

Shapes: N source rows, M target rows, R rows of both, D features.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unitgain.report._style import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Floats = NDArray[np.float64]

SOURCE, TARGET, WEIGHTED = "#9a9a9a", "#d1495b", "#31688e"
BINS = 26


def first_component(x_RD: Floats) -> tuple[Floats, Floats]:
    """The first principal component of rows, its largest loading positive, and their mean."""
    middle_D = x_RD.mean(axis=0)
    centred = x_RD - middle_D
    vectors = np.linalg.eigh(centred.T @ centred)[1]
    loading_D = vectors[:, -1]
    return loading_D * np.sign(loading_D[np.abs(loading_D).argmax()]), middle_D


def draw_component(
    axes: "Axes",
    source_ND: Floats,
    target_MD: Floats,
    weight_N: Floats | None,
    weighted: str = "source, weighted",
) -> None:
    """Histograms of both parts along the first principal component of the two.

    Args:
        axes: to draw on.
        source_ND: source rows.
        target_MD: target rows.
        weight_N: of source rows; None for two histograms only.
        weighted: what the third is called.
    """
    direction_D, middle_D = first_component(np.concatenate([source_ND, target_MD]))
    z_N, z_M = ((x - middle_D) @ direction_D for x in (source_ND, target_MD))
    draw_two(axes, z_N, z_M, weight_N, weighted)
    axes.set(title="Source and target", xlabel="first principal component")


def draw_two(
    axes: "Axes",
    source_N: Floats,
    target_M: Floats,
    weight_N: Floats | None,
    weighted: str = "source, weighted",
) -> None:
    """Histograms of a number in both parts, with room above them for a legend; few extremes are left out.

    Args:
        axes: to draw on.
        source_N: of source rows.
        target_M: of target rows.
        weight_N: of source rows; None for two histograms only.
        weighted: what the third is called.
    """
    both = np.concatenate([source_N, target_M])
    low, high = np.quantile(both, [0.002, 0.998])
    if low == high:
        low, high = both.min() - 0.5, both.max() + 0.5
    edges = np.linspace(low, high, BINS).tolist()
    line: dict[str, Any] = {"density": True, "histtype": "step", "lw": 1.6}
    inside_N, inside_M = ((z >= low) & (z <= high) for z in (source_N, target_M))
    if inside_N.any():
        shown = source_N[inside_N]
        axes.hist(shown, edges, density=True, color=SOURCE, alpha=0.45, label="source")
    if inside_M.any():
        axes.hist(target_M[inside_M], edges, color=TARGET, label="target", **line)
    if weight_N is not None and weight_N[inside_N].sum() > 0:
        axes.hist(shown, edges, weights=weight_N[inside_N], color=WEIGHTED, label=weighted, **line)
    axes.set_yticks([])
    axes.set_ylim(top=axes.get_ylim()[1] * 1.3)


def weight_edges(*weights: Floats) -> list[float]:
    """Edges of bins, even in the logarithm, that positive weights fall into, five decades at most."""
    positive = np.concatenate([weight_N[weight_N > 0] for weight_N in weights])
    low, high = max(positive.min(), positive.max() * 1e-5), positive.max()
    if low == high:
        low, high = low / 2, high * 2
    edges: list[float] = np.geomspace(low, high * 1.0001, BINS).tolist()
    return edges


def draw_weights(axes: "Axes", weight_N: Floats, edges: list[float], label: str = "") -> None:
    """The histogram of weights on a logarithmic axis, a dotted line at one.

    Args:
        axes: to draw on.
        weight_N: of rows.
        edges: see `weight_edges`.
        label: for a legend.
    """
    axes.hist(weight_N.clip(edges[0]), edges, color=WEIGHTED, alpha=0.55, label=label)
    axes.axvline(1.0, color=MUTED, lw=0.8, ls=":")
    axes.set(xlabel="w", ylabel="rows", xscale="log")
    few_ticks(axes.xaxis)


def few_ticks(axis: "Axis") -> None:
    """Numbers at 1, 2 and 5 where a logarithmic axis spans less than two decades, else at powers of ten alone."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_minor_formatter(NullFormatter())
    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")


def short(name: str, most: int = 24) -> str:
    """A name cut to fit beside an axis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
