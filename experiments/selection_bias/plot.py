"""From the runs to the numbers and the figure: what each estimate of the weights mends of a biased selection of rows.

Shapes: S seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.comparison import paired_difference
from unitgain.stats.intervals import Interval

Array = NDArray[np.float64]

TABLES = {"breast_cancer": "Breast cancer", "digits": "Digits"}
METHODS = {
    "Oracle": "true weights",
    "KMM": "KMM",
    "Classifier": "classifier",
    "KLIEP": "KLIEP",
    "NearestNeighbour": "neighbours",
    "ULSIF": "uLSIF",
    "RuLSIF": "RuLSIF",
}
NONE = "Uniform"
COLOURS = {"breast_cancer": "#c8553d", "digits": "#2f6f9f"}
INK = "#262626"

Key = tuple[str, str]
"""Of a table, and of what estimates the weights."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """What true weights and KMM add to accuracy on the target, and KMM beside true weights."""
    found = _accuracies(results)
    measured = {}
    for table in TABLES:
        none, oracle, kmm = (found[table, name] for name in (NONE, "Oracle", "KMM"))
        measured[f"{table}_oracle_low"] = paired_difference(oracle, none).interval.low
        measured[f"{table}_kmm_low"] = paired_difference(kmm, none).interval.low
        measured[f"{table}_kmm_oracle_high"] = paired_difference(kmm, oracle).interval.high
    return measured


@style()
def draw(results: Sequence[Result]) -> Figure:
    """From the left: what each weighting adds to accuracy, how far it is from the true weights, what it leaves."""
    found = _accuracies(results)
    figure = Figure(figsize=(12.4, 4.1), layout="constrained")
    *panels, wrong, right = figure.subplots(1, 4, sharey=True)
    names = [name for name in METHODS if ("digits", name) in found]
    for axes, (table, title) in zip(panels, TABLES.items(), strict=True):
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, name in enumerate(names):
            gain = paired_difference(found[table, name], found[table, NONE]).interval
            _draw_interval(axes, place, gain, COLOURS[table])
        without = found[table, NONE].mean()
        axes.set_xlabel(f"added to accuracy, {without:.3f} without weights")
        axes.set_title(title)
    for axes, fact in ((wrong, "error"), (right, "ess_share")):
        facts = _facts(results, fact)
        for shift, (table, colour) in zip((-0.12, 0.12), COLOURS.items(), strict=True):
            for place, name in enumerate(names):
                label = TABLES[table] if place == 0 else "_"
                _draw_interval(axes, place + shift, _mean(facts[table, name]), colour, label)
    for table, colour in COLOURS.items():
        wrong.axvline(_error_of_equal_weights(results, table), color=colour, linestyle=":")
    wrong.set_xlabel("relative error; dotted: of equal weights")
    wrong.set_title("How wrong the weights are")
    right.set_xlim(0, 1.02)
    right.set_xlabel("effective share of training rows")
    right.set_title("What the weights leave")
    for axes in (*panels, wrong, right):
        axes.grid(axis="x")
    panels[0].set_yticks(range(len(names)), [METHODS[name] for name in names])
    panels[0].invert_yaxis()
    right.legend()
    figure.suptitle(
        "Weights mend a selection bias of digits; on breast cancer they add little",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _draw_interval(
    axes: Axes, place: float, interval: Interval, colour: str, label: str = "_"
) -> None:
    axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=1.4)
    axes.plot(interval.value, place, "o", color=colour, markersize=5, label=label)


def _accuracies(results: Sequence[Result]) -> dict[Key, Array]:
    """(S,) accuracy on the target, in the order of seeds."""
    found: dict[Key, list[float]] = {}
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        found.setdefault(_key(result), []).append(result.metric("test/accuracy"))
    return {key: np.array(values) for key, values in found.items()}


def _facts(results: Sequence[Result], fact: str) -> dict[Key, Array]:
    """(S,) a fact of the weights of the training rows."""
    found: dict[Key, list[float]] = {}
    for result in results:
        if "weighting" in result.summary:
            found.setdefault(_key(result), []).append(result.summary["weighting"][fact])
    return {key: np.array(values) for key, values in found.items()}


def _error_of_equal_weights(results: Sequence[Result], table: str) -> float:
    """Against the true ones, the mean over seeds: sqrt(1 - ESS / N)."""
    return float(np.sqrt(1 - _facts(results, "ess_share")[table, "Oracle"]).mean())


def _key(result: Result) -> Key:
    table, method = (
        result.key(f"{node}._target_").rpartition(".")[2] for node in ("data", "weighting")
    )
    return table, method


def _mean(values_S: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values_S, np.random.default_rng(0))
