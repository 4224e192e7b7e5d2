"""``unitgain status DIR``: how far a sweep is, while it runs, as anybody may ask who can read its folder."""

import argparse
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from rich.text import Text

    from unitgain.runs import Standing, SweepStanding

_ORDER = (
    "finished", "diverged", "failed", "running", "interrupted", "stale", "unfinished", "damaged",
    "missing",
)  # fmt: skip
_MEANS = {
    "finished": "all epochs, or early stopping",
    "diverged": "a loss was not finite",
    "failed": "an error ended it",
    "running": "a process trains it",
    "interrupted": "saved and ended by a signal",
    "stale": "its process is gone",
    "unfinished": "no end, and no process",
    "damaged": "can't be read",
    "missing": "not begun",
}
_FAULTS = frozenset({"diverged", "failed", "stale", "damaged"})
_NAMED = 10


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain status`` is asked for."""
    given = _arguments(argv)
    from rich.console import Console

    from unitgain.runs import read_standing

    console = Console(highlight=False)
    while True:
        found = read_standing(given.sweep)
        if not found.runs:
            raise ConfigError(
                f"{given.sweep}: must be the folder of a multirun, but holds neither runs nor a plan"
            )
        if given.watch is not None and console.is_terminal:
            console.clear()
        for line in _lines(found, given.sweep, console.width):
            console.print(line, soft_wrap=True)
        if given.watch is None or found.ended == len(found.runs):
            return Exit.FINISHED
        time.sleep(given.watch)


COMMAND = Command("status", "show how far a sweep is, while it runs or after", run)


def _lines(found: "SweepStanding", sweep: Path, width: int) -> list["Text"]:
    """The counts, the rate, and the first faults."""
    from rich.text import Text

    total = len(found.runs)
    lines = [Text(f"{found.ended} of {total} runs ended", "bold").append(f"  {sweep}", "not bold")]
    share = found.ended / total
    full = round(share * (min(width, 60) - 7))
    lines.append(Text("━" * full, "green") + Text("·" * (min(width, 60) - 7 - full), "dim"))
    lines[-1].append(f" {share:.0%}", "default")
    for status in _ORDER:
        if count := found.counts.get(status):
            style = "red" if status in _FAULTS else ""
            lines.append(
                Text(f"{status:11}", style).append(f"{count:>7}  {_meaning(status, found)}")
            )
    if found.ended < total:
        lines.append(Text(f"{'rate':11}{_rate(found)}"))
    if not found.planned:
        lines.append(Text("no plan in the folder: runs that haven't begun aren't known"))
    return lines + _faults(found.runs)


def _meaning(status: str, found: "SweepStanding") -> str:
    if status != "running":
        return _MEANS[status]
    holders = {(r.holder.host, r.holder.pid) for r in found.runs if r.holder and r.status == status}
    hosts = {host for host, _ in holders}
    return f"by {_count(len(holders), 'process', 'es')} on {_count(len(hosts), 'machine')}"


def _rate(found: "SweepStanding") -> str:
    """Steps a second, and how long the rest takes at that rate."""
    left, rate, seconds = found.steps_left, found.steps_per_second, found.seconds_left
    rest = "" if left is None else f"; {left:,.0f} steps left".replace(",", " ")
    if rate is None:
        return f"no process is at work{rest}" if rest else "no process is at work"
    if not rate:
        return f"no epoch is over yet{rest}"
    when = "" if seconds is None else f", about {timedelta(seconds=round(seconds))} at most"
    return f"{rate:,.0f} steps/s of all runs together".replace(",", " ") + rest + when


def _faults(runs: Sequence["Standing"]) -> list["Text"]:
    """What went wrong, each cause once with the first run that has it."""
    from rich.text import Text

    causes: dict[tuple[str, str | None], list[Standing]] = {}
    for each in runs:
        if each.status in _FAULTS:
            causes.setdefault((each.status, each.cause), []).append(each)
    lines = []
    for (status, cause), same in list(causes.items())[:_NAMED]:
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        lines.append(Text(f"{same[0].name}{more} {status}", "red").append(f": {cause}", "default"))
    if len(causes) > _NAMED:
        lines.append(Text(f"and {len(causes) - _NAMED} more causes, as unitgain runs shows"))
    return lines


def _count(count: int, noun: str, plural: str = "s") -> str:
    return f"{count} {noun}{'' if count == 1 else plural}"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or out of range.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain status [-h] [--watch SECONDS] DIR",
        description="How a sweep stands: runs by status, steps a second, the time that is left, "
        "and what failed. It reads small files of the sweep's folder, and writes none.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("sweep", nargs="*", type=Path, metavar="DIR", help="of a multirun")
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="look again so often, until all have ended"
    )
    given = parsed(parser, argv, "status")
    if len(given.sweep) != 1:
        got = " ".join(map(str, given.sweep)) or "nothing"
        raise ConfigError(f"unitgain status: must be given one folder, got {got}; write DIR")
    if given.watch is not None and not 0.1 <= given.watch <= 86400:
        raise ConfigError(
            f"--watch: must be from 0.1 to 86400 seconds, got {given.watch:g}; 5 is usual"
        )
    given.sweep = given.sweep[0]
    return given
