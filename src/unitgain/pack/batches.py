"""The data of a pack on its device, and each member's order through it.

Shapes: K members, N rows, B examples of a batch (padding included), D features, T targets, S steps of an epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared
from unitgain.nn.share import WHOLE, Share
from unitgain.nn.streams import generator

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Batch:
    """One step's examples, or this process's part of them: where to find them, what each counts, how many there are.

    Args:
        index: (K * B,) rows of the pack's table.
        weight: (K, B) what an example's loss counts in the mean over the whole batch; zero for padding.
        rows: how many of B are examples; None where all are.
        first: how many examples of the batch other processes have before these.
        total: examples of the batch, in all processes.
    """

    index: Tensor
    weight: Tensor
    rows: int | None
    first: int
    total: int


@final
class PackData:
    """The tables of a pack's members, each table once, with every member's rows of each part.

    Args:
        tables: one a member; members that share a table give the same object.
        seeds: one a member: the order of epoch e comes from the stream (seed, "order", e).
        batch_size: examples of a step.
        drop_last: whether an epoch leaves out a last, smaller batch.
        quantum: batches are padded to a multiple of so many rows (see `nn.layout.row_quantum`).
        train_batches: train on so many batches' worth of each member's rows alone; None: on all.
        eval_batches: validate and test on so many batches' worth of rows alone; None: on all.
        repeat: give the training rows for the validation part too.
        device: where the tables live.
        dtype: of features, weights and regression targets.

    Raises:
        ValueError: tables whose parts differ in size can't share a pack.
    """

    def __init__(
        self,
        tables: Sequence[Prepared],
        seeds: Sequence[int],
        *,
        batch_size: int,
        drop_last: bool = False,
        quantum: int = 1,
        train_batches: int | None = None,
        eval_batches: int | None = None,
        repeat: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        distinct = list({id(t): t for t in tables}.values())
        starts = np.cumsum([0, *(len(t.x) for t in distinct)])
        offset = {id(t): int(start) for t, start in zip(distinct, starts, strict=False)}
        self.table, self.seeds = tables[0], tuple(seeds)
        self.quantum = quantum
        self.has_importance = any(t.importance is not None for t in tables)
        self._rows = {part: _rows_of(tables, offset, part) for part in ("train", "val", "test")}
        if train_batches is not None:
            self._rows["train"] = self._rows["train"][:, : train_batches * batch_size]
        if eval_batches is not None:
            for part in ("val", "test"):
                self._rows[part] = self._rows[part][:, : eval_batches * batch_size]
        if repeat:
            self._rows["val"] = self._rows["train"]
        examples = self._rows["train"].shape[1]
        self.batch_size = min(batch_size, examples)
        full, rest = divmod(examples, self.batch_size)
        self.full_steps, self.last_rows = full, 0 if drop_last else rest
        targets = torch.from_numpy(np.concatenate([t.y for t in distinct]))
        self.x = torch.from_numpy(np.concatenate([t.x for t in distinct])).to(device, dtype)
        self.y = targets.to(device, dtype if targets.is_floating_point() else torch.int64)
        self.weight, self.eval_weight = (
            torch.from_numpy(np.concatenate([getattr(t, name) for t in distinct])).to(device, dtype)
            for name in ("weight", "eval_weight")
        )
        self.y_mean_K1T, self.y_scale_K1T = (
            torch.from_numpy(np.stack([getattr(t, name) for t in tables])[:, None]).to(
                device, dtype
            )
            for name in ("y_mean", "y_scale")
        )

    @property
    def members(self) -> int:
        """K."""
        return len(self.seeds)

    @property
    def steps_per_epoch(self) -> int:
        """S."""
        return self.full_steps + (self.last_rows > 0)

    def size(self, part: Part) -> int:
        """Rows of a part, the same for all members."""
        return self._rows[part].shape[1]

    def epoch(self, epoch: int, share: Share = WHOLE) -> list[Batch]:
        """The batches of an epoch: every member's own order, ready on the device.

        Args:
            epoch: which.
            share: what this process has of each batch; the order is the same for any number of processes.
        """
        size = self.size("train")
        order_KN = torch.empty((self.members, size), dtype=torch.int64)
        for seed, order_N in zip(self.seeds, order_KN.unbind(0), strict=True):
            torch.randperm(size, generator=generator(seed, "order", epoch), out=order_N)
        row_KN = self._rows["train"].gather(1, order_KN)
        used = self.full_steps * self.batch_size
        full_SKB = row_KN[:, :used].view(self.members, -1, self.batch_size).transpose(0, 1)
        batches = self._batches(full_SKB, self.weight, share)
        if self.last_rows:
            batches += self._batches(row_KN[None, :, used:], self.weight, share)
        return batches

    def part_batches(self, part: Part, limit: int, share: Share = WHOLE) -> list[Batch]:
        """A part's rows in their order, at most ``limit`` a member and a process at a time."""
        return [
            b
            for i in torch.split(self._rows[part], limit * share.size, 1)
            for b in self._batches(i[None], self.eval_weight, share)
        ]

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The features (K, B, D) and targets (K, B) or (K, B, T) of a batch's index."""
        x = self.x.index_select(0, index).view(self.members, -1, self.x.shape[1])
        y = self.y.index_select(0, index)
        return x, y.view(self.members, -1, *y.shape[1:])

    def _batches(self, row_SKB: Tensor, weight_N: Tensor, share: Share) -> list[Batch]:
        total, own = row_SKB.shape[2], share.rows(row_SKB.shape[2])
        # At least one register of rows, where there are fewer examples than processes.
        padding = -len(own) % self.quantum or (self.quantum if total and not own else 0)
        first_SK1, row_SKB = row_SKB[:, :, :1], row_SKB[:, :, own.start : own.stop]
        if padding:
            # A copy of the batch's first row: finite wherever the examples are.
            row_SKB = torch.cat([row_SKB, first_SK1.expand(-1, -1, padding)], 2)
        index_SN = row_SKB.reshape(len(row_SKB), -1).to(self.x.device)
        weight_SKB = weight_N[index_SN].view(row_SKB.shape) / total
        if padding:
            weight_SKB[:, :, len(own) :] = 0.0
        examples = len(own) if padding else None
        return [
            Batch(i, w, examples, own.start, total)
            for i, w in zip(index_SN, weight_SKB, strict=True)
        ]


def _rows_of(tables: Sequence[Prepared], offset: dict[int, int], part: str) -> Tensor:
    rows: list[NDArray[np.int64]] = [getattr(t.split, part) + offset[id(t)] for t in tables]
    if len({len(r) for r in rows}) > 1:
        raise ValueError(
            f"members of one pack need {part} parts of one size, got {[len(r) for r in rows]}"
        )
    return torch.from_numpy(np.stack(rows))
