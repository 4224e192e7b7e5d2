"""What a job does: train, draw, print; and what is kept of it for the end of a multirun."""

import gc
import math
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

from unitgain.cli._command import Exit
from unitgain.cli._conf import plain
from unitgain.cli._shift import report_shift
from unitgain.cli._show import show_job, show_job_end, show_run
from unitgain.cli._sweep import typed
from unitgain.errors import UnitgainError, UnitgainWarning
from unitgain.spec import RunSpec, parse
from unitgain.spec._shift import NoShiftNode, UniformNode
from unitgain.sweep.job import Ending, mark_failed, start_of

if TYPE_CHECKING:
    from unitgain.cli._packed import PackedSweep
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
    def exit(self) -> Exit:
        """Its exit status, had it been alone."""
        failed = Exit.USER_ERROR if self.ending.expected else Exit.UNEXPECTED
        return _EXITS.get(self.ending.status, failed)


@dataclass
class Task:
    """The function that Hydra calls for each job.

    Args:
        collect: keep a failure and go on, as in a multirun in this process; otherwise it is raised.
        total: how many jobs there are, where that is known.
        shared: the overrides that all jobs have in common, which the terminal leaves out.
        packed: what trains the jobs of ``hydra/launcher=packed``, in the place of this function.
        search: what decides on the jobs of ``hydra/sweeper=optuna``.
    """

    collect: bool = False
    total: int | None = None
    shared: frozenset[str] = frozenset()
    packed: "PackedSweep | None" = None
    search: "SearchSweep | None" = None
    outcomes: list[Outcome] = field(default_factory=list)
    error: Exception | None = None
    sweep_dir: Path | None = None

    def __call__(self, config: DictConfig) -> float:
        """Run one job and give the monitored metric, for sweepers that optimize it."""
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            return self._one_of_many(config, hydra)
        directory = Path(hydra.runtime.output_dir)
        try:
            spec = parse(plain(config))
            result = _train(spec, directory, tuple(typed(hydra, "task")))
            show_run(result, draw(spec, result.directory))
            if spec.weighting.corrects and result.status == "finished":
                report_shift(result.directory)
        except Exception as error:
            _remove_empty(directory)
            self.error = error
            return math.nan
        self.outcomes.append(Outcome(0, (), Ending.of_result(result), spec, directory))
        return self.outcomes[-1].ending.value

    def _one_of_many(self, config: DictConfig, hydra: HydraConf) -> float:
        """Run one job of a multirun, unless it was done before."""
        directory, overrides = Path(hydra.runtime.output_dir), tuple(typed(hydra, "task"))
        number, begun, spec = int(hydra.job.num), False, None
        self.sweep_dir = Path(hydra.sweep.dir)
        show_job(number, self.total, self.own(overrides))
        try:
            spec = parse(plain(config))
            start = start_of(spec, directory)
            ending, begun, verdict = start.ending, True, ""
            if ending is None:
                result = _train(spec, directory, overrides, resume=start.resume)
                ending, verdict = Ending.of_result(result), result.verdict
            show_job_end(ending, spec.monitor, verdict, before=start.ending is not None)
        except Exception as error:
            _remove_empty(directory)
            ending = Ending.of_error(error)
            if begun:
                mark_failed(directory, ending.cause or "")
            if not self.collect:
                raise
            if not ending.expected:
                traceback.print_exception(error)
        outcome = Outcome(number, self.own(overrides), ending, spec, directory)
        self.outcomes.append(outcome)
        if outcome.exit is Exit.INTERRUPTED:
            raise KeyboardInterrupt
        return ending.value

    def own(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """The overrides that tell a job from the others."""
        return tuple(text for text in overrides if text not in self.shared)


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
    from unitgain.runs import RunDirectory
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
    spec: RunSpec, directory: Path, overrides: tuple[str, ...], *, resume: bool = False
) -> "RunResult":
    from unitgain.train import fit

    gc.enable()
    [result] = fit([spec], [directory], overrides=[overrides], resume=resume)
    return result


def _remove_empty(directory: Path) -> None:
    """Take back the directory that Hydra made, if the job failed before it wrote anything."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
