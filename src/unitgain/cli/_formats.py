"""A table of runs as text: for the terminal, CSV, Markdown and LaTeX."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from unitgain.cli._show import number
from unitgain.report.tabular import latex, markdown

if TYPE_CHECKING:
    from rich.table import Table

    from unitgain.runs import RunsTable

_GAP = 2
_NAMED = 6


def text_of(table: "RunsTable", kind: str) -> str:
    """The whole table as ``csv`` (all digits), ``md`` or ``tex`` (four decimals)."""
    if kind == "csv":
        written: str = table.frame.to_csv(index=False, lineterminator="\n")
        return written
    head, rows, right = _cells(table, len(table))
    return (markdown if kind == "md" else latex)(head, rows, right)


def rich_table(table: "RunsTable", rows: int, width: int) -> tuple["Table", list[str]]:
    """The first rows, with the columns that fit, and a note on each that was left out or abbreviated.

    Args:
        table: its first column is kept first, its last ones go first.
        rows: how many.
        width: letters in a line.
    """
    from rich.table import Table

    head, cells, right = _cells(table, rows)
    _shorten_paths(head, cells)
    notes = []
    if _width(head, cells) > width:
        notes += _last_parts(head, cells)
    if _width(head, cells) > width:
        short = _abbreviated(head)
        used = [f"{new} = {old}" for new, old in zip(short, head, strict=True) if new != old]
        notes += [", ".join(used)] if used else []
    else:
        short = head
    kept = _that_fit(short, cells, width, [name in table.config_columns for name in head])
    left = [head[j] for j in range(len(head)) if j not in kept]
    if left:
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        notes.append(f"no room for {', '.join(left[:_NAMED])}{more}; see --columns and --out")
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for j in kept:
        # The first column gives way where even it alone is too wide.
        drawn.add_column(
            short[j], justify="right" if right[j] else "left", no_wrap=j != 0, overflow="fold"
        )
    for row in cells:
        drawn.add_row(*(row[j] for j in kept))
    return drawn, notes


def _cells(table: "RunsTable", rows: int) -> tuple[list[str], list[list[str]], list[bool]]:
    """Names of the columns, the cells, and which columns are of numbers."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    frame = table.frame.head(rows)
    head = [str(name) for name in frame.columns]
    exact = set(table.config_columns)
    columns = [[_cell(value, name in exact) for value in frame[name].tolist()] for name in head]
    right = [
        is_numeric_dtype(frame[name].dtype) and not is_bool_dtype(frame[name].dtype)
        for name in head
    ]
    return head, [list(row) for row in zip(*columns, strict=True)], right


def _cell(value: Any, exact: bool) -> str:
    """Empty where it is missing; configurations as typed, other numbers to four decimals."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or str(value) in ("nan", "<NA>"):
        return ""
    if isinstance(value, float):
        return f"{value:g}" if exact and float(f"{value:g}") == value else number(value)
    return str(value)


def _shorten_paths(head: Sequence[str], cells: list[list[str]]) -> None:
    """Let the column ``run`` begin where the paths of the runs part."""
    if "run" not in head or not cells:
        return
    j = head.index("run")
    paths = [PurePath(row[j]).parts for row in cells]
    shared = 0
    while all(len(parts) > shared + 1 and parts[shared] == paths[0][shared] for parts in paths):
        shared += 1
    for row, parts in zip(cells, paths, strict=True):
        row[j] = str(PurePath(*parts[shared:]))


def _last_parts(head: Sequence[str], cells: list[list[str]]) -> list[str]:
    """Leave the last part of each run's path where that tells them apart, and say so."""
    j = head.index("run") if "run" in head else None
    if j is None:
        return []
    names = [PurePath(row[j]).name for row in cells]
    if len(set(names)) < len(names) or names == [row[j] for row in cells]:
        return []
    for row, name in zip(cells, names, strict=True):
        row[j] = name
    return ["run = the last part of its path"]


def _abbreviated(head: Sequence[str]) -> list[str]:
    """The last part of a dotted key, where no other column ends so."""
    last = [name.rpartition(".")[2] for name in head]
    return [
        short if last.count(short) == 1 and short not in head else name
        for short, name in zip(last, head, strict=True)
    ]


def _width(head: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    return sum(_widths(head, cells)) + _GAP * max(len(head) - 1, 0)


def _widths(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(name), *(len(row[j]) for row in cells)]) for j, name in enumerate(head)]


def _that_fit(
    head: Sequence[str], cells: Sequence[Sequence[str]], width: int, config: Sequence[bool]
) -> list[int]:
    """The columns that have room together: what doesn't is left out from the end, configuration last."""
    widths = _widths(head, cells)
    order = sorted(range(len(head)), key=lambda j: (j != 0, not config[j], j))
    kept: list[int] = []
    room = width + _GAP
    for j in order:
        if not kept or widths[j] + _GAP <= room:
            kept.append(j)
            room -= widths[j] + _GAP
    return sorted(kept)
