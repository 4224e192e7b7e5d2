"""Tensors of one measured step put side by side, in memory that stays for the next one.

Shapes: K = 1 member, G layers of one shape, B examples.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from unitgain.probe.layers import Layers

_KEPT = 2**24
"""Elements of the largest block that is kept: new memory of that size costs more than what is written to it."""
_PIECE = 2**20
"""Elements that are copied into one piece of memory."""
_LARGE = 2**10
"""Elements from which new memory for one tensor, on CPU, costs more than a copy into memory that is there."""


@final
@dataclass(frozen=True)
class _Room:
    """A block (G, 1, ...) that stays, and its rows (...) with the addresses at which they begin."""

    block: Tensor
    rows: tuple[Tensor, ...]
    starts: list[int]

    @classmethod
    def of(cls, block: Tensor) -> Self:
        rows = block[:, 0].unbind()
        return cls(block, rows, [row.data_ptr() for row in rows])

    def holds(self, starts: list[int]) -> bool:
        """Whether one of these addresses lies in it."""
        first = self.block.data_ptr()
        end = first + self.block.nbytes
        return any(first <= start < end for start in starts)


@final
class _Pool:
    """Copies side by side, apart from where tensors lie that come and go."""

    def __init__(self) -> None:
        self._piece, self._used, self._left = torch.empty(0), 0, _KEPT

    def copy(self, tensor: Tensor) -> Tensor | None:
        """A copy of a tensor, None where too much would be copied."""
        size = tensor.numel()
        if size > self._left:
            return None
        self._left -= size
        if self._piece.dtype != tensor.dtype or self._used + size > self._piece.numel():
            self._piece, self._used = tensor.new_empty(max(size, _PIECE)), 0
        self._used += size
        return self._piece[self._used - size : self._used].view(tensor.shape).copy_(tensor)


@final
class Blocks:
    """Stacks layers' tensors, field by field; what it gave is good until the same field is stacked again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], _Room] = {}
        self._rows: dict[tuple[str, Hashable], Tensor] = {}
        self._layers: dict[tuple[object, ...], Layers] = {}
        self._pool = _Pool()

    def place(self, field: str, name: Hashable, tensor: Tensor) -> Tensor:
        """A large tensor where the last step's of that name was stacked, copied as long as caches hold it.

        If it were held, the pass that made it would need new memory for the next, which costs several times a copy.
        That of a first step too is copied: optimizers take memory for their state then, and if it lies elsewhere than
        without a measurement, each later step may take 3 % longer.
        """
        row = self._rows.get((field, name))
        if row is not None and (row.shape, row.dtype) == (tensor.shape, tensor.dtype):
            return row.copy_(tensor.detach())
        copy = self._pool.copy(tensor.detach()) if _is_large(tensor) else None
        return tensor if copy is None else copy

    def end(self) -> None:
        """A step is over: copies that have no place yet are thrown away."""
        self._pool = _Pool()

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
                alike.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(i)
        groups, rooms = [], []
        for kind, indices in alike.items():
            given = [t for i in indices if (t := tensors[i]) is not None]
            room = self._room(
                (field, *kind, len(given)), (len(given), 1, *given[0].shape), given[0]
            )
            block = _stacked(given, room, placed=bool(names))
            stays = room is not None and block is room.block
            if room is not None and stays and names and _is_large(given[0]):
                self._rows.update(zip(((field, names[i]) for i in indices), room.rows, strict=True))
            if isinstance(scale, Tensor) or scale != 1.0:
                # What was recorded may lie in the block, and stays as it is.
                block, stays = block / scale, False
            groups.append((tuple(indices), block))
            rooms.append(room if stays else None)
        return self._of(field, len(tensors), groups, rooms)

    @torch.no_grad()
    def difference(self, field: str, now: Layers, before: Sequence[Tensor]) -> Layers:
        """``now`` less tensors (G, K, ...) of the same groups."""
        groups, rooms = [], []
        for (indices, x), y in zip(now.groups, before, strict=True):
            room = self._room((field, x.shape, x.dtype, x.device), x.shape, x)
            groups.append((indices, torch.sub(x, y, out=None if room is None else room.block)))
            rooms.append(room)
        return self._of(field, now.count, groups, rooms)

    def _of(
        self,
        field: str,
        count: int,
        groups: list[tuple[tuple[int, ...], Tensor]],
        rooms: list[_Room | None],
    ) -> Layers:
        """The same layers as in the last step, with all that follows from where they lie, if they lie there again."""
        if None in rooms:
            return Layers(count, tuple(groups))
        places = zip((indices for indices, _ in groups), map(id, rooms), strict=True)
        key = (field, count, *places)
        if key not in self._layers:
            self._layers[key] = Layers(count, tuple(groups))
        return self._layers[key]

    def _room(self, key: tuple[object, ...], shape: Sequence[int], like: Tensor) -> _Room | None:
        if key not in self._kept:
            if math.prod(shape) > _KEPT:
                return None
            self._kept[key] = _Room.of(like.new_empty(shape))
        return self._kept[key]


def _stacked(tensors: list[Tensor], room: _Room | None, *, placed: bool) -> Tensor:
    """Tensors of one shape side by side, (G, 1, ...), in the room if there is one.

    Args:
        tensors: G of them.
        room: for as many.
        placed: whether some may be in it already.
    """
    if tensors[0].dtype in (torch.float16, torch.bfloat16):
        return torch.stack(tensors).float().unsqueeze(1)
    if room is None:
        return torch.stack(tensors).unsqueeze(1)
    if placed:
        starts = [t.data_ptr() for t in tensors]
        if starts == room.starts:
            return room.block
        if room.holds(starts):
            # Some lie where others belong.
            tensors = list(torch.stack(tensors))
    torch.stack(tensors, out=room.block[:, 0])
    return room.block


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
