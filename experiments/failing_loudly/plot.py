"""From the runs to the numbers and the figure: which tests see which shifts, with how many rows.

Shapes: S seeds, Q shifts, Z sizes, T tests, B repetitions without a shift; N source and as many target rows, D
features, K columns of a reduction.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch import Tensor, nn

from unitgain.data import Prepared, Split
from unitgain.data.shifts import GaussianNoise
from unitgain.report import style
from unitgain.report.study import Result
from unitgain.shift import MMD, ClassifierTest, KolmogorovSmirnov
from unitgain.stats.bootstrap import location_interval
from unitgain.stats.intervals import Interval
from unitgain.train.evaluate import opened
from unitgain.train.label_shift import moved_p_value

Array = NDArray[np.float64]
Parts = tuple[Tensor, Tensor]
Reductions = Mapping[str, Callable[[Tensor], Tensor]]

LEVEL = 0.05
SIZES = (10, 50, 100, 500)
"""Rows of source and of target; those that there are enough rows for."""
REPETITIONS = 10  # without a shift, for each seed and size
COLUMNS = 16  # of principal components, and of the untrained network
SPACES = ("inputs", "PCA", "untrained", "softmax")
TESTS = (
    *(f"KS, {space}" for space in SPACES),
    *(f"MMD, {space}" for space in SPACES),
    "chi2, predicted class",
    "domain classifier",
)
SHARES = (0.1, 0.5, 1.0)
COLOURS = ("#8a8a8a", "#5b8c5a", "#d9a441", "#c8553d")
OTHERS = ("#7a5195", "#2f6f9f")
SHADES = ("#e0a899", "#c8553d", "#6f2415")
BEST = "KS, softmax"
TITLES = ("One test a column", "All columns: MMD", "Softmax, by strength", "Softmax, by share")
TITLE = "On small images a kernel test of all pixels sees more than the softmax"


@dataclass(frozen=True)
class Shifting:
    """What happens to target rows.

    A share of them is noisy, by so many standard deviations of the training rows, or moved, by at most so many degrees,
    widths and zoom; a share of class 0 is gone, or there is nothing but class 0. The paper calls it small to large.
    """

    intensity: str
    share: float
    noise: float = 0.0
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gone: float = 0.0
    only_zero: bool = False


NOISES = {"small": 0.0127, "medium": 0.127, "large": 1.27}
"""The paper's 1, 10 and 100 of 255, in standard deviations of MNIST's pixels."""
MOVES = {"small": (10.0, 0.05, 0.1), "medium": (40.0, 0.2, 0.2), "large": (90.0, 0.4, 0.4)}
SHIFTS = (
    *(Shifting(word, share, noise=n) for (word, n), share in product(NOISES.items(), SHARES)),
    *(Shifting(word, share, move=m) for (word, m), share in product(MOVES.items(), SHARES)),
    *(Shifting("small", share, gone=share) for share in SHARES),
    *(Shifting("large", 0.5, move=MOVES["medium"], gone=share) for share in SHARES),
    *(Shifting("large", share, move=MOVES["medium"], only_zero=True) for share in SHARES),
)


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Shares of shifts that are seen, and differences of these."""
    power_SQZT, alarms_SBZT = _measured(_directories(results))
    mean_ST = power_SQZT.mean(axis=(1, 2))
    best = TESTS.index(BEST)
    second = max(set(range(len(TESTS))) - {best}, key=lambda t: float(mean_ST[:, t].mean()))
    seen_SQZ = power_SQZT[..., best]
    more_ST = (power_SQZT[:, :, -1] - power_SQZT[:, :, 0]).mean(axis=1)
    ks_S, mmd_S = mean_ST[:, :8].reshape(-1, 2, 4).mean(axis=2).T
    return {
        "false_alarms_most": float(alarms_SBZT.mean(axis=(0, 1, 2)).max()),
        "softmax_over_second_low": _mean(mean_ST[:, best] - mean_ST[:, second]).low,
        "mmd_over_univariate": _mean(mmd_S - ks_S).value,
        "more_rows_low": min(_mean(each_S).low for each_S in more_ST.T),
        "stronger_low": _least_rise(seen_SQZ, NOISES),
        "larger_share_low": _least_rise(seen_SQZ, SHARES),
        **{name: float(mean_ST[:, t].mean()) for t, name in enumerate(TESTS)},
    }


@style()
def draw(results: Sequence[Result]) -> Figure:
    """The share of shifts seen over rows: tests of columns, of all columns, and softmax by shift."""
    power_SQZT, _ = _measured(_directories(results))
    figure = Figure(figsize=(11.4, 4.1), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for axes, first in zip(panels, (0, len(SPACES)), strict=False):
        for t, (space, colour) in enumerate(zip(SPACES, COLOURS, strict=True)):
            _line(axes, power_SQZT[..., first + t], colour, space)
    for name, colour in zip(TESTS[-2:], OTHERS, strict=True):
        _line(panels[0], power_SQZT[..., TESTS.index(name)], colour, name)
    seen_SQZ = power_SQZT[..., TESTS.index(BEST)]
    for intensity, share, colour in zip(NOISES, SHARES, SHADES, strict=True):
        _line(panels[2], seen_SQZ[:, _of(intensity)], colour, intensity)
        _line(panels[3], seen_SQZ[:, _of(share)], colour, f"{share:.0%} of rows")
    for axes, title in zip(panels, TITLES, strict=True):
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_xlabel("rows of source and of target, n")
    panels[0].set_ylim(0, 1)
    panels[0].set_ylabel("share of shifts seen at level 0.05")
    panels[2].legend(loc="upper left")
    panels[3].legend(loc="upper left")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _line(axes: Axes, seen_SQZ: Array, colour: str, label: str) -> None:
    """The mean over shifts and seeds, with the 95% interval over seeds."""
    ends = [_mean(seen_S) for seen_S in seen_SQZ.mean(axis=1).T]
    sizes = SIZES[: len(ends)]
    axes.plot(sizes, [end.value for end in ends], color=colour, label=label, linewidth=1.5)
    low, high = ([getattr(end, side) for end in ends] for side in ("low", "high"))
    axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0)


def _directories(results: Sequence[Result]) -> tuple[Path, ...]:
    """In the order of seeds."""
    ordered = sorted(results, key=lambda result: int(result.key("seed")))
    return tuple(result.directory for result in ordered)


@cache
def _measured(directories: tuple[Path, ...]) -> tuple[Array, Array]:
    """Whether tests see each shift (S, Q, Z, T), and one where there is none (S, B, Z, T)."""
    shifts = (*SHIFTS, *[Shifting("none", 0.0)] * REPETITIONS)
    seen = []
    for s, directory in enumerate(directories):
        with opened(directory) as (_, module):
            table, network = module.tables[0], module.pack.mlp.unpack(0).cpu()
        reductions = _reductions(table, network, s)
        held = len(table.split.val) + len(table.split.test)
        sizes = [size for size in SIZES if 2 * size <= held]
        for (q, shift), (z, size) in product(enumerate(shifts), enumerate(sizes)):
            rng = np.random.default_rng([s, z, q])
            seen.append(_sees(reductions, _parts(table, shift, size, rng), rng))
    seen_SQZT = np.array(seen, dtype=float).reshape(len(directories), len(shifts), -1, len(TESTS))
    return seen_SQZT[:, : len(SHIFTS)], seen_SQZT[:, len(SHIFTS) :]


def _reductions(table: Prepared, network: nn.Sequential, seed: int) -> Reductions:
    """Inputs as they are, and what makes fewer columns of them; learned from training rows alone."""
    train_ND = torch.from_numpy(table.x[table.split.train])
    axes_DK = torch.linalg.svd(train_ND - train_ND.mean(0), full_matrices=False)[2][:COLUMNS].T
    generator = torch.Generator().manual_seed(seed)
    sizes = (table.n_features, 128, COLUMNS)
    first_DH, second_HK = (
        torch.randn(n, m, dtype=torch.float64, generator=generator) * (2 / n) ** 0.5
        for n, m in pairwise(sizes)
    )
    dtype = next(network.parameters()).dtype
    return {
        "inputs": lambda x: x,
        "PCA": lambda x: x @ axes_DK,
        "untrained": lambda x: (x @ first_DH).relu() @ second_HK,
        "softmax": lambda x: network(x.to(dtype)).detach().double().softmax(1),
    }


def _sees(reductions: Reductions, parts: Parts, rng: np.random.Generator) -> list[bool]:
    """Whether each test rejects that both parts are of one distribution."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    spaces = [tuple(reduce(part) for part in parts) for reduce in reductions.values()]
    ks, mmd = KolmogorovSmirnov("bonferroni"), MMD(permutations=100)
    found = [test(*space, generator).p_value for test in (ks, mmd) for space in spaces]
    said, classes = [each.argmax(1) for each in spaces[-1]], spaces[-1][0].shape[1]
    found.append(moved_p_value(*said, classes, generator))
    found.append(ClassifierTest()(*parts, generator).p_value)
    return [p_value <= LEVEL for p_value in found]


def _parts(table: Prepared, shift: Shifting, size: int, rng: np.random.Generator) -> Parts:
    """As many source as target rows that the network wasn't trained on, the target's shifted."""
    train = table.split.train
    held = rng.permutation(np.concatenate([table.split.val, table.split.test]))
    source, left = held[:size], held[size:]
    zero = table.y[left] == 0
    gone = left[zero][: round(shift.gone * zero.sum())]
    target = left[~np.isin(left, gone)][:size]
    if shift.only_zero:
        target = rng.choice(left[zero], size)
    raw = table.shifted.table.take(np.concatenate([train, source, target]))
    ends = np.cumsum([len(train), len(source), len(target)])
    split = Split(*np.split(np.arange(ends[-1]), ends[:-1]))
    changed = split.test[: round(shift.share * len(target))]
    if any(shift.move):
        x_ND = raw.x.copy()
        x_ND[changed] = moved(x_ND[changed], shift.move, rng)
        raw = replace(raw, x=x_ND)
    if shift.noise:
        noise = GaussianNoise(shift.noise, seed=int(rng.integers(2**31)))
        raw = noise(raw, replace(split, test=changed)).table
    x_ND = table.encoder.encode(raw)
    return torch.from_numpy(x_ND[split.val]), torch.from_numpy(x_ND[split.test])


def moved(x_ND: Array, most: tuple[float, float, float], rng: np.random.Generator) -> Array:
    """Square images, each rotated, translated and zoomed at random by at most so much, edges repeated."""
    degrees, shift, zoom = most
    side = round(x_ND.shape[1] ** 0.5)
    middle = np.full(2, (side - 1) / 2)
    found = np.empty_like(x_ND)
    for n, image in enumerate(x_ND.reshape(-1, side, side)):
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn * rng.uniform(1 - zoom, 1 + zoom, 2)
        offset = middle - matrix @ middle + rng.uniform(-shift, shift, 2) * side
        found[n] = affine_transform(image, matrix, offset, order=1, mode="nearest").ravel()
    return found


def _least_rise(seen_SQZ: Array, kinds: Iterable[str | float]) -> float:
    """From one kind to the next, the lower end of its interval."""
    mean_KS = [seen_SQZ[:, _of(kind)].mean(axis=(1, 2)) for kind in kinds]
    return min(_mean(after_S - before_S).low for before_S, after_S in pairwise(mean_KS))


def _of(kind: str | float) -> list[bool]:
    """Which shifts are of an intensity, or vary such a share."""
    return [kind in (shift.intensity, shift.gone or shift.share) for shift in SHIFTS]


def _mean(values_S: Array) -> Interval:
    """Over seeds, with its 95% interval."""
    return location_interval(values_S, np.random.default_rng(0))
