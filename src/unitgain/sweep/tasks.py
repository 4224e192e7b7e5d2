"""Tasks of a scheduler: which packs each of them trains, and how their runs ended, in files of the sweep's folder.

```
SWEEP/.slurm/1/task-0.json  task-0.endings.json  task-0.log  task.sh  submitted.json
```
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from unitgain.errors import DataError
from unitgain.runs import atomic_write
from unitgain.spec import parse
from unitgain.sweep.job import Ending, Job

TASKS = ".slurm"
"""The folder of a sweep's tasks, with a numbered folder for each submission."""
_KEPT_S = 2.0
"""Seconds between two times that a task says which runs have ended."""


@final
@dataclass(frozen=True)
class TaskOrder:
    """What a task is to do.

    Args:
        packs: of jobs that may train together.
        workers: processes, each of which trains a pack.
        memory: the share of the free memory that all of them may take.
        hang_s: a worker that takes no step for so many seconds is ended; None waits for ever.
    """

    packs: Sequence[Sequence[Job]]
    workers: int
    memory: float
    hang_s: float | None

    @property
    def jobs(self) -> list[Job]:
        """Those of all packs."""
        return [job for pack in self.packs for job in pack]


class Submission(NamedTuple):
    """An array of tasks that a scheduler was given.

    Args:
        job: the scheduler's number.
        name: of the job, which no other has.
        tasks: the numbers of the tasks.
    """

    job: str
    name: str
    tasks: tuple[int, ...]


@final
@dataclass(frozen=True)
class Report:
    """What a task has left.

    Args:
        endings: of its runs that ended, by directory name.
        done: whether the task came to its own end, whatever became of its runs.
    """

    endings: Mapping[str, Ending] = field(default_factory=dict)
    done: bool = False


@final
@dataclass(frozen=True)
class TaskFolder:
    """The files of tasks that were submitted together.

    Args:
        path: of the folder, two levels below the sweep's.

    Example:
        >>> import tempfile
        >>> sweep = Path(tempfile.mkdtemp())
        >>> folder = TaskFolder.create(sweep)
        >>> folder.path.relative_to(sweep).as_posix(), TaskFolder.all_in(sweep) == [folder]
        ('.slurm/1', True)
        >>> folder.write_report(0, Report({"a": Ending("diverged")}))
        >>> folder.report(0).endings["a"].status, folder.report(1).done
        ('diverged', False)
    """

    path: Path

    @classmethod
    def create(cls, sweep: Path) -> "TaskFolder":
        """A new one, whose number no other process gets."""
        (sweep / TASKS).mkdir(parents=True, exist_ok=True)
        number = max((int(each.path.name) for each in cls.all_in(sweep)), default=0) + 1
        while True:
            try:
                (sweep / TASKS / str(number)).mkdir()
            except FileExistsError:
                number += 1
            else:
                return cls(sweep / TASKS / str(number))

    @classmethod
    def all_in(cls, sweep: Path) -> list["TaskFolder"]:
        """Those of a sweep, the oldest first."""
        names = (p.name for p in (sweep / TASKS).glob("*") if p.name.isdecimal())
        return [cls(sweep / TASKS / name) for name in sorted(names, key=int)]

    @property
    def sweep(self) -> Path:
        """The sweep's folder."""
        return self.path.parent.parent

    @property
    def script(self) -> Path:
        """What the scheduler runs."""
        return self.path / "task.sh"

    def log(self, task: int | str) -> Path:
        """Where a task's output goes."""
        return self.path / f"task-{task}.log"

    def write_order(self, task: int, order: TaskOrder) -> None:
        """Leave what a task is to do."""
        packs = [[_of_job(job, self.sweep) for job in pack] for pack in order.packs]
        how = {"workers": order.workers, "memory": order.memory, "hang_s": order.hang_s}
        _write(self.path / f"task-{task}.json", {"format": 1, **how, "packs": packs})

    def order(self, task: int) -> TaskOrder:
        """What a task is to do.

        Raises:
            DataError: there is no such task, or its file can't be read.
        """
        path = self.path / f"task-{task}.json"
        try:
            content = json.loads(path.read_bytes())
            packs = [[_job_of(each, self.sweep) for each in pack] for pack in content["packs"]]
            return TaskOrder(packs, content["workers"], content["memory"], content["hang_s"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: must say what a task trains, but can't be read ({error}); start the "
                "sweep again by its command"
            ) from error

    def runs(self, task: int) -> set[Path]:
        """The directories of a task's runs; none where that can't be read."""
        try:
            packs = json.loads((self.path / f"task-{task}.json").read_bytes())["packs"]
        except (OSError, ValueError):
            return set()
        return {self.sweep / each["run"] for pack in packs for each in pack}

    def add_submission(self, submission: Submission) -> None:
        """Note what the scheduler was given."""
        _write(self.path / "submitted.json", [*self.submissions(), submission])

    def submissions(self) -> list[Submission]:
        """What the scheduler was given, the oldest first."""
        try:
            found = json.loads((self.path / "submitted.json").read_bytes())
        except (OSError, ValueError):
            return []
        return [Submission(job, name, tuple(tasks)) for job, name, tasks in found]

    def write_report(self, task: int, report: Report) -> None:
        """Leave how a task's runs ended."""
        endings = {name: asdict(ending) for name, ending in report.endings.items()}
        content = {"format": 1, "done": report.done, "endings": endings}
        _write(self.path / f"task-{task}.endings.json", content)

    def report(self, task: int) -> Report:
        """What a task has left so far."""
        try:
            content = json.loads((self.path / f"task-{task}.endings.json").read_bytes())
        except (OSError, ValueError):
            return Report()
        endings = {name: Ending(**facts) for name, facts in content["endings"].items()}
        return Report(endings, content["done"])


@final
class Reporter:
    """Keeps a task's report up to date, every few seconds at most.

    Args:
        folder: of the task.
        task: its number.
    """

    def __init__(self, folder: TaskFolder, task: int) -> None:
        self._folder, self._task = folder, task
        self._endings: dict[str, Ending] = {}
        self._written = 0.0

    def add(self, job: Job, ending: Ending) -> None:
        """Note how a run ended."""
        self._endings[job.directory.relative_to(self._folder.sweep).as_posix()] = ending
        if time.monotonic() - self._written > _KEPT_S:
            self.write()

    def write(self, *, done: bool = False) -> None:
        """Leave what is known."""
        self._folder.write_report(self._task, Report(self._endings, done))
        self._written = time.monotonic()


def _of_job(job: Job, sweep: Path) -> dict[str, Any]:
    return {
        "run": job.directory.relative_to(sweep).as_posix(),
        "number": job.number,
        "overrides": job.overrides,
        "config": job.spec.resolved(),
    }


def _job_of(content: Mapping[str, Any], sweep: Path) -> Job:
    overrides, spec = tuple(content["overrides"]), parse(content["config"])
    return Job(content["number"], overrides, spec, sweep / content["run"])


def _write(path: Path, content: Any) -> None:
    atomic_write(path, json.dumps(content, separators=(",", ":")).encode() + b"\n")
