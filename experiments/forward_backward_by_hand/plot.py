"""From the runs to the numbers and the figure: the chain rule in NumPy beside what autograd gave, and what it stores.

Shapes: B examples of a batch, D features or units, C classes, L layers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.data import open_data
from unitgain.pack.batches import PackData
from unitgain.pack.build import build_mlp
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_gradients
from unitgain.spec import parse

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

QUANTITIES = {
    "activation": "activation_second_moment",
    "delta": "grad_preactivation",
    "weight": "grad_weight",
    "bias": "grad_bias",
}
"""The study's name of what the probe measured."""
COLOURS = {"Tanh": "#2f6f9f", "ReLU": "#c8553d", "Sigmoid": "#5b8c5a"}
INK = "#262626"
BYTES = 8


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


PHI: dict[str, tuple[Function, Function]] = {
    "Tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "ReLU": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "Sigmoid": (_sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z))),
}


@dataclass(frozen=True)
class Pair:
    """A run beside the same step by hand.

    Args:
        activation: its name.
        depth: hidden layers.
        batch: examples.
        by_autograd: (L,) the gradient at the pre-activations in the run.
        by_hand: (L,) the same by the chain rule.
        difference: by quantity, the greatest relative difference of a layer.
        stored: bytes that autograd keeps of activations for the backward pass.
        predicted: the same, by formula.
    """

    activation: str
    depth: int
    batch: int
    by_autograd: Array
    by_hand: Array
    difference: Mapping[str, float]
    stored: int
    predicted: int


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """The greatest difference of each quantity, and that of what is stored."""
    pairs = [compare(result) for result in results]
    found = {f"{name}_difference": max(p.difference[name] for p in pairs) for name in QUANTITIES}
    ratios = [pair.stored / pair.predicted for pair in pairs]
    found["stored_least"], found["stored_most"] = min(ratios), max(ratios)
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: gradients by layer in the deepest networks. Right: what autograd stores, over depth."""
    pairs = [compare(result) for result in results]
    figure = Figure(figsize=(10.2, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    depth = max(pair.depth for pair in pairs)
    batch = max(pair.batch for pair in pairs)
    for pair in pairs:
        if (pair.depth, pair.batch) == (depth, batch):
            layer_L = np.arange(1, depth + 2)
            colour = COLOURS[pair.activation]
            left.plot(layer_L, pair.by_hand, color=INK, linewidth=1.0)
            left.plot(layer_L, pair.by_autograd, "o", color=colour, label=pair.activation)
    left.set_yscale("log")
    left.set_xlabel("layer")
    left.set_ylabel("gradient at pre-activations")
    left.set_title("Dots: autograd; lines: the chain rule by hand")
    left.legend(loc="lower right")
    greatest = max(max(pair.difference.values()) for pair in pairs)
    note = f"greatest relative difference: {greatest:.1g}"
    left.text(0.97, 0.27, note, transform=left.transAxes, ha="right", fontsize=8.5)
    _draw_memory(right, pairs)
    figure.suptitle(
        "Forward and backward by hand, and the activations that the way back needs",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def compare(result: Result) -> Pair:
    """The first step of a run again, by hand."""
    spec = parse(dict(result.config))
    table = open_data(spec)
    mlp = build_mlp([spec], [table])
    network = mlp.unpack()
    data = PackData([table], [spec.seed], batch_size=spec.data.batch_size, dtype=torch.float64)
    batch = data.epoch(0)[0]
    real_B = batch.weight[0] > 0
    x_BD, y_B = (tensor[0][real_B].numpy() for tensor in data.gather(batch.index))
    activation = result.key("activation._target_").rpartition(".")[2]
    state = [parameter.detach().numpy() for parameter in network.parameters()]
    hand = by_hand(x_BD, y_B, state[::2], state[1::2], *PHI[activation])
    gradients = read_gradients(RunDirectory(result.directory).gradients)
    difference = {}
    for name, quantity in QUANTITIES.items():
        run_L, hand_L = gradients.grid(quantity)[1][0], np.array(hand[name])
        difference[name] = float(np.abs(run_L[: hand_L.size] / hand_L - 1).max())
    widths = [x_BD.shape[1], *[len(bias) for bias in state[1:-2:2]]]
    predicted = BYTES * len(x_BD) * sum(widths)
    stored = stored_bytes(network, torch.from_numpy(x_BD))
    return Pair(
        activation=activation,
        depth=len(widths) - 1,
        batch=len(x_BD),
        by_autograd=gradients.grid(QUANTITIES["delta"])[1][0],
        by_hand=np.array(hand["delta"]),
        difference=difference,
        stored=stored,
        predicted=predicted,
    )


def by_hand(
    x_BD: Array,
    y_B: NDArray[np.int64],
    weights: Sequence[Array],
    biases: Sequence[Array],
    phi: Function,
    slope: Function,
) -> dict[str, list[float]]:
    """Cross-entropy forward and backward, a list over layers for each quantity."""
    z, h = [], [x_BD]
    for weight, bias in zip(weights, biases, strict=True):
        z.append(h[-1] @ weight.T + bias)
        h.append(phi(z[-1]))
    exp_BC = np.exp(z[-1] - z[-1].max(axis=1, keepdims=True))
    one_hot_BC = np.eye(exp_BC.shape[1])[y_B]
    delta = (exp_BC / exp_BC.sum(axis=1, keepdims=True) - one_hot_BC) / len(x_BD)
    found: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for layer in reversed(range(len(weights))):
        found["delta"].insert(0, float(np.sqrt(len(x_BD)) * np.linalg.norm(delta)))
        found["weight"].insert(0, float(np.linalg.norm(delta.T @ h[layer])))
        found["bias"].insert(0, float(np.linalg.norm(delta.sum(axis=0))))
        if layer:
            delta = (delta @ weights[layer]) * slope(z[layer - 1])
    found["activation"] = [float((h_BD**2).mean()) for h_BD in h[1:-1]]
    return found


def stored_bytes(network: torch.nn.Module, x_BD: torch.Tensor) -> int:
    """What autograd keeps for the backward pass through a network, its parameters left out."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x_BD)
    return sum(
        tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in parameters
    )


def _draw_memory(axes: Axes, pairs: Sequence[Pair]) -> None:
    for batch in sorted({pair.batch for pair in pairs}):
        own = sorted((p for p in pairs if p.batch == batch), key=lambda pair: pair.depth)
        depth = [pair.depth for pair in own]
        axes.plot(depth, [p.predicted for p in own], color=INK, linewidth=1, linestyle=(0, (2, 2)))
        axes.plot(depth, [pair.stored for pair in own], "o", color=INK, markersize=4)
        axes.annotate(
            f"B = {batch}",
            (depth[-1], own[-1].stored),
            xytext=(7, -3),
            textcoords="offset points",
            fontsize=8.5,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.margins(x=0.14)
    depths = sorted({pair.depth for pair in pairs})
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.set_xlabel("hidden layers")
    axes.set_ylabel("bytes stored")
    axes.set_title(r"Stored activations; line: $8\,B\,(d + n L)$ bytes")
