"""What the terminal shows while a sweep trains elsewhere."""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from unitgain.sweep.job import Ending, Job
from unitgain.sweep.progress import NAMED

_ASKED_FOR = "JobArrayTaskLimit"
"""Why tasks wait beyond those that may run at a time."""


@final
class Waiting:
    """A bar on a terminal; else a line whenever something has changed.

    The first jobs that fail or diverge are named as they do.

    Args:
        names: what tells the jobs from one another, by their numbers.
        endings: takes how each job ended, by its number.
    """

    def __init__(self, names: Mapping[int, str], endings: dict[int, Ending]) -> None:
        self._names, self._endings = names, endings
        self._ended = self._faults = 0
        self._line = ""
        self._notes: set[str] = set()
        console = Console(file=sys.stderr, highlight=False)
        self._bars: Progress | None = None
        if console.is_terminal:
            columns = (BarColumn(bar_width=10), TextColumn("{task.description}"))
            self._bars = Progress(*columns, console=console)
            self._row = self._bars.add_task("", total=len(names))

    def __enter__(self) -> "Waiting":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def ended(self, job: Job, ending: Ending) -> None:
        """Count a job, and name it if it failed or diverged."""
        self._endings[job.number] = ending
        self._ended += ending.status != "interrupted"
        fault = ending.status in ("failed", "diverged")
        self._faults += fault
        if fault and self._faults <= NAMED:
            line = f" ({self._names[job.number]}) {ending.status}: {ending.cause}"
            self._say(Text(f"job {job.number + 1}", "bold red") + Text(line))
        if fault and self._faults == NAMED + 1:
            self._say(Text("further ones are named at the end, or in their summary.json"))

    def tasks(self, states: Mapping[str, int], reason: str) -> None:
        """Show how many runs have ended, and what the tasks are at."""
        at = ", ".join(f"{count} {_state(state, reason)}" for state, count in states.items())
        line = f"{self._ended} of {len(self._names)} runs ended" + (f"; tasks: {at}" if at else "")
        if self._bars is not None:
            self._bars.update(self._row, completed=self._ended, description=line)
        elif line != self._line:
            print(line, flush=True)
        self._line = line

    def note(self, text: str) -> None:
        """Show a line, once."""
        if text not in self._notes:
            self._notes.add(text)
            self._say(Text(f"note: {text}"))

    def _say(self, text: Text) -> None:
        if self._bars is not None:
            self._bars.console.print(text, soft_wrap=True)
        else:
            print(text.plain, file=sys.stderr, flush=True)


def _state(state: str, reason: str) -> str:
    """Slurm's word for a state, in small letters, and why a task waits.

    Example:
        >>> _state("RUNNING", ""), _state("PENDING", "Resources")
        ('running', 'pending (Resources)')
    """
    word = state.lower().replace("_", " ")
    told = state == "PENDING" and reason not in ("", "None", _ASKED_FOR)
    return f"{word} ({reason})" if told else word
