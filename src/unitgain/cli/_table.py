"""``unitgain runs DIR...``: many runs as one table, in the terminal or in a file."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.runs import RunsTable

FORMATS = ("table", "csv", "md", "tex")
_SUFFIXES = {".csv": "csv", ".md": "md", ".tex": "tex", ".parquet": "parquet"}
_ROWS, _CAUSES = 50, 10
_KEY_METRICS = ("accuracy", "r2")
"""Beside the loss, what people look at first, if it is there."""


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain runs`` is asked for."""
    given = _arguments(argv)
    from unitgain.runs import read_runs

    whole = read_runs(given.dirs)
    if not len(whole):
        places = ", ".join(map(str, given.dirs))
        raise ConfigError(f"{places}: must hold run directories, but no folder has a config.yaml")
    conditions = [*given.where, *([f"status={given.status}"] if given.status else [])]
    table = whole.where(*conditions)
    if given.sort:
        table = _sorted(table, given.sort, given.descending)
    chosen = _columns(table, given)
    for name in chosen:
        table.check(name)
    if given.out is not None:
        _write(table.select(*chosen), given.out)
        print(f"{len(table)} of {len(whole)} runs, {len(chosen)} columns: {given.out}")
        return Exit.FINISHED
    if given.format == "table":
        _show(table, chosen, len(whole), given)
    else:
        from unitgain.cli._formats import text_of

        print(text_of(table.select(*chosen), given.format), end="")
    return Exit.FINISHED


COMMAND = Command("runs", "list runs, what differs between them and how they ended", run)


def _columns(table: "RunsTable", given: argparse.Namespace) -> list[str]:
    """The columns that are asked for; by default what tells the runs apart, and what came of them."""
    if given.columns:
        return [name.strip() for name in given.columns.split(",") if name.strip()]
    if given.all:
        return list(table.frame.columns)
    names = ["run", *table.varying()]
    if table.frame["status"].nunique() > 1:
        names.append("status")
    if "best/monitor" in table.frame:
        monitors = table.frame["best/monitor"].dropna().unique().tolist()
        names += [name for name in monitors if name in table.frame]
    for metric in (*_KEY_METRICS, "loss"):
        if f"test/{metric}" in table.frame:
            names.append(f"test/{metric}")
    return list(dict.fromkeys([*names, "verdict"]))


def _sorted(table: "RunsTable", key: str, descending: bool) -> "RunsTable":
    from unitgain.runs import RunsTable

    table.check(key)
    frame = table.frame.sort_values(key, ascending=not descending, kind="stable")
    return RunsTable(
        frame.reset_index(drop=True), config_columns=table.config_columns,
        metric_columns=table.metric_columns,
    )  # fmt: skip


def _write(table: "RunsTable", out: Path) -> None:
    """Write the file in one step, in the format that its name says."""
    from unitgain.cli._formats import text_of
    from unitgain.runs import atomic_write

    kind = _SUFFIXES[out.suffix]
    if kind == "parquet":
        import io

        buffer = io.BytesIO()
        table.frame.to_parquet(buffer, index=False)
        data = buffer.getvalue()
    else:
        data = text_of(table, kind).encode()
    try:
        atomic_write(out, data)
    except OSError as error:
        raise ConfigError(f"--out: must be a file to write, but {out}: {error.strerror}") from error


def _show(
    table: "RunsTable", columns: Sequence[str], whole: int, given: argparse.Namespace
) -> None:
    """The table, as many rows and columns as there is room for, and what there isn't."""
    from rich.console import Console

    from unitgain.cli._formats import rich_table

    console = Console(highlight=False)
    rows = len(table) if given.rows == 0 else min(given.rows, len(table))
    if rows:
        drawn, notes = rich_table(table.select(*columns), rows, console.width)
        console.print(drawn)
        for note in notes:
            console.print(note, soft_wrap=False, style="dim")
    if rows < len(table):
        console.print(f"the first {rows} of {len(table)} runs; --rows 0 shows all", style="dim")
    counts = Counter(table.frame["status"].tolist())
    of = "" if len(table) == whole else f" of {whole}"
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    noun = "run" if whole == 1 else "runs"
    console.print(f"{len(table)}{of} {noun}{': ' if parts else ''}{parts}", markup=False)
    _show_causes(table)


def _show_causes(table: "RunsTable") -> None:
    """Which runs didn't finish, and why."""
    frame = table.frame[table.frame["status"] != "finished"]
    for run, status, cause in zip(
        frame["run"].head(_CAUSES), frame["status"].head(_CAUSES), frame["cause"].head(_CAUSES),
        strict=True,
    ):  # fmt: skip
        reason = f": {cause}" if isinstance(cause, str) else ""
        print(f"{status} {run}{reason}")
    if len(frame) > _CAUSES:
        print(f"and {len(frame) - _CAUSES} more, as --columns run,status,cause shows")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or contradicts another.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain runs [-h] [options] DIR...",
        description="One table of all runs at and below some folders: by default what differs "
        "between their configurations, how they ended and their main metrics.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("dirs", nargs="*", type=Path, metavar="DIR", help="runs, sweeps or above")
    parser.add_argument(
        "--where", action="append", default=[], metavar="EXPR",
        help="init=he,xavier or optimizer.lr<0.01 or seed!=0; several must all hold",
    )  # fmt: skip
    parser.add_argument("--status", help="finished, diverged, ...: the same as --where status=...")
    parser.add_argument("--columns", metavar="A,B", help="which, instead of the default ones")
    parser.add_argument("--all", action="store_true", help="every column")
    parser.add_argument("--sort", metavar="KEY", help="a column to sort by, least first")
    parser.add_argument("--descending", action="store_true", help="greatest first")
    parser.add_argument("--rows", type=int, default=_ROWS, help="in the terminal; 0 for all")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .parquet, .md or .tex")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of what is printed")
    given = parsed(parser, argv, "runs")
    if not given.dirs:
        raise ConfigError("unitgain runs: must be given a folder, got nothing; write DIR behind it")
    if given.columns and given.all:
        raise ConfigError("--columns, --all: must be one of them, got both; leave one out")
    if given.rows < 0:
        raise ConfigError(f"--rows: must be 0 or more, got {given.rows}; 0 shows all")
    if given.out is not None and given.out.suffix not in _SUFFIXES:
        raise ConfigError(f"--out: must end in {', '.join(_SUFFIXES)}, got {given.out}; rename it")
    return given
