"""From the runs to the numbers and the figure: activations and gradients by layer, before anything is trained.

Shapes: S seeds, L hidden layers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_gradients
from unitgain.theory import activations
from unitgain.theory.network import Layer, Network, Signal, propagate

Array = NDArray[np.float64]

THEORY = {
    "Identity": activations.identity(),
    "Tanh": activations.tanh(),
    "Softsign": activations.from_callable(
        lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0, kinks=(0.0,)
    ),
    "ReLU": activations.relu(),
    "Sigmoid": activations.sigmoid(),
}
INITS = {"standard": 1 / 3, "xavier": 1.0}
NAMES = {"standard": r"standard, $n\,Var[W] = 1/3$", "xavier": r"Xavier, $n\,Var[W] = 1$"}
COLOURS = {"standard": "#c8553d", "xavier": "#2f6f9f"}
INK = "#262626"
PIXELS, VARYING = 64, 61
"""Of digits; those that vary are scaled to variance one, the others are zero."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """By what each layer multiplies the mean square of the gradient, over the upper half of the layers."""
    found = {}
    for (name, init), gradient_SL in _measured(results, "grad_preactivation").items():
        half = gradient_SL.shape[1] // 2
        steps = gradient_SL.shape[1] - half
        ratio_S = np.log(gradient_SL[:, half - 1] ** 2 / gradient_SL[:, -1] ** 2)
        found[f"{name.lower()}_{init}"] = float(np.exp(ratio_S.mean() / steps))
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Upper: root mean square of activations by layer. Lower: gradients. A column an activation."""
    activation = _measured(results, "activation_second_moment")
    gradient = _measured(results, "grad_preactivation")
    names = [name for name in THEORY if (name, "xavier") in gradient]
    figure = Figure(figsize=(2.15 * len(names) + 0.9, 4.9), layout="constrained")
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    width = results[0].key("model.width")
    rows = ((r"RMS of $h_l$", activation), (r"gradient at $z_l$ / layer $L$", gradient))
    for column, name in enumerate(names):
        for init in INITS:
            root_SL = np.sqrt(activation[name, init])
            gradient_SL = gradient[name, init] / gradient[name, init][:, -1:]
            signal = predicted(name, init, root_SL.shape[1], width)
            _draw(panels[0, column], root_SL, np.sqrt(signal.activation_second_moment), init)
            expected_L = 10.0 ** (signal.log10_gradient[:-1] - signal.log10_gradient[-2])
            _draw(panels[1, column], gradient_SL, expected_L, init)
        panels[0, column].set_title(name.lower() if name != "ReLU" else name)
        panels[1, column].set_xlabel("hidden layer")
    for axes, (label, _) in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(label)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(
        "Xavier keeps gradients where a layer is near linear; the standard initialization divides "
        "their variance by three",
        x=0.01,
        horizontalalignment="left",
        fontsize=11.5,
        fontweight="bold",
    )
    return figure


def predicted(name: str, init: str, depth: int, width: int) -> Signal:
    """Mean-field theory; the first layer's variance is 2 / (fan_in + fan_out), times a third for the standard."""
    first = Layer(sigma_w=(INITS[init] * 2 * PIXELS / (PIXELS + width)) ** 0.5)
    layers = (first, *(Layer(sigma_w=INITS[init] ** 0.5),) * depth)
    return propagate(Network(THEORY[name], layers), q_0=VARYING / PIXELS)


def _measured(results: Sequence[Result], quantity: str) -> dict[tuple[str, str], Array]:
    """(S, L) of each activation and initialization."""
    rows: dict[tuple[str, str], list[Array]] = defaultdict(list)
    for result in results:
        name = result.key("activation._target_").rpartition(".")[2]
        init = "xavier" if result.key("init.gain") == 1.0 else "standard"
        gradients = read_gradients(RunDirectory(result.directory).gradients)
        _, value_SL = gradients.grid(quantity)
        rows[name, init].append(value_SL[0, : result.key("model.depth")])
    return {key: np.array(rows_SL) for key, rows_SL in rows.items()}


def _draw(axes: Axes, value_SL: Array, expected_L: Array, init: str) -> None:
    layer_L = np.arange(1, value_SL.shape[1] + 1)
    colour = COLOURS[init]
    axes.fill_between(
        layer_L, value_SL.min(axis=0), value_SL.max(axis=0), color=colour, alpha=0.2, linewidth=0
    )
    axes.plot(layer_L, np.median(value_SL, axis=0), color=colour, linewidth=1.8, label=NAMES[init])
    label = "mean-field theory" if init == "xavier" else None
    axes.plot(layer_L, expected_L, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=label)
    axes.set_yscale("log")
    axes.set_xticks([1, *range(5, value_SL.shape[1] + 1, 5)])
