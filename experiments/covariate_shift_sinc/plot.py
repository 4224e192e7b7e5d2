"""From the runs to the numbers and the figure: the exponent of importance weights against the target's excess risk.

Shapes: N rows, S seeds, E exponents, Q quadrature nodes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.data import Prepared, open_data
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory
from unitgain.shift import select_exponent
from unitgain.spec import parse
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.train.checkpoint import read_checkpoint

Array = NDArray[np.float64]
SOURCE, TARGET, NOISE = (1.0, 0.5), (2.0, 0.25), 0.25
"""Mean and standard deviation of x, and the standard deviation of the noise: those of sinc_shift."""
NODE_Q, _SHARE_Q = np.polynomial.hermite_e.hermegauss(80)
SHARE_Q: Array = _SHARE_Q / _SHARE_Q.sum()
LINE, TANH = "Identity", "Tanh"
COLOURS = ("#c8553d", "#2f6f9f", "#5b8c5a")
INK, MUTED = "#262626", "#6b6b6b"


class Key(NamedTuple):
    """Which runs, each list of them in the order of seeds."""

    activation: str
    rows: int
    exponent: float


class Fit(NamedTuple):
    """A run.

    Args:
        table: its rows.
        excess: its target risk, less the least that its kind of model can have; with a line by least squares too.
    """

    table: Prepared
    excess: float
    by_least_squares: float


Fits = dict[Key, list[Fit]]


def design(x_N: Array) -> Array:
    """(N, 2) of a line."""
    return np.stack([np.ones_like(x_N), x_N], axis=1)


def between(exponent: float) -> tuple[Array, float]:
    """Nodes (Q,) of the Gaussian in proportion to source^(1 - exponent) target^exponent, and E_source[w^exponent]."""
    (m, s), (mu, sigma) = SOURCE, TARGET
    a, b = (1 - exponent) / s**2, exponent / sigma**2
    centre = (a * m + b * mu) / (a + b)
    log = (a + b) * centre**2 / 2 - a * m**2 / 2 - b * mu**2 / 2
    mass = np.exp(log) * s ** (exponent - 1) * sigma**-exponent / np.sqrt(a + b)
    return centre + NODE_Q / np.sqrt(a + b), float(mass)


def best_line(exponent: float) -> tuple[Array, Array]:
    """The line that weights w^exponent lead to with unlimited rows, and the second moments of its design."""
    x_Q, mass = between(exponent)
    weighted = design(x_Q) * (mass * SHARE_Q)[:, None]
    moments = weighted.T @ design(x_Q)
    return np.linalg.solve(moments, weighted.T @ np.sinc(x_Q)), moments


def risk(predicted_Q: Array) -> float:
    """E_target of the squared distance to sinc, of predictions at ``between(1)``."""
    return float(SHARE_Q @ (predicted_Q - np.sinc(between(1)[0])) ** 2)


def line_theory(exponent: float, rows: int) -> tuple[float, float]:
    """The mean excess target risk of the weighted line: with unlimited rows, and what the number of rows adds.

    To the order of 1 / rows: the line's variance, by the sandwich formula, and its bias.
    """
    line, moments = best_line(exponent)
    inverse = np.linalg.inv(moments)
    # Squared weights: E_source[w^(2 exponent) f] is an average over another Gaussian.
    x_Q, mass = between(2 * exponent)
    Z_Q, residual_Q = design(x_Q), np.sinc(x_Q) - design(x_Q) @ line
    share_Q = mass * SHARE_Q
    scores = (Z_Q * (share_Q * (residual_Q**2 + NOISE**2))[:, None]).T @ Z_Q
    leverage_Q = np.einsum("qi,ij,qj->q", Z_Q, inverse, Z_Q)
    bias = -inverse @ (Z_Q * (share_Q * residual_Q * leverage_Q)[:, None]).sum(axis=0)
    target_line, curvature = best_line(1)
    away = line - target_line
    limit = float(away @ curvature @ away)
    variance = np.trace(curvature @ inverse @ scores @ inverse)
    return limit, float(variance + 2 * away @ curvature @ bias) / rows


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Excess risks beside theory, their ratios between exponents, and what cross-validation gains."""
    fits = _fits(results)
    sizes = sorted({key.rows for key in fits})
    small, middle, large = sizes[0], sizes[len(sizes) // 2], sizes[-1]
    fall = _excess(fits, LINE, middle, 0.0) - _excess(fits, LINE, middle, 1.0)
    plain, weighted = _validated(fits, middle)
    return {
        "none": float(_excess(fits, LINE, large, 0.0).mean()),
        "full": float(_excess(fits, LINE, large, 1.0).mean()),
        "fall_low": _mean(fall).low,
        "full_to_half_low": _ratio_low(fits, LINE, (small, middle), 0.5),
        "tanh_full_to_none_low": _ratio_low(fits, TANH, sizes, 0.0),
        "validation_low": _mean(plain - weighted).low,
        "unconverged": max(_unconverged(fits[key]) for key in fits if key.activation == LINE),
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: rows and lines. Middle: excess risk over the exponent. Right: by who chooses the exponent."""
    fits = _fits(results)
    figure = Figure(figsize=(11.4, 3.9), layout="constrained")
    first, line, tanh, last = figure.subplots(1, 4)
    sizes = sorted({key.rows for key in fits})
    _draw_rows(first, fits[Key(LINE, sizes[len(sizes) // 2], 0.0)][0].table)
    titles = (
        "A straight line (dashed: theory)",
        "A network that can bend",
        "The line; exponent by",
    )
    for axes, title in zip((line, tanh, last), titles, strict=True):
        axes.set_yscale("log")
        axes.set_ylim(1.2e-3, 0.6)
        axes.set_title(title)
    for rows, colour in zip(sizes, COLOURS, strict=False):
        _draw_risks(line, fits, LINE, rows, colour)
        _draw_risks(tanh, fits, TANH, rows, colour)
        full, half = (_excess(fits, LINE, rows, exponent) for exponent in (1.0, 0.5))
        values = [*_validated(fits, rows), full, half]
        _draw_intervals(last, range(4), values, color=colour, linestyle="")
    words = ("plain\nvalidation", "weighted\nvalidation", "always\n1", "always\n0.5")
    last.set_xticks(range(4), words, fontsize=7)
    last.set_xlim(-0.4, 3.4)
    line.set_ylabel("excess risk on the target")
    figure.legend(loc="outside lower center", ncols=8)
    figure.suptitle(
        "Weights mend a model that is too simple; half of them is best with few rows",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _draw_rows(axes: Axes, table: Prepared) -> None:
    """The rows of a seed, the function, and the lines that unlimited rows lead to."""
    raw, split = table.shifted.table, table.split
    axes.plot(raw.x[split.train], raw.y[split.train], ".", color="#b5b5b5", label="training")
    axes.plot(raw.x[split.test], raw.y[split.test], ".", color="#d9a441", label="target")
    grid = np.linspace(raw.x.min(), raw.x.max(), 200)
    axes.plot(grid, np.sinc(grid), color=INK, linewidth=1.3, label="sinc")
    for exponent, line in ((0.0, (0, (4, 2))), (1.0, "-")):
        values = design(grid) @ best_line(exponent)[0]
        axes.plot(grid, values, color="#8e5aa8", linestyle=line, label=f"best line, {exponent:g}")
    axes.set_ylim(-0.9, 1.6)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_title(f"{len(split.train)} training rows")


def _draw_risks(axes: Axes, fits: Fits, activation: str, rows: int, colour: str) -> None:
    """Excess risks over the exponent, and for a line theory's."""
    exponents = sorted({key.exponent for key in fits})
    values = [_excess(fits, activation, rows, exponent) for exponent in exponents]
    label = f"{rows} rows" if activation == LINE else "_"
    _draw_intervals(axes, exponents, values, color=colour, label=label)
    if activation == LINE:
        theory = [sum(line_theory(exponent, rows)) for exponent in exponents]
        axes.plot(exponents, theory, color=INK, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_xlabel("exponent of the weights")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])


def _draw_intervals(axes: Axes, at: Sequence[float], values: Sequence[Array], **look: str) -> None:
    """Means with their intervals."""
    found = [_mean(value_S) for value_S in values]
    mean = np.array([interval.value for interval in found])
    ends = np.array([(interval.low, interval.high) for interval in found]).T
    axes.errorbar(at, mean, np.abs(ends - mean), marker="o", markersize=4, **look)


def _fits(results: Sequence[Result]) -> Fits:
    tables: dict[tuple[int, int], Prepared] = {}
    floor = risk(design(between(1)[0]) @ best_line(1)[0])
    found: Fits = {}
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        drawn = (result.key("data.n_source"), result.key("seed"))
        if drawn not in tables:
            tables[drawn] = open_data(parse(result.config))
        table, exponent = tables[drawn], result.key("weighting.exponent")
        activation = result.key("activation._target_").rpartition(".")[2]
        line = _line(table, table.split.train, _weights(table) ** exponent)
        excess = risk(_predicted(result, table)) - (floor if activation == LINE else 0)
        fit = Fit(table, excess, risk(design(between(1)[0]) @ line) - floor)
        found.setdefault(Key(activation, len(table.split.train), exponent), []).append(fit)
    return found


def _predicted(result: Result, table: Prepared) -> Array:
    """(Q,) what the network of the last epoch says at the nodes of the target."""
    bend = np.tanh if result.key("activation._target_").endswith(TANH) else np.asarray
    state = read_checkpoint(RunDirectory(result.directory).last_checkpoint)["state_dict"]
    w_1, b_1, w_2, b_2 = (tensor.double().numpy() for tensor in state.values())
    x_Q1 = (between(1)[0][:, None] - table.encoder.center) / table.encoder.scale
    scaled_QT: Array = bend(x_Q1 @ w_1.T + b_1) @ w_2.T + b_2
    return scaled_QT[:, 0] * table.y_scale[0] + table.y_mean[0]


def _weights(table: Prepared) -> Array:
    assert table.importance is not None
    return table.importance.full_N[table.split.train]


def _line(table: Prepared, rows: Array, weight_N: Array) -> Array:
    """The weighted least-squares line of rows of the table."""
    raw, root_N = table.shifted.table, np.sqrt(weight_N)
    scaled = design(raw.x[rows, 0]) * root_N[:, None]
    return np.linalg.lstsq(scaled, raw.y[rows, 0] * root_N, rcond=None)[0]


def _validated(fits: Fits, rows: int) -> tuple[Array, Array]:
    """(S,) excess risks of lines with the exponent that validation chooses: plain, and importance-weighted."""
    exponents = tuple(sorted({key.exponent for key in fits}))
    found = []
    for seed, fit in enumerate(fits[Key(LINE, rows, 0.0)]):
        table, raw = fit.table, fit.table.shifted.table
        train = table.split.train

        def losses(kept, weight, scored, table=table, raw=raw, train=train):  # type: ignore[no-untyped-def]
            line, at = _line(table, train[kept], weight.numpy()), train[scored]
            return torch.from_numpy((raw.y[at, 0] - design(raw.x[at, 0]) @ line) ** 2)

        generator = torch.Generator().manual_seed(seed)
        weight_N = torch.from_numpy(_weights(table))
        selection = select_exponent(losses, weight_N, generator, exponents=exponents)
        plain = exponents[int(selection.loss_EN.mean(dim=1).argmin())]
        found.append([fits[Key(LINE, rows, e)][seed].excess for e in (plain, selection.exponent)])
    plain_S, weighted_S = np.array(found).T
    return plain_S, weighted_S


def _excess(fits: Fits, *key: object) -> Array:
    return np.array([fit.excess for fit in fits[Key(*key)]])  # type: ignore[arg-type]


def _ratio_low(fits: Fits, activation: str, sizes: Sequence[int], other: float) -> float:
    """Excess risk with full weights over that with others, geometric mean: lower end of its interval."""
    full, less = (
        np.concatenate([_excess(fits, activation, rows, exponent) for rows in sizes])
        for exponent in (1.0, other)
    )
    return float(np.exp(_mean(np.log(full / less)).low))


def _unconverged(fits: Sequence[Fit]) -> float:
    """How far networks without an activation are from the least-squares line, as a share of their excess risk."""
    excess, exact = np.array([(fit.excess, fit.by_least_squares) for fit in fits]).T
    return float(np.abs(excess - exact).mean() / exact.mean())


def _mean(values_S: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values_S, np.random.default_rng(0))
