"""Groups of runs against each other: what their seeds support, and what they don't.

A seed is what is sampled: the values of one seed under several conditions (the other keys that vary) are averaged
before anything is inferred, so that n is the number of seeds, and conditions are those that they are.
Shapes: N seeds, C conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, final

from unitgain.errors import ConfigError, DataError
from unitgain.report._pairs import Settings, Versus, compare_pairs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unitgain.runs import RunsTable
    from unitgain.stats.intervals import Interval

__all__ = ["Comparison", "Group", "Settings", "Versus", "compare", "shown"]

SEED = "seed"


@final
@dataclass(frozen=True)
class Group:
    """One group of runs.

    Attributes:
        name: the values of the keys that it is of.
        runs: in all.
        diverged: of them, or without a finite value.
        unfinished: of them, which are left out: failed, interrupted, still training.
        seeds: those that count: with a value under every condition.
        interval: of their mean, or whatever the location is; None where there is none.
    """

    name: str
    runs: int
    diverged: int
    unfinished: int
    seeds: int
    interval: "Interval | None"


@final
@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        metric: its name.
        keys: that make the groups.
        settings: how they were compared.
        groups: the best first, if they are ranked; those without a mean last.
        ranked: whether there are two seeds or more to rank by.
        reference: the baseline or the best group; None where nothing is compared.
        versus: the others against it, by name.
        family: comparisons that p-values are adjusted for.
        averaged: keys whose values were averaged over, seed by seed.
        conditions: how many combinations of their values there are.
        tied: keys that change together with the group, and so can't be told from it.
        notes: what was left out.
    """

    metric: str
    keys: tuple[str, ...]
    settings: Settings
    groups: tuple[Group, ...]
    ranked: bool
    reference: str | None
    versus: Mapping[str, Versus]
    family: int
    averaged: tuple[str, ...]
    conditions: int
    tied: tuple[str, ...]
    notes: tuple[str, ...]


def compare(
    table: "RunsTable",
    keys: Sequence[str],
    metric: str,
    settings: Settings,
    rng: "np.random.Generator",
) -> Comparison:
    """Compare groups of runs by a metric, over their seeds.

    Args:
        table: of runs.
        keys: of the configuration, whose values make the groups.
        metric: a column, such as ``val/accuracy``.
        settings: how.
        rng: of the bootstrap.

    Raises:
        ConfigError: a key or metric that isn't there, keys that don't vary, or no such baseline.
        DataError: no two runs that can be compared.
    """
    _check_keys(table, keys, metric)
    cells = _cells(table, keys, metric)
    known = cells[cells["ended"]]
    if not len(known):
        raise DataError(f"{metric}: must be there for some run, but none of {len(cells)} ended")
    averaged, tied = _other_keys(table, keys, known)
    known = known.assign(condition=_joined(known, averaged))
    wide_GNC, conditions, notes = _units(known, settings)
    if of_data := [key for key in keys if key.partition(".")[0] in ("data", "shift")]:
        notes.append(f"groups differ in {', '.join(of_data)}: a difference may be that of the rows")
    if metric.endswith("loss") and {"data.task", "loss"} & {*keys, *tied}:
        notes.append("groups have losses of other kinds, whose values can't be compared")
    # One value a seed: its mean over the conditions.
    unit_G = {
        name: {seed: float(row.mean()) for seed, row in wide.items()}
        for name, wide in wide_GNC.items()
    }
    groups = [
        _group(name, cells, unit_G.get(name), settings, rng)
        for name in dict.fromkeys(cells["group"])
    ]
    ranked = any(group.seeds > 1 and group.interval is not None for group in groups)
    if ranked:
        sign = -1 if settings.higher else 1
        groups.sort(
            key=lambda g: (g.interval is None, sign * g.interval.value if g.interval else 0)
        )
    reference = _reference(groups, settings, ranked)
    versus: dict[str, Versus] = {}
    family = 0
    if reference is not None:
        able = [group.name for group in groups if group.seeds > 1]
        versus, family = compare_pairs(wide_GNC, unit_G, able, reference, settings)
    return Comparison(
        metric, tuple(keys), settings, tuple(groups), ranked, reference, versus, family,
        tuple(averaged), conditions, tuple(tied), tuple(notes),
    )  # fmt: skip


def _check_keys(table: "RunsTable", keys: Sequence[str], metric: str) -> None:
    for name in (*keys, metric):
        table.check(name)
    if metric not in (*table.metric_columns, "best/value"):
        raise ConfigError(
            f"--metric: must be one of {', '.join(table.metric_columns) or 'none'}, got {metric}"
        )
    if SEED in keys:
        raise ConfigError(
            "--by: must be keys other than seed, which is what groups are compared over"
        )
    varying = [name for name in table.varying() if name != SEED]
    if not any(table.frame[key].nunique(dropna=False) > 1 for key in keys):
        raise ConfigError(
            f"--by: must name keys that vary over the {len(table)} runs, got {', '.join(keys)}; "
            f"these vary: {', '.join(varying) or 'none but seed'}"
        )


def _cells(table: "RunsTable", keys: Sequence[str], metric: str) -> "pd.DataFrame":
    """A row a run: its group, seed, value (NaN where it diverged) and whether it ended."""
    import numpy as np

    frame = table.frame.copy()
    diverged = frame["status"] == "diverged"
    values = frame[metric].astype("float64").replace([np.inf, -np.inf], np.nan)
    return frame.assign(
        group=_joined(frame, keys),
        value=values.mask(diverged),
        ended=diverged | (frame["status"] == "finished"),
    )


def _joined(frame: "pd.DataFrame", keys: Sequence[str]) -> list[str]:
    columns = [[shown(value) for value in frame[key].tolist()] for key in keys]
    return [", ".join(row) for row in zip(*columns, strict=True)] if keys else [""] * len(frame)


def shown(value: object) -> str:
    """A value of the configuration as one types it."""
    if value is None or str(value) in ("nan", "<NA>"):
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _other_keys(
    table: "RunsTable", keys: Sequence[str], known: "pd.DataFrame"
) -> tuple[list[str], list[str]]:
    """The keys that vary beside those of the groups: within groups, or together with them alone."""
    others = [key for key in table.varying() if key not in (*keys, SEED)]
    within = [key for key in others if known.groupby("group")[key].nunique(dropna=False).max() > 1]
    between = [key for key in others if key not in within and known[key].nunique(dropna=False) > 1]
    return within, between


def _units(
    known: "pd.DataFrame", settings: Settings
) -> "tuple[dict[str, dict[object, pd.Series[float]]], int, list[str]]":
    """For each group that has a mean, the values of each seed under all conditions; how many; what was left out."""
    import numpy as np

    values, notes = known["value"], []
    finite = values[np.isfinite(values)]
    if settings.diverged == "worst" and len(finite):
        values = values.fillna(finite.min() if settings.higher else finite.max())
    known = known.assign(value=values)
    lost = known[known["value"].isna()]
    refused = set(lost["group"]) if settings.diverged == "refuse" else set()
    known = known[~known["group"].isin(refused) & known["value"].notna()]
    cell = known.groupby(["group", SEED, "condition"], sort=False)["value"].agg(["mean", "size"])
    if twice := int((cell["size"] - 1).sum()):
        notes.append(f"runs that repeat another's keys: {twice}; their mean counts once")
    shared = set.intersection(
        *(set(part["condition"]) for _, part in known.groupby("group")), set(known["condition"])
    )
    if len(known) and not shared:
        raise DataError(
            "groups: must have runs under one condition at least that all of them have, but there is none; add the "
            "other keys that vary to --by, or choose runs with --where"
        )
    if extra := known["condition"].nunique() - len(shared):
        notes.append(f"{_count(extra, 'condition')} that some group lacks left out")
    wide_GNC, short = _wide(cell["mean"], shared)
    if short:
        notes.append(f"{_count(short, 'seed')} without a value under each condition left out")
    return wide_GNC, len(shared), notes


def _wide(
    cell: "pd.Series[float]", shared: set[str]
) -> "tuple[dict[str, dict[object, pd.Series[float]]], int]":
    """By group and seed the values under the shared conditions, and how many seeds lack one of them."""
    wide_GNC: dict[str, dict[object, pd.Series[float]]] = {}
    short = 0
    for key, part in cell.groupby(["group", SEED], sort=False):
        name, seed = cast("tuple[str, object]", key)
        row = part.droplevel(["group", SEED])
        row = row[row.index.isin(shared)].sort_index()
        if len(row) == len(shared):
            wide_GNC.setdefault(name, {})[seed] = row
        elif len(row):
            short += 1
    return wide_GNC, short


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _group(
    name: str,
    cells: "pd.DataFrame",
    units: Mapping[object, float] | None,
    settings: Settings,
    rng: "np.random.Generator",
) -> Group:
    import numpy as np

    from unitgain.stats.bootstrap import location_interval

    own, interval = cells[cells["group"] == name], None
    if units:
        values = np.array(list(units.values()))
        how = {"location": settings.location, "method": settings.method, "level": settings.level}
        interval = location_interval(values, rng, **how)  # type: ignore[arg-type]
    diverged, unfinished = (own["ended"] & own["value"].isna()).sum(), (~own["ended"]).sum()
    return Group(name, len(own), int(diverged), int(unfinished), len(units or ()), interval)


def _reference(groups: Sequence[Group], settings: Settings, ranked: bool) -> str | None:
    names = [group.name for group in groups]
    if settings.baseline is not None and settings.baseline not in names:
        raise ConfigError(
            f"--baseline: must be one of the groups {'; '.join(names)}, got {settings.baseline}"
        )
    able = [group.name for group in groups if group.seeds > 1]
    if not ranked or len(able) < 2:
        return None
    if settings.baseline is None:
        return able[0]
    return settings.baseline if settings.baseline in able else None
