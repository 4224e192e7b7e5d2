"""Runs by the values of some keys, and which of many groups a figure shows.

Shapes: N runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from unitgain.errors import DataError
from unitgain.report.comparison import shown
from unitgain.runs import RunsTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unitgain.stats.effects import Factor

MOST_GROUPS = 9
"""Groups that one figure tells apart."""

_LONG_NAME = 28


@final
@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in keys that the figure doesn't show, such as their seeds.

    Attributes:
        name: the values of the keys that it shows, numbers with their key.
        levels: the value of each key.
        rows: of the table.
    """

    name: str
    levels: tuple[str, ...]
    rows: Sequence[int]

    @property
    def values(self) -> str:
        """The values alone, as `unitgain.report.comparison` names groups."""
        return ", ".join(self.levels) or self.name


def groups_of(table: RunsTable, keys: Sequence[str]) -> list[RunGroup]:
    """Runs by the values of some keys, in the order of their levels.

    Raises:
        ConfigError: a key isn't one of the table's.
    """
    for key in keys:
        table.check(key)
    if not keys:
        return [RunGroup("all runs", (), list(range(len(table.frame))))]
    factors = [factor_of(table, key, most=len(table)) for key in keys]
    found: dict[tuple[int, ...], list[int]] = {}
    for row in range(len(table.frame)):
        found.setdefault(tuple(int(each.code_N[row]) for each in factors), []).append(row)
    groups = []
    for codes in sorted(found):
        levels = tuple(each.levels[code] for each, code in zip(factors, codes, strict=True))
        groups.append(RunGroup(named(keys, levels), levels, found[codes]))
    return groups


def few_groups(
    table: RunsTable, keys: Sequence[str], metric: str, *, higher: bool
) -> tuple[list[RunGroup], str]:
    """The groups that one figure tells apart, and a note where there are more.

    Of many it takes some from the best mean to the worst, a group without one being worse than all, at even steps.
    Names leave out what those groups share.

    Args:
        table: the runs.
        keys: whose values make the groups.
        metric: that means are of.
        higher: whether more of it is better.

    Raises:
        ConfigError: a key isn't one of the table's.
        DataError: no run has the metric.
    """
    import numpy as np

    groups = groups_of(table, keys)
    if len(groups) <= MOST_GROUPS:
        return groups, ""
    value_N = values_of(table, metric)
    sign = -1 if higher else 1

    def rank(group: RunGroup) -> float:
        value = value_N[list(group.rows)]
        value = value[np.isfinite(value)]
        return sign * float(value.mean()) if len(value) else np.inf

    ranked = sorted(groups, key=rank)
    steps = np.linspace(0, len(ranked) - 1, MOST_GROUPS).round().astype(int)
    note = f"{MOST_GROUPS} of {len(groups)} groups, from best to worst"
    return _shortened(keys, [ranked[at] for at in steps]), note


def named(keys: Sequence[str], levels: Sequence[str]) -> str:
    """Levels that speak for themselves, numbers with their key.

    Example:
        >>> named(["init", "optimizer.lr", "model.bias"], ["he", "1e+30", "true"])
        'he, lr 1e+30, bias true'
    """
    parts = []
    for key, level in zip(keys, levels, strict=True):
        alone = _is_number(level.partition(" to ")[0]) or level in ("true", "false", "null")
        parts.append(f"{key.rpartition('.')[2]} {level}" if alone else level)
    return ", ".join(parts)


def factor_of(table: RunsTable, key: str, most: int = 6) -> "Factor":
    """A key's level for each run; numbers with more than ``most`` levels are cut at quantiles."""
    from unitgain.stats.effects import factor

    column = table.frame[key]
    values = column.tolist()
    if column.isna().any() or column.dtype == bool:
        values = [shown(value) for value in values]
    return factor(key, values, most)


def values_of(table: RunsTable, metric: str) -> "NDArray[np.float64]":
    """A metric of every run, NaN where it is missing.

    Raises:
        DataError: no run has it.
    """
    import numpy as np

    if metric not in table.frame.columns:
        known = ", ".join(table.metric_columns) or "none"
        raise DataError(
            f"metric: must be one that the runs have, but there is no {metric}; there is {known}"
        )
    return np.asarray(table.frame[metric].to_numpy(dtype=np.float64, na_value=np.nan))


def _shortened(keys: Sequence[str], groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Names without keys that all groups share; long ones also without keys that others tell apart."""
    levels = [group.levels for group in groups]
    kept = [at for at in range(len(keys)) if len({each[at] for each in levels}) > 1]

    def names(at: Sequence[int]) -> list[str]:
        return [named([keys[i] for i in at], [each[i] for i in at]) for each in levels]

    for last in reversed(kept):
        fewer = [at for at in kept if at != last]
        long = max(map(len, names(kept))) > _LONG_NAME
        if long and len(set(names(fewer))) == len(groups):
            kept = fewer
    return [replace(group, name=name) for group, name in zip(groups, names(kept), strict=True)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
