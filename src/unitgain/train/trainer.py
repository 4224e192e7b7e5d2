"""Lightning's trainer as every process of a run has it, and what it asks and tells the others."""

from pathlib import Path
from typing import Literal, final

import lightning.pytorch as pl

from unitgain.pack.build import epochs
from unitgain.runs import EndingSignals
from unitgain.spec import RunSpec
from unitgain.train.crew import Crew
from unitgain.train.module import PackedModule
from unitgain.train.watch import Watch


def trainer_of(
    spec: RunSpec, place: Literal["auto", "cpu", "gpu"], crew: Crew, profile: Path | None = None
) -> pl.Trainer:
    """A trainer of one process: the sums over all processes are the pack's own.

    Args:
        spec: of the run.
        place: where it trains.
        crew: the processes of the run.
        profile: the folder that a profile goes to.
    """
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch.profilers import SimpleProfiler

    profiler = None
    if profile is not None and spec.debug is not None and spec.debug.profiler:
        profiler = SimpleProfiler(dirpath=profile, filename="profile")
    return pl.Trainer(
        accelerator=place,
        devices=[crew.device_index] if place == "gpu" and crew.size > 1 else 1,
        # One process, whatever Slurm or torchrun say of the others that they started.
        plugins=[LightningEnvironment()],
        # Mixed precision is the pack's own: it casts what goes into matrix products.
        precision="64-true" if spec.trainer.precision == "64" else "32-true",
        max_epochs=epochs(spec),
        deterministic=spec.trainer.deterministic,
        profiler=profiler,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def start_at(trainer: pl.Trainer, epoch: int, step: int) -> None:
    """Let Lightning's own counters begin where the checkpoint was written."""
    trainer.fit_loop.epoch_progress.current.processed = epoch  # type: ignore[attr-defined]
    trainer.fit_loop.epoch_progress.current.completed = epoch
    trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed = step


@final
class Asked(pl.Callback):
    """Whether somebody has asked the fit to end: a signal to any of its processes, or who watches.

    Args:
        signals: as they arrive.
        crew: the processes.
        watch: who watches.
    """

    def __init__(self, signals: EndingSignals, crew: Crew, watch: Watch | None = None) -> None:
        self._signals, self._crew, self._watch = signals, crew, watch
        self.signal = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM back from Lightning, which would end the process and save nothing."""
        self._signals.install()
        trainer._signal_connector.received_sigterm = False

    def stop(self) -> bool:
        """Asked before each step."""
        if not self.signal:
            asked = self._signals.received or (self._watch.stop() if self._watch else 0)
            self.signal = self._crew.stop(asked)
        return bool(self.signal)


@final
class Together(pl.Callback):
    """Begins all processes from the state of the first, and ends them when that one ends; the last callback of each.

    Args:
        crew: the processes.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the first one's parameters, whether initialized, resumed or warm-started."""
        if not isinstance(pl_module, PackedModule):
            raise TypeError(f"a run is a PackedModule, not a {type(pl_module).__name__}")
        self._crew.share_first_(list(pl_module.pack.tensors().values()))
        self._agree(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if the first one does; what is left to do then, that one does alone."""
        self._agree(trainer)
        if trainer.should_stop or trainer.current_epoch + 1 >= (trainer.max_epochs or 0):
            self._crew.part()

    def _agree(self, trainer: pl.Trainer) -> None:
        trainer.should_stop = self._crew.word(trainer.should_stop)
