"""The packed launcher's work: a batch of jobs trained in packs by processes of this machine."""

import gc
from dataclasses import dataclass, field
from typing import final

from omegaconf import DictConfig

from unitgain.cli._batch import Batch, BatchSweep, packing_faults, shared_process_faults
from unitgain.cli._job import Task
from unitgain.errors import ConfigError
from unitgain.sweep.job import Job
from unitgain.sweep.machine import Machine
from unitgain.sweep.plan import Limits, Pack, Plan, Tables, plan, workers_needed
from unitgain.sweep.pool import Pool
from unitgain.sweep.progress import Progress


@final
@dataclass(frozen=True)
class Options:
    """The options of ``hydra/launcher=packed``.

    Args:
        workers: processes; None is one a GPU, or one for every ``trainer.threads`` cores.
        max_members: of one pack; None leaves it to memory and caches.
        memory: the share of the free memory that all workers together may take.
        hang_s: a worker that takes no step for so many seconds is ended; None waits for ever.
    """

    workers: int | None
    max_members: int | None
    memory: float
    hang_s: float | None

    @classmethod
    def of(cls, config: DictConfig) -> "Options":
        """Those of a configuration, checked, together with what packed jobs can't have.

        Raises:
            ConfigError: with each fault.
        """
        given = config.hydra.launcher
        lines = packing_faults(given, "workers", "max_members") + shared_process_faults(config)
        if lines:
            raise ConfigError(*lines)
        return cls(given.workers, given.max_members, float(given.memory), given.hang_s)


@final
@dataclass
class PackedSweep(BatchSweep):
    """What lives as long as a multirun: its worker processes, and the tables that it opened.

    Args:
        composer: makes the jobs' configurations.
        options: of the launcher.
    """

    options: Options
    _tables: Tables = field(default_factory=Tables)
    _pool: Pool | None = None

    def __post_init__(self) -> None:
        options = self.options
        self._machine = Machine(options.workers, options.memory, options.hang_s)

    def plan(self, batch: Batch) -> tuple[Plan, Limits]:
        gpus, workers = self._machine.places(batch.left)
        limits = Limits(workers, self.options.max_members, self.options.memory, bool(gpus))
        return plan(batch.left, batch.starts, limits, self._tables), limits

    def tasks(self, chosen: Plan) -> list[list[Pack]]:
        return []

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()

    def _train(self, batch: Batch, task: Task) -> None:
        if self._pool is None:
            self._pool = self._machine.pool(batch.left)
        # They import torch while the tables are opened.
        self._pool.start(workers_needed(batch.left))
        chosen, _ = self.plan(batch)
        batch.endings.update((job.number, ending) for job, ending in chosen.failed)
        gc.enable()

        def name(job: Job) -> str:
            return " ".join(task.own(job.overrides))

        with Progress(chosen.packs, name, batch.endings) as progress:
            self._pool.run(chosen.packs, progress)
