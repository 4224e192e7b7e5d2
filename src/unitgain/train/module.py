"""The LightningModule and the LightningDataModule of a pack."""

from collections.abc import Callable, Iterator, Sequence
from typing import final

import lightning.pytorch as pl
import torch

from unitgain.data import Prepared, Table, open_data, prepared_key
from unitgain.errors import ConfigError
from unitgain.nn.share import WHOLE, Share
from unitgain.pack.build import build_mlp, build_pack
from unitgain.pack.engine import Pack, Prediction, Steps
from unitgain.pack.shape import check_one_shape, check_one_table_shape
from unitgain.spec import RunSpec
from unitgain.train.trial import try_parts
from unitgain.train.warm_start import begin_from, warm_starts


@final
class Once:
    """An iterable of one item: one Lightning step carries a whole epoch of optimizer steps.

    Lightning's own loop costs as much as a small network's step does; once an epoch it costs nothing.
    """

    def __iter__(self) -> Iterator[int]:
        return iter((0,))

    def __len__(self) -> int:
        return 1


@final
class PackedDataModule(pl.LightningDataModule):
    """The tables of a pack's members, opened, split and prepared; each distinct one once.

    The rows live on the device as tensors, and batches are index-selects of them, so its loaders say only when to train
    and when to validate.

    Args:
        specs: of the members.
        loaded: see `open_data`; members whose splits differ share a table in any case.
    """

    def __init__(self, specs: Sequence[RunSpec], loaded: dict[str, Table] | None = None) -> None:
        super().__init__()
        loaded = {} if loaded is None else loaded
        opened: dict[str, Prepared] = {}
        self.tables: list[Prepared] = []
        for spec in specs:
            key = prepared_key(spec)
            if key not in opened:
                opened[key] = open_data(spec, loaded)
            self.tables.append(opened[key])

    def train_dataloader(self) -> Once:
        """One item an epoch."""
        return Once()

    def val_dataloader(self) -> Once:
        """One item an epoch."""
        return Once()


@final
class PackedModule(pl.LightningModule):
    """K runs of one shape as one LightningModule; a single run is K = 1.

    Optimization is manual: ``training_step`` takes all optimizer steps of an epoch.

    Args:
        specs: of runs whose shape agrees.
        tables: one a run.
        stop: asked before each optimizer step; once true, the epoch is abandoned.
        share: what this process has of each batch.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        tables: Sequence[Prepared],
        stop: Callable[[], bool] = lambda: False,
        share: Share = WHOLE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.share = share
        self.specs, self.tables, self._stop = list(specs), list(tables), stop
        check_one_shape(specs)
        check_one_table_shape(tables)
        self._check_task()
        self.mlp = build_mlp(specs, tables)
        try_parts(specs[0], tables[0], self.mlp)
        self._starts = warm_starts(specs, self.mlp)
        self.resumed = False
        self.steps: Steps | None = None
        self.validation: Prediction | None = None
        self._pack: Pack | None = None

    @property
    def pack(self) -> Pack:
        """What trains; there from the moment that the device is known."""
        if self._pack is None:
            self._pack = build_pack(
                self.specs,
                self.tables,
                self.mlp,
                self.device,
                fresh=not self.resumed,
                share=self.share,
            )
            if not self.resumed:
                begin_from(self.mlp, self._starts)
        return self._pack

    def configure_optimizers(self) -> None:
        """The pack holds the optimizer: its hyperparameters differ by member."""

    def training_step(self, batch: int, batch_idx: int) -> None:
        """All optimizer steps of the current epoch."""
        self.steps = self.pack.train_epoch(self.current_epoch, self._stop)
        if self.steps is not None:
            # Lightning counts optimizer steps only through its own optimizers; callbacks read trainer.global_step.
            loop = self.trainer.fit_loop.epoch_loop.manual_optimization
            loop.optim_step_progress.total.completed += self.pack.steps_per_epoch

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """The whole validation part, all members at once."""
        if self.steps is not None:
            self.validation = self.pack.predict("val", self.specs[0].trainer.eval_batch_size)

    def take(self, rows: Sequence[int]) -> Pack:
        """Some members as a pack of their own, with copies of their state; the pack itself where that is all.

        A pack that several processes share isn't: what this one does with it alone, it does with a copy.
        """
        if self.share.whole and list(rows) == list(range(len(self.specs))):
            return self.pack
        specs, tables = [self.specs[k] for k in rows], [self.tables[k] for k in rows]
        mlp = build_mlp(specs, tables, fill=False).to(self.device)
        pack = build_pack(specs, tables, mlp, self.device, fresh=False)
        index = torch.tensor(rows, device=self.device)
        pack.load_state({n: t.index_select(0, index) for n, t in self.pack.tensors().items()})
        return pack

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some members alone."""
        pack = self.take(rows)
        self.specs, self.tables = [self.specs[k] for k in rows], [self.tables[k] for k in rows]
        self.mlp, self._pack = pack.mlp, pack

    def _check_task(self) -> None:
        task = self.tables[0].task
        if task != self.specs[0].data.task:
            raise ConfigError(
                f"data.task: must be what the table holds, {task}, got {self.specs[0].data.task}"
            )
