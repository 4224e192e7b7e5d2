"""A job of a sweep, what its directory holds already, and how it ends."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, final

from unitgain.errors import CheckpointError, ConfigError, DataError, UnitgainError, raised
from unitgain.runs import (
    Claims,
    RunDirectory,
    checkpoint_facts,
    newest_usable,
    newest_valid,
    previous_of,
    read_sealed,
)
from unitgain.spec import RunSpec, parse, run_hash

if TYPE_CHECKING:
    from unitgain.train import RunResult

Status = Literal["finished", "diverged", "interrupted", "failed"]


@final
@dataclass(frozen=True, slots=True)
class Job:
    """One run of a sweep.

    Args:
        number: which job of the sweep, from 0.
        overrides: what the user asked for.
        spec: the configuration.
        directory: of the run.
    """

    number: int
    overrides: tuple[str, ...]
    spec: RunSpec
    directory: Path


@final
@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Args:
        status: as in summary.json.
        value: the best of the monitored metric; NaN where there is none.
        cause: in a line, why it isn't finished.
        expected: whether what failed is a fault of the input, such as a user can mend.
        signal: the number of the one that interrupted it, else 0.
    """

    status: Status
    value: float = math.nan
    cause: str | None = None
    expected: bool = True
    signal: int = 0

    @classmethod
    def of_error(cls, error: Exception) -> "Ending":
        """That of a job that raised."""
        if isinstance(error, UnitgainError):
            return cls("failed", cause="; ".join(error.lines))
        return cls("failed", cause=raised(error), expected=False)

    @classmethod
    def of_result(cls, result: "RunResult") -> "Ending":
        """That of a run that was trained."""
        value = math.nan if result.monitor is None else result.monitor
        cause = None if result.status == "finished" else result.message or result.status
        return cls(cast("Status", result.status), value, cause, signal=result.signal)


@final
@dataclass(frozen=True)
class Start:
    """From where a job starts.

    Args:
        ending: how it ended in an earlier sweep; None where it is still to be trained.
        resume: whether its directory holds a run that isn't done.
        checkpoint: whether that has a checkpoint to go on from.
        epoch: of the checkpoint.
        anew: whether what its directory holds can't be gone on from, and is to be cleared first.
        fault: what was found damaged, in a line.
    """

    ending: Ending | None = None
    resume: bool = False
    checkpoint: bool = False
    epoch: int = 0
    anew: bool = False
    fault: str | None = field(default=None, compare=False, repr=False)

    @property
    def remedy(self) -> str:
        """What is done about the fault."""
        return f"going on from epoch {self.epoch}" if self.checkpoint else "training the run anew"


@final
@dataclass(frozen=True)
class Guard:
    """Follows a fit in this process, and ends it if another process has taken its run over.

    Args:
        claims: of this process.
    """

    claims: Claims

    def stop(self) -> int:
        """Never.

        Raises:
            ClaimLostError: the run is another process's.
        """
        self.claims.check()
        return 0

    def epoch(self, done: int, epochs: int, running: int, member_steps: int) -> None:
        """An epoch is over."""

    def ended(self, k: int, result: "RunResult") -> None:
        """A run's files are on disk."""


def start_of(spec: RunSpec, directory: Path, *, thorough: bool = False) -> Start:
    """What the directory of a job leaves to do.

    A run that finished or diverged is done if its files are as it left them; any other goes on from its newest
    checkpoint that can be used, or afresh where it has none.

    Args:
        spec: of the job.
        directory: of the job.
        thorough: look at all that the run would go on from, as whoever trains it must.

    Raises:
        ConfigError: the directory holds another run.
    """
    run = RunDirectory(directory)
    if not run.config.exists():
        return Start()
    if (fault := _config_fault(run, spec)) is None:
        try:
            summary = run.read_summary()
        except DataError as error:
            fault = str(error)
        else:
            if summary is not None and summary["status"] in ("finished", "diverged"):
                faults = run.changed_files(summary)
                if not faults:
                    return Start(_ending_of(summary))
                fault = faults[0]
    if not (run.last_checkpoint.exists() or previous_of(run.last_checkpoint).exists()):
        return Start(resume=True, fault=fault)
    try:
        found = newest_usable(run) if thorough else newest_valid(run.checkpoints_dir)
        epoch = checkpoint_facts(found.path, found.payload)["epoch"]
    except CheckpointError as error:
        return Start(resume=True, anew=True, fault=fault or error.lines[0])
    return Start(resume=True, checkpoint=True, epoch=epoch, fault=fault)


def ready(start: Start, directory: Path) -> Start:
    """Clear a directory that nothing can be gone on from; for the process that has claimed it.

    Returns:
        From where the job starts now.
    """
    if not start.anew:
        return start
    RunDirectory(directory).clear()
    return Start(fault=start.fault)


def _config_fault(run: RunDirectory, spec: RunSpec) -> str | None:
    """What is wrong with config.yaml, where it is that of the job or once was.

    Raises:
        ConfigError: the directory holds another run.
    """
    wanted, unreadable = run_hash(spec), False
    try:
        if run_hash(parse(run.read_config())) == wanted:
            return None
        fault = f"{run.config} isn't that of its checkpoints any more"
    except UnitgainError as error:
        fault, unreadable = f"{run.config} can't be read any more: {error.lines[0]}", True
    last = run.last_checkpoint
    paths = [path for path in (last, previous_of(last), run.best_checkpoint) if path.exists()]
    for path in paths:
        with suppress(CheckpointError):
            if checkpoint_facts(path, read_sealed(path)).get("config_hash") == wanted:
                return fault
    if unreadable and not paths and not run.summary.exists():
        return fault  # nothing has been trained there that could be lost
    raise ConfigError(
        f"a job must have a directory of its own, but {run.path} holds a run of another "
        f"configuration ({fault}); choose another hydra.sweep.dir or hydra.sweep.subdir, or "
        "remove the directory"
    )


def mark_failed(directory: Path, cause: str) -> None:
    """Leave in the directory of a run that it failed, and why, if the run got so far as to have one.

    Where nothing can be written, as on a full disk, the run stays unfinished.
    """
    run = RunDirectory(directory)
    with suppress(OSError):
        if not run.config.exists():
            return
        run.write_summary({"status": "failed", "cause": cause, "metrics": {}})


def _ending_of(summary: Mapping[str, Any]) -> Ending:
    value = summary["best"]["value"]
    cause = None
    if summary["status"] == "diverged":
        cause = f"the loss was no longer finite at step {summary['diverged']['step']}"
    return Ending(summary["status"], math.nan if value is None else value, cause)
