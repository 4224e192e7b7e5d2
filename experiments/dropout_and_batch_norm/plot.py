"""From the runs to the numbers and the figure: what dropout and batch norm do to the generalisation gap.

Shapes: S seeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval

Array = NDArray[np.float64]
Setting = tuple[str, float]

COLOURS = {"none": "#2f6f9f", "batch": "#c8553d"}
NAMES = {"none": "no norm", "batch": "batch norm"}
JUDGED = 0.3
"""The rate of dropout that decides."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Ends of 95% intervals of what dropout, batch norm and both change, paired by seed."""
    plain = ("none", 0.0)
    others = {
        "dropout": ("none", JUDGED),
        "batch_norm": ("batch", 0.0),
        "both": ("batch", JUDGED),
    }
    found = {}
    for what, errors in (("gap", _gaps(results)), ("test", _errors(results, "test"))):
        found[f"{what}_plain"] = float(errors[plain].mean())
        for name, setting in others.items():
            change = _mean(errors[setting] - errors[plain])
            found[f"{what}_{name}"] = change.value
            found[f"{what}_{name}_high"] = change.high
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Errors on training rows and on new rows, and the gap, over the rate of dropout."""
    panels = {
        "Error on training rows": _errors(results, "train"),
        "Error on new rows": _errors(results, "test"),
        "The gap": _gaps(results),
    }
    figure = Figure(figsize=(10.2, 3.9), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, errors) in zip(all_axes, panels.items(), strict=True):
        for norm, colour in COLOURS.items():
            rates = sorted(p for name, p in errors if name == norm)
            intervals = [_mean(errors[norm, p]) for p in rates]
            axes.errorbar(
                rates,
                [i.value for i in intervals],
                [
                    [i.value - i.low for i in intervals],
                    [i.high - i.value for i in intervals],
                ],
                color=colour,
                marker="o",
                markersize=4,
                capsize=2.5,
                label=NAMES[norm],
            )
        axes.set_xlabel("rate of dropout p")
        axes.set_title(title)
        axes.set_xticks(rates)
    all_axes[0].set_ylim(bottom=0)
    noise = results[0].key("data.noise") ** 2
    all_axes[1].axhline(noise, color="#262626", linewidth=1.0, linestyle=(0, (2, 2)))
    all_axes[1].text(rates[-1], noise, "the noise", va="bottom", ha="right", fontsize=8.5)
    all_axes[0].set_ylabel("mean squared error")
    all_axes[0].legend(loc="upper left")
    figure.suptitle(
        "Dropout and batch norm on 120 noisy rows; 95% intervals over seeds",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _errors(results: Sequence[Result], part: str) -> dict[Setting, Array]:
    """(S,) mean squared errors in the target's units, by norm and rate, in the order of seeds."""
    found: dict[Setting, list[float]] = defaultdict(list)
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        norm = "none" if result.key("norm._target_").endswith("Identity") else "batch"
        found[norm, result.key("dropout.p")].append(result.metric(f"{part}/mse"))
    return {key: np.array(values) for key, values in found.items()}


def _gaps(results: Sequence[Result]) -> dict[Setting, Array]:
    test, train = _errors(results, "test"), _errors(results, "train")
    return {key: test[key] - train[key] for key in test}


def _mean(values: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values, np.random.default_rng(0))
