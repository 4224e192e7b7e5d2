"""Figures of many runs for papers, with matplotlib: PDF, SVG and PNG, for one column or two.

Colours are Okabe and Ito's, which people with any of the common colour-vision deficiencies tell apart, and cividis.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unitgain.report import views
from unitgain.report._effect_panels import draw_shares, draw_tree
from unitgain.report._style import COLOURS, INK, MUTED, plain, save, style
from unitgain.report.run_groups import few_groups
from unitgain.report.shifted import correction_figures, shifted_runs
from unitgain.report.views import LEVEL, Curve, Effects, Foretold, Heatmap, Parallel, Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unitgain.report.page import Question
    from unitgain.runs import RunsTable

Columns = Literal[1, 2]

WIDTHS: dict[Columns, float] = {1: 3.35, 2: 6.9}
"""Inches of one and of two columns, as most conferences and journals set them."""

_DASHES = (0, (3, 2))
_LEGEND_ROW = 0.17
"""Inches."""

_MOST_NUMBERS = 80
"""Cells of a heatmap that have room for their number."""

KINDS = ("pdf", "svg", "png")


def write_figures(
    table: "RunsTable", question: "Question", folder: Path, columns: Columns = 1
) -> list[Path]:
    """Draw everything that there is to draw of some runs, each figure as PDF, SVG and PNG.

    Args:
        table: the runs.
        question: what is asked of them.
        folder: where to.
        columns: of the page that figures with one panel span; those with two always span both.

    Returns:
        The files.
    """
    metric, keys = question.metric, views.varying_keys(table)
    groups, note = few_groups(table, question.by, metric, higher=question.higher)
    figures: dict[str, Figure] = {}
    over = views.course_of(metric)
    if curves := views.curves(table, groups, over):
        figures["curves"] = draw_curves(curves, over, columns, note)
    found = views.effects(table, metric, keys)
    pairs = views.key_pairs(found, keys, question.by)
    for x, y in pairs:
        name = f"heatmap_{x}_{y}".replace(".", "_")
        figures[name] = draw_heatmap(views.heatmap(table, x, y, metric), columns)
    if (each := views.parallel(table, metric, keys)) is not None:
        figures["parallel"] = draw_parallel(each)
    if found is not None:
        figures["effects"] = draw_effects(found)
    quantities = views.profiles(table, groups, [q for _, q, _ in views.DEPTH_FIGURES.values()])
    for name, (_, quantity, label) in views.DEPTH_FIGURES.items():
        if quantities[quantity]:
            figures[name] = draw_profiles(quantities[quantity], label)
    if curves and pairs and quantities["grad_preactivation"]:
        means = views.heatmap(table, *pairs[0], metric)
        figures["overview"] = draw_overview(curves, means, quantities["grad_preactivation"], over)
    if (both := views.foretold(table, groups)) is not None:
        figures["foretold"] = draw_foretold(both, columns)
    figures |= correction_figures(shifted_runs(table), metric.rpartition("/")[2], WIDTHS[2])
    return [path for name, figure in figures.items() for path in save(figure, folder, name, KINDS)]


@style(small=True)
def draw_curves(
    curves: Sequence[Curve], metric: str, columns: Columns = 1, note: str = ""
) -> "Figure":
    """Learning curves with the interval of the mean.

    Args:
        curves: of the groups.
        metric: their metric's name.
        columns: of the page that the figure spans.
        note: on which groups they are.
    """
    figure, axes = _figure(columns, 2.4)
    _draw_curves(axes, curves, metric)
    _legend(figure, axes, columns)
    counts = sorted({curve.runs for curve in curves})
    if counts and counts[-1] > 1:
        text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        axes.set_title(f"mean and {LEVEL:.0%} interval, {text} runs each")
    if note:
        axes.set_title("\n".join(filter(None, (axes.get_title(loc="left"), note))))
    return figure


@style(small=True)
def draw_heatmap(shown: Heatmap, columns: Columns = 1) -> "Figure":
    """The mean of a metric over two keys, each cell with its number."""
    figure, axes = _figure(columns, 0.9 + min(0.36 * max(len(shown.y_levels), 2), 4.4))
    _draw_heatmap(axes, shown)
    return figure


@style(small=True)
def draw_profiles(shown: Sequence[Profile], label: str, columns: Columns = 2) -> "Figure":
    """A quantity against depth, at the first and at the last record, one line a group; theory's dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTHS[columns], 2.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_profiles(left, shown, last=False)
    _draw_profiles(right, shown, last=True)
    left.set(title="first record", ylabel=label)
    right.set(title="last record")
    _legend(figure, left, columns)
    return figure


@style(small=True)
def draw_overview(
    curves: Sequence[Curve], means: Heatmap, profiles: Sequence[Profile], over: str
) -> "Figure":
    """Means over two keys, gradients against depth before training with theory's forecast, and learning curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTHS[2], 3.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
    _draw_heatmap(left, means)
    left.set_title(f"mean {plain(means.metric)}")
    left.images[0].colorbar.set_label("")
    _draw_profiles(middle, profiles, last=False)
    middle.set_title("gradient norm before training")
    _draw_curves(right, curves, over)
    right.set(title=plain(over), ylabel="")
    _legend(figure, middle, 2)
    return figure


def _draw_curves(axes: "Axes", curves: Sequence[Curve], metric: str) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    for curve in curves:
        colour = COLOURS[curve.place % len(COLOURS)]
        epoch_E = np.arange(1, len(curve.mean_E) + 1)
        point = "o" if len(epoch_E) == 1 else None
        axes.plot(
            epoch_E,
            curve.mean_E,
            color=colour,
            lw=1.4,
            marker=point,
            ms=4,
            label=plain(curve.group),
        )
        if curve.runs > 1:
            axes.fill_between(epoch_E, curve.low_E, curve.high_E, color=colour, alpha=0.18, lw=0)
    axes.set(xlabel="epoch", ylabel=plain(metric))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    _focus(axes, curves)


def _draw_heatmap(axes: "Axes", shown: Heatmap) -> None:
    import numpy as np

    rows = len(shown.y_levels)
    image = axes.imshow(shown.mean_YX, cmap="cividis", aspect="auto")
    axes.set_xticks(range(len(shown.x_levels)), [*map(plain, shown.x_levels)])
    axes.set_yticks(range(rows), [*map(plain, shown.y_levels)])
    axes.set(xlabel=plain(shown.x_key), ylabel=plain(shown.y_key))
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if rows * len(shown.x_levels) <= _MOST_NUMBERS:
        rgba = image.to_rgba(shown.mean_YX)
        for y, x in np.ndindex(shown.mean_YX.shape):
            value = float(shown.mean_YX[y, x])
            text = _number(value) if np.isfinite(value) else "–"
            dark = np.isfinite(value) and np.mean(rgba[y, x, :3]) < 0.5
            colour = "white" if dark else INK
            axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=7.5)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, fraction=0.06)
    bar.outline.set_visible(False)
    bar.set_label(plain(shown.metric))


def _draw_profiles(axes: "Axes", shown: Sequence[Profile], *, last: bool) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    for profile in shown:
        colour = COLOURS[profile.place % len(COLOURS)]
        value_L = profile.last_L if last else profile.first_L
        usable_L = np.where((value_L > 1e-300) & (value_L < 1e200), value_L, np.nan)
        layer_L = np.arange(1, len(value_L) + 1)
        axes.plot(layer_L, usable_L, color=colour, lw=1.4, label=plain(profile.group))
        if profile.theory_L is not None and not last:
            axes.plot(layer_L, profile.theory_L, color=INK, lw=0.9, ls=_DASHES, zorder=4)
    axes.set(xlabel="layer", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.set_ylim((low * high) ** 0.5 / 10, (low * high) ** 0.5 * 10)
    if not last and any(profile.theory_L is not None for profile in shown):
        axes.plot([], [], color=INK, lw=0.9, ls=_DASHES, label="theory")


@style(small=True)
def draw_foretold(shown: Foretold, columns: Columns = 1) -> "Figure":
    """Slopes that theory foretold against those measured at the first step."""
    import numpy as np

    figure, axes = _figure(columns, 3.4)
    both = np.concatenate([shown.slope_N, shown.measured_N, [0.0]])
    margin = 0.06 * (both.max() - both.min()) or 0.01
    ends = (both.min() - margin, both.max() + margin)
    axes.plot(ends, ends, color=MUTED, lw=0.8)
    for index, name in enumerate(shown.groups):
        colour = COLOURS[index % len(COLOURS)]
        rows = shown.group_N == index
        if rows.any():
            axes.plot(
                shown.slope_N[rows],
                shown.measured_N[rows],
                "o",
                color=colour,
                ms=3.5,
                label=plain(name),
            )
    axes.grid(True)
    axes.set(xlim=ends, ylim=ends, xlabel="foretold", ylabel="measured", aspect="equal")
    axes.set_title("slope of log10 gradient norm a layer")
    _legend(figure, axes, columns)
    return figure


@style(small=True)
def draw_parallel(shown: Parallel, columns: Columns = 2) -> "Figure":
    """Every run as a line through its levels, coloured by its metric."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.collections import LineCollection

    figure, axes = _figure(columns, 2.6)
    factors, value_N = shown.factors, shown.value_N
    low, high = float(value_N.min()), float(value_N.max())
    spread = high - low or 1.0
    places = [f.code_N / max(len(f.levels) - 1, 1) for f in factors] + [(value_N - low) / spread]
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, (len(value_N), len(factors)))
    y_ND = np.stack(places, 1)
    y_ND[:, :-1] += jitter
    x_D = np.arange(len(places))
    lines = LineCollection(
        [np.column_stack([x_D, y_D]) for y_D in y_ND],
        array=value_N,
        cmap=mpl.colormaps["cividis"],
        lw=0.8,
        alpha=0.7,
    )
    axes.add_collection(lines)
    for d, each in enumerate(factors):
        axes.axvline(d, color=MUTED, lw=0.6)
        for code, level in enumerate(each.levels):
            axes.annotate(
                plain(level),
                (d, code / max(len(each.levels) - 1, 1)),
                xytext=(3, 2),
                textcoords="offset points",
                fontsize=7.5,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
            )
    axes.set_xlim(-0.1, len(factors) + 0.02)
    axes.set_ylim(-0.06, 1.08)
    axes.set_xticks(x_D, [plain(name) for name in (*(f.name for f in factors), shown.metric)])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    bar = figure.colorbar(lines, ax=axes, pad=0.01, fraction=0.05)
    bar.outline.set_visible(False)
    return figure


@style(small=True)
def draw_effects(shown: Effects, columns: Columns = 2) -> "Figure":
    """Left: what each key explains of the metric's variance. Right: the tree of splits, each leaf with its runs."""
    from matplotlib.figure import Figure

    leaves = len(shown.tree.leaves())
    figure = Figure(figsize=(WIDTHS[columns], max(2.0, 0.6 + 0.24 * leaves)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 2.1])
    draw_shares(left, shown)
    draw_tree(right, shown)
    return figure


def _figure(columns: Columns, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTHS[columns], height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(figure: "Figure", axes: "Axes", columns: Columns) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    across = {1: 2, 2: 4}[columns] if max(map(len, labels)) < 22 else columns
    across = min(across, len(labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=across, handlelength=1.5)
    # The first row has its place; further ones would take it from the panels.
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LEGEND_ROW * (-(-len(labels) // across) - 1))


def _focus(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Room for the means; bands of few runs may be far wider than what there is to see."""
    import numpy as np

    means = np.concatenate([c.mean_E for c in curves]) if curves else np.zeros(1)
    means = means[np.isfinite(means)]
    if not len(means):
        return
    low, high = float(means.min()), float(means.max())
    room = 0.35 * (high - low) or 0.1 * abs(high) or 0.1
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low - room), min(top, high + room))


def _number(value: float) -> str:
    """Three digits, without the zero before the point."""
    if 0.001 <= value < 0.9995:
        return f"{value:.3f}".lstrip("0")
    return f"{value:#.3g}".removesuffix(".") if 0.9995 <= abs(value) < 999.5 else f"{value:.3g}"
