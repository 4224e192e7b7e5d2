"""What the terminal shows: metrics, the verdict, and where everything is."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from unitgain.cli._job import Outcome
    from unitgain.train import RunResult

PARTS = ("train", "val", "test")


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
    if result.verdict:
        _line(console, Text(result.verdict))
    places = {"run": str(_near(result.directory))}
    picture = next((path for path in figures if path.suffix == ".png"), None)
    if picture is not None:
        places["figure"] = str(_near(picture))
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


def show_job_end(result: "RunResult", monitor: str) -> None:
    """The lines below a job of a multirun."""
    console = Console(highlight=False)
    parts = [result.status]
    if result.monitor is not None:
        parts.append(f"{monitor} {number(result.monitor)}")
    if result.message and result.status != "finished":
        parts.append(result.message)
    _line(console, Text(f"  {', '.join(parts)}"))
    if result.verdict:
        _line(console, Text(f"  {result.verdict}"))


def show_sweep(outcomes: Sequence["Outcome"], directory: Path, total: int | None) -> None:
    """The jobs of a multirun: what each was, how it ended, and why where it failed."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("job", justify="right")
    table.add_column("overrides", overflow="fold")
    table.add_column("status")
    monitors = list(dict.fromkeys(outcome.monitor for outcome in outcomes if outcome.monitor))
    table.add_column(monitors[0] if len(monitors) == 1 else "monitored", justify="right")
    table.add_column("directory", overflow="fold")
    for index, outcome in enumerate(outcomes):
        result = outcome.result
        table.add_row(
            str(index + 1),
            " ".join(outcome.overrides),
            result.status if result else "failed",
            number(result.monitor) if result and result.monitor is not None else "",
            result.directory.name if result else "",
        )
    console.print()
    console.print(table)
    for index, outcome in enumerate(outcomes):
        if outcome.cause is not None:
            name = f"job {index + 1}"
            ending = outcome.result.status if outcome.result else "failed"
            line = f" ({' '.join(outcome.overrides)}) {ending}: {outcome.cause}"
            _line(console, Text(name, "bold red") + Text(line))
    finished = sum(outcome.cause is None for outcome in outcomes)
    _line(console, Text(f"{finished} of {total or len(outcomes)} jobs finished"))
    _line(console, Text(f"{'runs':8}", "bold") + Text(str(_near(directory))))


def _line(console: Console, text: Text) -> None:
    """Print without a break inside: lines with paths are for copying."""
    console.print(text, soft_wrap=True)


def _near(path: Path) -> Path:
    """The path as seen from the working directory, where it lies under it."""
    absolute, here = path.absolute(), Path(os.getcwd())
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
