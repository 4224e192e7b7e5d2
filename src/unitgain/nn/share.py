"""What a process has of each batch where several train one network, and the sums over all of theirs.

Shapes: K members, B examples of a batch, D features.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, distributed


@final
@dataclass(frozen=True, eq=False)
class Share:
    """One of several equal processes, each with its rows of every batch.

    Args:
        rank: which, from 0.
        size: how many there are.
        group: of torch.distributed, through which tensors go; None: the default one.

    Example:
        >>> [Share(rank, 3).rows(8) for rank in range(3)]
        [range(0, 2), range(2, 5), range(5, 8)]
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def whole(self) -> bool:
        """Whether that is all."""
        return self.size == 1

    def rows(self, count: int, rank: int | None = None) -> range:
        """The rows of a batch of so many that are this process's, or another's; none where there are too few."""
        rank = self.rank if rank is None else rank
        return range(rank * count // self.size, (rank + 1) * count // self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place; the same bits in each of them."""
        if not self.whole:
            distributed.all_reduce(tensor, group=self.group)
        return tensor

    def joined(self, tensor: Tensor, dim: int, count: int) -> Tensor:
        """The parts of all processes behind each other.

        Args:
            tensor: this process's part.
            dim: along which a batch is divided.
            count: rows of the whole.
        """
        if self.whole:
            return tensor
        most = -(-count // self.size)
        own = tensor.movedim(dim, 0)
        sent = own.new_zeros((most, *own.shape[1:]))
        sent[: len(own)] = own
        # As bytes: not every backend knows every type.
        flat = sent.view(-1).view(torch.uint8)
        received = [torch.empty_like(flat) for _ in range(self.size)]
        distributed.all_gather(received, flat, group=self.group)
        parts = [
            part.view(sent.dtype).view(sent.shape)[: len(self.rows(count, rank))].movedim(0, dim)
            for rank, part in enumerate(received)
        ]
        return torch.cat(parts, dim)


WHOLE = Share()
"""One process with all rows."""


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return share.sum_(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.share.sum_(gradients[0].clone()), None


def summed(tensor: Tensor, share: Share) -> Tensor:
    """The sum over the processes, through which gradients pass: each process's loss is a part of the whole one."""
    total: Tensor = _Sum.apply(tensor, share)  # type: ignore[no-untyped-call]
    return total
