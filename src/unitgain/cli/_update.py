"""``unitgain update RUN``: labelled target rows are there: keep the model, train it on, or train anew?"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.cli._runs import check_run
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from unitgain.stats.intervals import Interval
    from unitgain.train.update import Candidate, Update


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain update`` is asked for."""
    given = _arguments(argv)
    from unitgain.runs import atomic_write
    from unitgain.train.update import update_of

    found = update_of(
        given.run,
        labelled=given.labelled,
        epochs=given.epochs,
        seeds=given.seeds,
        seed=given.seed,
        data=given.data,
        separator="\t" if given.separator == "tab" else given.separator,
    )
    path = given.run / "update.json"
    atomic_write(path, (json.dumps(found.as_dict(), indent=2) + "\n").encode())
    _show(found, path)
    return Exit.FINISHED


COMMAND = Command("update", "compare a warm start with training anew on labelled target rows", run)


def _show(found: "Update", path: Path) -> None:
    from rich.console import Console

    from unitgain.cli._show import near, prose

    console = Console(highlight=False)
    console.print()
    prose(
        console,
        f"{found.labelled} target rows are labelled, {found.held} of them choose the epoch; {found.graded} other "
        "target rows grade.",
    )
    prose(console, f"{found.concept_text[0].upper()}{found.concept_text[1:]}.")
    console.print()
    console.print(_table(found))
    console.print()
    prose(console, _verdict(found))
    console.print(f"[bold]{'numbers':9}[/bold]{near(path)}", soft_wrap=True)


def _table(found: "Update") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("model")
    table.add_column("rows", justify="right")
    for metric in found.best.scores:
        table.add_column(metric, justify="right")
    for each in found.candidates:
        scores = (_shown(interval) for interval in each.scores.values())
        table.add_row(each.name, str(each.rows) if each.rows else "", *scores)
    return table


def _shown(interval: "Interval") -> str:
    return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"


def _verdict(found: "Update") -> str:
    def behind(candidates: Iterable["Candidate"]) -> str:
        return ", ".join(f"{each.name} by {_shown(each.behind)}" for each in candidates)

    others = [each for each in found.candidates if each is not found.best]
    text = f"Best by {next(iter(found.best.scores))}: {found.best.name}."
    if clear := [each for each in others if each not in found.tied]:
        text += f" Clearly worse: {behind(clear)}."
    if found.tied:
        text += f" Not told apart from it: {behind(found.tied)}."
    return text


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or out of range.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain update [-h] [options] RUN",
        description="Test for concept shift with labelled target rows, then compare the run's model with a warm "
        "start from it and with training anew, on other target rows; writes update.json into RUN.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="*", metavar="RUN", help="a run directory, as train made it")
    parser.add_argument(
        "--labelled",
        type=int,
        metavar="N",
        help="target rows to count as labelled (default: half, 100 at most)",
    )
    parser.add_argument(
        "--epochs", type=int, metavar="E", help="of each training (default: the run's)"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="S", help="models of each kind (default: 5)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="draws labelled rows and resamples (default: 0)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="labelled target rows, CSV or .parquet"
    )
    parser.add_argument("--separator", default=",", help="between cells of a CSV; tab for tabs")
    given = parsed(parser, argv, "update")
    if len(given.run) != 1 or not given.run[0]:
        raise ConfigError(
            f"unitgain update: must be given one run directory, got {' '.join(given.run) or 'nothing'}; "
            "write unitgain update RUN"
        )
    given.run = Path(given.run[0])
    _check_ranges(given)
    check_run(given.run)
    return given


def _check_ranges(given: argparse.Namespace) -> None:
    for key, least in (("epochs", 1), ("seeds", 1), ("seed", 0)):
        value = getattr(given, key)
        if value is not None and value < least:
            raise ConfigError(f"--{key}: must be {least} or more, got {value}; leave it out")
    if given.data is not None and not given.data.is_file():
        raise ConfigError(f"--data: must be a file, but {given.data} is none; mend the path")
    if len(given.separator) != 1 and given.separator != "tab":
        raise ConfigError(f"--separator: must be one character or tab, got {given.separator}")
