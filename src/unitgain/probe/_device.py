"""Reductions wherever the tensors are, by torch, without waiting for the device.

Sums are taken in float64, so that float32's range needs no second look.

Shapes: K members, L layers, B examples, D units.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import final

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


@final
class DeviceStatistics:
    """What there is to say of activations (K, B, D) by layer.

    Args:
        layers: the activations.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers, self._x = layers, layers.examples

    @cached_property
    def _example_lengths(self) -> list[Tensor]:
        return [_lengths(x) for x in self._x]

    @cached_property
    def _means(self) -> list[Tensor]:
        return [x.flatten(2).sum(2, dtype=torch.float64) / x[0, 0].numel() for x in self._x]

    def means(self) -> Tensor:
        """The mean over examples and units, (K, L)."""
        return self._table(self._means)

    def second_moments(self) -> Tensor:
        """The mean square over examples and units, (K, L)."""
        parts = zip(self._example_lengths, self._x, strict=True)
        return self._table([n.square().sum(2) / x[0, 0].numel() for n, x in parts])

    def variances(self) -> Tensor:
        """The variance over examples and units, (K, L)."""
        spread = [x.flatten(2) - m.unsqueeze(2) for x, m in zip(self._x, self._means, strict=True)]
        return self._table([s.square().mean(2) for s in spread])

    def correlations(self) -> Tensor:
        """The mean cosine over pairs of distinct examples, (K, L)."""
        parts = zip(self._example_lengths, self._x, strict=True)
        return self._table([_correlation(n, x) for n, x in parts])

    @cached_property
    def silent(self) -> list[Tensor]:
        """Which units are zero on every example, (G, K, D)."""
        return [(x.amax(2) == 0) & (x.amin(2) == 0) for x in self._x]

    def silences(self) -> Tensor:
        """The share of units that are zero on every example, (K, L)."""
        return self._table([silent.double().mean(2) for silent in self.silent])

    def _table(self, values: list[Tensor]) -> Tensor:
        parts = zip(values, self._x, strict=True)
        return self._layers.table([_narrow(v, x) for v, x in parts])


def _correlation(length_GKB: Tensor, x_GKBD: Tensor) -> Tensor:
    r"""The mean cosine over pairs from the spread around the mean direction (see `_host`)."""
    there = (length_GKB != 0).unsqueeze(3)
    unit = torch.where(there, x_GKBD.double() / length_GKB.unsqueeze(3), 0.0)
    count = there.sum((2, 3))
    mean = unit.sum(2) / count.unsqueeze(2)
    spread = torch.where(there, unit - mean.unsqueeze(2), 0.0).square().sum((2, 3))
    return torch.where(count > 1, 1.0 - spread / (count - 1), torch.nan)
