"""The packed launcher's work: from a batch of overrides to runs that are trained in packs."""

import gc
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig, OmegaConf

from unitgain.cli._conf import RESOLVER
from unitgain.cli._job import Outcome, Task
from unitgain.cli._patch import Composer
from unitgain.cli._sweep import epochs_of, subdir
from unitgain.errors import ConfigError
from unitgain.runs import write_plan
from unitgain.spec import run_hash
from unitgain.sweep.job import Ending, Job, Start, start_of
from unitgain.sweep.plan import Limits, Plan, Tables, plan, workers_needed
from unitgain.sweep.pool import Pool, default_workers, visible_gpus
from unitgain.sweep.progress import Progress


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
        given, job = config.hydra.launcher, config.hydra.job
        lines = [
            f"hydra.launcher.{key}: must be a whole number of at least 1, or null, got {given[key]}"
            for key in ("workers", "max_members")
            if given[key] is not None and not (type(given[key]) is int and given[key] >= 1)
        ]
        if type(given.memory) not in (int, float) or not 0 < given.memory <= 1:
            lines.append(
                f"hydra.launcher.memory: must be above 0 and at most 1, got {given.memory}"
            )
        hang = given.hang_s
        if hang is not None and not (type(hang) in (int, float) and 0 < hang < math.inf):
            lines.append(
                f"hydra.launcher.hang_s: must be a number of seconds above 0, or null, got {hang}"
            )
        for key, has_it in (
            ("hydra.job.chdir", job.chdir),
            ("hydra.job.env_set", job.env_set),
            ("hydra.output_subdir", config.hydra.output_subdir is not None),
        ):
            if has_it:
                lines.append(
                    f"{key}: can't be set for jobs that share a process, got "
                    f"{OmegaConf.select(config, key)}; leave it out, or choose hydra/launcher=basic"
                )
        if lines:
            raise ConfigError(*lines)
        return cls(given.workers, given.max_members, float(given.memory), hang)


@dataclass
class Batch:
    """The jobs that a sweeper asks for at a time.

    Args:
        overrides: of each job, by its number.
        jobs: those whose configuration is valid.
        endings: of the jobs that need no training: done before, or failed already.
        starts: from where the other ones start.
    """

    overrides: dict[int, tuple[str, ...]] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    endings: dict[int, Ending] = field(default_factory=dict)
    starts: dict[int, Start] = field(default_factory=dict)

    @property
    def left(self) -> list[Job]:
        """The jobs to train."""
        return [self.jobs[number] for number in self.starts if number not in self.endings]


@dataclass
class PackedSweep:
    """What lives as long as a multirun: its worker processes, and the tables that it opened.

    Args:
        composer: makes the jobs' configurations.
        options: of the launcher.
    """

    composer: Composer
    options: Options
    _tables: Tables = field(default_factory=Tables)
    _pool: Pool | None = None
    _without_gpu: bool = False

    def launch(
        self, task: Task, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
    ) -> list[JobReturn]:
        """Train a batch of jobs, and keep in the task how each of them ended.

        Raises:
            ConfigError: workers can't be started.
            KeyboardInterrupt: the user has ended the sweep.
        """
        batch = self.batch(master, overrides, first)
        task.sweep_dir = Path(master.hydra.sweep.dir)
        task.sweep_dir.mkdir(parents=True, exist_ok=True)
        if task.total is None:
            names = {os.path.relpath(j.directory, task.sweep_dir): j for j in batch.jobs.values()}
            write_plan(task.sweep_dir, {name: epochs_of(job.spec) for name, job in names.items()})
        try:
            if batch.left:
                self._train(batch, task)
        finally:
            task.outcomes += [
                _outcome(batch, number, task)
                for number in batch.overrides
                if number in batch.endings
            ]
        return [_job_return(batch, number) for number in batch.overrides]

    def batch(self, master: DictConfig, overrides: Sequence[Sequence[str]], first: int) -> Batch:
        """The jobs, and from where each starts."""
        setup_globals()
        batch, taken = Batch(), set[Path]()
        sweep = Path(os.path.abspath(master.hydra.sweep.dir))
        by_hash = subdir(master) == f"${{{RESOLVER}:}}"
        for number, texts in enumerate(overrides, start=first):
            batch.overrides[number] = tuple(texts)
            try:
                spec = self.composer.spec(texts)
                task = self.composer.task(texts)
                quick = by_hash and len(task) == len(texts)
                name = run_hash(spec) if quick else self._subdir(master, texts, number)
                directory = sweep / name
                if directory in taken:
                    raise ConfigError(
                        f"a job must have a directory of its own, but {directory} is that of an "
                        "earlier one; change hydra.sweep.subdir"
                    )
                taken.add(directory)
                batch.jobs[number] = Job(number, task, spec, directory)
                start = start_of(spec, directory)
            except Exception as error:
                batch.endings[number] = Ending.of_error(error)
                continue
            batch.starts[number] = start
            if start.ending is not None:
                batch.endings[number] = start.ending
        return batch

    def plan(self, batch: Batch) -> tuple[Plan, Limits]:
        """How the jobs of a batch are put together, and what that keeps to."""
        gpus, workers = self._places(batch.left)
        limits = Limits(workers, self.options.max_members, self.options.memory, bool(gpus))
        return plan(batch.left, batch.starts, limits, self._tables), limits

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.close()

    def _train(self, batch: Batch, task: Task) -> None:
        if self._pool is None:
            self._pool = self._opened(batch.left)
        # They import torch while the tables are opened.
        self._pool.start(workers_needed(batch.left))
        chosen, _ = self.plan(batch)
        batch.endings.update((job.number, ending) for job, ending in chosen.failed)
        gc.enable()

        def name(job: Job) -> str:
            return " ".join(task.own(job.overrides))

        with Progress(chosen.packs, name, batch.endings) as progress:
            self._pool.run(chosen.packs, progress)

    def _opened(self, jobs: Sequence[Job]) -> Pool:
        """Workers for these jobs; on the CPU where torch can't use the GPUs that are there."""
        gpus, workers = self._places(jobs)
        threads = max(job.spec.trainer.threads for job in jobs)
        pool = Pool(workers, threads, gpus, self.options.memory, self.options.hang_s)
        if not gpus or pool.finds_gpu():
            return pool
        pool.close()
        self._without_gpu = True
        return self._opened(jobs)

    def _places(self, jobs: Sequence[Job]) -> tuple[list[str], int]:
        """The GPUs that the jobs may use, and the number of workers."""
        wanted = any(job.spec.trainer.accelerator != "cpu" for job in jobs)
        gpus = visible_gpus() if wanted and not self._without_gpu else []
        threads = max((job.spec.trainer.threads for job in jobs), default=1)
        workers = self.options.workers or len(gpus) or default_workers(threads)
        return gpus, workers

    def _subdir(self, master: DictConfig, overrides: Sequence[str], number: int) -> str:
        config = self.composer.full(overrides, number, master)
        return str(OmegaConf.select(config, "hydra.sweep.subdir"))


def launch(
    task: object, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """What the launcher is for.

    Raises:
        ConfigError: the task isn't that of ``unitgain train``.
        KeyboardInterrupt: the user has ended the sweep.
    """
    if not isinstance(task, Task) or task.packed is None:
        raise ConfigError(
            f"hydra/launcher: packed trains jobs of unitgain train alone, got {task!r}; "
            "choose hydra/launcher=basic"
        )
    return task.packed.launch(task, master, overrides, first)


def _outcome(batch: Batch, number: int, task: Task) -> Outcome:
    job, own = batch.jobs.get(number), task.own(batch.overrides[number])
    if job is None:
        return Outcome(number, own, batch.endings[number])
    return Outcome(number, own, batch.endings[number], job.spec, job.directory)


def _job_return(batch: Batch, number: int) -> JobReturn:
    """What a sweeper is told: for a job that failed, a value that is no number."""
    ending = batch.endings.get(number)
    value = math.nan if ending is None else ending.value
    done = JobReturn(batch.overrides[number], working_dir=os.getcwd(), status=JobStatus.COMPLETED)
    done.return_value = value
    return done
