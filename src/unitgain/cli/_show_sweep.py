"""What the terminal shows at the end of a multirun: its jobs if they are few, else groups of them over seeds."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitgain.cli._show import near, number

if TYPE_CHECKING:
    from unitgain.cli._job import Outcome
    from unitgain.stats.intervals import Interval

FEW, ENDS, FAULTS = 8, 3, 10
"""Up to so many jobs without seeds are listed one by one; else so many best and worst groups; so many faults."""


def show_sweep(outcomes: Sequence["Outcome"], directory: Path, total: int | None) -> None:
    """How the jobs of a multirun compare, why those failed that did, and what to ask next."""
    console = Console(highlight=False)
    console.print()
    groups = _groups(outcomes)
    if len(outcomes) <= FEW and len(groups) == len(outcomes):
        console.print(_jobs_table(outcomes))
    else:
        console.print(_groups_table(groups, _monitor(outcomes)))
    faults = [outcome for outcome in outcomes if outcome.ending.cause is not None]
    causes: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in faults:
        causes.setdefault((outcome.ending.status, outcome.ending.cause), []).append(outcome)
    for (status, cause), same in list(causes.items())[:FAULTS]:
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        line = f" ({' '.join(same[0].overrides)}){more} {status}: {cause}"
        _line(console, Text(f"job {same[0].number + 1}", "bold red") + Text(line))
    if len(causes) > FAULTS:
        _line(console, Text("further ones, as their summary.json says"))
    counts = Counter(outcome.ending.status for outcome in faults)
    others = "".join(f", {count} {status}" for status, count in counts.items())
    finished = len(outcomes) - len(faults)
    _line(console, Text(f"{finished} of {total or len(outcomes)} jobs finished{others}"))
    for name, text in _places(outcomes, directory, groups):
        _line(console, Text(f"{name:8}", "bold") + Text(text))


def show_how_to_go_on(directory: Path) -> None:
    """The line below a multirun that was interrupted."""
    line = f"interrupted; go on by the same command with hydra.sweep.dir={near(directory)}"
    _line(Console(highlight=False), Text(line))


@final
@dataclass(frozen=True)
class _Group:
    """Jobs that differ in their seeds alone.

    Attributes:
        name: what tells them from the others.
        outcomes: of the jobs.
        interval: of the mean over those that finished; None where one diverged, which a mean would hide, or none did.
    """

    name: str
    outcomes: Sequence["Outcome"]
    interval: "Interval | None"

    def count(self, *statuses: str) -> int:
        return sum(outcome.ending.status in statuses for outcome in self.outcomes)


def _groups(outcomes: Sequence["Outcome"]) -> list[_Group]:
    """The groups, the best first, those without a mean last; in their order where no monitor is shared."""
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        own = [text for text in outcome.overrides if _key(text) != "seed"]
        by_name.setdefault(" ".join(own), []).append(outcome)
    groups = [_Group(name, each, _interval(each)) for name, each in by_name.items()]
    monitor = _monitor(outcomes)
    if monitor is None or monitor[1] is None:
        return groups
    sign = 1 if monitor[1] == "min" else -1
    return sorted(groups, key=lambda g: sign * g.interval.value if g.interval else math.inf)


def _interval(outcomes: Sequence["Outcome"]) -> "Interval | None":
    values = [o.ending.value for o in outcomes if o.ending.status == "finished"]
    diverged = any(outcome.ending.status == "diverged" for outcome in outcomes)
    if diverged or not values or not all(map(math.isfinite, values)):
        return None
    import numpy as np

    from unitgain.stats.bootstrap import location_interval

    # Student's interval draws nothing.
    return location_interval(np.array(values), np.random.default_rng(0))


def _monitor(outcomes: Sequence["Outcome"]) -> tuple[str, str | None] | None:
    """What all jobs watched, and which way it is better."""
    monitors = {(o.spec.monitor, o.spec.monitor_mode) for o in outcomes if o.spec}
    return monitors.pop() if len(monitors) == 1 else None


def _groups_table(groups: Sequence[_Group], monitor: tuple[str, str | None] | None) -> Table:
    from unitgain.report.comparison_text import between

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("configuration", overflow="fold")
    seeds = any(len(group.outcomes) > 1 for group in groups)
    table.add_column("seeds", justify="right")
    table.add_column(monitor[0] if monitor else "monitored", justify="right")
    table.add_column("95 % interval" if seeds else "", justify="right")
    faults = any(group.count("diverged", "failed", "interrupted") for group in groups)
    for name in ("diverged", "failed") if faults else ():
        table.add_column(name, justify="right")
    shown: list[_Group | None] = list(groups)
    if len(groups) > 2 * ENDS:
        shown = [*groups[:ENDS], None, *groups[-ENDS:]]
    for group in shown:
        if group is None:
            table.add_row(f"... {len(groups) - 2 * ENDS} between")
            continue
        value, ends = ("", "") if group.interval is None else between(group.interval)
        cells = [group.name or "all", str(len(group.outcomes)), value, ends]
        if faults:
            cells += [str(group.count("diverged")), str(group.count("failed", "interrupted"))]
        table.add_row(*cells)
    return table


def _jobs_table(outcomes: Sequence["Outcome"]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("job", justify="right")
    table.add_column("overrides", overflow="fold")
    table.add_column("status")
    monitor = _monitor(outcomes)
    table.add_column(monitor[0] if monitor else "monitored", justify="right")
    table.add_column("directory", overflow="fold")
    for outcome in outcomes:
        value, directory = outcome.ending.value, outcome.directory
        table.add_row(
            str(outcome.number + 1),
            " ".join(outcome.overrides),
            outcome.ending.status,
            number(value) if math.isfinite(value) else "",
            directory.name if directory is not None and directory.exists() else "",
        )
    return table


def _places(
    outcomes: Sequence["Outcome"], directory: Path, groups: Sequence[_Group]
) -> Iterator[tuple[str, str]]:
    """Where the runs are, and the commands that tell more of them."""
    place = near(directory)
    yield "runs", str(place)
    yield "table", f"unitgain runs {place}"
    keys = dict.fromkeys(_key(text) for outcome in outcomes for text in outcome.overrides)
    by = ",".join(key for key in keys if key not in ("seed", "experiment"))
    monitor = _monitor(outcomes)
    finished = any(outcome.ending.status == "finished" for outcome in outcomes)
    if by and finished and len(groups) > 1 and monitor and monitor[1] is not None:
        yield "compare", f"unitgain compare {place} --by {by} --metric {monitor[0]}"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _line(console: Console, text: Text) -> None:
    """Print without a break inside: lines with paths are for copying."""
    console.print(text, soft_wrap=True)
