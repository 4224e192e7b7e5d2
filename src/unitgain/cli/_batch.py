"""A batch of a multirun's jobs: what is to be trained of it, and how each job ended."""

import math
import os
from abc import ABC, abstractmethod
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
from unitgain.sweep.job import Ending, Job, Start, start_of
from unitgain.sweep.plan import Limits, Pack, Plan

_FRESH = Start()


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
class BatchSweep(ABC):
    """What trains the jobs of a multirun in packs, as long as the multirun lives.

    Args:
        composer: makes the jobs' configurations.
    """

    composer: Composer

    def launch(
        self, task: Task, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
    ) -> list[JobReturn]:
        """Train a batch of jobs, and keep in the task how each of them ended.

        Raises:
            ConfigError: it can't be begun.
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
        batch, taken = Batch(), set[str]()
        sweep = Path(os.path.abspath(master.hydra.sweep.dir))
        there = frozenset(os.listdir(sweep)) if sweep.is_dir() else frozenset[str]()
        by_hash = subdir(master) == f"${{{RESOLVER}:}}"
        for number, texts in enumerate(overrides, start=first):
            try:
                given, spec, identity = self.composer.known(texts, last=True)
                batch.overrides[number], task = given, self.composer.task(given)
                quick = by_hash and len(task) == len(given)
                name = identity if quick else self._subdir(master, given, number)
                place = name if quick else os.path.normpath(name)
                directory = sweep / name
                if place in taken:
                    raise ConfigError(
                        f"a job must have a directory of its own, but {directory} is that of an "
                        "earlier one; change hydra.sweep.subdir"
                    )
                taken.add(place)
                batch.jobs[number] = Job(number, given if quick else task, spec, directory)
                empty = quick and name not in there
                start = _FRESH if empty else start_of(spec, directory)
            except Exception as error:
                batch.overrides[number] = tuple(texts)
                batch.endings[number] = Ending.of_error(error)
                continue
            batch.starts[number] = start
            if start.ending is not None:
                batch.endings[number] = start.ending
        return batch

    @abstractmethod
    def plan(self, batch: Batch) -> tuple[Plan, Limits]:
        """How the jobs of a batch are put together, and what that keeps to."""

    @abstractmethod
    def tasks(self, chosen: Plan) -> list[list[Pack]]:
        """The packs of each task of a scheduler; none where this command's workers train them."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the multirun has taken."""

    @abstractmethod
    def _train(self, batch: Batch, task: Task) -> None:
        """Train what is left of a batch, and put how each job ended into it."""

    def _subdir(self, master: DictConfig, overrides: Sequence[str], number: int) -> str:
        config = self.composer.full(overrides, number, master)
        return str(OmegaConf.select(config, "hydra.sweep.subdir"))


def launch(
    task: object, master: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """What the launchers are for that train packs.

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


def shared_process_faults(config: DictConfig) -> list[str]:
    """What Hydra does for a job with a process of its own, and packed jobs can't have: a line each."""
    job, lines = config.hydra.job, []
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
    return lines


def packing_faults(given: DictConfig, *whole: str) -> list[str]:
    """What is wrong with a packed launcher's options: a line each.

    Args:
        given: the options.
        whole: those that are whole numbers of at least 1, or null.
    """
    lines = [
        f"hydra.launcher.{key}: must be a whole number of at least 1, or null, got {given[key]}"
        for key in whole
        if given[key] is not None and not (type(given[key]) is int and given[key] >= 1)
    ]
    if type(given.memory) not in (int, float) or not 0 < given.memory <= 1:
        lines.append(f"hydra.launcher.memory: must be above 0 and at most 1, got {given.memory}")
    hang = given.hang_s
    if hang is not None and not (type(hang) in (int, float) and 0 < hang < math.inf):
        lines.append(
            f"hydra.launcher.hang_s: must be a number of seconds above 0, or null, got {hang}"
        )
    return lines


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
