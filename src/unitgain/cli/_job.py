"""What a job does: train, draw, print; and what is kept of it for the end of a multirun."""

import gc
import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from unitgain.cli._command import Exit
from unitgain.cli._conf import plain
from unitgain.cli._show import show_job, show_job_end, show_run
from unitgain.errors import UnitgainError
from unitgain.spec import RunSpec, parse

if TYPE_CHECKING:
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
        overrides: what it was asked for, without what all jobs have in common.
        exit: its exit status, had it been alone.
        cause: in a line, what went wrong; None for a finished one.
        result: what it left, unless it failed.
        monitor: the name of the monitored metric.
    """

    overrides: tuple[str, ...]
    exit: Exit
    cause: str | None = None
    result: "RunResult | None" = None
    monitor: str = ""


@dataclass
class Task:
    """The function that Hydra calls for each job.

    Args:
        collect: keep a failure and go on, as in a multirun in this process; otherwise it is raised.
        total: how many jobs there are, where that is known.
        shared: the overrides that all jobs have in common, which the terminal leaves out.
    """

    collect: bool = False
    total: int | None = None
    shared: frozenset[str] = frozenset()
    outcomes: list[Outcome] = field(default_factory=list)
    error: Exception | None = None
    sweep_dir: Path | None = None

    def __call__(self, config: DictConfig) -> float:
        """Run one job and give the monitored metric, for sweepers that optimize it."""
        hydra = HydraConfig.get()
        directory = Path(hydra.runtime.output_dir)
        overrides = tuple(hydra.overrides.task)
        own = tuple(text for text in overrides if text not in self.shared)
        multirun = hydra.mode == RunMode.MULTIRUN
        if multirun:
            self.sweep_dir = Path(hydra.sweep.dir)
            show_job(int(hydra.job.num), self.total, own)
        try:
            spec = parse(plain(config))
            result = _train(spec, directory, overrides)
            if multirun:
                show_job_end(result, spec.monitor)
            else:
                show_run(result, draw(spec, result.directory))
        except Exception as error:
            _remove_empty(directory)
            if multirun and not self.collect:
                raise
            self.error = error
            self.outcomes.append(_failure(own, error, multirun))
            return math.nan
        cause = None if result.status == "finished" else result.message or result.status
        exit_status = _EXITS.get(result.status, Exit.UNEXPECTED)
        self.outcomes.append(Outcome(own, exit_status, cause, result, spec.monitor))
        if multirun and exit_status is Exit.INTERRUPTED:
            raise KeyboardInterrupt
        return math.nan if result.monitor is None else result.monitor


def worst(outcomes: Sequence[Outcome]) -> Exit:
    """The exit status of many jobs: that of the worst one."""
    order = (Exit.INTERRUPTED, Exit.UNEXPECTED, Exit.USER_ERROR, Exit.DIVERGED)
    found = {outcome.exit for outcome in outcomes}
    return next((status for status in order if status in found), Exit.FINISHED)


def exit_of(result: "RunResult") -> Exit:
    """The exit status of one run."""
    return _EXITS.get(result.status, Exit.UNEXPECTED)


def draw(spec: RunSpec, directory: Path) -> list[Path]:
    """Draw the figures of a run, if they are asked for and can be; a note says why not."""
    measured = spec.probe.every is not None and "grad_preactivation" in spec.probe.quantities
    if not (spec.figures and measured):
        return []
    from unitgain.report import gradient_flow_figure

    try:
        return gradient_flow_figure(directory)
    except UnitgainError as error:
        for line in error.lines:
            print(f"no figure: {line}")
        return []


def _train(spec: RunSpec, directory: Path, overrides: tuple[str, ...]) -> "RunResult":
    from unitgain.train import fit

    gc.enable()
    [result] = fit([spec], [directory], overrides=[overrides])
    return result


def _failure(overrides: tuple[str, ...], error: Exception, multirun: bool) -> Outcome:
    if isinstance(error, UnitgainError):
        return Outcome(overrides, Exit.USER_ERROR, "; ".join(error.lines))
    if multirun:
        traceback.print_exception(error)
    return Outcome(overrides, Exit.UNEXPECTED, f"{type(error).__name__}: {error}")


def _remove_empty(directory: Path) -> None:
    """Take back the directory that Hydra made, if the job failed before it wrote anything."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
