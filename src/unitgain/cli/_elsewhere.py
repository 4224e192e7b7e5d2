"""Jobs of a multirun that joblib or submitit run in processes of their own: how each ended comes back in files."""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from hydra.errors import HydraException
from omegaconf import DictConfig

from unitgain.errors import UnitgainError, raised
from unitgain.runs import atomic_write
from unitgain.spec import parse
from unitgain.sweep.job import Ending

if TYPE_CHECKING:
    from unitgain.cli._job import Outcome, Task

RECORDS = ".jobs"
"""The folder of a sweep's records, with a folder for each command at work."""
OTHER_MACHINES = ("SlurmLauncher", "PackedSlurmLauncher")
"""The launchers whose jobs may not see this machine's own folders."""


def is_elsewhere(config: DictConfig) -> bool:
    """Whether a multirun's jobs run where this process doesn't see them."""
    target = str(config.hydra.launcher["_target_"])
    return target.rpartition(".")[2] in OTHER_MACHINES


@final
@dataclass(frozen=True)
class Records:
    """Files in which jobs say how they ended.

    Args:
        folder: for this command alone, in the sweep's.
    """

    folder: Path

    @classmethod
    def of(cls, sweep: Path) -> "Records":
        """Those of a new command."""
        return cls(sweep.absolute() / RECORDS / secrets.token_hex(4))

    def keep(self, outcome: "Outcome") -> None:
        """Leave how a job ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "overrides": outcome.overrides,
            "ending": asdict(outcome.ending),
            "config": outcome.spec.resolved() if outcome.spec else None,
            "directory": str(outcome.directory) if outcome.directory else None,
        }
        atomic_write(self.folder / f"{outcome.number}.json", json.dumps(content).encode())

    def gathered(self, missing: Mapping[int, "Outcome"]) -> list["Outcome"]:
        """How all jobs ended, and the end of the files.

        Args:
            missing: what is to be said of each job that has left none, by its number.
        """
        found = dict(missing)
        for path in self.folder.glob("*.json"):
            found[int(path.stem)] = _outcome(int(path.stem), json.loads(path.read_bytes()))
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()
        return [found[number] for number in sorted(found)]


@contextmanager
def gathered(task: "Task", jobs: Sequence[Sequence[str]]) -> Iterator[None]:
    """Have a task know in the end how its jobs ended, where they run in processes of their own.

    Such a launcher raises for one job that is lost, and the others' results are there all the same.

    Args:
        task: of the multirun.
        jobs: the overrides of each, where they are known beforehand.
    """
    why = None
    try:
        yield
    except KeyboardInterrupt:
        jobs = ()  # they may go on
        raise
    except (UnitgainError, HydraException):
        raise
    except Exception as error:
        if task.records is None:
            raise
        why = raised(error).splitlines()[0]
    finally:
        if task.records is not None:
            task.outcomes = task.records.gathered(_lost(task, jobs, why))


def _lost(task: "Task", jobs: Sequence[Sequence[str]], why: str | None) -> dict[int, "Outcome"]:
    """What is said of jobs whose processes leave no word."""
    from unitgain.cli._job import Outcome

    cause = f"its process has left no word ({why or 'nor has the launcher'})"
    ending = Ending("interrupted", cause=f"{cause}; the same command goes on with it")
    return {n: Outcome(n, task.own(overrides), ending) for n, overrides in enumerate(jobs)}


def _outcome(number: int, content: Mapping[str, object]) -> "Outcome":
    from unitgain.cli._job import Outcome

    config, directory, ending = content["config"], content["directory"], content["ending"]
    assert isinstance(ending, dict)
    return Outcome(
        number,
        tuple(content["overrides"]),  # type: ignore[arg-type]
        Ending(**ending),
        parse(config) if isinstance(config, dict) else None,
        Path(directory) if isinstance(directory, str) else None,
    )
