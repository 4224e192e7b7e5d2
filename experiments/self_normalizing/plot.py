"""From the runs to the numbers and the figure: means and variances of activations through depth.

Shapes: L hidden layers, S seeds, V starting variances.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_gradients
from unitgain.theory import activations
from unitgain.theory.network import Dropout, Layer, Network, propagate

Array = NDArray[np.float64]

SIGMA_W = {"lecun": 1.0, "he": 2**0.5}
COLOURS = ("#1f4e79", "#4f93c9", "#d98b4a", "#b5452c")
PLAIN, ALPHA = "#8a4fa3", "#2e8b6f"
INK, MUTED = "#262626", "#6b6b6b"
INSIDE = (0.8, 1.5)
WINDOW = (0.03, 0.3)
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4)


@dataclass(frozen=True)
class Kind:
    """What the networks of one curve share; without dropout its kind says nothing."""

    activation: str
    init: str
    alpha: bool = False
    p: float = 0.0


SELU = Kind("selu", "lecun")
ALPHA_DROPOUT, PLAIN_DROPOUT = Kind("selu", "lecun", True, 0.1), Kind("selu", "lecun", False, 0.1)
RELU, TANH = Kind("relu", "he"), Kind("tanh", "lecun")

Flows = Mapping[tuple[Kind, float], Array]


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """The fixed point, how fast it is reached, and what dropout and other activations make of it."""
    flows = _flows(results)
    found = {
        "selu_variance": _farthest(flows, SELU, 1, 1.0),
        "selu_mean": _farthest(flows, SELU, 0, 0.0),
        "variance_slope": _slopes(flows)[1],
        "mean_slope": _slopes(flows)[0],
        "alpha_variance": _farthest(flows, ALPHA_DROPOUT, 1, 1.0),
        "alpha_mean": _farthest(flows, ALPHA_DROPOUT, 0, 0.0),
    }
    plain_VL = np.array([flows[key][:, 1, -1].mean() for key in _keys(flows, PLAIN_DROPOUT)])
    found["plain_variance"] = float(plain_VL.mean())
    for name, kind in (("selu", SELU), ("relu", RELU)):
        low, high = (flows[kind, start][:, 1, -1].mean() for start in INSIDE)
        found[f"{name}_ratio"] = float(high / low)
    found["tanh_variance"] = float(flows[TANH, INSIDE[1]][:, 1, -1].mean())
    return found


def theory(kind: Kind, start: float, depth: int) -> Array:
    """Means and variances of wide networks, (2, L)."""
    layers = [Layer(start**0.5), *[Layer(SIGMA_W[kind.init])] * depth]
    phi = getattr(activations, kind.activation)()
    signal = propagate(Network(phi, tuple(layers), dropout=Dropout(kind.p, kind.alpha)))
    mean_L = signal.activation_mean
    return np.array([mean_L, signal.activation_second_moment - mean_L**2])


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Variances without dropout, those of the controls and with dropout; means."""
    flows = _flows(results)
    figure = Figure(figsize=(11.2, 3.9), layout="constrained")
    first, second, third, fourth = figure.subplots(1, 4)
    starts = [start for _, start in _keys(flows, SELU)]
    for colour, start in zip(COLOURS, starts, strict=True):
        _curves(first, flows, SELU, start, 1, colour, f"inputs' variance {start:g}")
        _curves(second, flows, RELU, start, 1, colour)
        _curves(second, flows, TANH, start, 1, colour)
        for row, axes in ((1, third), (0, fourth)):
            named = axes is third and start == starts[0]
            _curves(axes, flows, PLAIN_DROPOUT, start, row, PLAIN, "dropout" if named else None)
            name = "alpha dropout" if named else None
            _curves(axes, flows, ALPHA_DROPOUT, start, row, ALPHA, name)
    for axes in (first, second, third):
        axes.set_yscale("log")
        axes.set_ylim(0.018, 4.5)
        axes.set_yticks(TICKS, map(str, TICKS))
        axes.minorticks_off()
        axes.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=":")
    fourth.axhline(0.0, color=MUTED, linewidth=0.9, linestyle=":")
    second.annotate("ReLU", (24, 0.6), ha="right", va="bottom", color=MUTED)
    second.annotate("tanh", (9, 0.08), ha="left", va="bottom", color=MUTED)
    titles = ("SELU", "ReLU from He's, tanh", "SELU, 10% dropped", "the same: means")
    for axes, title in zip((first, second, third, fourth), titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel("hidden layer")
    first.set_ylabel("variance of activations")
    fourth.set_ylabel("mean of activations")
    first.plot([], [], color=INK, linewidth=1, linestyle=(0, (2, 2)), label="theory, wide")
    figure.legend(loc="outside lower center", ncols=7, fontsize=8.5)
    figure.suptitle(
        "SELU networks end at mean 0 and variance 1, and alpha dropout keeps them there",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _curves(
    axes: Axes,
    flows: Flows,
    kind: Kind,
    start: float,
    row: int,
    colour: str,
    label: str | None = None,
) -> None:
    """The mean over seeds, and theory over it."""
    value_L = flows[kind, start][:, row].mean(axis=0)
    layer_L = np.arange(1, value_L.size + 1)
    axes.plot(layer_L, value_L, color=colour, linewidth=1.3, label=label)
    wide_L = theory(kind, start, value_L.size)[row]
    axes.plot(layer_L, wide_L, color=INK, linewidth=1, linestyle=(0, (2, 2)))


def _flows(results: Sequence[Result]) -> Flows:
    """(S, 2, L) means and variances before the first step, by kind of network and starting variance."""
    found: dict[tuple[Kind, float], list[Array]] = defaultdict(list)
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        p = result.key("dropout.p")
        alpha = result.key("dropout._target_").endswith("AlphaDropout")
        if alpha and p == 0:
            continue
        kind = Kind(
            result.key("activation._target_").rpartition(".")[2].lower(),
            result.key("init._target_").rpartition(".")[2],
            alpha,
            p,
        )
        start = round(result.key("first_init.sigma_w") ** 2, 6)
        gradients = read_gradients(RunDirectory(result.directory).gradients)
        depth = result.key("model.depth")
        flow = [gradients.grid(f"activation_{name}")[1][0] for name in ("mean", "variance")]
        found[kind, start].append(np.array(flow)[:, :depth])
    return {key: np.array(flow) for key, flow in found.items()}


def _keys(flows: Flows, kind: Kind) -> list[tuple[Kind, float]]:
    return sorted((key for key in flows if key[0] == kind), key=lambda key: key[1])


def _farthest(flows: Flows, kind: Kind, row: int, point: float) -> float:
    """At the last layer, the mean over seeds that is farthest from the fixed point, of all starts."""
    ends = [float(flows[key][:, row, -1].mean()) for key in _keys(flows, kind)]
    return max(ends, key=lambda end: abs(end - point))


def _slopes(flows: Flows) -> tuple[float, float]:
    """The derivatives of the next layer's mean and variance with respect to the variance.

    From networks with the same weights that began at the two ends of the theorem's domain: what they
    share, such as the chance of a finite width, cancels in their difference. Layers count where it is
    in ``WINDOW``: near the fixed point, and not rounding.
    """
    low, high = (flows[SELU, start] for start in INSIDE)
    gap_SL = (high - low)[:, 1]
    before_N, slopes = gap_SL[:, :-1], []
    near = (before_N > WINDOW[0]) & (before_N < WINDOW[1])
    for row in (0, 1):
        after_N = (high - low)[:, row, 1:]
        slopes.append(float((before_N * after_N)[near].sum() / (before_N**2)[near].sum()))
    return slopes[0], slopes[1]
