"""From the runs to the numbers and the figure: what importance weights change, as training goes on.

Shapes: E epochs, S seeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_metrics
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval

Array = NDArray[np.float64]
Setting = tuple[bool, bool]

PLAIN, DROPOUT, PENALTY, BOTH = (False, False), (False, True), (True, False), (True, True)
NAMES = {
    PLAIN: "neither",
    DROPOUT: "dropout",
    PENALTY: "L2 penalty",
    BOTH: "both",
}
COLOURS = {PLAIN: "#c8553d", DROPOUT: "#d9a441", PENALTY: "#2f6f9f", BOTH: "#5b8c5a"}
INK = "#262626"
EARLY = 10
"""Epochs after which the effect counts as that of the beginning."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """What the weights add to accuracy on the target, at the beginning and in the end."""
    effects = {setting: _effect(results, setting) for setting in NAMES}
    early = effects[PLAIN][:, :EARLY][:, -1]
    late = {setting: effect_SE[:, -1] for setting, effect_SE in effects.items()}
    return {
        "early": float(early.mean()),
        "early_low": _mean(early).low,
        "late": float(late[PLAIN].mean()),
        "late_less_early_high": _mean(late[PLAIN] - early).high,
        "late_train_loss": float(_curves(results, "train/loss")[PLAIN, True][:, -1].mean()),
        "late_dropout": float(late[DROPOUT].mean()),
        "late_penalty": float(late[PENALTY].mean()),
        "late_penalty_more_low": _mean(late[PENALTY] - late[PLAIN]).low,
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: what weights add to accuracy over epochs. Right: the accuracies without penalty and with it."""
    figure = Figure(figsize=(10.2, 3.9), layout="constrained")
    left, *panels = figure.subplots(1, 3)
    for setting, name in NAMES.items():
        effect_SE = _effect(results, setting)
        intervals = [_mean(effect_S) for effect_S in effect_SE.T]
        epoch_E = np.arange(1, effect_SE.shape[1] + 1)
        colour = COLOURS[setting]
        left.plot(epoch_E, [i.value for i in intervals], color=colour, label=name)
        low, high = ([getattr(i, end) for i in intervals] for end in ("low", "high"))
        left.fill_between(epoch_E, low, high, color=colour, alpha=0.15, linewidth=0)
    left.axhline(0, color=INK, linewidth=0.8)
    left.set_xscale("log")
    left.set_xlabel("epoch")
    left.set_title("What weights add to accuracy")
    left.legend()
    curves = _curves(results, "val/accuracy")
    for axes, setting in zip(panels, (PLAIN, PENALTY), strict=True):
        _draw_accuracies(axes, curves, setting)
    panels[1].sharey(panels[0])
    panels[0].legend()
    figure.suptitle(
        "What importance weights add fades in training, unless there is a penalty",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _draw_accuracies(
    axes: Axes, curves: Mapping[tuple[Setting, bool], Array], setting: Setting
) -> None:
    for weighted, line in ((True, "-"), (False, (0, (3, 1.5)))):
        mean_E = curves[setting, weighted].mean(axis=0)
        label = "with weights" if weighted else "without"
        epoch_E = np.arange(1, mean_E.size + 1)
        axes.plot(epoch_E, mean_E, color=COLOURS[setting], linestyle=line, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("epoch")
    axes.set_title(f"Accuracy on the target: {NAMES[setting]}")


def _effect(results: Sequence[Result], setting: Setting) -> Array:
    """(S, E) accuracy on the target with weights less that without, paired by seed."""
    curves = _curves(results, "val/accuracy")
    return curves[setting, True] - curves[setting, False]


def _curves(results: Sequence[Result], metric: str) -> dict[tuple[Setting, bool], Array]:
    """(S, E) of each setting, with and without weights, in the order of seeds."""
    found: dict[tuple[Setting, bool], list[Array]] = defaultdict(list)
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        setting = (result.key("l2_penalty") > 0, result.key("dropout.p") > 0)
        weighted = result.key("weighting.exponent") > 0
        metrics = read_metrics(RunDirectory(result.directory).metrics)
        found[setting, weighted].append(np.asarray(metrics[metric]))
    return {key: np.array(values) for key, values in found.items()}


def _mean(values: Array) -> Interval:
    """With its 95% interval."""
    return location_interval(values, np.random.default_rng(0))
