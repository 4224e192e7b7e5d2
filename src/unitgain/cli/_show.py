"""What the terminal shows: metrics, the verdict, and where everything is."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitgain.sweep.job import Ending

if TYPE_CHECKING:
    from unitgain.train import RunResult

PARTS = ("train", "val", "test")
MANY = 40
"""Rows of the longest table."""
LINE = 88
"""Letters in a line of prose."""


def show_run(result: "RunResult", figures: Sequence[Path]) -> None:
    """A run's table of metrics, its verdict, and where it and its figures are."""
    console = Console(highlight=False)
    console.print()
    if result.status != "finished":
        message = (result.message or "").removeprefix(result.status).lstrip(" :")
        reason = f": {message}" if message else ""
        _line(console, Text(result.status, "bold red") + Text(reason))
    if result.metrics:
        console.print(metrics_table(result.metrics))
        console.print()
    prose(console, result.verdict)
    places = {"run": str(near(result.directory))}
    places |= {
        "split" if path.stem == "split" else "figure": str(near(path))
        for path in figures
        if path.suffix == ".png"
    }
    for name, place in places.items():
        _line(console, Text(f"{name:8}", "bold") + Text(place))


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """Metrics by name and part of the data; what isn't named ``part/name`` is left out."""
    parts = [part for part in PARTS if any(key.startswith(f"{part}/") for key in metrics)]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("")
    for part in parts:
        table.add_column(part, justify="right")
    names = dict.fromkeys(
        key.partition("/")[2] for key in metrics if key.partition("/")[0] in parts
    )
    for name in names:
        values = (metrics.get(f"{part}/{name}") for part in parts)
        table.add_row(name, *("" if value is None else number(value) for value in values))
    return table


def number(value: float) -> str:
    """A metric to four decimals, or four digits where it is large.

    Example:
        >>> number(0.98765), number(1234.56), number(1e-9)
        ('0.9877', '1235', '1e-09')
    """
    if value == 0 or 1e-3 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:#.4g}".rstrip(".") if 10 <= abs(value) < 1e4 else f"{value:.3g}"


def show_job(index: int, total: int | None, overrides: Sequence[str]) -> None:
    """The line above a job of a multirun."""
    count = f"{index + 1}/{total}" if total else f"{index + 1}"
    _line(Console(highlight=False), Text(f"job {count}", "bold") + Text(f"  {' '.join(overrides)}"))


def show_job_end(ending: Ending, monitor: str, verdict: str, *, before: bool) -> None:
    """The lines below a job of a multirun; ``before`` if it was trained in an earlier one."""
    console = Console(highlight=False)
    parts = [f"{ending.status} before" if before else ending.status]
    if math.isfinite(ending.value):
        parts.append(f"{monitor} {number(ending.value)}")
    if ending.cause:
        parts.append(ending.cause)
    _line(console, Text(f"  {', '.join(parts)}"))
    prose(console, verdict, indent="  ")


def show_job_held(holder: str) -> None:
    """The line below a job of a multirun that is kept for the end."""
    _line(Console(highlight=False), Text(f"  {holder} trains it; looked at again at the end"))


def prose(console: Console, text: str, indent: str = "") -> None:
    """Sentences are for reading: broken between words, at no more than a book's line."""
    width = min(console.width, LINE)
    for line in textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ):
        _line(console, Text(line))


def _line(console: Console, text: Text) -> None:
    """Print without a break inside: lines with paths are for copying."""
    console.print(text, soft_wrap=True)


def near(path: Path) -> Path:
    """The path as seen from the working directory, where it lies under it."""
    absolute, here = path.absolute(), Path(os.getcwd())
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
