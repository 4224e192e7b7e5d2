"""What figures of many runs show, as plain arrays: the paper's figures and the page's are drawn from these.

Shapes: E epochs, G groups, L layers, N runs, X and Y levels of two keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unitgain.errors import DataError
from unitgain.report.run_groups import RunGroup, factor_of, values_of
from unitgain.runs import Gradients, RunDirectory, RunsTable, read_gradients, read_metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unitgain.stats.effects import Effect, EffectNode, Factor

    Array = NDArray[np.float64]

SEED = "seed"
LEVEL = 0.95
"""What bands cover."""

_MOST_KEYS = 5
"""Keys that heatmaps are drawn of, two and two."""

_MOST_CELLS = 24
"""Levels of a number along one side of a heatmap; more are put together."""

DEPTH_FIGURES = {
    "gradients": (
        "Gradients against depth",
        "grad_preactivation",
        "gradient norm",
    ),
    "activations": (
        "Activations against depth",
        "activation_second_moment",
        "second moment",
    ),
}
"""Figures of a quantity against depth: heading, quantity and label by name."""


@final
@dataclass(frozen=True, eq=False)
class Curve:
    """A metric over the epochs of a group's runs.

    Attributes:
        group: its name.
        place: among the groups of a figure, which gives it its colour in each.
        runs: how many runs there are; epochs that one of them didn't reach are left out.
        mean_E: over the runs.
        low_E: the lower end of the mean's interval by Student's t; the mean itself for one run.
        high_E: the upper end.
    """

    group: str
    place: int
    runs: int
    mean_E: "Array"
    low_E: "Array"
    high_E: "Array"


@final
@dataclass(frozen=True, eq=False)
class Heatmap:
    """The mean of a metric over the levels of two keys.

    Attributes:
        metric: its name.
        x_key: the key of the columns.
        y_key: the key of the rows.
        x_levels: X names.
        y_levels: Y names.
        mean_YX: NaN where there is no run.
        count_YX: runs that the mean is over.
    """

    metric: str
    x_key: str
    y_key: str
    x_levels: Sequence[str]
    y_levels: Sequence[str]
    mean_YX: "Array"
    count_YX: "NDArray[np.int64]"


@final
@dataclass(frozen=True, eq=False)
class Profile:
    """A quantity against depth, the median over a group's runs, at the first and the last record.

    Attributes:
        group: its name.
        place: among the groups of a figure, which gives it its colour in each.
        first_L: at the first record; layers from 1, the last the output's.
        last_L: at the last one.
        theory_L: what theory foretold of the first record, at its level; None where it says nothing.
    """

    group: str
    place: int
    first_L: "Array"
    last_L: "Array"
    theory_L: "Array | None"


@final
@dataclass(frozen=True, eq=False)
class Foretold:
    """What theory foretold of runs before they were trained, against what they measured at their first step.

    Attributes:
        groups: G names.
        group_N: each run's group.
        slope_N: the foretold slope of log10 gradient norm a layer.
        measured_N: the measured one.
    """

    groups: Sequence[str]
    group_N: "NDArray[np.int64]"
    slope_N: "Array"
    measured_N: "Array"


@final
@dataclass(frozen=True, eq=False)
class Effects:
    """How much of a metric's variance over runs each key explains.

    Attributes:
        metric: its name.
        value_N: of the runs that have it.
        main: effects of the keys, the largest first.
        pairs: interactions by the two keys' names, the largest first.
        tree: of splits.
        dropped: runs without a finite value, that nothing here speaks of.
    """

    metric: str
    value_N: "Array"
    main: "Sequence[Effect]"
    pairs: Sequence[tuple[str, float]]
    tree: "EffectNode"
    dropped: int


@final
@dataclass(frozen=True, eq=False)
class Parallel:
    """Each run's level of every varying key, and its metric.

    Attributes:
        metric: its name.
        factors: the keys.
        value_N: finite.
    """

    metric: str
    factors: "Sequence[Factor]"
    value_N: "Array"


def varying_keys(table: RunsTable) -> list[str]:
    """The keys that vary over the runs, without the seed."""
    return [key for key in table.varying() if key != SEED]


def key_pairs(
    found: "Effects | None", keys: Sequence[str], asked: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Every two of the five keys that explain most of a metric, these first, as columns and rows of heatmaps.

    Args:
        found: what `effects` says of these keys.
        keys: that vary.
        asked: keys that come before all others, if they are fewer than all.
    """
    first = [key for key in asked if key in keys] if len(asked) < len(keys) else []
    order = [effect.factor for effect in found.main] if found is not None else []
    most = list(dict.fromkeys([*first, *order, *keys]))[:_MOST_KEYS]
    return [(x, y) for i, x in enumerate(most) for y in most[i + 1 :]]


def course_of(metric: str) -> str:
    """The metric by epoch that stands for one: test metrics are taken once, so that validation stands for them."""
    return f"val/{metric.removeprefix('test/')}" if metric.startswith("test/") else metric


def curves(table: RunsTable, groups: Sequence[RunGroup], metric: str) -> list[Curve]:
    """A metric over epochs, with the interval of its mean over the runs of each group."""
    import numpy as np
    from scipy.special import stdtrit

    shown = []
    for place, group in enumerate(groups):
        found = [_metric_of(Path(table.frame["run"].iloc[row]), metric) for row in group.rows]
        columns = [column for column in found if column is not None and len(column)]
        if not columns:
            continue
        epochs = min(len(column) for column in columns)
        value_NE = np.stack([column[:epochs] for column in columns])
        mean_E, half_E = value_NE.mean(0), np.zeros(epochs)
        if len(columns) > 1:
            t = float(stdtrit(len(columns) - 1, (1 + LEVEL) / 2))
            half_E = t * value_NE.std(0, ddof=1) / np.sqrt(len(columns))
        shown.append(
            Curve(group.name, place, len(columns), mean_E, mean_E - half_E, mean_E + half_E)
        )
    return shown


def heatmap(table: RunsTable, x_key: str, y_key: str, metric: str) -> Heatmap:
    """The mean of a metric over two keys' levels; runs without a finite value don't count."""
    import numpy as np

    x, y = (factor_of(table, key, _MOST_CELLS) for key in (x_key, y_key))
    value_N = values_of(table, metric)
    total_YX = np.zeros((len(y.levels), len(x.levels)))
    count_YX = np.zeros(total_YX.shape, dtype=np.int64)
    finite = np.isfinite(value_N)
    np.add.at(total_YX, (y.code_N[finite], x.code_N[finite]), value_N[finite])
    np.add.at(count_YX, (y.code_N[finite], x.code_N[finite]), 1)
    with np.errstate(invalid="ignore"):
        mean_YX = total_YX / count_YX
    return Heatmap(metric, x_key, y_key, x.levels, y.levels, mean_YX, count_YX)


def profiles(
    table: RunsTable, groups: Sequence[RunGroup], quantities: Sequence[str]
) -> dict[str, list[Profile]]:
    """Quantities of gradients.parquet against depth, without groups whose runs lack one or differ in depth.

    Theory's line goes with ``grad_preactivation``: of the group's first run that has a forecast, at the level that fits
    the group's hidden layers best.
    """
    import numpy as np

    shown: dict[str, list[Profile]] = {name: [] for name in quantities}
    for place, group in enumerate(groups):
        known = [g for row in group.rows if (g := _gradients_of(table, row)) is not None]
        for name in quantities:
            grids = [each.grid(name)[1] for each in known if name in each.names]
            if not grids or len({grid.shape[1] for grid in grids}) > 1:
                continue
            with np.errstate(all="ignore"):
                first_L, last_L = (
                    np.median([grid[at] for grid in grids], axis=0) for at in (0, -1)
                )
            theory_L = _theory(table, group, first_L) if name == "grad_preactivation" else None
            shown[name].append(Profile(group.name, place, first_L, last_L, theory_L))
    return shown


def foretold(table: RunsTable, groups: Sequence[RunGroup]) -> Foretold | None:
    """Slopes that theory foretold against measured ones; None where no run has both."""
    import numpy as np

    frame = table.frame
    if not {"forecast/slope", "verdict/slope"} <= set(frame.columns):
        return None
    group_N = np.full(len(frame), -1)
    for index, group in enumerate(groups):
        group_N[list(group.rows)] = index
    slope_N, measured_N = (values_of(table, name) for name in ("forecast/slope", "verdict/slope"))
    known = np.isfinite(slope_N) & np.isfinite(measured_N) & (group_N >= 0)
    if not known.any():
        return None
    return Foretold([g.name for g in groups], group_N[known], slope_N[known], measured_N[known])


def effects(table: RunsTable, metric: str, keys: Sequence[str]) -> Effects | None:
    """Analysis of variance of a metric over the varying keys; None where it doesn't vary or nothing else does."""
    import numpy as np

    from unitgain.stats.effects import Factor, effect_tree, main_effect, pair_effect

    value_N = values_of(table, metric)
    finite = np.isfinite(value_N)
    value = value_N[finite]
    factors = [
        Factor(f.name, f.code_N[finite], f.levels) for f in (factor_of(table, key) for key in keys)
    ]
    factors = [f for f in factors if len(np.unique(f.code_N)) > 1]
    if not factors or len(value) < 3 or value.min() == value.max():
        return None
    main = sorted((main_effect(f, value) for f in factors), key=lambda e: -e.omega_squared)
    pairs = [
        (f"{a.name} x {b.name}", pair_effect(a, b, value))
        for i, a in enumerate(factors)
        for b in factors[i + 1 :]
    ]
    pairs.sort(key=lambda pair: -pair[1])
    return Effects(metric, value, main, pairs, effect_tree(factors, value), int((~finite).sum()))


def parallel(table: RunsTable, metric: str, keys: Sequence[str]) -> Parallel | None:
    """Each run's levels of the varying keys; runs without a finite value are left out, None where all are."""
    import numpy as np

    from unitgain.stats.effects import Factor

    value_N = values_of(table, metric)
    finite = np.isfinite(value_N)
    if not (keys and finite.any()):
        return None
    factors = [
        Factor(f.name, f.code_N[finite], f.levels) for f in (factor_of(table, key) for key in keys)
    ]
    return Parallel(metric, factors, value_N[finite])


def _metric_of(directory: Path, metric: str) -> "Array | None":
    try:
        return read_metrics(RunDirectory(directory).metrics).get(metric)
    except DataError:
        return None


def _gradients_of(table: RunsTable, row: int) -> "Gradients | None":
    try:
        return read_gradients(RunDirectory(Path(table.frame["run"].iloc[row])).gradients)
    except DataError:
        return None


def _summary(table: RunsTable, row: int) -> Mapping[str, Any]:
    try:
        return RunDirectory(Path(table.frame["run"].iloc[row])).read_summary() or {}
    except DataError:
        return {}


def _theory(table: RunsTable, group: RunGroup, first_L: "Array") -> "Array | None":
    import numpy as np

    for row in group.rows:
        predicted = (_summary(table, row).get("forecast") or {}).get("log10_gradient_L") or []
        if len(predicted) != len(first_L):
            continue
        forecast_L = np.array([np.nan if v is None else v for v in predicted], dtype=float)
        with np.errstate(all="ignore"):
            offset_L = (np.log10(first_L) - forecast_L)[:-1]
        usable = np.isfinite(offset_L)
        if usable.any():
            return np.asarray(10.0 ** np.clip(forecast_L + offset_L[usable].mean(), -300, 300))
    return None
