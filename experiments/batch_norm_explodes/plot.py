"""From the runs to the numbers and the figure: gradients through batch norm before training, and what training gets.

Shapes: L hidden layers, S seeds.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_gradients, read_metrics
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.theory import activations
from unitgain.theory.batch_norm import batch_moments

Array = NDArray[np.float64]
Setting = tuple[str, int, int]

ACTIVATIONS = {
    "ReLU": activations.relu(),
    "Tanh": activations.tanh(),
    "Identity": activations.identity(),
}
NAMES = {"ReLU": "ReLU", "Tanh": "tanh", "Identity": "linear"}
COLOURS = {"ReLU": "#c8553d", "Tanh": "#2f6f9f", "Identity": "#4c8c5a"}
INK, MUTED = "#262626", "#6b6b6b"
FIRST = 2
"""The first layer whose gradient counts: the variance in layer 1 is that of the data."""
CLASSES = 10


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """The squared gradient's factor a layer with its 95% interval, and losses at either end of the depths."""
    gradient, loss = _collect(results, _log_gradient), _collect(results, _last_loss)
    batches, depths = (sorted({key[i] for key in gradient}) for i in (1, 2))
    found = {}
    for activation, name in NAMES.items():
        for batch in batches:
            interval = factor(gradient[activation, batch, depths[-1]])
            label = f"{name.lower()}_{batch}"
            found[f"factor_{label}"] = interval.value
            found[f"half_width_{label}"] = (interval.high - interval.low) / 2
        for depth in (depths[0], depths[-1]):
            found[f"loss_{name.lower()}_{depth}"] = float(
                loss[activation, batches[-1], depth].mean()
            )
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: the gradient by layer. Middle: its factor a layer over batch sizes. Right: losses over depth."""
    gradient, loss = _collect(results, _log_gradient), _collect(results, _last_loss)
    figure = Figure(figsize=(10.2, 4.1), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_gradients(left, gradient)
    _draw_factors(middle, gradient)
    _draw_losses(right, loss)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.suptitle(
        "Batch norm explodes gradients by a factor a layer, and deep ReLU networks don't train with it",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def growth(activation: str, batch: int) -> float:
    """Theory's factor a layer of the squared gradient: what the own and the cross slopes of a batch give together."""
    moments = batch_moments(ACTIVATIONS[activation], batch)
    gain = moments.own_gain + moments.cross_gain
    return float(gain / (moments.second - moments.pair))


def factor(log_SL: Array) -> Interval:
    """By what a layer multiplies the squared gradient: the geometric mean over layers and seeds, with its interval."""
    layers = log_SL.shape[1] - 1 - FIRST
    rate_S = (log_SL[:, FIRST - 1] - log_SL[:, -2]) / layers
    interval = location_interval(rate_S, np.random.default_rng(0))
    value, low, high = np.exp([interval.value, interval.low, interval.high])
    return Interval(float(value), float(low), float(high))


def _collect(results: Sequence[Result], read: Callable[[Result], Array]) -> dict[Setting, Array]:
    """What is read of each run, its seeds together, by activation, batch size and depth."""
    found: dict[Setting, list[Array]] = defaultdict(list)
    for result in results:
        activation = result.key("activation._target_").rpartition(".")[2]
        found[activation, result.key("data.batch_size"), result.key("model.depth")].append(
            read(result)
        )
    return {key: np.array(values) for key, values in found.items()}


def _log_gradient(result: Result) -> Array:
    """(L,) the logarithm of the squared gradient before the first step."""
    _, value_SL = read_gradients(RunDirectory(result.directory).gradients).grid(
        "grad_preactivation"
    )
    return np.asarray(2 * np.log(value_SL[0, : result.key("model.depth")]))


def _last_loss(result: Result) -> Array:
    """Of the training rows in the last epoch, as they were learned from."""
    return np.asarray(read_metrics(RunDirectory(result.directory).metrics)["train/loss"][-1])


def _draw_gradients(axes: Axes, gradient: Mapping[Setting, Array]) -> None:
    batch, depth = (max(key[i] for key in gradient) for i in (1, 2))
    layer_L = np.arange(1, depth + 1)
    for activation, colour in COLOURS.items():
        log_SL = gradient[activation, batch, depth]
        # Relative to the last layer that has another behind it: the head is no such layer.
        lines = axes.plot(
            layer_L[FIRST - 1 : -1],
            np.exp(log_SL - log_SL[:, [-2]]).T[FIRST - 1 : -1],
            color=colour,
            linewidth=1.0,
        )
        lines[0].set_label(NAMES[activation])
        theory_L = growth(activation, batch) ** (depth - 1.0 - layer_L[FIRST - 1 : -1])
        label = "theory" if activation == "Identity" else None
        axes.plot(
            layer_L[FIRST - 1 : -1],
            theory_L,
            color=INK,
            linewidth=1.0,
            linestyle=(0, (2, 2)),
            label=label,
        )
    axes.set_yscale("log")
    axes.set_xlabel("hidden layer")
    axes.set_ylabel(f"squared gradient / that at layer {depth - 1}")
    axes.set_title(f"Before training, batches of {batch}")


def _draw_factors(axes: Axes, gradient: Mapping[Setting, Array]) -> None:
    batches = sorted({key[1] for key in gradient})
    depths = sorted({key[2] for key in gradient})[1:]
    fine = np.unique(np.geomspace(batches[0] / 1.5, 1.6 * batches[-1], 30).round().astype(int))
    for activation, colour in COLOURS.items():
        theory = [growth(activation, int(batch)) for batch in fine]
        axes.plot(fine, theory, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        for batch in batches:
            for place, depth in zip(np.geomspace(0.9, 1.11, len(depths)), depths, strict=True):
                interval = factor(gradient[activation, batch, depth])
                spread = [[interval.value - interval.low], [interval.high - interval.value]]
                axes.errorbar(
                    batch * place,
                    interval.value,
                    spread,
                    fmt="o",
                    color=colour,
                    markersize=4,
                    capsize=2,
                )
    axes.axhline(1.0, color=MUTED, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set_xlabel("batch size")
    axes.set_ylabel("factor of the squared gradient")
    shown = ", ".join(map(str, depths))
    axes.set_title(f"Factor a layer; dots: {shown} layers")


def _draw_losses(axes: Axes, loss: Mapping[Setting, Array]) -> None:
    batch = max(key[1] for key in loss)
    depths = sorted({key[2] for key in loss})
    for activation, colour in COLOURS.items():
        loss_DS = np.array([loss[activation, batch, depth] for depth in depths])
        axes.plot(depths, loss_DS.mean(axis=1), color=colour, linewidth=1.3)
        axes.plot(depths, loss_DS, "o", color=colour, markersize=3)
    axes.axhline(np.log(CLASSES), color=MUTED, linewidth=0.9, linestyle=":")
    axes.text(depths[0], np.log(CLASSES) + 0.03, "ln 10: guessing", color=MUTED, fontsize=8.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.minorticks_off()
    axes.set_xlabel("hidden layers")
    axes.set_ylabel("training loss")
    axes.set_title(f"Loss after training, batches of {batch}")
