"""One line of progress for a fit."""

import sys
from typing import final

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@final
class EpochProgress(pl.Callback):
    """A bar of epochs with the monitored metric, on a terminal; nothing where output goes to a file.

    Args:
        monitor: the metric to show.
    """

    def __init__(self, monitor: str) -> None:
        self._monitor = monitor
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        console = Console(file=sys.stderr)
        if not console.is_terminal:
            return
        columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns, TextColumn("{task.fields[metric]}"), TimeRemainingColumn(), console=console
        )
        self._bar.add_task(
            "epoch", total=trainer.max_epochs, completed=trainer.current_epoch, metric=""
        )
        self._bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move it."""
        if self._bar is not None:
            value = trainer.callback_metrics.get(self._monitor)
            metric = "" if value is None else f"{self._monitor} {float(value):.4g}"
            self._bar.update(
                self._bar.task_ids[0], completed=trainer.current_epoch + 1, metric=metric
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave it as it stands."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
