"""``unitgain compare DIR...``: groups of runs against each other, over their seeds."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from unitgain.report.comparison import Comparison, Settings
    from unitgain.stats.bootstrap import Method

_GAP = 2


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain compare`` is asked for."""
    given = _arguments(argv)
    import numpy as np

    from unitgain.report.comparison import compare
    from unitgain.report.comparison_text import check_kind, write_table
    from unitgain.runs import read_runs

    if given.out is not None:
        check_kind(given.out)
    table = read_runs(given.folders).where(*given.where)
    if not len(table):
        raise ConfigError(
            f"{' '.join(map(str, given.folders))}: must hold runs, but there are none"
        )
    table.check(given.metric)
    keys = [key for key in given.by.split(",") if key]
    found = compare(table, keys, given.metric, _settings(given), np.random.default_rng(given.seed))
    _show(found, each=given.each)
    if given.out is not None:
        write_table(found, given.out, each=given.each)
        print(f"{'table':8}{given.out}")
    return Exit.FINISHED


COMMAND = Command("compare", "tell which groups of runs differ, by their seeds", run)


def is_higher_better(metric: str, better: str | None) -> bool:
    """Which way a metric is better, as the user says or as the project knows.

    Raises:
        ConfigError: neither says.
    """
    if better is not None:
        return better == "higher"
    from unitgain.pack.metrics import higher_is_better

    try:
        return higher_is_better(metric)
    except ConfigError as error:
        raise ConfigError(
            f"--better: must say which way {metric} is better; add --better higher or --better lower"
        ) from error


def _settings(given: argparse.Namespace) -> "Settings":
    from unitgain.report.comparison import Settings

    method: Method = given.interval or ("bca" if given.statistic == "median" else "student")
    return Settings(
        higher=is_higher_better(given.metric, given.better),
        baseline=given.baseline,
        level=given.level,
        location=given.statistic,
        method=method,
        test=given.test,
        diverged=given.diverged,
    )


def _show(found: "Comparison", *, each: bool) -> None:
    from rich.console import Console

    from unitgain.cli._show import prose
    from unitgain.report.comparison_text import sentences

    console = Console(highlight=False)
    console.print(_drawn(found, console.width))
    console.print()
    for sentence in sentences(found, each=each):
        prose(console, sentence)


def _drawn(found: "Comparison", width: int) -> "Table":
    """The table; where it is too wide, names of groups are folded, and never a number."""
    from rich.table import Table

    from unitgain.report.comparison_text import heading, rows

    lines = [heading(found), *rows(found)]

    def needed(gap: int) -> int:
        return sum(max(map(len, column)) + gap for column in zip(*lines, strict=True)) - gap

    if needed(_GAP) > width and not any(group.diverged for group in found.groups):
        at = lines[0].index("diverged")
        lines = [line[:at] + line[at + 1 :] for line in lines]
    gap = _GAP if needed(_GAP) <= width else 1
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for i, name in enumerate(lines[0]):
        table.add_column(name, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    for row in lines[1:]:
        table.add_row(*row)
    return table


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or out of range.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain compare [-h] DIR... --by KEY[,KEY] [options]",
        description="Compare groups of runs by a metric: mean and interval over seeds, differences "
        "paired on shared seeds, what they support, and how many seeds more would.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folders", nargs="*", type=Path, metavar="DIR", help="runs, sweeps, or what holds them")
    add("--by", default="", metavar="KEY", help="keys whose values make the groups: init,norm")
    add("--metric", default="val/loss", help="a metric of the runs; val/loss")
    add("--baseline", metavar="GROUP", help="the group to compare with; else the best")
    add("--where", action="append", default=[], metavar="KEY=VALUE", help="only such runs")
    add("--level", type=float, default=0.95, help="of intervals; tests at one minus it; 0.95")
    add("--statistic", choices=("mean", "iqm", "median"), default="mean", help="over seeds")
    add("--interval", choices=("student", "bca", "percentile"), help="how; student")
    add("--test", choices=("t", "rank"), default="t", help="of differences; t")
    add("--diverged", choices=("refuse", "drop", "worst"), default="refuse", help="diverged runs")
    add("--better", choices=("higher", "lower"), help="of a metric of your own")
    add("--each", action="store_true", help="a sentence on each group, however many there are")
    add("--seed", type=int, default=0, help="of the bootstrap; 0")
    add("--out", type=Path, metavar="FILE", help="the table as .md, .tex or .csv")
    given = parsed(parser, argv, "compare")
    if not given.folders:
        raise ConfigError(
            "unitgain compare: must be given folders with runs, got none; write unitgain compare DIR --by KEY"
        )
    if not given.by.strip(","):
        raise ConfigError("--by: must name the keys that make the groups; write --by init")
    if not 0 < given.level < 1:
        raise ConfigError(f"--level: must be between 0 and 1, got {given.level:g}; 0.95 is usual")
    if given.seed < 0:
        raise ConfigError(f"--seed: must be 0 or more, got {given.seed}; 0 is usual")
    return given
