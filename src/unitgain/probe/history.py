"""What measured steps leave for those that come after: some quantities compare.

Shapes: K members, L layers, G layers of one shape, D units, N numbers of a weight.
"""

from collections.abc import Collection, Sequence
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.probe._host import shares
from unitgain.probe.layers import Array, Layers

WINDOW = 10
"""Measured steps on all of which a unit must be silent to count as dead."""


@final
class History:
    """How long each unit has been silent, and the gradient of the last measured step.

    Args:
        silent_runs: on how many measured steps in a row each unit was silent, (K, D) by layer; None: not kept.
        gradients: dJ/dW_l of the last measured step, (K, N) by layer, zero before the first; None: not kept.
        measured_K1: how many steps were measured.
    """

    def __init__(
        self, silent_runs: Layers | None, gradients: Layers | None, measured_K1: Tensor
    ) -> None:
        self.silent_runs, self.gradients, self.measured_K1 = silent_runs, gradients, measured_K1

    @classmethod
    def of(cls, quantities: Collection[str], units: Layers, weights: Layers) -> Self | None:
        """The beginning of what these quantities need; None if they need nothing.

        Args:
            quantities: their names.
            units: tensors (K, D) or (K, ..., D) of the layers that have activations.
            weights: tensors shaped like dJ/dW_l.
        """
        dead, cosine = "dead_fraction" in quantities, "gradient_cosine" in quantities
        if not (dead or cosine):
            return None
        _, like = weights.groups[0]
        return cls(
            _zeros(units, units_only=True) if dead else None,
            _zeros(weights, units_only=False) if cosine else None,
            like.new_zeros((like.shape[1], 1), dtype=torch.float32),
        )

    def runs(self, silent: Sequence[Tensor]) -> list[Tensor]:
        """On how many measured steps in a row units were silent, with a step (G, K, D) that isn't recorded yet."""
        if self.silent_runs is None:
            raise ValueError("silent runs are kept only where dead_fraction is asked for")
        if self._on_host:
            past = zip(self.silent_runs.whole, silent, strict=True)
            return [torch.from_numpy(np.where(now.numpy(), run + 1, 0)) for (_, run), now in past]
        groups = zip(self.silent_runs.groups, silent, strict=True)
        return [(run + 1) * now for (_, run), now in groups]

    def dead_shares(self, runs: Sequence[Tensor]) -> list[Tensor]:
        """The share of units that were silent on each step of the window, (G, K), from what ``runs`` gave."""
        if self._on_host:
            early_K = self.measured_K1.numpy()[:, 0] < WINDOW - 1
            return [_share(run.numpy(), early_K) for run in runs]
        early = self.measured_K1[:, 0] < WINDOW - 1
        share = [(run >= WINDOW).to(run.dtype).mean(2) for run in runs]
        return [s.masked_fill_(early, torch.nan) for s in share]

    def advance(self, runs: Sequence[Tensor] | None, gradients: Layers) -> None:
        """Record a step: what ``runs`` gave, and the gradients."""
        if self._on_host:
            self.measured_K1.numpy()[:] += 1
        else:
            self.measured_K1 += 1
        if self.silent_runs is not None and runs is not None:
            for (_, kept), run in zip(self.silent_runs.groups, runs, strict=True):
                if self._on_host:
                    kept.numpy()[:] = run.numpy()
                else:
                    kept.copy_(run)
        if self.gradients is not None:
            for (_, kept), (_, now) in zip(self.gradients.groups, gradients.groups, strict=True):
                kept.copy_(now.flatten(2))

    @property
    def _on_host(self) -> bool:
        return self.measured_K1.device.type == "cpu"

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, members first: what a checkpoint needs."""
        named = {"measured": self.measured_K1}
        for name, layers in (("silent_runs", self.silent_runs), ("gradients", self.gradients)):
            if layers is not None:
                groups = enumerate(layers.groups)
                named |= {f"{name}.{i}": tensor.transpose(0, 1) for i, (_, tensor) in groups}
        return named


def _share(run_GKD: Array, early_K: NDArray[np.bool_]) -> Tensor:
    dead_GKD = run_GKD >= WINDOW
    share_GK = shares(dead_GKD, run_GKD.dtype)
    share_GK[:, early_K] = np.nan
    return torch.from_numpy(share_GK)


def _zeros(layers: Layers, *, units_only: bool) -> Layers:
    """Zeros (G, K, N), or counts (G, K, D) of the last axis alone."""
    groups = []
    for indices, tensor in layers.groups:
        size = tensor.shape[-1] if units_only else tensor[0, 0].numel()
        dtype = _count_type(tensor) if units_only else tensor.dtype
        groups.append((indices, tensor.new_zeros((*tensor.shape[:2], size), dtype=dtype)))
    return Layers(layers.count, tuple(groups))


def _count_type(like: Tensor) -> torch.dtype:
    """A type that numpy knows, so that shares come in that of the data where it can."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32
