"""Time of a member's step in a pack, against one run at a time and against what a pack can't do without."""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.baselines import Bare, Products, in_memory, template, with_loader
from benchmarks.measure import interleaved, judged, ratio
from benchmarks.work import OFF, Work
from unitgain.pack.engine import Pack
from unitgain.train import fit

TITLE = "Time of a member's step on digits, one thread: one run at a time / packed"
ROUNDS = 3
SHAPES = ((4, 32, 32), (4, 64, 32), (10, 64, 32), (10, 64, 128))
"""Depth, width, batch; the last one has no bar."""
OPTIMIZERS = ("sgd", "adam")
MEMBERS = (8, 16, 32, 64)
SINGLE_EPOCHS = 8
"""Epochs that a single run is timed for."""
MEMBER_EPOCHS = 256
"""Epochs times members that a pack is timed for."""
FIT_EPOCHS = 8
"""The fewest epochs that a fit is timed for: what it begins and ends with grows with its members."""

BARS: dict[tuple[int, int, int, str], dict[str, float]] = {
    (4, 32, 32, "sgd"): {"a/full": 45, "c/full": 10, "bare/full": 0.85},
    (4, 64, 32, "sgd"): {"a/full": 24, "c/full": 5.5, "bmm/full": 0.6, "bare/full": 0.85},
    (10, 64, 32, "sgd"): {"a/full": 13, "c/full": 4, "bmm/full": 0.6, "bare/full": 0.85},
    (4, 32, 32, "adam"): {"bare/full": 0.85},
    (4, 64, 32, "adam"): {"a/full": 23, "bmm/full": 0.6, "bare/full": 0.85},
    (10, 64, 32, "adam"): {"a/full": 13, "bmm/full": 0.6, "bare/full": 0.85},
}
RATIOS = ("a/full", "b/full", "c/full", "bare/full", "engine/full", "bmm/full", "bmm/engine")
PACKED = ("bmm", "bare", "engine", "full")


def full(work: Work, members: int, epochs: int) -> float:
    """Seconds of some epochs of a fit with everything at its default, by the difference of two fits."""
    return _fit(work, members, 1 + epochs) - _fit(work, members, 1)


def _fit(work: Work, members: int, epochs: int) -> float:
    specs = work.specs(members, epochs)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(specs, [Path(folder) / str(k) for k in range(members)])
        return time.perf_counter() - start


def single(function: Callable[[Work, int], float], work: Work) -> float:
    """Seconds of ``SINGLE_EPOCHS`` of one run, by the difference of two, so that what it begins with cancels."""
    return function(work, 1 + SINGLE_EPOCHS) - function(work, 1)


def engine(pack: Pack, epochs: int) -> float:
    """Seconds of some epochs of the pack that a fit trains, by itself."""
    start = time.perf_counter()
    for epoch in range(epochs):
        pack.train_epoch(epoch)
    return time.perf_counter() - start


def timed(work: Work) -> dict[str, Callable[[], float]]:
    """What is timed in turn, by name: a single run, or a kind of pack and its K. Seconds of a member's epoch."""
    functions: dict[str, Callable[[], float]] = {
        "a": per(SINGLE_EPOCHS, partial(single, template, work)),
        "b": per(SINGLE_EPOCHS, partial(single, with_loader, work)),
        "c": per(SINGLE_EPOCHS, partial(single, in_memory, work)),
    }
    for members in MEMBERS:
        epochs = max(MEMBER_EPOCHS // members, 1)
        more = max(epochs, FIT_EPOCHS)
        pack = work.pack(members, torch.device("cpu"), epochs, probe=OFF)
        functions |= {
            f"bmm {members}": per(epochs * members, Products(work, members).seconds, epochs),
            f"bare {members}": per(epochs * members, Bare(work, members).seconds, epochs),
            f"engine {members}": per(epochs * members, engine, pack, epochs),
            f"full {members}": per(more * members, full, work, members, more),
        }
    return functions


def per(count: int, function: Callable[..., float], *arguments: Any) -> Callable[[], float]:
    """The function's seconds divided by ``count``."""
    return lambda: function(*arguments) / count


def measured(work: Work) -> dict[str, Any]:
    """One shape and optimizer."""
    steps = len(work.batches())
    micro = {
        name: [s / steps * 1e6 for s in seconds]
        for name, seconds in interleaved(timed(work), ROUNDS).items()
    }
    median = {name: statistics.median(values) for name, values in micro.items()}
    best = {
        kind: min((f"{kind} {members}" for members in MEMBERS), key=lambda name: median[name])
        for kind in PACKED
    }
    # The products are those of the very pack that they are compared with.
    at = {**best, **{name: name for name in "abc"}}
    products = {kind: best[kind].replace(kind, "bmm") for kind in ("full", "engine")}
    bars = BARS.get((work.depth, work.width, work.batch, work.optimizer), {})
    ratios: dict[str, Any] = {}
    for name in RATIOS:
        above, below = name.split("/")
        first = products[below] if above == "bmm" else at[above]
        ratios[name] = ratio(micro[first], micro[at[below]])
        if name in bars:
            ratios[name] = judged(ratios[name], bars[name])
    return {
        "ratios": ratios,
        "best_K": {kind: int(name.split()[1]) for kind, name in best.items()},
        "microseconds_a_member_step": {name: round(value, 1) for name, value in median.items()},
    }


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "bar": "beside each ratio",
        "work": {
            work.name: measured(work)
            for work in (Work(*shape, name) for name in OPTIMIZERS for shape in SHAPES)
        },
    }
