"""Gradient norm against depth, one line for each of a few moments of the training.

Shape suffixes: S recorded steps, L layers.
"""

import textwrap
from collections.abc import Mapping
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.errors import DataError
from unitgain.report._style import INK, MUTED, save, style
from unitgain.runs import Gradients, RunDirectory, read_gradients

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_MOST_LINES = 8
# A net that passes the gradient on unchanged shall look flat, not like its own noise.
_LEAST_DECADES = 2.0
# Beyond these the places of the ticks overflow; such norms count as zero and infinite.
_TINIEST, _HUGEST = 1e-300, 1e200
# Update-to-weight ratios outside these limits are suspicious.
_USUAL_RATIO = (1e-5, 1e-1)
_PANELS = {
    "grad_preactivation": (
        "Gradient at the pre-activations",
        r"norm of $\partial J / \partial z$, RMS over the batch",
    ),
    "update_ratio": ("Update-to-weight ratio", r"norm of $\Delta W$ / norm of $W$, per step"),
    "grad_weight": ("Gradient at the weights", r"norm of $\partial J / \partial W$"),
}
_TITLE_WIDTH = 57  # letters a panel
_PANEL_WIDTH, _PANEL_HEIGHT, _PITCH = 4.05, 2.95, 4.95  # inches


def gradient_flow_figure(run: Path) -> list[Path]:
    """Draw ``figures/gradient_flow.png`` and ``.svg`` of a run directory.

    Left: the norm of the gradient with respect to each layer's pre-activations against depth, on a
    log scale, one line a recorded epoch (eight at most, closer together early on), and what theory
    foretold of the first one, dashed. Right: the
    update-to-weight ratio, or the weight gradient where that wasn't recorded.

    Args:
        run: the run directory; it needs gradients.parquet, and its summary gives the title.

    Returns:
        The files that were written.

    Raises:
        DataError: gradients.parquet is missing, damaged or without pre-activation gradients.
    """
    directory = RunDirectory(run)
    gradients = read_gradients(directory.gradients)
    if "grad_preactivation" not in gradients.names:
        raise DataError(
            f"the gradient-flow figure needs grad_preactivation: {directory.gradients} holds "
            f"{', '.join(gradients.names) or 'no rows'}; train with probe=full"
        )
    figure = draw_gradient_flow(gradients, directory.read_summary() or {})
    return save(figure, directory.figures_dir, "gradient_flow")


@style()
def draw_gradient_flow(gradients: Gradients, summary: Mapping[str, Any]) -> "Figure":
    """The figure of `gradient_flow_figure`, not yet on disk.

    Args:
        gradients: with the quantity ``grad_preactivation``.
        summary: ``verdict``, ``forecast``, ``status`` and ``steps_per_epoch`` are used where they are there.
    """
    second = [name for name in ("update_ratio", "grad_weight") if name in gradients.names]
    panels = ["grad_preactivation", *second[:1]]
    step_S, _ = gradients.grid("grad_preactivation")
    per_epoch = _steps_per_epoch(step_S, summary)
    shown_S = choose_records(step_S, per_epoch)
    title = _even_lines(_title(summary), _TITLE_WIDTH * len(panels))
    figure, all_axes, key_axes = _layout(len(panels), len(title))
    for axes, quantity in zip(all_axes, panels, strict=True):
        _draw_panel(axes, gradients, quantity, shown_S)
    _draw_theory(all_axes[0], gradients, summary)
    _fill_key(key_axes, shown_S, per_epoch)
    _add_mark_keys(figure, all_axes)
    figure.suptitle(
        "\n".join(title),
        x=0.15 / figure.get_figwidth(),
        y=1 - 0.12 / figure.get_figheight(),
        horizontalalignment="left",
        verticalalignment="top",
        fontsize=11,
        fontweight="bold",
        parse_math=False,
    )
    return figure


def _layout(panels: int, title_lines: int) -> "tuple[Figure, list[Axes], Axes]":
    """Axes of a fixed size in inches, side by side, and narrow ones for the colour key.

    A layout engine would find the same places in three times the time of the whole drawing.
    """
    from matplotlib.figure import Figure

    size = (panels * _PITCH + 0.75, 0.7 + _PANEL_HEIGHT + 0.5 + 0.21 * title_lines)
    figure = Figure(figsize=size)

    def place(left: float, width: float) -> "Axes":
        rectangle = (left / size[0], 0.7 / size[1], width / size[0], _PANEL_HEIGHT / size[1])
        return figure.add_axes(rectangle)

    axes = [place(panel * _PITCH + _PITCH - _PANEL_WIDTH, _PANEL_WIDTH) for panel in range(panels)]
    return figure, axes, place(panels * _PITCH + 0.16, 0.11)


def choose_records(
    step_S: "NDArray[np.int64]", per_epoch: int | None, most: int = _MOST_LINES
) -> "NDArray[np.int64]":
    """The steps to show: the first record of an epoch each, the first and the last record always.

    Args:
        step_S: recorded steps, ascending.
        per_epoch: optimizer steps in an epoch; None takes every record for a candidate.
        most: how many at most; early ones lie closer together, since most changes early.
    """
    import numpy as np

    candidates = step_S
    if per_epoch is not None:
        _, first = np.unique(step_S // per_epoch, return_index=True)
        candidates = np.union1d(step_S[first], step_S[-1:])
    if candidates.size <= most:
        return candidates
    spread = np.geomspace(1, candidates.size, most).round().astype(int) - 1
    chosen_S: NDArray[np.int64] = candidates[np.unique(spread)]
    return chosen_S


def _steps_per_epoch(step_S: "NDArray[np.int64]", summary: Mapping[str, Any]) -> int | None:
    steps = summary.get("steps_per_epoch")
    return int(steps) if steps and step_S[-1] >= steps else None


def _title(summary: Mapping[str, Any]) -> str:
    verdict = summary.get("verdict") or {}
    text = " ".join(str(verdict.get("text") or "Gradient flow through depth").split())
    status = summary.get("status", "unfinished")
    text = text[:1].upper() + text[1:]
    return text if status == "finished" else f"{text} ({status})"


def _even_lines(text: str, width: int) -> list[str]:
    """The text in as few lines as this width allows, none much longer than the others."""
    lines = textwrap.wrap(text, width)
    while len(narrower := textwrap.wrap(text, width - 1)) == len(lines) > 1:
        lines, width = narrower, width - 1
    return lines


def _draw_panel(
    axes: "Axes", gradients: Gradients, quantity: str, shown_S: "NDArray[np.int64]"
) -> None:
    import numpy as np
    from matplotlib.ticker import NullFormatter

    step_S, value_SL = gradients.grid(quantity)
    rows = [(step, row) for step, row in zip(step_S, value_SL, strict=True) if step in shown_S]
    colours = _colours(shown_S.size)
    layer_L = np.arange(1, value_SL.shape[1] + 1)
    head = int(gradients.layers.max())
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    for step, row_L in rows:
        place = int(np.searchsorted(shown_S, step))
        _draw_line(axes, layer_L, np.abs(row_L), colours[place], head)
    shown_SL = np.abs(np.array([row for _, row in rows]).reshape(-1, layer_L.size))
    low, high = _limits(shown_SL)
    axes.set_ylim(low, high)
    _mark_unshowable(axes, layer_L, shown_SL)
    if quantity == "update_ratio":
        _shade_unusual(axes, low, high)
    _set_layers(axes, head)
    title, label = _PANELS[quantity]
    axes.set_title(title, pad=8)
    axes.set_ylabel(label)


def _draw_theory(axes: "Axes", gradients: Gradients, summary: Mapping[str, Any]) -> None:
    """The forecast of the first line; its level, which theory says nothing of, is fitted over the hidden layers."""
    import numpy as np

    predicted = (summary.get("forecast") or {}).get("log10_gradient_L") or []
    step_S, value_SL = gradients.grid("grad_preactivation")
    forecast_L = np.array([np.nan if value is None else value for value in predicted], dtype=float)
    # A run before its first step; what is resumed or recorded later theory doesn't speak of.
    if forecast_L.size != value_SL.shape[1] or step_S[0] != 0:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        offset_L = np.log10(value_SL[0]) - forecast_L
    usable = np.isfinite(offset_L[:-1])
    if not usable.any():
        return
    level = offset_L[:-1][usable].mean()
    low, high = axes.get_ylim()
    axes.plot(
        np.arange(1, forecast_L.size + 1),
        10.0 ** np.clip(forecast_L + level, -300, 300),
        color=INK,
        linewidth=1.3,
        linestyle=(0, (4, 2.5)),
        zorder=4,
        label="theory",
    )
    axes.set_ylim(low, high)


def _draw_line(
    axes: "Axes", layer_L: "NDArray[Any]", value_L: "NDArray[Any]", colour: Any, head: int
) -> None:
    import numpy as np

    drawable_L = np.isfinite(value_L) & (value_L >= _TINIEST) & (value_L <= _HUGEST)
    shown_L = np.where(drawable_L, value_L, np.nan)
    axes.plot(
        layer_L,
        shown_L,
        color=colour,
        linewidth=1.7,
        marker="o",
        markersize=3.6 if layer_L.size <= 24 else 2.0,
    )
    if layer_L[-1] == head and head > 1:
        axes.plot(
            layer_L[-1:],
            shown_L[-1:],
            linestyle="none",
            marker="D",
            markersize=4.6,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.4,
            zorder=3,
        )


def _limits(value_SL: "NDArray[Any]") -> tuple[float, float]:
    import numpy as np

    drawable = value_SL[np.isfinite(value_SL) & (value_SL >= _TINIEST) & (value_SL <= _HUGEST)]
    if not drawable.size:
        return 1e-1, 1e1
    low, high = np.log10(drawable.min()), np.log10(drawable.max())
    widen = max(0.06 * (high - low), (_LEAST_DECADES - (high - low)) / 2)
    low, high = max(low - widen, -305.0), high + widen
    return float(10.0**low), float(10.0**high)


def _mark_unshowable(axes: "Axes", layer_L: "NDArray[Any]", value_SL: "NDArray[Any]") -> None:
    """Zero, infinite and undefined values lie on no log scale: mark their layers at its edges."""
    import numpy as np

    kinds = (
        ("zero", value_SL < _TINIEST, "v", 0.025),
        ("infinite", value_SL > _HUGEST, "^", 0.975),
        ("not a number", np.isnan(value_SL), "x", 0.025),
    )
    for name, where_SL, marker, height in kinds:
        layers = layer_L[where_SL.any(axis=0)]
        if layers.size:
            axes.plot(
                layers,
                np.full(layers.size, height),
                transform=axes.get_xaxis_transform(),
                linestyle="none",
                marker=marker,
                markersize=5,
                markerfacecolor="none",
                markeredgecolor="#c4342d",
                clip_on=False,
                label=name,
            )


def _shade_unusual(axes: "Axes", low: float, high: float) -> None:
    floor, ceiling = _USUAL_RATIO
    for bottom, top, height, name in (
        (low, min(floor, high), 0.07, "unusually small"),
        (max(ceiling, low), high, 0.93, "unusually large"),
    ):
        if bottom >= top:
            continue
        axes.axhspan(bottom, top, color="#f4f0ea", linewidth=0, zorder=0)
        if log10(top / bottom) < 0.15 * log10(high / low):
            continue
        axes.text(
            0.985,
            height,
            name,
            transform=axes.transAxes,
            horizontalalignment="right",
            verticalalignment="center",
            fontsize=8.5,
            color=MUTED,
        )


def _set_layers(axes: "Axes", head: int) -> None:
    """Layer numbers that don't crowd, and a name for the output head."""
    steps = (digit * 10**zeros for zeros in range(9) for digit in (1, 2, 5))
    step = next(step for step in steps if head / step <= 9)
    ticks = [1, *range(step, head, step)] if head > 1 else [1]
    ticks = [tick for tick in dict.fromkeys(ticks) if head == 1 or head - tick > 0.05 * head]
    labels = [str(tick) for tick in ticks]
    if head > 1:
        ticks.append(head)
        labels.append("out")
    axes.set_xticks(ticks, labels)
    margin = max(0.35, 0.025 * head)
    axes.set_xlim(1 - margin, head + margin)
    axes.set_xlabel("layer, from the input to the output")


def _colours(count: int) -> "list[Any]":
    """From light (early) to dark (late): the end that matters most stands out on white."""
    import numpy as np
    from matplotlib import colormaps

    places = np.linspace(0.82, 0.05, count) if count > 1 else [0.3]
    return [colormaps["viridis"](place) for place in places]


def _fill_key(axes: "Axes", shown_S: "NDArray[np.int64]", per_epoch: int | None) -> None:
    """One patch of colour a line, the earliest at the bottom."""
    from matplotlib.colors import ListedColormap

    count = shown_S.size
    axes.imshow(
        [[place] for place in range(count)],
        cmap=ListedColormap(_colours(count)),
        aspect="auto",
        origin="lower",
        interpolation="nearest",
    )
    axes.yaxis.tick_right()
    axes.set_yticks(range(count), [_moment(int(step), per_epoch) for step in shown_S])
    axes.set_xticks([])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("epoch" if per_epoch else "step", pad=8)


def _add_mark_keys(figure: "Figure", all_axes: "list[Axes]") -> None:
    """What the marks of a panel mean, below it."""
    for axes in all_axes:
        handles, names = axes.get_legend_handles_labels()
        marks = dict(zip(names, handles, strict=True))
        if marks:
            figure.legend(
                handles=list(marks.values()),
                labels=list(marks),
                loc="lower right",
                bbox_to_anchor=(axes.get_position().x1, 0.0),
                ncols=len(marks),
            )


def _moment(step: int, per_epoch: int | None) -> str:
    return str(step) if per_epoch is None else f"{step / per_epoch:.1f}".removesuffix(".0")
