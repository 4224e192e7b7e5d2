"""How activations and their changes in training depend on the width of a network: the coordinate check.

Shapes: W widths, L layers (the output layer included), K members, B examples, D units.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared
from unitgain.errors import ConfigError
from unitgain.nn.mlp import MLP, Trace
from unitgain.pack.build import build_mlp, build_pack
from unitgain.spec import RunSpec

Array = NDArray[np.float64]
_EXAMPLES = 256
"""Training examples on which activations are compared."""


@final
@dataclass(frozen=True)
class Coordinates:
    r"""The sizes of pre-activations, root mean squares over examples, units and seeds, at each width.

    Attributes:
        widths: of the hidden layers.
        size_WL: at initialization.
        change_WL: of what some steps of training add.
    """

    widths: tuple[int, ...]
    size_WL: Array
    change_WL: Array

    @property
    def size_slopes(self) -> Array:
        """The least-squares slope of log size against log width, of each layer."""
        return _slope(self.widths, self.size_WL)

    @property
    def change_slopes(self) -> Array:
        """That of the change: 0 where a layer learns alike at every width; NaN where it doesn't learn."""
        return _slope(self.widths, self.change_WL)


def coordinate_check(
    spec: RunSpec, table: Prepared, widths: Sequence[int], steps: int = 4, seeds: int = 4
) -> Coordinates:
    """Train a few steps at each width, the seeds of one width as a pack.

    Args:
        spec: the run; its width and seed are replaced.
        table: what it trains on.
        widths: at least two.
        steps: of the optimizer.
        seeds: to average over, from the run's own on.

    Raises:
        ConfigError: activations aren't finite after these steps.

    Reference:
        Yang et al. 2022, arXiv 2203.03466, section D.1.
    """
    sizes, changes = [], []
    for width in widths:
        specs = [_at(spec, width, k) for k in range(seeds)]
        size_L, change_L = _trained(specs, table, steps)
        if not np.isfinite(change_L).all():
            raise ConfigError(
                f"optimizer.lr: activations must stay finite for {steps} steps, but at width {width} those of layer "
                f"{int(np.flatnonzero(~np.isfinite(change_L))[0]) + 1} don't; lower it"
            )
        sizes.append(size_L)
        changes.append(change_L)
    return Coordinates(tuple(widths), np.array(sizes), np.array(changes))


def _at(spec: RunSpec, width: int, k: int) -> RunSpec:
    model = spec.model.model_copy(update={"width": width})
    unmeasured = spec.probe.model_copy(update={"every": None, "per_decade": None, "at": ()})
    return spec.model_copy(
        update={"seed": (spec.seed + k) % 2**32, "model": model, "probe": unmeasured}
    )


def _trained(specs: Sequence[RunSpec], table: Prepared, steps: int) -> tuple[Array, Array]:
    tables = [table] * len(specs)
    mlp = build_mlp(specs, tables)
    pack = build_pack(specs, tables, mlp, torch.device("cpu"))
    # The same examples for all: what differs is the width.
    x_BD = torch.from_numpy(table.x[table.split.train[:_EXAMPLES]]).to(mlp.theta.dtype)
    x_KBD = x_BD.expand(len(specs), *x_BD.shape).contiguous()
    before = _preactivations(mlp, x_KBD)
    left = iter(range(steps))
    for epoch in itertools.count():
        if pack.train_epoch(epoch, stop=lambda: next(left, None) is None) is None:
            break
    after = _preactivations(mlp, x_KBD)
    changes = [b - a for a, b in zip(before, after, strict=True)]
    return np.array([_size(z) for z in before]), np.array([_size(z) for z in changes])


def _preactivations(mlp: MLP, x_KBD: Tensor) -> list[Tensor]:
    """Those of each layer, with a batch's own statistics and without dropout; nothing is left behind."""
    state = {name: tensor.clone() for name, tensor in mlp.block_state().items()}
    trace = Trace()
    with torch.no_grad():
        mlp.train()(x_KBD, trace=trace)
    mlp.load_block_state(state)
    return [z.clone() for z in trace.preactivations]


def _size(z_KBD: Tensor) -> float:
    return math.sqrt(float(z_KBD.double().square().mean()))


def _slope(widths: Sequence[int], value_WL: Array) -> Array:
    with np.errstate(divide="ignore"):
        log_WL = np.log10(value_WL)
    log_W = np.log10(np.array(widths, dtype=np.float64))
    centred_W = log_W - log_W.mean()
    finite_L = np.isfinite(log_WL).all(0)
    slope_L = centred_W @ np.where(finite_L, log_WL, 0.0) / float(centred_W @ centred_W)
    return np.where(finite_L, slope_L, np.nan)
