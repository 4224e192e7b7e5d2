"""What became of a run, by means that the verdict doesn't use: its last weights in plain torch, on all training rows.

Shapes: N rows, D features, H hidden layers, E epochs.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unitgain.data import Prepared
from unitgain.nn.mlp import MLP
from unitgain.pack.build import build_mlp
from unitgain.spec import RunSpec
from unitgain.train.checkpoint import read_checkpoint

FLAT = 0.1
"""Share of its steepest slope at which an activation counts as flat."""
ASIDE = 0.2
"""How far a flat activation must be from its value at zero: a silent unit isn't a saturated one."""
SMALL = 0.05
"""Share of the loss before training below which its rises don't matter."""


@dataclass(frozen=True)
class Outcome:
    """One run, after training.

    Args:
        status: as in summary.json.
        learned: share of the loss of a constant prediction that was learned away: 1 for all, below 0 for worse.
        dead_H: share of each hidden layer's units that are zero on every training row.
        flat_H: share of each hidden layer's activations whose slope is below a tenth of the steepest one.
        cosine_H: mean cosine between the activations of pairs of training rows.
        loss_at_start: on all training rows.
        losses_E: the same, at the end of each epoch.
    """

    status: str
    learned: float
    dead_H: tuple[float, ...]
    flat_H: tuple[float, ...]
    cosine_H: tuple[float, ...]
    loss_at_start: float
    losses_E: tuple[float, ...]

    @property
    def swing(self) -> float:
        """How far the loss goes up and down from epoch to epoch, on the average of the last half, over its level."""
        last = np.asarray(self.losses_E[len(self.losses_E) // 2 :])
        if len(last) < 3 or not np.isfinite(last).all():
            return 0.0
        change = np.diff(last)
        swing = min(np.maximum(change, 0).mean(), np.maximum(-change, 0).mean())
        return float(swing / max(float(np.median(last)), SMALL * self.loss_at_start))


def outcome(
    spec: RunSpec, table: Prepared, directory: Path, status: str, losses_E: Sequence[float]
) -> Outcome:
    """Look at a run that ended."""
    mlp = build_mlp([spec], [table])
    rows = table.split.train
    x_ND = torch.from_numpy(table.x[rows]).double()
    y = torch.from_numpy(table.y[rows])
    before = mlp.unpack().double()
    after = copy.deepcopy(before)
    after.load_state_dict(read_checkpoint(directory / "checkpoints" / "last.ckpt")["state_dict"])
    # Before training, statistics of batch norm are those of the data, not of any epoch.
    with torch.no_grad():
        first_NT = _without_dropout(before.train())(x_ND)
    hidden, inputs, output_NT = _hidden(after, x_ND, mlp)
    return Outcome(
        status,
        _learned(output_NT, y),
        tuple(float((h == 0).all(0).double().mean()) for h in hidden),
        tuple(_flat_share(z, mlp.activation) for z in inputs),
        tuple(_cosine(h) for h in hidden),
        _loss(first_NT, y),
        tuple(losses_E),
    )


def _without_dropout(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return network


@torch.no_grad()
def _hidden(
    network: nn.Module, x_ND: Tensor, mlp: MLP
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What each activation gives and what it is given, and the network's output."""
    given: list[Tensor] = []
    found: list[Tensor] = []

    def keep(_module: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
        given.append(x[0])
        found.append(y)

    activations = [m for m in network.modules() if type(m) is type(mlp.activation)]
    hooks = [m.register_forward_hook(keep) for m in activations]
    output_NT = network(x_ND)
    for hook in hooks:
        hook.remove()
    return found, given, output_NT


def _flat_share(z_ND: Tensor, activation: nn.Module) -> float:
    def slope(z: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(activation(z).sum(), z)[0]

    steepest = slope(torch.linspace(-5, 5, 1001, dtype=torch.float64)).abs().max()
    aside_ND = (activation(z_ND) - activation(torch.zeros_like(z_ND))).abs() > ASIDE
    return float(((slope(z_ND).abs() < FLAT * steepest) & aside_ND).double().mean())


def _cosine(h_ND: Tensor) -> float:
    """The mean over all pairs of different rows, behind the mean of all entries; NaN where a row is zero."""
    if not bool((h_ND != 0).any(1).all()):
        return float("nan")
    unit = nn.functional.normalize(h_ND - h_ND.mean(), dim=1)
    n = len(unit)
    if not bool(torch.isfinite(unit).all()) or not bool((unit != 0).any(1).all()):
        return float("nan")
    return float((unit.sum(0).square().sum() - n) / (n * (n - 1)))


def _loss(output_NT: Tensor, y: Tensor) -> float:
    if y.dtype == torch.int64:
        return float(nn.functional.cross_entropy(output_NT, y))
    return float((output_NT - y.double().reshape(len(y), -1)).square().mean())


def _learned(output_NT: Tensor, y: Tensor) -> float:
    if not torch.isfinite(output_NT).all():
        return float("-inf")
    if y.dtype == torch.int64:
        share = torch.bincount(y).max().double() / len(y)
        accuracy = (output_NT.argmax(1) == y).double().mean()
        return float((accuracy - share) / (1 - share))
    y = y.double().reshape(len(y), -1)
    constant = (y - y.mean(0)).square().mean()
    return float(1 - (output_NT - y).square().mean() / constant)
