"""The other processes of a run: each trains its rows of every batch, and leaves all else to the first one."""

import os
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from unitgain.errors import ConfigError, LostProcessError, UnitgainError
from unitgain.runs import EndingSignals, launched
from unitgain.spec import RunSpec
from unitgain.train.crew import Crew, is_lost_connection, joined
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.others import Others
from unitgain.train.settings import accelerator, process_settings
from unitgain.train.trainer import Asked, Together, start_at, trainer_of


@final
@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Args:
        epoch: behind the checkpoint that it goes on from.
        step: likewise.
        chosen: the exponent of its weights, where cross-validation chose it.
    """

    epoch: int
    step: int
    chosen: Mapping[str, Any] | None


def follow() -> int:
    """Take part in the run that the first process leads, and return the number of the signal that ended it, or 0.

    Raises:
        ConfigError: no launcher started this process as another than the first.
        LostProcessError: the first one isn't there, or ended before the run did.
    """
    started = launched()
    if started is None or not started.rank:
        raise ConfigError(
            "follow: must be called where torchrun or srun started several processes, in all but the first; "
            "call fit there"
        )
    crew = Crew(started.rank, started.size)
    with warnings.catch_warnings(), EndingSignals() as signals:
        # The first one has the same to warn of.
        warnings.simplefilter("ignore")
        try:
            with joined(crew, Others(0), started):
                spec = crew.word()
                crew.settle(spec, started.local_rank)
                with process_settings(spec):
                    return _follow(crew, spec, signals)
        except RuntimeError as error:
            if is_lost_connection(error):
                raise LostProcessError("the first process ended before the run did") from error
            raise


def _follow(crew: Crew, spec: RunSpec, signals: EndingSignals) -> int:
    asked = Asked(signals, crew)
    try:
        datamodule = PackedDataModule([spec])
        module = PackedModule([spec], datamodule.tables, asked.stop, crew.share)
        trainer = trainer_of(spec, accelerator(spec), crew)
    except UnitgainError as error:
        crew.all_ready(error.lines)
        raise
    crew.all_ready()
    start: Start = crew.word()
    if start.chosen is not None:
        module.tables = [module.tables[0].with_exponent(start.chosen, spec.weighting.largest)]
    # Its state is the first one's.
    module.resumed = True
    trainer.callbacks.extend([asked, Together(crew)])  # type: ignore[attr-defined]
    start_at(trainer, start.epoch, start.step)
    trainer.fit(module, datamodule=datamodule)
    return asked.signal


def main() -> None:
    """What the first process starts; what is wrong there, it says itself."""
    threading.Thread(target=_end_with_first, daemon=True).start()
    status = 0
    try:
        follow()
    except UnitgainError:
        status = 2
    except BaseException:
        traceback.print_exc()
        status = 1
    # To take torch apart properly would be seconds of waiting.
    os._exit(status)


def _end_with_first() -> None:
    """End once the pipe from the first process does, however that one ended."""
    sys.stdin.buffer.read()
    os._exit(1)
