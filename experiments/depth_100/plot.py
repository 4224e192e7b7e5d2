"""From the runs to the numbers and the figure: 100 ReLU layers, with and without LSUV, skips and scaled branches.

Shapes: B examples, L layers (the output layer included), S seeds.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.nn.mlp import Trace
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.settings import process_settings

Array = NDArray[np.float64]
Key = tuple[str, bool, int]

COLOURS = {"xavier": "#c8553d", "he": "#2f6f9f", "lsuv": "#2e8b6f", "critical": "#8a4fa3"}
NAMES = {"xavier": "Xavier", "he": "He", "lsuv": "LSUV", "critical": "scaled branches"}
INK, MUTED = "#262626", "#6b6b6b"
SKIPPED = 10


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Variances before training, and where training ends with the better of the two rates."""
    z = _collected(results, _before)
    shallow, deep = sorted({depth for _, _, depth in z})
    lsuv_SL = z["lsuv", False, deep][:, 0]
    he, scaled = (z[init, True, deep][:, 1] for init in ("he", "critical"))
    best = {key: _best(found) for key, found in _accuracies(results).items()}
    diverged = [
        float(result.summary["status"] == "diverged")
        for result in results
        if _key(result) == ("he", True, deep)
    ]
    return {
        "lsuv_variance": float(lsuv_SL.ravel()[np.abs(lsuv_SL - 1).argmax()]),
        "lsuv_cosine": float(z["lsuv", False, deep][:, 2, -2].mean()),
        "lsuv_20": best["lsuv", False, shallow],
        "lsuv_100": best["lsuv", False, deep],
        "he_100": best["he", False, deep],
        "xavier_100": best["xavier", False, deep],
        "residual_growth": _growth(he),
        "residual_diverged": float(np.mean(diverged)),
        "scaled_length": float((scaled[:, -2] / scaled[:, 1]).mean()),
        "scaled_100": best["critical", True, deep],
        "residual_lsuv_100": best["lsuv", True, deep],
    }


def block_growth() -> float:
    r"""What a residual ReLU layer from He's weights multiplies the mean square by, many layers in.

    With r the mean over the root mean square, $h + \phi(z)$ has mean square $(2 + 2 r / \sqrt\pi) E[h^2]$, and
    $r' = (r + 1 / \sqrt\pi) / \sqrt{2 + 2 r / \sqrt\pi}$, whose fixed point is meant. A branch of mean zero has 2.
    """
    r, mean = 0.0, 1 / math.sqrt(math.pi)
    for _ in range(100):
        r = (r + mean) / math.sqrt(2 + 2 * r * mean)
    return 2 + 2 * r * mean


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: mean squares of pre-activations by layer before training. Right: accuracies after it."""
    z, found = _collected(results, _before), _accuracies(results)
    deep = max(depth for _, _, depth in z)
    figure = Figure(figsize=(11.2, 4.0), layout="constrained")
    left, middle, right, last = figure.subplots(1, 4)
    for axes, residual, title in ((left, False, "plain"), (middle, True, "residual")):
        _lengths(axes, z, residual, deep)
        axes.set_title(f"{title}, {deep} layers")
    left.set_ylabel(r"mean square of $z_l$ before training")
    layer_L = np.arange(1, deep + 1)
    wide_L = block_growth() ** (layer_L - 2.0)
    middle.plot(layer_L, wide_L, color=INK, linewidth=1, linestyle=(0, (2, 2)),
                label=f"theory: x {block_growth():.2f}")  # fmt: skip
    for axes, residual, title in ((right, False, "plain"), (last, True, "residual")):
        _bars(axes, found, residual)
        axes.set_title(f"{title}: training accuracy")
    figure.legend(loc="outside lower center", ncols=6)
    figure.suptitle(
        f"Scaled branches train {deep} ReLU layers; unit variance alone, LSUV's, hardly does",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def _lengths(axes: Axes, z: Mapping[Key, Array], residual: bool, deep: int) -> None:
    for init, name in NAMES.items():
        square_SL = z[init, residual, deep][:, 1, :-1]
        layer_L = np.arange(1, square_SL.shape[1] + 1)
        label = name if residual else None
        if init == "critical" and not residual:
            continue  # He's weights, but for the first and the last layer.
        lines = axes.plot(layer_L, square_SL.T, color=COLOURS[init], linewidth=1.1)
        lines[0].set_label(label)
    axes.set_yscale("log")
    axes.set_xlabel("hidden layer")


def _bars(axes: Axes, found: Mapping[Key, Array], residual: bool) -> None:
    """A dot a seed, at the better of both rates; a cross where training diverged."""
    depths = sorted({depth for _, _, depth in found})
    inits = [init for init in NAMES if residual or init != "critical"]
    for i, init in enumerate(inits):
        for side, depth in zip((-0.17, 0.17), depths, strict=True):
            accuracy_S = _of_best_rate(found[init, residual, depth])
            x_S = np.full(accuracy_S.shape, i + side)
            ended = np.isfinite(accuracy_S)
            face = COLOURS[init] if depth == depths[-1] else "none"
            axes.scatter(
                x_S[ended], accuracy_S[ended], s=30, facecolor=face, edgecolor=COLOURS[init]
            )
            axes.scatter(
                x_S[~ended], np.zeros(np.sum(~ended)), marker="x", s=30, color=COLOURS[init]
            )
    axes.axhline(0.1, color=MUTED, linewidth=0.9, linestyle=":")
    axes.set_ylim(-0.05, 1.05)
    axes.set_xticks(range(len(inits)), [NAMES[init].replace(" ", "\n") for init in inits])
    axes.set_xlabel(f"open: {depths[0]} layers, full: {depths[-1]}, x: diverged", fontsize=8.5)


def _key(result: Result) -> Key:
    init = result.key("init._target_").rpartition(".")[2]
    return init, bool(result.key("model.residual")), int(result.key("model.depth"))


def _collected(results: Sequence[Result], read: Callable[[Path], Array]) -> dict[Key, Array]:
    """What is read of the runs of the greatest rate, (S, ...)."""
    rate = max(result.key("optimizer.lr") for result in results)
    found: dict[Key, list[Any]] = defaultdict(list)
    for result in results:
        if result.key("optimizer.lr") == rate:
            found[_key(result)].append(read(result.directory))
    return {key: np.array(values) for key, values in found.items()}


def _accuracies(results: Sequence[Result]) -> dict[Key, Array]:
    """Accuracies on training rows by rate and seed, NaN where a run diverged."""
    found: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        accuracy = result.metric("train/accuracy")
        if result.summary["status"] == "diverged":
            accuracy = math.nan
        found[_key(result)][result.key("optimizer.lr")].append(accuracy)
    return {key: np.array(list(rates.values())) for key, rates in found.items()}


def _of_best_rate(accuracy_RS: Array) -> Array:
    """(S,) those of the rate with the best median; a run that diverged counts as nothing learned."""
    return accuracy_RS[int(np.median(np.nan_to_num(accuracy_RS), axis=1).argmax())]


def _best(accuracy_RS: Array) -> float:
    return float(np.median(np.nan_to_num(_of_best_rate(accuracy_RS))))


def _growth(square_SL: Array) -> float:
    """The factor a layer, from the first few on."""
    log_SL = np.log(square_SL[:, :-1])
    skipped = min(SKIPPED, log_SL.shape[1] - 2)
    return float(
        np.exp((log_SL[:, -1] - log_SL[:, skipped]).mean() / (log_SL.shape[1] - 1 - skipped))
    )


@cache
def _before(directory: Path) -> Array:
    """Variances, mean squares and mean cosines of pre-activations on the first batch, before training: (3, L).

    The network is built from the run's configuration as the run built it.
    """
    spec = parse(RunDirectory(directory).read_config())
    trace = Trace()
    with process_settings(spec), torch.no_grad():
        pack = PackedModule([spec], PackedDataModule([spec]).tables).pack
        batch = pack.data.epoch(0)[0]
        x_KBD, _ = pack.data.gather(batch.index)
        pack.mlp(x_KBD[:, : batch.rows], trace=trace)
    z = [z_KBD[0].double() for z_KBD in trace.preactivations]
    directions = [z_BD / z_BD.norm(dim=1, keepdim=True) for z_BD in z]
    count = len(z[0])
    rows = (
        [z_BD.var(correction=0) for z_BD in z],
        [z_BD.square().mean() for z_BD in z],
        [(u_BD.sum(dim=0).square().sum() / count - 1) / (count - 1) for u_BD in directions],
    )
    return np.array([[float(value) for value in row] for row in rows])
