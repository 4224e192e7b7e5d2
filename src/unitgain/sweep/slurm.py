"""What is asked of Slurm, by its own commands: submit an array, look at the queue, start a task again."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, final

from unitgain.errors import ConfigError

_PATIENCE_S = 120.0
"""A command of Slurm that takes longer counts as one that failed."""


class Element(NamedTuple):
    """A task of an array, as Slurm names it.

    Args:
        job: the number of the array.
        task: the number in it.
    """

    job: str
    task: int

    def __str__(self) -> str:
        return f"{self.job}_{self.task}"


class Queued(NamedTuple):
    """How a task stands in the queue.

    Args:
        state: such as RUNNING or PENDING.
        reason: why it waits.
    """

    state: str
    reason: str


@final
class Ended(NamedTuple):
    """How a task ended.

    Args:
        state: such as COMPLETED, FAILED, CANCELLED, NODE_FAIL, TIMEOUT; empty where Slurm has forgotten it.
        status: its exit status.
        signal: the number of the one that ended it, else 0.
    """

    state: str = ""
    status: int = 0
    signal: int = 0

    @property
    def by_force(self) -> bool:
        """Whether something ended it that wasn't its own fault, nor that anybody has cancelled it."""
        if self.state == "CANCELLED":
            return False
        return self.state not in ("COMPLETED", "FAILED") or self.signal > 0 or self.status >= 128

    def __str__(self) -> str:
        if not self.state:
            return "was forgotten by Slurm"
        how = f" with exit status {self.status}" if self.status else ""
        return f"ended as {self.state}" + (f" with signal {self.signal}" if self.signal else how)


def check_there() -> None:
    """Refuse to go on without Slurm.

    Raises:
        ConfigError: its commands aren't on the PATH.
    """
    for command in ("sbatch", "squeue", "scontrol"):
        if shutil.which(command) is None:
            raise ConfigError(
                f"hydra/launcher: packed_slurm must be able to submit tasks, but {command} isn't on "
                "the PATH; start it on a login node, or choose hydra/launcher=packed"
            )


def submit(script: Path, tasks: Sequence[int], at_most: int | None) -> str:
    """Submit an array, and give its number.

    Args:
        script: what each task runs, with its options.
        tasks: the numbers of the tasks.
        at_most: so many run at a time; None is as many as there is room for.

    Raises:
        ConfigError: Slurm refuses it.
    """
    array = as_ranges(tasks) + (f"%{at_most}" if at_most else "")
    done = _asked("sbatch", "--parsable", f"--array={array}", str(script))
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines)
        raise ConfigError(
            f"hydra/launcher: packed_slurm must be able to submit {script}, but sbatch refuses it: "
            f"{said or f'exit status {done.returncode}'}"
        )
    return done.stdout.strip().split(";")[0]


def queue(names: Iterable[str]) -> dict[Element, Queued] | None:
    """The tasks that wait or run, of jobs with these names; None where Slurm doesn't answer."""
    wanted = ",".join(sorted(set(names)))
    if not wanted:
        return {}
    done = _asked("squeue", "--noheader", "--array", f"--name={wanted}", "--format=%F|%K|%T|%r")
    if done.returncode:
        return None
    rows = (line.split("|", 3) for line in done.stdout.splitlines())
    return {Element(job, int(task)): Queued(*facts) for job, task, *facts in rows if task.isdigit()}


def ended_as(element: Element) -> Ended:
    """How a task ended: from the controller, which keeps it some minutes, or from the accounting."""
    done = _asked("scontrol", "--oneliner", "show", "job", str(element))
    state = re.search(r"\bJobState=(\w+)", done.stdout)
    status = re.search(r"\bExitCode=(\d+):(\d+)", done.stdout)
    if done.returncode == 0 and state and status:
        return Ended(state[1], int(status[1]), int(status[2]))
    if shutil.which("sacct") is None:
        return Ended()
    words = ["--noheader", "--parsable2", "--allocations", "--format=State,ExitCode"]
    lines = _asked("sacct", f"--jobs={element}", *words).stdout.splitlines()
    found = re.fullmatch(r"(\w+)[^|]*\|(\d+):(\d+)", lines[-1]) if lines else None
    return Ended(found[1], int(found[2]), int(found[3])) if found else Ended()


def requeue(element: Element) -> str | None:
    """Have a task start again; None, or what Slurm has against it."""
    done = _asked("scontrol", "requeue", str(element))
    return None if done.returncode == 0 else done.stderr.strip() or f"status {done.returncode}"


def largest_array() -> int:
    """How many tasks an array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _asked("scontrol", "show", "config").stdout)
    return int(found[1]) if found and int(found[1]) else 1001


def as_ranges(numbers: Sequence[int]) -> str:
    """Numbers as ``--array`` takes them.

    Example:
        >>> as_ranges([0, 1, 2, 5, 7, 8])
        '0-2,5,7-8'
    """
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def _asked(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command; one that hangs or isn't there has failed."""
    try:
        return subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
