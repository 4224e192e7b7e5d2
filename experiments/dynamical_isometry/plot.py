"""From the runs to the numbers and the figure: spectra at the beginning, and how soon networks learn.

Shapes: E epochs, S seeds, X points of a spectrum, N spectra (seeds and inputs), M squared singular values.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unitgain.data import open_data
from unitgain.pack.build import build_mlp
from unitgain.probe.spectrum import between, spectral_density
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_metrics
from unitgain.spec import parse
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.theory import Jacobian, activations
from unitgain.theory.criticality import critical

Array = NDArray[np.float64]
Setting = tuple[str, str, int]

ACTIVATIONS = {"Identity": activations.identity(), "Tanh": activations.tanh()}
NAMES = {"Identity": "linear", "Tanh": "tanh"}
DRAWS = {"normal": "Gaussian", "orthogonal": "orthogonal"}
COLOURS = {"normal": "#c8553d", "orthogonal": "#2f6f9f"}
INK, MUTED = "#262626", "#6b6b6b"
EXAMPLES = 4
LEARNED = 0.5
"""The training loss at which a network has learned; ln 10 = 2.30 is that of guessing."""


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Spectra in units of theory's, and epochs to learn."""
    spectra, epochs = _spectra(results), _epochs(results)
    depths = sorted({depth for _, _, depth in spectra})
    shallow, middle, deep = depths[0], depths[len(depths) // 2], depths[-1]
    q = float(results[0].key("init.q"))
    found = {"isometry": float(np.abs(spectra["Identity", "orthogonal", deep] - 1).max())}
    for setting in (
        ("Identity", "normal", middle),
        ("Tanh", "normal", middle),
        ("Tanh", "orthogonal", deep),
    ):
        name = f"{NAMES[setting[0]]}_{DRAWS[setting[1]].lower()}"
        theory, square_NM = predicted(setting, q), spectra[setting]
        found[f"variance_{name}"] = relative_variance(square_NM) / theory.variance
        found[f"largest_{name}"] = largest(square_NM) / theory.edge
        found[f"distance_{name}"] = distance(square_NM, theory)
    for activation, name in NAMES.items():
        gain = _ratio(epochs[activation, "normal", deep], epochs[activation, "orthogonal", deep])
        found[f"gain_{name}"], found[f"gain_{name}_low"] = gain.value, gain.low
        for draw_, word in DRAWS.items():
            slower = _ratio(epochs[activation, draw_, deep], epochs[activation, draw_, shallow])
            found[f"slower_{name}_{word.lower()}"] = slower.value
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: spectra of tanh networks. Middle: their variance over depth. Right: epochs to learn over depth."""
    spectra, epochs = _spectra(results), _epochs(results)
    q = float(results[0].key("init.q"))
    figure = Figure(figsize=(10.2, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_spectra(left, spectra, q)
    _draw_variances(middle, spectra, q)
    _draw_epochs(right, epochs)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    figure.suptitle(
        "Orthogonal weights keep the Jacobian's singular values together, and deep networks learn sooner",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def predicted(setting: Setting, q: float) -> Jacobian:
    """Theory's Jacobian behind layer 1, up to layer L."""
    name, distribution, depth = setting
    phi = ACTIVATIONS[name]
    layers, orthogonal = depth - 1, distribution == "orthogonal"
    return Jacobian(phi, q, critical(phi, q).sigma_w, layers, orthogonal)


def relative_variance(square_NM: Array) -> float:
    """The variance of squared singular values in units of their squared mean: the mean of the spectra."""
    return float((_relative(square_NM).var(axis=1)).mean())


def largest(square_NM: Array) -> float:
    """The largest squared singular value in units of their mean: the mean of the spectra."""
    return float(_relative(square_NM).max(axis=1).mean())


def distance(square_NM: Array, theory: Jacobian) -> float:
    """The greatest difference between the shares of squares below a point, measured and by theory."""
    square_X, below_X = shares(theory)
    sorted_M = np.sort(_relative(square_NM).ravel())
    share_X = np.searchsorted(sorted_M, square_X) / sorted_M.size
    return float(np.abs(share_X - below_X).max())


def shares(theory: Jacobian) -> tuple[Array, Array]:
    """Points of theory's spectrum and the share below each."""
    # Close together near 0, where the density of Gaussian weights has no bound.
    low_X, high_X = np.geomspace(1e-6, 0.05, 150), np.linspace(0.05, 1.0, 200)
    square_X = theory.edge * np.concatenate([low_X, high_X[1:-1]])
    return square_X, cumulative(square_X, theory.density(square_X))


def _relative(square_NM: Array) -> Array:
    """In units of each spectrum's mean, which depends on how long the input has become."""
    return square_NM / square_NM.mean(axis=1, keepdims=True)


def _spectra(results: Sequence[Result]) -> dict[Setting, Array]:
    """(N, M) squared singular values of each setting, of networks as they were before the first step."""
    found: dict[Setting, list[Array]] = defaultdict(list)
    first = min(result.key("optimizer.lr") for result in results)
    for result in results:
        if result.key("optimizer.lr") == first:
            found[_setting(result)].append(_squares(result))
    return {key: np.concatenate(values) for key, values in sorted(found.items())}


def _squares(result: Result) -> Array:
    """(N, M) from the output of layer 1 to that of the last hidden layer, at inputs of mean square 1."""
    spec = parse(result.config)
    mlp = build_mlp([spec], [open_data(spec)])
    network = mlp.unpack(0).double()
    generator = torch.Generator().manual_seed(spec.seed)
    x = torch.randn(EXAMPLES, mlp.shape.inputs, generator=generator, dtype=torch.float64)
    x = x / x.square().mean(dim=1, keepdim=True).sqrt()
    with torch.no_grad():
        h = between(network, 0, 1)(x)
    density = spectral_density(between(network, 1, result.key("model.depth")), h)
    return np.asarray(density.squares[..., :-1].numpy())


def _epochs(results: Sequence[Result]) -> dict[Setting, Array]:
    """(S,) epochs until the network has learned, in the order of seeds, with the best learning rate for the setting."""
    rates: dict[Setting, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in sorted(results, key=lambda result: int(result.key("seed"))):
        rates[_setting(result)][result.key("optimizer.lr")].append(_time(result))
    best = {key: min(by.values(), key=np.mean) for key, by in rates.items()}
    return {key: np.array(values) for key, values in sorted(best.items())}


def _time(result: Result) -> float:
    """Epochs to learn; all of them for a run that hasn't learned or has diverged, which is a lower bound."""
    most = float(result.key("trainer.max_epochs"))
    if result.summary["status"] == "diverged":
        return most
    loss_E = np.asarray(read_metrics(RunDirectory(result.directory).metrics)["train/loss"])
    return min(time_to(loss_E), most)


def time_to(loss_E: Array) -> float:
    """Epochs until the loss falls to `LEARNED`, by interpolation of its logarithm; infinity where it doesn't."""
    below = np.flatnonzero(loss_E <= LEARNED)
    if not below.size:
        return float("inf")
    i = int(below[0])
    if i == 0:
        return 1.0
    before, after = np.log(loss_E[i - 1 : i + 1])
    return i + float((before - np.log(LEARNED)) / (before - after))


def _setting(result: Result) -> Setting:
    name = result.key("activation._target_").rpartition(".")[2]
    return name, result.key("init.distribution"), result.key("model.depth")


def _ratio(upper_S: Array, lower_S: Array) -> Interval:
    """The geometric mean of ratios, seed by seed, with its 95% interval."""
    interval = location_interval(np.log(upper_S / lower_S), np.random.default_rng(0))
    return Interval(*(float(np.exp(x)) for x in (interval.value, interval.low, interval.high)))


def _draw_spectra(axes: Axes, spectra: Mapping[Setting, Array], q: float) -> None:
    depth = sorted({key[2] for key in spectra})[-1]
    for distribution, colour in COLOURS.items():
        setting = ("Tanh", distribution, depth)
        square_X, below_X = shares(predicted(setting, q))
        value_X = np.sort(np.sqrt(_relative(spectra[setting]).ravel()))
        share_X = (np.arange(value_X.size) + 0.5) / value_X.size
        axes.plot(value_X, share_X, color=colour, linewidth=2.2, alpha=0.55)
        line = (0, (2, 2))
        axes.plot(np.sqrt(square_X), below_X, color=INK, linewidth=1.0, linestyle=line)
    axes.set_xscale("log")
    axes.set_xlim(1e-2, 20)
    axes.set_xlabel("singular value / root mean square")
    axes.set_ylabel("share of them below")
    axes.set_title(f"Spectra: tanh, {depth} layers")


def cumulative(square_X: Array, density_X: Array) -> Array:
    """The share below each point; what lies below the first is what is left to one."""
    known = np.isfinite(density_X)
    step_X = np.diff(square_X) * np.interp(
        (square_X[1:] + square_X[:-1]) / 2, square_X[known], density_X[known]
    )
    return np.concatenate([[1 - step_X.sum()], 1 - step_X.sum() + np.cumsum(step_X)])


def _draw_variances(axes: Axes, spectra: Mapping[Setting, Array], q: float) -> None:
    depths = sorted({key[2] for key in spectra})
    fine = np.arange(depths[0], depths[-1] + 1)
    for distribution, colour in COLOURS.items():
        theory = [predicted(("Tanh", distribution, int(depth)), q).variance for depth in fine]
        axes.plot(fine, theory, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        measured = [relative_variance(spectra["Tanh", distribution, depth]) for depth in depths]
        axes.plot(depths, measured, "o", color=colour, markersize=5)
    _depth_axis(axes, depths)
    axes.set_yscale("log")
    axes.set_ylabel("variance / squared mean")
    axes.set_title("Squared singular values: tanh")


def _draw_epochs(axes: Axes, epochs: Mapping[Setting, Array]) -> None:
    depths = sorted({key[2] for key in epochs})
    for activation, line in (("Identity", (0, (3, 1.5))), ("Tanh", "-")):
        for distribution, colour in COLOURS.items():
            middle = [epochs[activation, distribution, depth].mean() for depth in depths]
            axes.plot(
                depths,
                middle,
                color=colour,
                linestyle=line,
                marker="o",
                markersize=4.5,
                linewidth=1.3,
                label=f"{DRAWS[distribution]}, {NAMES[activation]}",
            )
            for depth in depths:
                value_S = epochs[activation, distribution, depth]
                axes.plot([depth] * value_S.size, value_S, ".", color=colour, markersize=3)
    axes.plot([], [], color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label="theory")
    _depth_axis(axes, depths)
    axes.set_yscale("log")
    ticks = [2, 3, 5, 10, 15]
    axes.set_yticks(ticks, [str(tick) for tick in ticks[:-1]] + ["15 or more"])
    axes.minorticks_off()
    axes.set_title(f"Epochs to a training loss of {LEARNED:g}")


def _depth_axis(axes: Axes, depths: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.minorticks_off()
    axes.set_xlabel("hidden layers")
