"""A table as an ordinary LightningDataModule, for LightningModules of one's own.

Shapes: B examples, D features, T targets.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, final

import lightning.pytorch as pl
import torch
from torch import Tensor

from unitgain.data import Prepared, open_data
from unitgain.nn.streams import generator
from unitgain.spec import parse

Part = Literal["train", "val", "test"]


@final
class TensorBatches:
    """Batches (x, y) of tensors that stay where they are: each is an index-select, without worker processes.

    Args:
        x: (N, D) features.
        y: (N,) classes or (N, T) targets.
        batch_size: B; the last batch may be smaller.
        seed: shuffles, in another order every time it is iterated; None keeps the rows' order.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, seed: int | None = None) -> None:
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        self._epoch = 0

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.arange(len(self.x))
        if self.seed is not None:
            rows = torch.randperm(len(self.x), generator=generator(self.seed, "order", self._epoch))
            self._epoch += 1
        for index in torch.split(rows.to(self.x.device), self.batch_size):
            yield self.x.index_select(0, index), self.y.index_select(0, index)


@final
class TableDataModule(pl.LightningDataModule):
    """Any source and split of the configuration as batches (x, y) for a LightningModule of plain torch.

    The order of training batches is that of a packed run with the same seed.

    Args:
        data: the node ``data`` of the configuration: ``_target_``, ``task``, the source's arguments, batch_size, ...
        split: the node ``split``; the default split if None.
        seed: of the order of training examples.

    Raises:
        ConfigError: every fault of the nodes.
        DataError: every fault of the table.

    Example:
        >>> module = TableDataModule({"_target_": "unitgain.data.sources.iris", "task": "classification"})
        >>> module.setup("fit")
        >>> x, y = next(iter(module.train_dataloader()))
        >>> x.shape, y.dtype
        (torch.Size([64, 4]), torch.int64)
    """

    def __init__(
        self, data: Mapping[str, Any], split: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        config = {"data": dict(data), "seed": seed}
        self._spec = parse(config if split is None else {**config, "split": dict(split)})
        self._table: Prepared | None = None

    @property
    def table(self) -> Prepared:
        """The table, opened, split and prepared; there after ``setup``."""
        if self._table is None:
            self._table = open_data(self._spec)
        return self._table

    def setup(self, stage: str) -> None:
        """Open the table."""
        _ = self.table

    def train_dataloader(self) -> TensorBatches:
        """Shuffled batches."""
        return self._batches("train", self._spec.seed)

    def val_dataloader(self) -> TensorBatches:
        """Batches in the rows' order."""
        return self._batches("val")

    def test_dataloader(self) -> TensorBatches:
        """Batches in the rows' order."""
        return self._batches("test")

    def _batches(self, part: Part, seed: int | None = None) -> TensorBatches:
        rows = getattr(self.table.split, part)
        y = torch.from_numpy(self.table.y[rows])
        return TensorBatches(
            torch.from_numpy(self.table.x[rows]).float(),
            y.float() if y.is_floating_point() else y,
            self._spec.data.batch_size,
            seed,
        )
