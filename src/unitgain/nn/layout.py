"""Where each tensor of a member lies in the flat block of parameters.

All parameters of a pack are one tensor ``theta`` of shape (K, P). A member's slice, and every tensor in it, starts at a
multiple of 32 elements (128 bytes in float32): on CPU the vector kernels then cut every member's numbers at the same
places whatever its neighbours are, which is what makes a member bitwise equal to the same run alone. One block also
makes an optimizer step a handful of kernels at any depth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod

import torch
from torch import Tensor

ALIGNMENT = 32
"""Elements: two AVX-512 registers of float32, which is what one turn of torch's unrolled vector loop takes."""


def aligned(size: int) -> int:
    """The least multiple of ``ALIGNMENT`` that holds ``size`` elements."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def row_quantum(widths: Sequence[int]) -> int:
    """The number of rows whose multiples keep every activation (B, D) of these widths aligned.

    At least 8: below that, BLAS treats a batch's matrices differently alone and among others.

    Example:
        >>> row_quantum([64, 64, 10]), row_quantum([64, 128]), row_quantum([33])
        (16, 8, 32)
    """
    return max(ALIGNMENT // gcd(ALIGNMENT, *widths), 8)


@dataclass(frozen=True)
class Slot:
    """One tensor of a member: a weight (in, out), a bias (1, out) or an affine of a norm (1, width).

    ``name`` is its key in the state_dict of the unpacked module, where a weight is stored transposed, (out, in).
    """

    name: str
    layer: int
    kind: str
    shape: tuple[int, int]
    offset: int

    @property
    def size(self) -> int:
        """Elements of the tensor, padding apart."""
        return prod(self.shape)


class Layout:
    """The slots of a member, in order, and the conversions between the block and named tensors."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.total = 0
        self.pieces: list[int] = []
        self._piece_of: list[int] = []
        self._runs_of_kind: dict[str, list[tuple[tuple[int, ...], int, int, int]]] = {}

    def add(self, name: str, layer: int, kind: str, shape: tuple[int, int]) -> int:
        """Append a tensor; returns the index of its slot."""
        slot = Slot(name, layer, kind, shape, self.total)
        self._piece_of.append(len(self.pieces))
        self.pieces.append(slot.size)
        if padding := aligned(slot.size) - slot.size:
            self.pieces.append(padding)
        self.total += slot.size + padding
        self.slots.append(slot)
        return len(self.slots) - 1

    def views(self, block_KP: Tensor) -> list[Tensor]:
        """The block's tensors (K, *shape), one a slot, as differentiable views.

        The padding is split off as pieces of its own: its gradient is zero, and no further slicing is needed.
        """
        members = block_KP.shape[0]
        pieces = torch.split(block_KP, self.pieces, 1)
        return [
            pieces[piece].view(members, *slot.shape)
            for piece, slot in zip(self._piece_of, self.slots, strict=True)
        ]

    def by_layer(self, block_KP: Tensor, kind: str) -> list[tuple[tuple[int, ...], Tensor]]:
        """The tensors of one kind as (layers, values (G, K, size)), neighbouring layers of one shape together.

        Views, not copies: the slots of equal layers lie at equal distances.
        """
        members, row = block_KP.shape[0], block_KP.stride(0)
        start = block_KP.storage_offset()
        return [
            (
                layers,
                block_KP.as_strided((len(layers), members, size), (step, row, 1), start + offset),
            )
            for layers, size, step, offset in self._runs(kind)
        ]

    def _runs(self, kind: str) -> list[tuple[tuple[int, ...], int, int, int]]:
        """(layers, size, distance, offset of the first) of neighbouring slots of one shape at one distance."""
        if kind not in self._runs_of_kind:
            runs: list[list[Slot]] = []
            for slot in self.of_kind(kind):
                run = runs[-1] if runs else []
                fits = bool(run) and slot.shape == run[-1].shape
                if len(run) > 1:
                    fits = fits and slot.offset - run[-1].offset == run[1].offset - run[0].offset
                if fits:
                    run.append(slot)
                else:
                    runs.append([slot])
            self._runs_of_kind[kind] = [
                (
                    tuple(s.layer for s in run),
                    run[0].size,
                    run[1].offset - run[0].offset if len(run) > 1 else self.total,
                    run[0].offset,
                )
                for run in runs
            ]
        return self._runs_of_kind[kind]

    def member(self, block_KP: Tensor, k: int) -> dict[str, Tensor]:
        """Member ``k``'s tensors in torch.nn's shapes, as contiguous copies on the host, by name."""
        row = block_KP[k].detach().cpu()
        return {slot.name: self._to_torch(slot, row).clone() for slot in self.slots}

    def load_member(self, block_KP: Tensor, k: int, named: Mapping[str, Tensor]) -> None:
        """Write tensors in torch.nn's shapes into member ``k`` of the block."""
        with torch.no_grad():
            for slot in self.slots:
                part = block_KP[k, slot.offset : slot.offset + slot.size]
                tensor = named[slot.name].to(block_KP)
                part.copy_((tensor.T if slot.kind == "weight" else tensor).reshape(-1))

    def mask(self, kind: str) -> Tensor:
        """(P,) bool: the elements that belong to tensors of this kind."""
        mask = torch.zeros(self.total, dtype=torch.bool)
        for slot in self.of_kind(kind):
            mask[slot.offset : slot.offset + slot.size] = True
        return mask

    def of_kind(self, kind: str) -> Iterator[Slot]:
        """The slots of one kind, by layer."""
        return (slot for slot in self.slots if slot.kind == kind)

    @staticmethod
    def _to_torch(slot: Slot, row_P: Tensor) -> Tensor:
        tensor = row_P[slot.offset : slot.offset + slot.size].view(slot.shape)
        return tensor.T.contiguous() if slot.kind == "weight" else tensor[0]
