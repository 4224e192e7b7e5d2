r"""The figure of a forecast: the maps of lengths and correlations, and the phase diagram with the network on it.

Shape suffixes: L layers, W values of sigma_w, S values of sigma_b, Q lengths.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.errors import ConfigError
from unitgain.report._style import INK, MUTED, save, style
from unitgain.spec import RunSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unitgain.forecast import Forecast
    from unitgain.theory.mean_field import MeanField
    from unitgain.theory.plane import Plane

_LINE, _POINT = "#31688e", "#d1495b"
_STEEPEST = 0.3
"""Decades a layer from which the phase diagram has its full colour."""

_FARTHEST = 20.0
"""The largest sigma_w that the plane reaches to for the sake of a critical point."""

_PANEL, _HEIGHT, _PITCH, _LEFT, _BOTTOM = 3.05, 2.85, 4.0, 0.75, 0.68  # inches


def forecast_figure(spec: RunSpec, path: Path) -> Path:
    """Draw the forecast of a configuration.

    Args:
        spec: the configuration.
        path: where to, ending in .png or .svg.
    """
    save(draw_forecast(spec), path.parent, path.stem, (path.suffix.lstrip("."),))
    return path


@style()
def draw_forecast(spec: RunSpec) -> "Figure":
    """The figure of `forecast_figure`, not yet on disk.

    Left to right: the length map with its path to q*; the correlation map at q*, with that of two inputs that have
    nothing in common; the plane of sigma_w and sigma_b, coloured by the decades a layer of the gradient's norm.
    Networks with a norm or residual branches have no such maps: lengths, correlations and gradients by layer.
    """
    from unitgain.forecast import forecast_of, maps_of

    forecast, maps = forecast_of(spec), maps_of(spec)
    figure, axes = _layout(forecast, wide=maps is not None)
    if maps is None:
        _draw_layers(axes, forecast)
    else:
        _draw_length_map(axes[0], maps, forecast)
        _draw_correlation_map(axes[1], maps)
        _draw_plane(figure, axes[2], maps, forecast)
    return figure


def _layout(forecast: "Forecast", *, wide: bool) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    from unitgain.forecast import sentence

    size = (3 * _PITCH + (0.7 if wide else 0.0), _BOTTOM + _HEIGHT + 0.78)
    figure = Figure(figsize=size)
    axes = [
        figure.add_axes(
            (
                (_LEFT + panel * _PITCH) / size[0],
                _BOTTOM / size[1],
                _PANEL / size[0],
                _HEIGHT / size[1],
            )
        )
        for panel in range(3)
    ]
    left, top = 0.15 / size[0], 1 - 0.12 / size[1]
    text = sentence(forecast)
    figure.text(
        left,
        top,
        f"{text[:1].upper()}{text[1:]} ({forecast.name})",
        verticalalignment="top",
        fontsize=11,
        fontweight="bold",
        parse_math=False,
    )
    return figure, axes


def _draw_length_map(axes: "Axes", maps: "MeanField", forecast: "Forecast") -> None:
    import numpy as np

    q_1 = forecast.q_L[0]
    known = [q for q in (q_1, maps.q_star, *forecast.q_L[:-1]) if 1e-6 < q < 1e6] or [1.0]
    low, high = min(known) / 4, max(known) * 4
    q_Q = np.geomspace(low, high, 200)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot(q_Q, q_Q, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)))
    axes.plot(q_Q, maps.length_map(q_Q), color=_LINE, linewidth=1.8)
    _staircase(axes, [min(max(q, low), high) for q in forecast.q_L[:-1]])
    if low < maps.q_star < high:
        _mark(axes, maps.q_star, maps.q_star)
        _note(axes, f"$q^*$ = {maps.q_star:.3g}")
    else:
        _note(axes, "$q^* = 0$" if maps.q_star <= low else "$q$ grows without end")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_title("Length map", pad=8)
    axes.set_xlabel("variance of pre-activations, layer $l$")
    axes.set_ylabel("layer $l + 1$")


def _draw_correlation_map(axes: "Axes", maps: "MeanField") -> None:
    import numpy as np

    c = np.concatenate([np.linspace(0, 0.9, 19), [0.93, 0.96, 0.98, 0.99, 0.995, 1.0]])
    mapped = maps.correlation_map(c)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)))
    axes.plot(c, mapped, color=_LINE, linewidth=1.8)
    path = [0.0]
    for _ in range(200):
        path.append(float(np.interp(path[-1], c, mapped)))
        if abs(path[-1] - path[-2]) < 1e-4:
            break
    _staircase(axes, path)
    _mark(axes, maps.c_star, maps.c_star)
    settles = "" if math.isinf(maps.xi_c) else rf", $\xi_c$ = {maps.xi_c:.3g} layers"
    _note(axes, f"$c^*$ = {maps.c_star:.3g}{settles}", low=True)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_title("Correlation map", pad=8)
    axes.set_xlabel("correlation of two inputs, layer $l$")
    axes.set_ylabel("layer $l + 1$")


def _draw_plane(figure: "Figure", axes: "Axes", maps: "MeanField", forecast: "Forecast") -> None:
    import numpy as np
    from matplotlib.colors import Normalize

    from unitgain.theory.plane import plane

    of_plane = plane(maps.activation, maps.keep, _reach(maps), maps.q_0)
    norm = Normalize(-_STEEPEST, _STEEPEST)
    mesh = axes.pcolormesh(
        of_plane.sigma_w_W,
        of_plane.sigma_b_S,
        of_plane.slope_SW,
        cmap="RdBu_r",
        norm=norm,
        shading="gouraud",
        rasterized=True,
    )
    _depth_lines(axes, of_plane, forecast)
    _mark(axes, maps.sigma_w, maps.sigma_b, size=8.0, edge=1.5)
    axes.grid(False)
    axes.set_xlim(of_plane.sigma_w_W[0], of_plane.sigma_w_W[-1])
    axes.set_ylim(of_plane.sigma_b_S[0], of_plane.sigma_b_S[-1])
    axes.set_title("Phase diagram", pad=8)
    axes.set_xlabel(r"$\sigma_w$")
    axes.set_ylabel(r"$\sigma_b$")
    size = figure.get_size_inches()
    place = axes.get_position()
    bar_axes = figure.add_axes((place.x1 + 0.12 / size[0], place.y0, 0.11 / size[0], place.height))
    bar = figure.colorbar(mesh, cax=bar_axes, ticks=np.linspace(-_STEEPEST, _STEEPEST, 5))
    bar.outline.set_visible(False)
    bar_axes.tick_params(length=0)
    bar_axes.set_ylabel("decades a layer, towards the input")


def _reach(maps: "MeanField") -> tuple[float, float]:
    """As far as to hold the network and the critical point with its biases."""
    from unitgain.theory.criticality import critical_sigma_w

    sigma_w = max(2.5, 1.3 * maps.sigma_w)
    try:
        point = critical_sigma_w(maps.activation, maps.sigma_b, maps.keep)
        sigma_w = max(sigma_w, min(1.3 * point.sigma_w, _FARTHEST))
    except ConfigError:
        pass
    return sigma_w, max(1.0, 1.3 * maps.sigma_b)


def _depth_lines(axes: "Axes", of_plane: "Plane", forecast: "Forecast") -> None:
    """The critical line, and where as many layers as the network has are the most that keep healthy."""
    from unitgain.theory.bands import HEALTHY_DECADES

    grid = (of_plane.sigma_w_W, of_plane.sigma_b_S, of_plane.slope_SW)
    slope_SW = of_plane.slope_SW
    if slope_SW.min() < 0 < slope_SW.max():
        axes.contour(*grid, levels=[0.0], colors=[INK], linewidths=1.6)
    edge = HEALTHY_DECADES / max(forecast.hidden - 1, 1)
    levels = [level for level in (-edge, edge) if slope_SW.min() < level < slope_SW.max()]
    if levels:
        axes.contour(*grid, levels=levels, colors=[INK], linewidths=1.0, linestyles="dashed")
    axes.plot([], [], color=INK, linewidth=1.6, label="critical")
    axes.plot(
        [],
        [],
        color=INK,
        linewidth=1.0,
        linestyle="dashed",
        label=f"healthy to {forecast.hidden} layers",
    )
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.28, 1.0),
        ncols=2,
        handlelength=1.6,
        columnspacing=1.0,
        borderaxespad=0.3,
    )


def _draw_layers(axes: "list[Axes]", forecast: "Forecast") -> None:
    """Lengths, correlations and gradients against depth."""
    panels = (
        ("Lengths", "mean square of pre-activations", forecast.q_L),
        ("Correlations", "of two inputs that have nothing in common", forecast.correlation_L),
        (
            "Gradient",
            "norm over that at the output layer",
            tuple(10.0 ** min(g, 300.0) for g in forecast.log10_gradient_L),
        ),
    )
    for panel, (title, label, values) in zip(axes, panels, strict=True):
        layers = range(1, len(values) + 1)
        panel.plot(layers, values, color=_LINE, linewidth=1.8, marker="o", markersize=2.4)
        if title != "Correlations":
            panel.set_yscale("log")
            _widen(panel, values)
        else:
            panel.set_ylim(-0.03, 1.03)
        panel.set_title(title, pad=8)
        panel.set_ylabel(label)
        panel.set_xlabel("layer, from the input to the output")


def _widen(axes: "Axes", values: tuple[float, ...]) -> None:
    """At least two decades: what hardly changes shall look so."""
    finite = [v for v in values if 0 < v < math.inf]
    if not finite:
        return
    low, high = math.log10(min(finite)), math.log10(max(finite))
    more = max(0.06 * (high - low), (2 - (high - low)) / 2)
    axes.set_ylim(10 ** max(low - more, -300), 10 ** min(high + more, 300))


def _staircase(axes: "Axes", values: "list[float]") -> None:
    """The path from layer to layer between a map and the diagonal."""
    x, y = [values[0]], [values[0]]
    for before, after in pairwise(values):
        x += [before, after]
        y += [after, after]
    axes.plot(x, y, color=_POINT, linewidth=0.9, alpha=0.8)


def _mark(axes: "Axes", x: float, y: float, *, size: float = 6.5, edge: float = 1.2) -> None:
    """A point with a white edge, their sizes in typographic points."""
    axes.plot(
        x,
        y,
        marker="o",
        markersize=size,
        markerfacecolor=_POINT,
        markeredgecolor="white",
        markeredgewidth=edge,
        zorder=5,
        clip_on=False,
    )


def _note(axes: "Axes", text: str, *, low: bool = False) -> None:
    axes.text(
        0.96 if low else 0.04,
        0.04 if low else 0.96,
        text,
        transform=axes.transAxes,
        horizontalalignment="right" if low else "left",
        verticalalignment="bottom" if low else "top",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )
