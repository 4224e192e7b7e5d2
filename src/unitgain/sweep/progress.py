"""What the terminal shows of a sweep while it goes."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from unitgain.sweep.job import Ending, Job
from unitgain.sweep.plan import Pack
from unitgain.sweep.worker import Epoch

NAMED = 10
"""So many jobs that fail or diverge are named while the sweep goes."""


@final
class Progress:
    """Bars on a terminal, one for the sweep and one for each pack at work; else a line a pack that ended.

    The first jobs that fail or diverge are named as they do.

    Args:
        packs: of the sweep.
        name: what tells a job from the others.
        endings: takes how each job ended, by its number.
    """

    def __init__(
        self, packs: Sequence[Pack], name: Callable[[Job], str], endings: dict[int, Ending]
    ) -> None:
        self._name, self._found = name, endings
        self._numbers = {id(pack): number for number, pack in enumerate(packs, start=1)}
        self._began: dict[int, float] = {}
        self._endings: dict[int, Counter[str]] = {id(pack): Counter() for pack in packs}
        self._pack_of = {job.number: id(pack) for pack in packs for job in pack.jobs}
        self._notes: set[str] = set()
        self._total = sum(len(pack.jobs) for pack in packs)
        self._ended = self._steps = self._faults = 0
        self._start: float | None = None
        self._rows: dict[int, TaskID] = {}
        console = Console(file=sys.stderr, highlight=False)
        self._bars: Bars | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[at]}"),
            )
            self._bars = Bars(*columns, TimeRemainingColumn(), console=console)
            work = sum(pack.flops for pack in packs)
            self._all = self._bars.add_task("sweep", total=work, at=f"0/{self._total} runs")

    def __enter__(self) -> "Progress":
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

    def started(self, pack: Pack) -> None:
        """Draw the pack's bar."""
        now = time.monotonic()
        self._began.setdefault(id(pack), now)
        self._start = self._start or now
        if self._bars is not None and id(pack) not in self._rows:
            text = f"pack {self._numbers[id(pack)]}, {len(pack.jobs)} runs"
            self._rows[id(pack)] = self._bars.add_task(text, total=None, at="")

    def epoch(self, pack: Pack, epoch: Epoch) -> None:
        """Move the bars."""
        self._steps += epoch.member_steps
        if self._bars is None:
            return
        at = f"epoch {epoch.done}/{epoch.epochs}"
        self._bars.update(self._rows[id(pack)], completed=epoch.done, total=epoch.epochs, at=at)
        self._bars.update(self._all, advance=pack.flops / epoch.epochs, at=self._at())

    def ended(self, job: Job, ending: Ending) -> None:
        """Count the job, and name it if it isn't finished."""
        self._found[job.number] = ending
        self._ended += 1
        self._endings[self._pack_of[job.number]][ending.status] += 1
        fault = ending.status in ("failed", "diverged")
        self._faults += fault
        if self._bars is not None:
            self._bars.update(self._all, at=self._at())
        if fault and self._faults == NAMED + 1:
            self._say(Text("further ones are named at the end, or in their summary.json"))
        if fault and self._faults <= NAMED:
            line = f" ({self._name(job)}) {ending.status}: {ending.cause}"
            self._say(Text(f"job {job.number + 1}", "bold red") + Text(line))

    def done(self, pack: Pack) -> None:
        """Take the pack's bar away, or say in a line that it ended."""
        if self._bars is not None:
            if (row := self._rows.pop(id(pack), None)) is not None:
                self._bars.remove_task(row)
            return
        seconds = time.monotonic() - self._began[id(pack)]
        counts = ", ".join(f"{n} {status}" for status, n in self._endings[id(pack)].items())
        number = f"pack {self._numbers[id(pack)]}/{len(self._numbers)}"
        print(f"{number}: {counts}, {seconds:.1f} s", flush=True)

    def _at(self) -> str:
        rate = self._steps / max(time.monotonic() - (self._start or 0.0), 1e-3)
        faults = f", {self._faults} not finished" if self._faults else ""
        return f"{self._ended}/{self._total} runs{faults}, {_short(rate)} steps/s"

    def note(self, text: str) -> None:
        """Show a line, once."""
        if text not in self._notes:
            self._notes.add(text)
            self._say(Text(f"note: {text}"))

    def _say(self, text: Text) -> None:
        """Print a line on the standard error, above the bars where there are any."""
        if self._bars is not None:
            self._bars.console.print(text, soft_wrap=True)
        else:
            print(text.plain, file=sys.stderr, flush=True)


def _short(number: float) -> str:
    """A count in few characters.

    Example:
        >>> _short(950.0), _short(12_345.0), _short(3_456_789.0)
        ('950', '12.3k', '3.5M')
    """
    if number < 1e3:
        return f"{number:.0f}"
    return f"{number / 1e3:.1f}k" if number < 1e6 else f"{number / 1e6:.1f}M"
