"""From the runs to the numbers and the figure: a deep ReLU network from two initializations.

Shapes: E epochs, L hidden layers, S seeds.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_gradients, read_metrics

Array = NDArray[np.float64]

FACTOR = {"he": 1.0, "xavier": 0.5}
NAMES = {"he": "He", "xavier": "Xavier"}
COLOURS = {"he": "#2f6f9f", "xavier": "#c8553d"}
INK, MUTED = "#262626", "#6b6b6b"
CLASSES = 10


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """The gradient's factor a layer at the greatest depth, and where training ends there."""
    gradient, loss = _collect(results, _gradient), _collect(results, _loss)
    depth = max(key[1] for key in gradient)
    found = {}
    for init in FACTOR:
        gradient_SL = gradient[init, depth]
        ratio_S = 2 * np.log(gradient_SL[:, 0] / gradient_SL[:, -1])
        found[f"{init}_factor"] = float(np.exp(ratio_S.mean() / (depth - 1)))
        found[f"{init}_loss"] = float(np.median(loss[init, depth][:, -1]))
        accuracies = _collect(results, lambda result: np.array(result.metric("train/accuracy")))
        found[f"{init}_accuracy"] = float(np.median(accuracies[init, depth]))
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: the gradient by layer at the beginning. The others: the loss over epochs, a panel a depth."""
    gradient, loss = _collect(results, _gradient), _collect(results, _loss)
    depths = sorted({depth for _, depth in gradient})
    figure = Figure(figsize=(2.5 * (len(depths) + 1) + 0.6, 3.9), layout="constrained")
    first, *panels = figure.subplots(1, len(depths) + 1)
    for init, factor in FACTOR.items():
        gradient_SL = gradient[init, depths[-1]]
        relative_SL = gradient_SL / gradient_SL[:, -1:]
        layer_L = np.arange(1, depths[-1] + 1)
        first.plot(layer_L, relative_SL.T, color=COLOURS[init], linewidth=1.3)
        theory_L = factor ** ((depths[-1] - layer_L) / 2)
        label = "theory" if init == "he" else None
        first.plot(layer_L, theory_L, color=INK, linewidth=1, linestyle=(0, (2, 2)), label=label)
    first.set_yscale("log")
    first.set_xlabel("hidden layer")
    first.set_ylabel(r"gradient at $z_l$ / layer $L$")
    first.set_title(f"{depths[-1]} layers, before training")
    for axes, depth in zip(panels, depths, strict=True):
        for init, name in NAMES.items():
            loss_SE = loss[init, depth]
            epoch_E = np.arange(1, loss_SE.shape[1] + 1)
            lines = axes.plot(epoch_E, loss_SE.T, color=COLOURS[init], linewidth=1.3)
            if axes is panels[0]:
                lines[0].set_label(name)
        chance = "ln 10: chance" if axes is panels[0] else None
        axes.axhline(math.log(CLASSES), color=MUTED, linewidth=0.9, linestyle=":", label=chance)
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_title(f"{depth} layers: training loss")
        axes.sharey(panels[0])
    figure.legend(loc="outside lower center", ncols=4)
    figure.suptitle(
        f"He's initialization trains {depths[-1]} ReLU layers; with Xavier's they stall",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _collect(
    results: Sequence[Result], read: Callable[[Result], Array]
) -> dict[tuple[str, int], Array]:
    """What is read of each run, its seeds together, by initialization and depth."""
    found: dict[tuple[str, int], list[Array]] = defaultdict(list)
    for result in results:
        init = result.key("init._target_").rpartition(".")[2]
        found[init, result.key("model.depth")].append(read(result))
    return {key: np.array(values) for key, values in found.items()}


def _gradient(result: Result) -> Array:
    """(L,) before the first step."""
    gradients = read_gradients(RunDirectory(result.directory).gradients)
    _, value_SL = gradients.grid("grad_preactivation")
    return value_SL[0, : result.key("model.depth")]


def _loss(result: Result) -> Array:
    """(E,) of the training rows, as they were learned from."""
    return np.asarray(read_metrics(RunDirectory(result.directory).metrics)["train/loss"])
