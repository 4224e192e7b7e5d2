"""Reductions wherever the tensors are, by torch, without waiting for the device.

Sums are taken in float64, so that float32's range needs no second look.

Shapes: K members, L layers, B examples, D units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unitgain.probe.layers import Layers


def norms(fields: Sequence[Layers]) -> list[Tensor]:
    """The Frobenius norm of each member's tensor of each layer, (K, L) for each of the fields."""
    return [layers.reduce(lambda x: _narrow(_lengths(x.flatten(2)), x)) for layers in fields]


def _lengths(x: Tensor) -> Tensor:
    """The norms along the last axis, in float64."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float64)
    return lengths


def _narrow(value: Tensor, like: Tensor) -> Tensor:
    """In the type of the data, but at least float32."""
    return value.to(torch.float64 if like.dtype == torch.float64 else torch.float32)


def statistics(layers: Layers) -> tuple[list[Tensor], list[Tensor]]:
    """As `_host.statistics`: five tables (K, L), and the silent units of each group."""
    values: list[list[Tensor]] = [[] for _ in range(5)]
    silent = []
    for x in layers.examples:
        length = _lengths(x)
        mean = x.sum((2, 3), dtype=torch.float64) / x[0, 0].numel()
        spread = x.flatten(2) - mean.unsqueeze(2)
        silent.append((x.amax(2) == 0) & (x.amin(2) == 0))
        of_group = (
            mean,
            length.square().sum(2) / x[0, 0].numel(),
            spread.square().mean(2),
            _correlation(length, x),
            silent[-1].double().mean(2),
        )
        for column, value in zip(values, of_group, strict=True):
            column.append(_narrow(value, x))
    return [layers.table(column) for column in values], silent


def _correlation(length_GKB: Tensor, x_GKBD: Tensor) -> Tensor:
    r"""The mean cosine over pairs from the spread around the mean direction (see `_host`)."""
    there = (length_GKB != 0).unsqueeze(3)
    unit = torch.where(there, x_GKBD.double() / length_GKB.unsqueeze(3), 0.0)
    count = there.sum((2, 3))
    mean = unit.sum(2) / count.unsqueeze(2)
    spread = torch.where(there, unit - mean.unsqueeze(2), 0.0).square().sum((2, 3))
    return torch.where(count > 1, 1.0 - spread / (count - 1), torch.nan)
