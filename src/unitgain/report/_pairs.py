"""Two groups of runs against each other, and all of them against one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    import pandas as pd

    from unitgain.stats.bootstrap import Location, Method
    from unitgain.stats.comparison import Difference, Test

Diverged = Literal["refuse", "drop", "worst"]
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


def compare_pairs(
    wide_GNC: "Mapping[str, Mapping[object, pd.Series[float]]]",
    unit_G: Mapping[str, Mapping[object, float]],
    able: Sequence[str],
    reference: str,
    settings: Settings,
) -> tuple[dict[str, Versus], int]:
    """All against the reference; where the best was picked from the same runs, the family is all pairs."""
    import numpy as np

    from unitgain.stats.intervals import holm

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
