"""Tensors of one measured step put side by side, in memory that stays for the next one.

Shapes: K = 1 member, G layers of one shape, B examples.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unitgain.probe.layers import Layers

_KEPT = 2**24
"""Elements of the largest block that is kept: new memory of that size costs more than what is written to it."""
_LARGE = 2**14
"""Elements from which new memory for one tensor, on CPU, costs more than a copy into memory that is there."""


@final
class Blocks:
    """Stacks layers' tensors, field by field; what it gave is good until the same field is stacked again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Tensor] = {}
        self._rows: dict[tuple[str, Hashable], Tensor] = {}

    def place(self, field: str, name: Hashable, tensor: Tensor) -> Tensor:
        """A large tensor where the last step's of that name was stacked, copied as long as caches hold it.

        If it were held, the pass that made it would need new memory for the next, which costs several times a copy.
        """
        row = self._rows.get((field, name))
        alike = row is not None and (row.shape, row.dtype) == (tensor.shape, tensor.dtype)
        return tensor if row is None or not alike else row.copy_(tensor.detach())

    @torch.no_grad()
    def stack(
        self,
        field: str,
        tensors: Sequence[Tensor | None],
        scale: float | Tensor = 1.0,
        *,
        names: Sequence[Hashable] = (),
    ) -> Layers:
        """Tensors (B, ..., D) or parameters, as layers with a member axis of one, at least in float32.

        Args:
            field: whose memory is used.
            tensors: by layer; None for a layer that has none.
            scale: what they are divided by.
            names: by layer, for `place` in the next step.
        """
        alike: dict[tuple[object, ...], list[int]] = {}
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                kind = (field, tensor.shape, tensor.dtype, tensor.device)
                alike.setdefault(kind, []).append(i)
        groups = []
        for key, indices in alike.items():
            block = self._stacked(key, [t for i in indices if (t := tensors[i]) is not None])
            if isinstance(scale, Tensor) or scale != 1.0:
                block = block.div_(scale)
            if names and _is_large(block[0]) and block is self._kept.get((*key, len(indices))):
                self._rows |= {
                    (field, names[i]): row for i, row in zip(indices, block, strict=True)
                }
            groups.append((tuple(indices), block.unsqueeze(1)))
        return Layers(len(tensors), tuple(groups))

    @torch.no_grad()
    def difference(self, field: str, now: Layers, before: Sequence[Tensor]) -> Layers:
        """``now`` less tensors (G, K, ...) of the same groups."""
        groups = []
        for (indices, x), y in zip(now.groups, before, strict=True):
            out = self._room((field, x.shape, x.dtype, x.device), x.shape, x)
            groups.append((indices, x - y if out is None else torch.sub(x, y, out=out)))
        return Layers(now.count, tuple(groups))

    def _stacked(self, key: tuple[object, ...], tensors: list[Tensor]) -> Tensor:
        like = tensors[0]
        if like.dtype in (torch.float16, torch.bfloat16):
            return torch.stack(tensors).float()
        out = self._room((*key, len(tensors)), (len(tensors), *like.shape), like)
        if out is None:
            return torch.stack(tensors)
        rows = out.unbind()
        if all(t.data_ptr() == row.data_ptr() for t, row in zip(tensors, rows, strict=True)):
            return out
        place = out.untyped_storage().data_ptr()
        if any(t.untyped_storage().data_ptr() == place for t in tensors):
            # Some lie where others belong.
            return out.copy_(torch.stack(tensors))
        return torch.stack(tensors, out=out)

    def _room(self, key: tuple[object, ...], shape: Sequence[int], like: Tensor) -> Tensor | None:
        if key not in self._kept:
            room = like.new_empty(shape)
            if room.numel() > _KEPT:
                return None
            self._kept[key] = room
        return self._kept[key]


def _is_large(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() >= _LARGE


def units_last(tensor: Tensor, module: nn.Module) -> Tensor:
    """Examples first, units last: (B, ..., C) of a convolution's (B, C, ...), (B, T, D) of an attention's (T, B, D)."""
    if isinstance(module, _ConvNd) and tensor.dim() > 2:
        return tensor.movedim(1, -1)
    attention = isinstance(module, nn.MultiheadAttention) and not module.batch_first
    return tensor.transpose(0, 1) if attention and tensor.dim() == 3 else tensor


def dense(gradient: Tensor) -> Tensor:
    """The same, if it is sparse."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor as it is, several as one row."""
    return tensors[0] if len(tensors) == 1 else torch.cat([t.flatten() for t in tensors])


def joined(passes: Mapping[int, Tensor], gradients: Mapping[int, Tensor]) -> Tensor | None:
    """What passes recorded, one behind the other; None where they can't be, or where one lacks it."""
    if len(passes) == len(gradients) == 1 and passes.keys() == gradients.keys():
        return next(iter(passes.values()))
    tensors = [passes[i] for i in gradients if i in passes] if gradients else list(passes.values())
    if not tensors or (gradients and len(tensors) < len(gradients)):
        return None
    if any(t.shape[1:] != tensors[0].shape[1:] for t in tensors):
        return None
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def padded(passes: Sequence[Tensor]) -> Tensor | None:
    """Gradients of the passes behind each other, with zeros where one pass is smaller than another."""
    if len(passes) < 2:
        return passes[0] if passes else None
    shape = [max(sizes) for sizes in zip(*(t.shape[1:] for t in passes), strict=True)]
    whole = passes[0].new_zeros([sum(len(t) for t in passes), *shape])
    start = 0
    for t in passes:
        whole[(slice(start, start + len(t)), *(slice(n) for n in t.shape[1:]))] = t
        start += len(t)
    return whole
