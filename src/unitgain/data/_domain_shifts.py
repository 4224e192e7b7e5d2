"""Shifts between domains: groups, spans of time, or the target rows that a source itself gives."""

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

from unitgain.data._checks import several
from unitgain.data._partition import by_group, by_time, required
from unitgain.data._selection import check_parts
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Table
from unitgain.errors import DataError

By = Literal["group", "time"]
Bools = npt.NDArray[np.bool_]
_STREAM = 0x444F4D41
_USER = "shift=domain"


@final
@dataclass(frozen=True)
class Domain:
    """Target rows are those of held-out groups, or of later times; their densities' ratio isn't known.

    Test rows are all rows of the target, whichever part they were in. Training and validation rows
    are those of the source in these parts; source rows of the test part are left out.

    Args:
        by: ``group`` or ``time``: the column that the domains differ in.
        groups: The held-out groups by name; none: they are drawn.
        start: The time, a number or an ISO 8601 date, from which on rows are of the target; None:
            the latest ones are.
        share: The share of rows in the target where ``groups`` or ``start`` don't say it: the
            nearest that whole groups, or whole times, allow.
        seed: Decides which groups are drawn.

    Example:
        >>> from unitgain.data import table_from_arrays
        >>> from unitgain.data.splits import Random
        >>> x = np.arange(20.0)
        >>> table = table_from_arrays("toy", x[:, None], x, task="regression", time=x)
        >>> Domain(by="time", start=18)(table, Random()(table)).split.test
        array([18, 19])
    """

    by: By = "group"
    groups: tuple[int | str, ...] = ()
    start: float | str | None = None
    share: float = 0.25
    seed: int = 0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The source rows of ``split``, and all target rows.

        Raises:
            DataError: Without the column, for an unknown group, or where a part has no row.
        """
        return _parted(table, split, self._target(table))

    def _target(self, table: Table) -> Bools:
        fractions = (1 - self.share, self.share)
        if self.by == "time":
            if self.start is not None:
                return _since(table, self.start)
            part_of_N = by_time(table, fractions, user=_USER, remedy="shift.by=group")
        elif self.groups:
            return _of_groups(table, self.groups)
        else:
            rng = np.random.default_rng([_STREAM, self.seed])
            part_of_N = by_group(table, fractions, rng, user=_USER, remedy="shift.by=time")
        return np.equal(part_of_N, 1)


@final
@dataclass(frozen=True)
class Given:
    """Target rows are those that the source itself gives as such, with the true ratio where it knows it.

    Test rows are all rows of the target, whichever part they were in. Training and validation rows
    are those of the source in these parts; source rows of the test part are left out.
    """

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The source rows of ``split``, and all target rows.

        Raises:
            DataError: The table's rows are of one domain, or a part has no row.
        """
        domains = table.domains
        if domains is None:
            raise DataError(
                f"{table.name}: shift=given needs a source with rows of two domains, but this one has one; set "
                f"data=gaussian_shift (or sinc_shift, teacher_shift), or another shift"
            )
        shifted = _parted(table, split, domains.target)
        if domains.ratio is None:
            return shifted
        return Shifted(
            table=table,
            split=shifted.split,
            kind="covariate",
            ratio=domains.ratio / domains.ratio[shifted.split.train].mean(),
            bound=domains.bound,
            ess_share=domains.ess_share,
        )


def _parted(table: Table, split: Split, target_N: Bools) -> Shifted:
    train, val = (rows[~target_N[rows]] for rows in (split.train, split.val))
    parts = {"train": train, "val": val, "test": np.flatnonzero(target_N)}
    check_parts(table, split, parts)
    return Shifted(table, Split(**parts), "domain", ratio=None, bound=math.nan, ess_share=math.nan)


def _of_groups(table: Table, groups: tuple[int | str, ...]) -> Bools:
    group = required(table, table.group, "group", user=_USER, remedy="shift.by=time").astype(str)
    named, there = [str(name) for name in groups], np.unique(group).tolist()
    unknown = [f"'{name}'" for name in named if name not in there]
    if unknown:
        raise DataError(
            f"{table.name}: shift.groups must name groups, but none is called {several(unknown)}; "
            f"choose from {several(there)}"
        )
    return np.isin(group, named)


def _since(table: Table, start: float | str) -> Bools:
    time = required(table, table.time, "time", user=_USER, remedy="shift.by=group")
    dates = time.dtype.kind == "M"
    try:
        first: Any = np.datetime64(str(start)) if dates else float(start)
    except ValueError as error:
        kind = "an ISO 8601 date (2026-01-31)" if dates else "a number"
        raise DataError(
            f"{table.name}: shift.start must be {kind} as the time column is, got '{start}'; set it so"
        ) from error
    later: Bools = time >= first
    if not later.any():
        raise DataError(
            f"{table.name}: shift.start must leave later rows for the target, but of {table.n_rows} rows the "
            f"latest is of {time.max()} and shift.start is {start}; set an earlier one"
        )
    return later
