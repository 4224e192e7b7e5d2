"""Groups of runs against each other: what their seeds support, and what they don't.

A seed is what is sampled: the values of one seed under several conditions (the other keys that vary) are averaged
before anything is inferred, so that n is the number of seeds, and conditions are those that they are.
Shapes: N seeds, C conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, final

from unitgain.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unitgain.runs import RunsTable
    from unitgain.stats.bootstrap import Location, Method
    from unitgain.stats.comparison import Difference, Test
    from unitgain.stats.intervals import Interval

Diverged = Literal["refuse", "drop", "worst"]
SEED = "seed"
POWER = 0.8


@final
@dataclass(frozen=True)
class Settings:
    """How groups are compared.

    Args:
        higher: whether more of the metric is better.
        baseline: the group that the others are compared with; None: the best one.
        level: of intervals, and one minus the level of tests.
        location: what sums up a group's seeds.
        method: of the interval.
        test: of differences.
        diverged: runs that diverged: ``refuse`` gives their group no mean, ``drop`` leaves their seeds out, ``worst``
            counts them as the worst value of any run.
    """

    higher: bool
    baseline: str | None = None
    level: float = 0.95
    location: "Location" = "mean"
    method: "Method" = "student"
    test: "Test" = "t"
    diverged: Diverged = "refuse"


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
class Versus:
    """A group against the reference.

    Attributes:
        group: its name.
        difference: of means, group minus reference.
        p_value: adjusted by Holm over the family.
        improvement: the probability that a run of the group is better than one of the reference.
        better: whether its mean is.
        supported: whether the test says that means differ.
        left_out: seeds that only one of the two has, if paired.
        least: seeds of each that would show a difference of this size, 80 times in 100; None: too many.
        visible: the difference that so many seeds show 80 times in 100.
    """

    group: str
    difference: "Difference"
    p_value: float
    improvement: float
    better: bool
    supported: bool
    left_out: int
    least: int | None
    visible: float


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
    # One value a seed: its mean over the conditions.
    unit_G = {
        name: {seed: float(row.mean()) for seed, row in wide.items()}
        for name, wide in wide_GNC.items()
    }
    groups = [_group(name, cells, unit_G.get(name), settings, rng) for name in _names(cells)]
    ranked = any(group.seeds > 1 and group.interval is not None for group in groups)
    if ranked:
        sign = -1 if settings.higher else 1
        groups.sort(
            key=lambda g: (g.interval is None, sign * g.interval.value if g.interval else 0)
        )
    reference = _reference(groups, settings, ranked)
    versus, family = (
        ({}, 0) if reference is None else _versus(wide_GNC, unit_G, groups, reference, settings)
    )
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


def _names(cells: "pd.DataFrame") -> list[str]:
    return list(dict.fromkeys(cells["group"]))


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
        notes.append(f"{_count(twice, 'run')} repeat another's keys: their mean counts once")
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
    wide_GNC: dict[str, dict[object, pd.Series[float]]] = {
        name: {} for name in dict.fromkeys(known["group"])
    }
    short = 0
    for (name, seed), part in cell["mean"].groupby(["group", SEED], sort=False):
        row = part.droplevel(["group", SEED])
        row = row[row.index.isin(shared)].sort_index()
        if len(row) == len(shared):
            wide_GNC[name][seed] = row
        elif len(row):
            short += 1
    if short:
        notes.append(f"{_count(short, 'seed')} without a value under each condition left out")
    return {name: units for name, units in wide_GNC.items() if units}, len(shared), notes


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


def _versus(
    wide_GNC: "Mapping[str, Mapping[object, pd.Series[float]]]",
    unit_G: Mapping[str, Mapping[object, float]],
    groups: Sequence[Group],
    reference: str,
    settings: Settings,
) -> tuple[dict[str, Versus], int]:
    """All against the reference; where the best was picked from the same runs, the family is all pairs."""
    import numpy as np

    from unitgain.stats.intervals import holm

    able = [group.name for group in groups if group.seeds > 1]
    if settings.baseline is None:
        pairs = list(combinations(able, 2))
    else:
        pairs = [(reference, name) for name in able if name != reference]
    found = [_difference(unit_G[name], unit_G[base], settings) for base, name in pairs]
    adjusted = holm(np.array([difference.p_value for difference, _ in found]))
    versus = {}
    for (base, name), (difference, left_out), p_value in zip(pairs, found, adjusted, strict=True):
        if base == reference:
            chance = _improvement(wide_GNC[name], wide_GNC[base], settings.higher)
            versus[name] = _judged(
                name, difference, left_out, float(p_value), chance, len(pairs), settings
            )
    return versus, len(pairs)


def _difference(
    units: Mapping[object, float], base: Mapping[object, float], settings: Settings
) -> "tuple[Difference, int]":
    """Paired if at least half of the seeds of either group are the other's too, and two are."""
    import numpy as np

    from unitgain.stats.comparison import paired_difference, unpaired_difference

    both = [seed for seed in units if seed in base]
    if len(both) >= max(2, len(units) / 2, len(base) / 2):
        x, y = (np.array([each[seed] for seed in both]) for each in (units, base))
        difference = paired_difference(x, y, test=settings.test, level=settings.level)
        return difference, len(units) + len(base) - 2 * len(both)
    x, y = (np.array(list(each.values())) for each in (units, base))
    return unpaired_difference(x, y, test=settings.test, level=settings.level), 0


def _improvement(
    group: "Mapping[object, pd.Series[float]]",
    base: "Mapping[object, pd.Series[float]]",
    higher: bool,
) -> float:
    """The mean over conditions of the probability that a run of the group is better than one of the base."""
    import numpy as np

    from unitgain.stats.comparison import probability_of_improvement

    x_NC, y_NC = (np.stack([row.to_numpy() for row in each.values()]) for each in (group, base))
    chance = [probability_of_improvement(x, y) for x, y in zip(x_NC.T, y_NC.T, strict=True)]
    return float(np.mean(chance)) if higher else 1 - float(np.mean(chance))


def _judged(
    name: str,
    difference: "Difference",
    left_out: int,
    p_value: float,
    improvement: float,
    family: int,
    settings: Settings,
) -> Versus:
    from unitgain.stats.comparison import least_effect, least_size

    # What Holm's smallest p-value is held against.
    alpha = (1 - settings.level) / family
    paired, value, effect = difference.paired, difference.interval.value, difference.effect
    spread = abs(value / effect) if effect and abs(effect) < float("inf") else 0.0
    return Versus(
        group=name,
        difference=difference,
        p_value=p_value,
        improvement=improvement,
        better=(value > 0) == settings.higher and value != 0,
        supported=p_value <= 1 - settings.level,
        left_out=left_out,
        least=least_size(effect, paired=paired, wanted=POWER, alpha=alpha) if effect else None,
        visible=spread * least_effect(difference.size, paired=paired, wanted=POWER, alpha=alpha),
    )
