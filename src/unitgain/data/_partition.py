"""Whole groups and spans of time, dealt to parts of given sizes.

Shapes: N rows, P parts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unitgain.data._table import Floats, Ints, Table
from unitgain.errors import DataError

_COUNTS = {2: "two", 3: "three"}


def by_group(
    table: Table,
    fractions: Sequence[float],
    rng: np.random.Generator,
    *,
    user: str = "a split",
    remedy: str = "split=random",
) -> Ints:
    """(N,) the part of each row: in random order, each group goes to the part that lacks most of its rows.

    Args:
        table: Has a group column.
        fractions: (P,) parts of the rows.
        rng: Decides the order of the groups, alone.
        user: What needs the groups, for messages.
        remedy: What to set where there are none, for messages.

    Raises:
        DataError: Without a group column, or with fewer groups than parts.
    """
    group = required(table, table.group, "group", user=user, remedy=remedy)
    _, code = np.unique(group.astype(str), return_inverse=True)
    sizes, parts = np.bincount(code), range(len(fractions))
    if len(sizes) < len(parts):
        raise DataError(
            f"{table.name}: {user} by group needs at least {_COUNTS[len(parts)]} groups, but the "
            f"{table.n_rows} rows are of {len(sizes)}; set {remedy}"
        )
    lacking_P = table.n_rows * normalised(fractions)
    part_of = np.zeros(len(sizes), dtype=np.int64)
    empty = set(parts)
    order = rng.permutation(len(sizes))
    for left, g in zip(range(len(order), 0, -1), order, strict=True):
        choice = sorted(empty) if left == len(empty) else parts
        part = max(choice, key=lambda p: lacking_P[p])
        part_of[g] = part
        lacking_P[part] -= sizes[g]
        empty.discard(part)
    return part_of[code]


def by_time(
    table: Table, fractions: Sequence[float], *, user: str = "a split", remedy: str = "split=random"
) -> Ints:
    """(N,) the part of each row: the earliest rows first, each border at the nearest change of time.

    Args:
        table: Has a time column.
        fractions: (P,) parts of the rows.
        user: What needs the times, for messages.
        remedy: What to set where there are none, for messages.

    Raises:
        DataError: Without a time column, or with fewer times than parts.
    """
    time = required(table, table.time, "time", user=user, remedy=remedy)
    _, code, counts = np.unique(time, return_inverse=True, return_counts=True)
    parts = len(fractions)
    if len(counts) < parts:
        raise DataError(
            f"{table.name}: {user} by time needs at least {_COUNTS[parts]} times, but the "
            f"{table.n_rows} rows are of {len(counts)}; set {remedy}"
        )
    until = np.cumsum(counts)
    borders = list[int]()
    for p, share in enumerate(np.cumsum(normalised(fractions))[:-1]):
        nearest = int(np.abs(until - table.n_rows * share).argmin())
        # Parts of at least one time each.
        after_last = max(nearest, borders[-1] + 1) if borders else nearest
        borders.append(min(after_last, len(counts) - parts + p))
    return np.searchsorted(borders, code).astype(np.int64)


def normalised(fractions: Sequence[float]) -> Floats:
    """(P,) the fractions over their sum."""
    return np.asarray(fractions, dtype=np.float64) / sum(fractions)


def required(
    table: Table,
    column: npt.NDArray[Any] | None,
    what: str,
    *,
    user: str = "a split",
    remedy: str = "split=random",
) -> npt.NDArray[Any]:
    """The column, or a fault that says which key gives it.

    Raises:
        DataError: The table has none.
    """
    if column is None:
        raise DataError(
            f"{table.name}: {user} by {what} needs a {what} column, but the table has none; set "
            f"data.{what}_column (data=csv, parquet, openml) or {remedy}"
        )
    return column
