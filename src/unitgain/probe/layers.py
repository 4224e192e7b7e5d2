"""Tensors by layer, those of one shape in one block.

Shapes: K members, L layers, G layers of one shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@final
@dataclass(frozen=True)
class Layers:
    """Tensors by layer, those of one shape stacked: a deep net is measured with as many kernels as a shallow one.

    Args:
        count: L.
        groups: layers (their indices) and their tensors (G, K, ...).
    """

    count: int
    groups: tuple[tuple[tuple[int, ...], Tensor], ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None]) -> Self:
        """Stack tensors (K, ...) of the layers in order; None for a layer that has none."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                shapes.setdefault(tuple(tensor.shape), []).append(i)
        groups = []
        for indices in shapes.values():
            stacked = torch.stack([t for i in indices if (t := tensors[i]) is not None])
            groups.append((tuple(indices), stacked))
        return cls(len(tensors), tuple(groups))

    def by_layer(self) -> dict[int, Tensor]:
        """The tensors (K, ...) of the layers that have one."""
        return {i: t for layers, block in self.groups for i, t in zip(layers, block, strict=True)}

    def reduce(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``function`` (G, K, ...) -> (G, K) to each group: (K, L), NaN for layers without a tensor."""
        return self.table([function(tensor) for _, tensor in self.groups])

    def table(self, values: Sequence[Tensor]) -> Tensor:
        """Put the values of the groups, (G, K) each, in the order of the layers: (K, L)."""
        if not values:
            return torch.full((1, self.count), torch.nan)
        if len(values) == 1 and self.places[0] == slice(0, self.count):
            return values[0].T
        table = values[0].new_full((self.count, values[0].shape[1]), torch.nan)
        for place, value in zip(self.places, values, strict=True):
            if isinstance(place, slice):
                table[place] = value
            else:
                # One by one: a list as an index is copied to the device, which has to be waited for.
                for layer, row in zip(place, value, strict=True):
                    table[layer] = row
        return table.T

    def host_table(self, values: Sequence[Array]) -> Array:
        """As `table`, from arrays, and (L, K)."""
        table_LK = np.full((self.count, values[0].shape[1]), np.nan, values[0].dtype)
        for place, value in zip(self.places, values, strict=True):
            table_LK[place] = value
        return table_LK

    @cached_property
    def on_host(self) -> bool:
        """Whether numpy can read all of it: tensors on CPU, in float32 or float64."""
        return all(
            t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64)
            for _, t in self.groups
        )

    @cached_property
    def is_double(self) -> bool:
        """Whether some of it is float64."""
        return any(t.dtype == torch.float64 for _, t in self.groups)

    @cached_property
    def whole(self) -> tuple[tuple[slice | list[int], Array], ...]:
        """The groups' places and arrays (G, K, N) of the same memory, each tensor as one row."""
        arrays = (t.flatten(2).numpy() for _, t in self.groups)
        return tuple(zip(self.places, arrays, strict=True))

    @cached_property
    def examples(self) -> tuple[Tensor, ...]:
        """The groups as (G, K, B, D): whatever stands in front of the units counts as examples."""
        return tuple(t.flatten(2, -2) if t.dim() > 4 else t for _, t in self.groups)

    @cached_property
    def examples_whole(self) -> tuple[tuple[slice | list[int], Array], ...]:
        """The groups' places and `examples` as arrays of the same memory."""
        return tuple(zip(self.places, (t.numpy() for t in self.examples), strict=True))

    @cached_property
    def places(self) -> tuple[slice | list[int], ...]:
        """Where the layers of each group are among all: slices where they are neighbours."""
        neighbours = (
            layers == tuple(range(layers[0], layers[-1] + 1)) for layers, _ in self.groups
        )
        return tuple(
            slice(layers[0], layers[-1] + 1) if near else list(layers)
            for near, (layers, _) in zip(neighbours, self.groups, strict=True)
        )
