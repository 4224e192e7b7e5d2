"""The same figures as in a paper, to hover over and zoom into: plotly, with colours that suit light and dark pages.

Every text of a run's is escaped, since plotly reads some HTML in labels.
"""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unitgain.report._style import COLOURS
from unitgain.report.calibration import curve_look, curve_name
from unitgain.report.run_groups import named
from unitgain.report.views import Curve, Effects, Foretold, Heatmap, Parallel, Profile

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from unitgain.report.calibration import Curves
    from unitgain.stats.effects import EffectNode

_LEGEND = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0}
_BINS = 12
"""Colours of the lines in parallel coordinates; one line a colour keeps a page of many runs quick."""

_CLEAR = "rgba(0,0,0,0)"
_SYMBOLS, _DASHES = ("circle", "triangle-up", "square"), ("dash", "dot", "solid")


def plot_curves(curves: Sequence[Curve], metric: str) -> "Figure":
    """Learning curves with the interval of the mean."""
    import plotly.graph_objects as go

    figure = _figure()
    for curve in curves:
        colour, name = _colour(curve.place), _text(curve.group)
        epochs = list(range(1, len(curve.mean_E) + 1))
        if curve.runs > 1:
            figure.add_trace(
                go.Scatter(
                    x=epochs + epochs[::-1],
                    y=_plain([*curve.high_E, *curve.low_E[::-1]]),
                    fill="toself",
                    fillcolor=_faint(colour),
                    # Of few points plotly would draw each.
                    mode="lines",
                    line={"width": 0},
                    hoverinfo="skip",
                    legendgroup=name,
                    showlegend=False,
                )
            )
        figure.add_trace(
            go.Scatter(
                x=epochs,
                y=_plain(curve.mean_E),
                name=name,
                legendgroup=name,
                mode="lines" if len(epochs) > 1 else "markers",
                line={"color": colour},
                hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.4g}}<br>{curve.runs} runs<extra></extra>",
            )
        )
    figure.update_layout(xaxis_title="epoch", yaxis_title=_text(metric), legend=_LEGEND)
    figure.update_xaxes(_whole(max((len(curve.mean_E) for curve in curves), default=1)))
    return figure


def plot_heatmap(shown: Heatmap) -> "Figure":
    """The mean of a metric over two keys."""
    import plotly.graph_objects as go

    figure = _figure()
    figure.add_trace(
        go.Heatmap(
            z=[_plain(row) for row in shown.mean_YX],
            x=[_text(level) for level in shown.x_levels],
            y=[_text(level) for level in shown.y_levels],
            customdata=shown.count_YX.tolist(),
            colorscale="Cividis",
            colorbar={"title": _text(shown.metric), "outlinewidth": 0},
            texttemplate="%{z:.3g}",
            hovertemplate=f"{_text(shown.x_key)} %{{x}}<br>{_text(shown.y_key)} %{{y}}<br>"
            "mean %{z:.4g} of %{customdata} runs<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis={"title": _text(shown.x_key), "type": "category"},
        yaxis={"title": _text(shown.y_key), "type": "category", "autorange": "reversed"},
    )
    return figure


def plot_profiles(shown: Sequence[Profile], label: str) -> "Figure":
    """A quantity against depth at the first and the last record, theory dashed."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=("first record", "last record"),
    )
    figure.update_layout(_figure().layout)
    for profile in shown:
        name, lines = (
            _text(profile.group),
            [(1, profile.first_L, "solid"), (2, profile.last_L, "solid")],
        )
        if profile.theory_L is not None:
            lines.append((1, profile.theory_L, "dot"))
        for at, (column, value_L, dash) in enumerate(lines):
            what = "theory" if dash == "dot" else "median"
            figure.add_trace(
                go.Scatter(
                    x=list(range(1, len(value_L) + 1)),
                    y=[v if v is not None and v > 0 else None for v in _plain(value_L)],
                    name=name,
                    legendgroup=name,
                    showlegend=at == 0,
                    mode="lines",
                    line={"color": _colour(profile.place), "dash": dash},
                    hovertemplate=f"{name}, {what}<br>layer %{{x}}: %{{y:.3g}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    layers = max((len(profile.first_L) for profile in shown), default=1)
    figure.update_xaxes(title="layer", **_whole(layers))
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_layout(yaxis_title=label, legend=_LEGEND)
    return figure


def plot_foretold(shown: Foretold) -> "Figure":
    """Slopes that theory foretold against measured ones."""
    import plotly.graph_objects as go

    figure = _figure()
    ends = [float(min(shown.slope_N.min(), shown.measured_N.min(), 0))]
    ends.append(float(max(shown.slope_N.max(), shown.measured_N.max(), 0)))
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"color": "#888", "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for index, group in enumerate(shown.groups):
        rows = shown.group_N == index
        if rows.any():
            figure.add_trace(
                go.Scatter(
                    x=_plain(shown.slope_N[rows]),
                    y=_plain(shown.measured_N[rows]),
                    mode="markers",
                    name=_text(group),
                    marker={"color": _colour(index)},
                    hovertemplate=f"{_text(group)}<br>foretold %{{x:.3f}}, measured %{{y:.3f}}<extra></extra>",
                )
            )
    figure.update_layout(xaxis_title="foretold slope", yaxis_title="measured slope", legend=_LEGEND)
    return figure


def plot_effects(shown: Effects) -> "Figure":
    """The tree of effects: each box a group of runs, its size their number, its colour their mean."""
    import plotly.graph_objects as go

    nodes = list(_walk(shown.tree, "all runs", ""))
    figure = _figure()
    figure.add_trace(
        go.Icicle(
            ids=[identity for identity, _, _, _ in nodes],
            labels=[_text(label) for _, label, _, _ in nodes],
            parents=[parent for _, _, parent, _ in nodes],
            values=[len(node.rows) for _, _, _, node in nodes],
            branchvalues="total",
            sort=False,
            marker={
                "colors": [node.mean for _, _, _, node in nodes],
                "colorscale": "Cividis",
                "colorbar": {"title": _text(shown.metric), "outlinewidth": 0},
            },
            customdata=[
                [
                    node.mean,
                    f"split by {_text(node.factor)}: {node.share:.0%} of all variance"
                    if node.factor
                    else "",
                ]
                for _, _, _, node in nodes
            ],
            texttemplate="%{label}<br>%{customdata[0]:.3g}",
            hovertemplate="%{label}: %{value} runs, mean %{customdata[0]:.4g}<br>%{customdata[1]}<extra></extra>",
        )
    )
    return figure


def plot_parallel(shown: Parallel) -> "Figure":
    """Every run as a line through its levels, coloured by its metric.

    Drawn as lines and not as plotly's own parallel coordinates, which need WebGL.
    """
    import numpy as np
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    value_N = shown.value_N
    low, spread = float(value_N.min()), float(np.ptp(value_N)) or 1.0
    height_N = (value_N - low) / spread
    places = [f.code_N / max(len(f.levels) - 1, 1) for f in shown.factors]
    jitter = np.random.default_rng(0).uniform(-0.015, 0.015, (len(value_N), len(places)))
    y_ND = np.column_stack([np.stack(places, 1) + jitter, height_N])
    x = [*range(len(places) + 1), None]
    bin_N = np.minimum((height_N * _BINS).astype(int), _BINS - 1)
    colours = sample_colorscale("Cividis", np.linspace(0, 1, _BINS).tolist())
    figure = _figure()
    for each in range(_BINS):
        lines = y_ND[bin_N == each]
        if not len(lines):
            continue
        numbers = value_N[bin_N == each]
        figure.add_trace(
            go.Scatter(
                x=x * len(lines),
                y=[v for y_D in lines for v in (*_plain(y_D), None)],
                mode="lines",
                line={"color": colours[each], "width": 1},
                opacity=0.7,
                name=f"{numbers.min():.3g} to {numbers.max():.3g}",
                hovertemplate=f"{_text(shown.metric)} %{{fullData.name}}<extra></extra>",
                showlegend=False,
            )
        )
    for d, factor in enumerate(shown.factors):
        for code, level in enumerate(factor.levels):
            y = code / max(len(factor.levels) - 1, 1)
            text = _text(level)
            figure.add_annotation(x=d, y=y, text=text, showarrow=False, xanchor="left", yshift=9)
    for y in (0.0, 0.5, 1.0):
        text = f"{low + y * spread:.3g}"
        figure.add_annotation(
            x=len(places), y=y, text=text, showarrow=False, xanchor="left", xshift=4
        )
    names = [_text(name) for name in (*(f.name for f in shown.factors), shown.metric)]
    figure.update_layout(
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [-0.05, len(places) + 0.2],
        },
        yaxis={"visible": False, "range": [-0.08, 1.12]},
    )
    return figure


def plot_calibration(curves: "Curves") -> "Figure":
    """Accuracy against confidence; each marker's area is the share of the rows in its bin."""
    import plotly.graph_objects as go

    figure = _figure()
    low = min(b["confidence"] for curve in curves for b in curve["bins"])
    figure.add_trace(
        go.Scatter(
            x=[low, 1],
            y=[low, 1],
            mode="lines",
            line={"color": "#888", "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for curve, symbol, dash in zip(curves, _SYMBOLS, _DASHES, strict=False):
        x, y, share = (
            [row[key] for row in curve["bins"]] for key in ("confidence", "accuracy", "share")
        )
        name = _text(curve_name(curve))
        figure.add_trace(
            go.Scatter(
                x=_plain(x),
                y=_plain(y),
                name=f"{name}: error {curve['ece']:.3f}",
                customdata=_plain(share),
                mode="lines+markers",
                line={"color": curve_look(curve)[0], "dash": dash},
                marker={"symbol": symbol, "size": [6 + 16 * s**0.5 for s in share]},
                hovertemplate=f"{name}<br>confidence %{{x:.3f}}, accuracy %{{y:.3f}}<br>"
                "%{customdata:.1%} of its rows<extra></extra>",
            )
        )
    figure.update_layout(xaxis_title="confidence", yaxis_title="accuracy", legend=_LEGEND)
    return figure


def plot_balance(rows: Sequence[tuple[str, float, float]]) -> "Figure":
    """Standardised differences of means before and after weighting, a feature a row."""
    import plotly.graph_objects as go

    names = [_text(name) for name, _, _ in rows]
    figure = _figure()
    for at, (what, symbol) in enumerate(
        (("before weighting", "circle-open"), ("after", "circle")), 1
    ):
        figure.add_trace(
            go.Scatter(
                x=_plain([row[at] for row in rows]),
                y=names,
                name=what,
                mode="markers",
                marker={"symbol": symbol, "size": 10, "color": COLOURS[0]},
                hovertemplate=f"%{{y}}<br>%{{x:+.3f}} {what}<extra></extra>",
            )
        )
    figure.update_layout(
        xaxis_title="standard deviations, target less source",
        yaxis={"type": "category", "autorange": "reversed", "automargin": True},
        legend=_LEGEND,
    )
    return figure


def _figure() -> "Figure":
    import plotly.graph_objects as go

    layout: dict[str, Any] = {
        "template": "none",
        "xaxis": {"showgrid": True},
        "yaxis": {"showgrid": True},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "margin": {"t": 30, "l": 60, "r": 20, "b": 50},
        "height": 420,
        "hoverlabel": {"align": "left"},
        "colorway": list(COLOURS),
    }
    return go.Figure(layout=layout)


def _walk(node: "EffectNode", label: str, parent: str) -> "list[tuple[str, str, str, EffectNode]]":
    """Identity, label, parent and node, from the root down."""
    identity = f"{parent}/{label}" if parent else label
    below = [
        each
        for child in node.children
        for each in _walk(child, named([node.factor or ""], [child.condition]), identity)
    ]
    return [(identity, label, parent, node), *below]


def _whole(last: int) -> dict[str, int]:
    """Ticks at whole numbers alone, eight at most, from 1."""
    return {"tick0": 1, "dtick": max(1, -(-last // 8))}


def _plain(values: Any) -> list[float | None]:
    """Numbers for JSON, to six digits, with null for what isn't finite."""
    return [float(f"{v:.6g}") if abs(v) < float("inf") else None for v in map(float, values)]


def _text(text: str) -> str:
    return html.escape(text)


def _colour(index: int) -> str:
    """Black would vanish on a dark page."""
    colour = COLOURS[index % len(COLOURS)]
    return "#8c564b" if colour == "#000000" else colour


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
