"""What a job does: train, draw, print; and what is kept of it for the end of a multirun."""

import gc
import math
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from unitgain.cli._command import Exit, exit_of_signal
from unitgain.cli._conf import plain
from unitgain.cli._processes import check_one_a_job
from unitgain.cli._shift import report_shift
from unitgain.cli._show import show_job, show_job_end, show_job_held, show_run
from unitgain.cli._sweep import epochs_of, typed
from unitgain.errors import UnitgainError, UnitgainWarning
from unitgain.runs import (
    ClaimLostError,
    Claims,
    InterruptedBySignal,
    RunDirectory,
    cause_of_signal,
    write_plan,
)
from unitgain.spec import RunSpec, parse
from unitgain.spec._shift import NoShiftNode, UniformNode
from unitgain.sweep.job import Ending, Guard, Job, mark_failed, ready, start_of

if TYPE_CHECKING:
    from unitgain.cli._batch import BatchSweep
    from unitgain.cli._elsewhere import Records
    from unitgain.cli._search import SearchSweep
    from unitgain.train import RunResult

_EXITS: dict[str, Exit] = {
    "finished": Exit.FINISHED,
    "diverged": Exit.DIVERGED,
    "interrupted": Exit.INTERRUPTED,
}


@dataclass(frozen=True)
class Outcome:
    """How one job of a multirun ended.

    Args:
        number: which job it is, from 0.
        overrides: what it was asked for, without what all jobs have in common.
        ending: how it ended.
        spec: its configuration, if that is valid.
        directory: of its run.
    """

    number: int
    overrides: tuple[str, ...]
    ending: Ending
    spec: RunSpec | None = None
    directory: Path | None = None

    @property
    def exit(self) -> int:
        """Its exit status, had it been alone."""
        if self.ending.signal:
            return exit_of_signal(self.ending.signal)
        failed = Exit.USER_ERROR if self.ending.expected else Exit.UNEXPECTED
        return _EXITS.get(self.ending.status, failed)


@dataclass
class Task:
    """The function that Hydra calls for each job.

    Args:
        total: how many jobs there are, where that is known.
        shared: the overrides that all jobs have in common, which the terminal leaves out.
        packed: what trains the jobs in packs, in the place of this function.
        search: what decides on the jobs of ``hydra/sweeper=optuna``.
        records: where jobs leave how they ended that run in processes of their own.
    """

    total: int | None = None
    shared: frozenset[str] = frozenset()
    packed: "BatchSweep | None" = None
    search: "SearchSweep | None" = None
    records: "Records | None" = None
    outcomes: list[Outcome] = field(default_factory=list)
    held: list[Job] = field(default_factory=list)
    interrupted_exit: int = Exit.INTERRUPTED
    error: Exception | None = None
    sweep_dir: Path | None = None

    def __call__(self, config: DictConfig) -> float:
        """Run one job and give the monitored metric, for sweepers that optimize it."""
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            return self._one_of_many(config, hydra)
        directory, claims = Path(hydra.runtime.output_dir), Claims()
        try:
            spec = parse(plain(config))
            if not RunDirectory(directory).config.exists():
                claims.wait(directory)
            result = _train(spec, directory, tuple(typed(hydra, "task")), claims)
            show_run(result, draw_in_time(spec, result))
            if spec.weighting.corrects and result.status == "finished":
                report_shift(result.directory)
        except Exception as error:
            self.error = error
            return math.nan
        finally:
            claims.close()
            _remove_empty(directory)
        self.outcomes.append(Outcome(0, (), Ending.of_result(result), spec, directory))
        return self.outcomes[-1].ending.value

    def _one_of_many(self, config: DictConfig, hydra: HydraConf) -> float:
        """Run one job of a multirun, unless it was done before, or another process is at it."""
        directory, overrides = Path(hydra.runtime.output_dir), tuple(typed(hydra, "task"))
        number = int(hydra.job.num)
        self.sweep_dir = Path(hydra.sweep.dir)
        show_job(number, self.total, self.own(overrides))
        try:
            spec = parse(plain(config))
            check_one_a_job(spec.trainer.devices, hydra.launcher)
        except Exception as error:
            _remove_empty(directory)
            return self._ended(Outcome(number, self.own(overrides), Ending.of_error(error)), error)
        job = Job(number, overrides, spec, directory)
        if self.total is None:
            write_plan(
                self.sweep_dir, {os.path.relpath(directory, self.sweep_dir): epochs_of(spec)}
            )
        later = self.total is not None and self.records is None
        return self._run(job, wait=not later)

    def finish(self) -> None:
        """Wait for the jobs that other processes were at, and train what those leave."""
        while self.held:
            job = self.held.pop(0)
            show_job(job.number, self.total, self.own(job.overrides))
            self._run(job, wait=True)

    def _run(self, job: Job, *, wait: bool) -> float:
        """Claim a job and run it; where another process is at it, wait until that ends or keep it for later."""
        claims, failure = Claims(), None
        try:
            holder = claims.take(job.directory)
            if holder is not None and not wait:
                show_job_held(str(holder))
                self.held.append(job)
                return math.nan
            if holder is not None:
                claims.outlast(job.directory)
            ending = self._ending(job, claims, waited=holder is not None)
        except ClaimLostError:
            claims.release_lost()
            return self._run(job, wait=True)
        except Exception as error:
            ending, failure = Ending.of_error(error), error
        finally:
            claims.close()
            _remove_empty(job.directory)
        own = self.own(job.overrides)
        return self._ended(Outcome(job.number, own, ending, job.spec, job.directory), failure)

    def _ending(self, job: Job, claims: Claims, *, waited: bool) -> Ending:
        """Train a job, unless that was done before; one that failed elsewhere just now isn't tried again."""
        start = start_of(job.spec, job.directory, thorough=True)
        if start.fault is not None:
            print(f"{start.fault}; {start.remedy}")
        start = ready(start, job.directory)
        ending, verdict = start.ending, ""
        status, cause = RunDirectory(job.directory).standing()
        if waited and status == "failed":
            ending = Ending("failed", cause=cause)
        before = ending is not None
        if ending is None:
            try:
                result = _train(job.spec, job.directory, job.overrides, claims, resume=start.resume)
            except ClaimLostError:
                raise
            except Exception as error:
                mark_failed(job.directory, Ending.of_error(error).cause or "")
                raise
            ending, verdict = Ending.of_result(result), result.verdict
        show_job_end(ending, job.spec.monitor, verdict, before=before)
        return ending

    def _ended(self, outcome: Outcome, error: Exception | None) -> float:
        """Keep how a job ended; one that failed ends no other."""
        if self.records is not None:
            self.records.keep(outcome)
        if error is not None and not outcome.ending.expected:
            traceback.print_exception(error)
        self.outcomes.append(outcome)
        if outcome.ending.signal:
            raise InterruptedBySignal(outcome.ending.signal)
        return outcome.ending.value

    def own(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The overrides that tell a job from the others."""
        return tuple(text for text in overrides if text not in self.shared)


def worst(outcomes: Sequence[Outcome]) -> Exit:
    """The exit status of many jobs: that of the worst one."""
    if any(outcome.ending.status == "interrupted" for outcome in outcomes):
        return Exit.INTERRUPTED
    order = (Exit.UNEXPECTED, Exit.USER_ERROR, Exit.DIVERGED)
    found = {outcome.exit for outcome in outcomes}
    return next((status for status in order if status in found), Exit.FINISHED)


def exit_of(result: "RunResult") -> int:
    """The exit status of one run."""
    if result.signal:
        return exit_of_signal(result.signal)
    return _EXITS.get(result.status, Exit.UNEXPECTED)


def draw_in_time(spec: RunSpec, result: "RunResult") -> list[Path]:
    """Draw the figures of a run, unless a scheduler is about to end this process."""
    preempted = cause_of_signal(result.signal) is not None
    return [] if preempted else draw(spec, result.directory)


def draw(spec: RunSpec, directory: Path) -> list[Path]:
    """Draw the figures of a run, if they are asked for and can be; a note says why not."""
    if not spec.figures:
        return []
    measured = spec.probe.measures and "grad_preactivation" in spec.probe.quantities
    figures: list[Callable[[], list[Path]]] = []
    if measured:
        figures.append(partial(_draw_gradient_flow, directory))
    if not isinstance(spec.shift, NoShiftNode):
        figures.append(partial(_draw_split, spec, directory))
    paths = list[Path]()
    for figure in figures:
        try:
            paths += figure()
        except UnitgainError as error:
            for line in error.lines:
                print(f"no figure: {line}")
    return paths


def _draw_gradient_flow(directory: Path) -> list[Path]:
    from unitgain.report import gradient_flow_figure

    return gradient_flow_figure(directory)


def _draw_split(spec: RunSpec, directory: Path) -> list[Path]:
    import torch

    from unitgain.data import open_data
    from unitgain.report.split import WeightFacts, split_figure
    from unitgain.shift import diagnose

    with warnings.catch_warnings():
        # What there is to warn of was said when the run began.
        warnings.simplefilter("ignore", UnitgainWarning)
        table = open_data(spec.model_copy(update={"weighting": UniformNode()}))
    shifted, train = table.shifted, table.split.train
    facts, name = None, spec.shift.target.rpartition(".")[2]
    if shifted.ratio is not None:
        found = diagnose(torch.from_numpy(shifted.ratio[train]))
        facts = WeightFacts(shifted.bound, shifted.ess_share, found.ess, found.pareto_k)
    if name.lower() != shifted.kind:
        name = f"{name} ({shifted.kind})"
    title = f"{name}: {len(train)} training rows, {len(table.split.test)} target rows"
    return split_figure(table, RunDirectory(directory).figures_dir, title=title, facts=facts)


def _train(
    spec: RunSpec,
    directory: Path,
    overrides: tuple[str, ...],
    claims: Claims,
    *,
    resume: bool = False,
) -> "RunResult":
    from unitgain.train import fit

    gc.enable()
    [result] = fit([spec], [directory], overrides=[overrides], resume=resume, watch=Guard(claims))
    return result


def _remove_empty(directory: Path) -> None:
    """Take back the directory that Hydra made, if the job failed before it wrote anything."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
