"""A job of a sweep, what its directory holds already, and how it ends."""

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, final

from unitgain.errors import CheckpointError, ConfigError, UnitgainError, raised
from unitgain.runs import Claims, RunDirectory, newest_valid
from unitgain.spec import RunSpec, parse, run_hash

if TYPE_CHECKING:
    from unitgain.train import RunResult

Status = Literal["finished", "diverged", "interrupted", "failed"]


@final
@dataclass(frozen=True)
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
    """

    ending: Ending | None = None
    resume: bool = False
    checkpoint: bool = False
    epoch: int = 0


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


def start_of(spec: RunSpec, directory: Path) -> Start:
    """What the directory of a job leaves to do.

    A run that finished or diverged is done; any other goes on from its checkpoint, or afresh where
    it has none.

    Raises:
        ConfigError: the directory holds another run.
        DataError: its configuration can't be read.
        CheckpointError: it has checkpoints, but none is whole.
    """
    run = RunDirectory(directory)
    if not run.config.exists():
        return Start()
    if run_hash(parse(run.read_config())) != run_hash(spec):
        raise ConfigError(
            f"a job must have a directory of its own, but {directory} holds a run of another "
            "configuration; choose another hydra.sweep.dir or hydra.sweep.subdir"
        )
    if run.status in ("finished", "diverged"):
        return Start(_ending_of(run.read_summary() or {}))
    if not run.last_checkpoint.exists():
        return Start(resume=True)
    return Start(resume=True, checkpoint=True, epoch=_epoch_of(run))


def mark_failed(directory: Path, cause: str) -> None:
    """Leave in the directory of a run that it failed, and why, if the run got so far as to have one."""
    run = RunDirectory(directory)
    if run.config.exists():
        run.write_summary({"status": "failed", "cause": cause, "metrics": {}})


def _ending_of(summary: Mapping[str, Any]) -> Ending:
    value = summary["best"]["value"]
    cause = None
    if summary["status"] == "diverged":
        cause = f"the loss was no longer finite at step {summary['diverged']['step']}"
    return Ending(summary["status"], math.nan if value is None else value, cause)


def _epoch_of(run: RunDirectory) -> int:
    """The epoch of the checkpoint that a run goes on from, without its tensors."""
    checkpoint = newest_valid(run.checkpoints_dir)
    with zipfile.ZipFile(io.BytesIO(checkpoint.payload)) as archive:
        [name] = [each for each in archive.namelist() if each.endswith("/data.pkl")]
        content = _Facts(io.BytesIO(archive.read(name))).load()
    if not isinstance(content, dict) or not isinstance(content.get("epoch"), int):
        raise CheckpointError(
            f"{checkpoint.path}: must say which epoch it is of, but doesn't; train the run again"
        )
    epoch: int = content["epoch"]
    return epoch


@final
class _Opaque:
    """What stands for a tensor or any other object."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


@final
class _Facts(pickle.Unpickler):
    """Reads the plain values of a checkpoint and makes no object of any class."""

    def find_class(self, _module: str, name: str) -> Any:
        return dict if name == "OrderedDict" else _Opaque

    def persistent_load(self, _identity: Any) -> Any:
        return None
