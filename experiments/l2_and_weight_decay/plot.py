"""From the runs to the numbers and the figure: two ways to shrink weights, under three optimizers.

Shapes: T steps, S seeds, L layers.
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

Array = NDArray[np.float64]

PENALTY, DECAY = (True, False), (False, True)
Setting = tuple[str, tuple[bool, bool]]
COLOURS = {"SGD": "#6b6b6b", "Adam": "#c8553d", "AdamW": "#2f6f9f"}
INK = "#262626"
PIXELS = 64
STRENGTH = 0.1
"""Of the penalty and of the decay, where there is one."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """How far penalty and decay differ under each optimizer, and each alone beside its formula."""
    learning = _norms(results, zeros=False)
    decaying = _norms(results, zeros=True)
    penalized_STL = decaying["Adam", PENALTY]
    return {
        "sgd_difference": _difference(learning, "SGD", "SGD"),
        "adam_difference": _difference(learning, "Adam", "Adam"),
        "adamw_difference": _difference(learning, "Adam", "AdamW"),
        "sgd_factor": _factor(decaying["SGD", PENALTY]),
        "adamw_factor": _factor(decaying["AdamW", DECAY]),
        "adam_step": _adam_step(results),
        "adam_left": float((penalized_STL[:, -1, 0] / penalized_STL[:, 0, 0]).max()),
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: no gradient but the penalty's. Middle: the weights while learning. Right: the loss."""
    learning = _norms(results, zeros=False)
    decaying = _norms(results, zeros=True)
    figure = Figure(figsize=(10.2, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_norms(left, decaying)
    step_T = np.arange(decaying["SGD", PENALTY].shape[1])
    left.plot(
        step_T,
        (1 - results[0].key("optimizer.lr") * STRENGTH) ** step_T,
        color=INK,
        linewidth=1.0,
        linestyle=(0, (1, 2)),
        label=r"$(1 - \eta\lambda)^t$",
    )
    left.set_title("First layer, no gradient from the data")
    _draw_norms(middle, learning)
    middle.set_title("First layer, learning digits")
    for axes in (left, middle):
        axes.set_xlabel("step t")
        axes.set_ylabel(r"$\|W_1\|$ / its first value")
        axes.set_ylim(bottom=0)
    for (name, setting), loss_SE in _losses(results).items():
        _line(right, np.arange(1, loss_SE.shape[1] + 1), loss_SE.mean(axis=0), name, setting)
    right.set_yscale("log")
    right.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    right.minorticks_off()
    right.set_xlabel("epoch")
    right.set_title("Loss on validation rows")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    figure.suptitle(
        "A penalty is weight decay under SGD; under Adam it is something else",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _norms(results: Sequence[Result], *, zeros: bool) -> dict[Setting, Array]:
    """(S, T, L) norms of the weights after each step, of runs in which the data's gradient is zero, or is not."""
    return _collect(results, zeros, lambda result: _recorded(result, "weight_norm"))


def _losses(results: Sequence[Result]) -> dict[Setting, Array]:
    """(S, E) loss on validation rows after each epoch, of the runs that learn."""
    return _collect(results, False, _validation_loss)


def _collect(
    results: Sequence[Result], zeros: bool, read: Callable[[Result], Array]
) -> dict[Setting, Array]:
    found: dict[Setting, list[Array]] = defaultdict(list)
    for result in results:
        if result.key("init._target_").endswith("zeros") == zeros:
            setting = (result.key("l2_penalty") > 0, result.key("optimizer.weight_decay") > 0)
            name = result.key("optimizer._target_").rpartition(".")[2]
            found[name, setting].append(read(result))
    return {key: np.array(values) for key, values in found.items()}


def _recorded(result: Result, quantity: str) -> Array:
    gradients = read_gradients(RunDirectory(result.directory).gradients)
    return gradients.grid(quantity)[1]


def _validation_loss(result: Result) -> Array:
    return np.asarray(read_metrics(RunDirectory(result.directory).metrics)["val/loss"])


def _difference(norms: Mapping[Setting, Array], penalized: str, decayed: str) -> float:
    """The greatest relative difference of a layer's norm: a penalty under one optimizer, decay under another."""
    first, second = norms[penalized, PENALTY], norms[decayed, DECAY]
    return float(np.abs(first / second - 1).max())


def _factor(norm_STL: Array) -> float:
    """By what a step multiplies the first layer's norm."""
    norm_ST = norm_STL[:, :, 0]
    return float(((norm_ST[:, -1] / norm_ST[:, 0]) ** (1 / (norm_ST.shape[1] - 1))).mean())


def _adam_step(results: Sequence[Result]) -> float:
    """The first step of Adam along the penalty's gradient alone, over lr times the root of the number of weights."""
    ratio = _collect(results, True, lambda result: _recorded(result, "update_ratio"))
    norm = _norms(results, zeros=True)
    moved_S = ratio["Adam", PENALTY][:, 0, 0] * norm["Adam", PENALTY][:, 0, 0]
    full = results[0].key("optimizer.lr") * np.sqrt(PIXELS * results[0].key("model.width"))
    return float((moved_S / full).mean())


def _draw_norms(axes: Axes, norms: Mapping[Setting, Array]) -> None:
    for (name, setting), norm_STL in norms.items():
        norm_T = norm_STL[:, :, 0].mean(axis=0)
        _line(axes, np.arange(norm_T.size), norm_T / norm_T[0], name, setting)


def _line(axes: Axes, x: Array, y: Array, name: str, setting: tuple[bool, bool]) -> None:
    """One setting's; those with both or neither of penalty and decay are left out."""
    kinds = {("SGD", PENALTY), ("SGD", DECAY), ("Adam", PENALTY), ("AdamW", DECAY)}
    if (name, setting) not in kinds:
        return
    penalized = setting == PENALTY
    axes.plot(
        x,
        y,
        color=COLOURS[name],
        linewidth=1.7 if penalized else 2.4,
        linestyle=(0, (3, 1.5)) if penalized else "-",
        alpha=1.0 if penalized else 0.75,
        label=f"{name}, {'penalty' if penalized else 'decay'}",
    )
