"""From the kept models to the numbers and the figure: what monitors see of other labels and of other people.

Shapes: B rows of a stream, N rows of the table, S seeds, D features.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import binomtest

from unitgain.data.streams import feedback_stream
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.shift import SequentialTest
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.train.evaluate import opened
from unitgain.train.monitor import RunMonitor

Array = NDArray[np.float64]

ALPHA, JUMP, BETS = 0.05, 0.01, 3  # of the monitor
MOVE, MOVED = 0.5, "x1"  # standard deviations, and the feature that people move
TICKS = (10, 20, 50, 100, 200, 500, 1000)
TITLE = "Monitors of inputs don't see other labels, those of losses do; both see people who respond"
INPUTS, LOSSES, INK, MUTED = "#2f6f9f", "#c8553d", "#262626", "#6b6b6b"
SHADES = ("#e6b8a8", "#d98b74", "#c8553d", "#8f2d1a")


@dataclass(frozen=True)
class Seen:
    """What a monitor made of a stream: the evidence after each row, the row of the alarm, what was named."""

    log10: Array
    alarm: int | None
    named: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Watched:
    """The streams of one model, and its share of wrong answers on each.

    ``inputs`` are two streams of new rows; ``losses`` are of the first one with other labels, by strength; ``people``
    are the second one, responding to the model, as inputs and as losses.
    """

    inputs: tuple[Seen, Seen]
    losses: Mapping[float, Seen]
    before: float
    after: Mapping[float, float]
    people: tuple[Seen, Seen]
    people_after: float


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Alarms, how long they take beside theory, and what a model that changes its inputs does to itself."""
    seen = _watched(results)
    found = {
        "input_alarms": _share([each for one in seen for each in one.inputs]).value,
        "loss_false_alarms": _share([one.losses[0.0] for one in seen]).value,
        "loss_alarms": _share([one.losses[max(one.losses)] for one in seen]).value,
    }
    delays = {strength: _delays(seen, strength) for strength in sorted(seen[0].losses) if strength}
    for strength, (measured, theory, bound) in delays.items():
        named = {"delay": measured.value, "theory": theory, "bound": bound}
        found |= {f"{name}_{strength:g}": value for name, value in named.items()}
    known = [each for each in delays.values() if math.isfinite(each[1])]
    ratios = [math.log(measured.value / theory) for measured, theory, _ in known]
    found["delay_over_theory"] = math.exp(max(ratios, key=abs, default=math.nan))
    found["delay_over_bound"] = min((m.low / bound for m, _, bound in known), default=math.nan)
    found["people_alarms"] = _share([one.people[0] for one in seen]).low
    found["people_named"] = float(np.mean([MOVED in one.people[0].named for one in seen]))
    rise_S = np.array([one.people_after - one.before for one in seen])
    found["people_errors"] = location_interval(rise_S, np.random.default_rng(0)).low
    return found


def growth(before: float, after: float) -> float:
    r"""The growth of the bet on small p-values a row, $E \log(3/2 - p)$, less what is dealt to the other bets.

    A wrong answer's p-value is uniform on [0, before], a right one's on [before, 1].
    """
    inner = (1.5 * (math.log(1.5) - 1), *((1.5 - p) * (math.log(1.5 - p) - 1) for p in (before, 1)))
    wrong = (inner[0] - inner[1]) / before
    right = (inner[1] - inner[2]) / (1 - before)
    return after * wrong + (1 - after) * right + math.log(1 - JUMP * (1 - 1 / BETS))


def divergence(before: float, after: float) -> float:
    """The Kullback-Leibler divergence of wrong answers afterwards from those before."""
    return float(rel_entr(after, before) + rel_entr(1 - after, 1 - before))


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Evidence row by row, alarms and delays by strength, and a model that changes its inputs."""
    seen = _watched(results)
    figure = Figure(figsize=(11.6, 3.9), layout="constrained")
    first, second, third, fourth = figure.subplots(1, 4)
    strengths = sorted(strength for strength in seen[0].losses if strength)
    _evidence(first, [one.inputs[0] for one in seen], INPUTS, "monitor of inputs")
    for strength, shade in zip(strengths, SHADES[-len(strengths) :], strict=True):
        label = f"of losses, {strength:.0%}"
        _evidence(first, [one.losses[strength] for one in seen], shade, label)
    first.set(xlim=(0, 300), title="evidence, median stream")
    _alarms(second, seen)
    _delay_panel(third, seen, strengths)
    for i, colour in enumerate((INPUTS, LOSSES)):
        _evidence(fourth, [one.people[i] for one in seen], colour)
    fourth.set_title("people respond to the model")
    for axes in (first, fourth):
        label = "alarm" if axes is first else None
        axes.axhline(-math.log10(ALPHA), color=MUTED, linewidth=0.9, linestyle=":", label=label)
        axes.set(xlabel="row since the change", ylabel="log10 evidence", ylim=(-3, 8))
    figure.legend(loc="outside lower center", ncols=8, fontsize=8.5)
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _evidence(axes: Axes, seen: Sequence[Seen], colour: str, label: str | None = None) -> None:
    log10_SB = np.array([each.log10 for each in seen])
    row_B = np.arange(1, log10_SB.shape[1] + 1)
    axes.plot(row_B, np.median(log10_SB, axis=0), color=colour, linewidth=1.4, label=label)


def _alarms(axes: Axes, seen: Sequence[Watched]) -> None:
    strengths = sorted(seen[0].losses)
    shares = [_share([one.losses[strength] for one in seen]) for strength in strengths]
    _with_bars(axes, strengths, shares, LOSSES)
    # The monitor of inputs is given the same rows whatever the labels.
    inputs = _share([each for one in seen for each in one.inputs])
    axes.axhline(inputs.value, color=INPUTS, linewidth=1.3)
    axes.axhspan(inputs.low, inputs.high, color=INPUTS, alpha=0.2, linewidth=0)
    axes.axhline(ALPHA, color=MUTED, linewidth=0.9, linestyle=":")
    axes.set(xlabel="share of labels changed", ylabel="share of streams", ylim=(-0.03, 1.03))
    axes.set_title(f"alarms within {len(seen[0].inputs[0].log10)} rows")


def _delay_panel(axes: Axes, seen: Sequence[Watched], strengths: Sequence[float]) -> None:
    found = [_delays(seen, strength) for strength in strengths]
    _with_bars(axes, strengths, [each[0] for each in found], LOSSES)
    lines = ((1, (0, (2, 2)), "theory of the bets"), (2, "-.", "no test is sooner"))
    for i, dashes, label in lines:
        axes.plot(
            strengths,
            [each[i] for each in found],
            color=INK,
            linewidth=1,
            linestyle=dashes,
            label=label,
        )
    axes.set_yscale("log")
    axes.set_yticks(TICKS, map(str, TICKS))
    axes.minorticks_off()
    axes.set(xlabel="share of labels changed", ylabel="rows until the alarm")
    axes.set_title("delay, monitor of losses")


def _with_bars(axes: Axes, x: Sequence[float], found: Sequence[Interval], colour: str) -> None:
    value, low, high = np.array([(each.value, each.low, each.high) for each in found]).T
    ends = (value - low, high - value)
    axes.errorbar(x, value, ends, color=colour, marker="o", markersize=4, linewidth=1.3, capsize=2)


def _watched(results: Sequence[Result]) -> list[Watched]:
    runs: dict[int, list[tuple[float, Path]]] = defaultdict(list)
    for result in results:
        runs[int(result.key("seed"))].append((result.key("shift.strength"), result.directory))
    return [_watch(seed, tuple(sorted(runs[seed]))) for seed in sorted(runs)]


@cache
def _watch(seed: int, runs: tuple[tuple[float, Path], ...]) -> Watched:
    """Rows that the model hasn't seen, one after another; the labels before the shift are those of strength 0."""
    losses, after, labels = {}, {}, []
    for strength, path in runs:
        with opened(path) as (_, module):
            table, network = module.tables[0], module.mlp.unpack(0).cpu()
        labels.append(table.y)
        wrong_N = _wrong(network, table.x, table.y)
        val, test = table.split.val, table.split.test
        rows, later = test[: len(test) // 2], test[len(test) // 2 :]
        losses[strength] = _tested(wrong_N[val], [wrong_N[rows]], seed)
        before, after[strength] = float(wrong_N[val].mean()), float(wrong_N[rows].mean())
    first, second = (_monitored(path, [table.x[part]], seed) for part in (rows, later))
    # Labels go along as a column that isn't shown to the model.
    people_ND = np.column_stack([table.x[later], labels[0][later]])
    feature = table.feature_names.index(MOVED)
    draw, approve = np.random.default_rng(seed), partial(_approve, network)
    people = list(feedback_stream(approve, people_ND, draw, MOVE, feature=feature, near=0.45))
    wrong = [_wrong(network, rows_BD, rows_BD[:, -1]) for rows_BD in people]
    responding = _monitored(path, [rows_BD[:, :-1] for rows_BD in people], seed)
    both, share = (responding, _tested(wrong_N[val], wrong, seed)), np.concatenate(wrong).mean()
    return Watched((first, second), losses, before, after, both, float(share))


def _wrong(network: torch.nn.Sequential, rows_BD: Array, label_B: Array) -> Array:
    return ((_approve(network, rows_BD) > 0.5) != (label_B == 1)).astype(np.float64)


def _approve(network: torch.nn.Sequential, rows_BD: Array) -> Array:
    """The probability of the second class, (B,), of the columns that the network takes."""
    x_BD = torch.from_numpy(rows_BD[:, : network[0].in_features]).float()
    with torch.no_grad():
        return torch.softmax(network(x_BD).double(), dim=1)[:, 1].numpy()


def _tested(reference_N: Array, batches: Sequence[Array], seed: int) -> Seen:
    """What `SequentialTest` makes of wrong answers."""
    test = SequentialTest(
        reference_N[:, None], np.random.default_rng([seed, 1]), alpha=ALPHA, jump=JUMP
    )
    log = [test.update(batch_B[:, None]) for batch_B in batches]
    return Seen(np.concatenate(log) / math.log(10), test.alarm_row)


def _monitored(directory: Path, batches: Sequence[Array], seed: int) -> Seen:
    """What ``unitgain monitor`` makes of rows."""
    monitor = RunMonitor(directory, alpha=ALPHA, seed=seed)
    for rows_BD in batches:
        monitor.update("stream", pd.DataFrame(rows_BD, columns=list(monitor.columns)))
    report = monitor.report()
    named = frozenset(score["name"] for score in report["scores"] if score["moved"])
    return Seen(np.array(report["curve"]["log10_evidence"]), report["alarm_row"], named)


def _delays(seen: Sequence[Watched], strength: float) -> tuple[Interval, float, float]:
    """Rows until the alarm, what the bets' theory expects, and what no test of this level is below.

    A stream without an alarm counts with all its rows; theory is infinite where the bets lose.
    """
    losses = [one.losses[strength] for one in seen]
    rows_S = np.array([float(each.alarm or len(each.log10)) for each in losses])
    before = float(np.mean([one.before for one in seen]))
    after = float(np.mean([one.after[strength] for one in seen]))
    rate = growth(before, after)
    theory = math.log(BETS / ALPHA) / rate if rate > 0 else math.inf
    measured = location_interval(rows_S, np.random.default_rng(0))
    return measured, theory, -math.log(ALPHA) / divergence(before, after)


def _share(seen: Sequence[Seen]) -> Interval:
    """Streams with an alarm, with Wilson's interval."""
    alarms = sum(each.alarm is not None for each in seen)
    ends = binomtest(alarms, len(seen)).proportion_ci(method="wilson")
    return Interval(alarms / len(seen), float(ends.low), float(ends.high))
