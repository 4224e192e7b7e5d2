"""Shifts of the target's features alone: as if sensors were noisy, dead, out of calibration or silent.

The ratio of densities isn't known, and isn't finite where a feature is constant: such shifts are to
be detected.
"""

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from unitgain.data._checks import several
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import CategoricalColumn, Ints, Table
from unitgain.errors import DataError

_FEATURES, _VALUES = 0x46454154, 0x4E4F4953


@final
@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise on numeric features of the target: ``x + strength * s * e``.

    s is the standard deviation of the feature over the training rows.

    Args:
        strength: In standard deviations; 0 is no shift.
        features: Names of numeric features; none: they are drawn.
        share: The share of numeric features that are drawn.
        seed: Decides the features and the noise. Runs that differ in strength alone have the same
            noise, times another number.

    Reference: Rabanser, Guennemann and Lipton (2019), Failing loudly, arXiv 1810.11953, section 4.
    """

    strength: float = 1.0
    features: tuple[str, ...] = ()
    share: float = 1.0
    seed: int = 0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split as it is, with other features of its test rows.

        Raises:
            DataError: Features that aren't numeric, don't vary or aren't there.
        """
        columns = _Columns.of(table, split, self.features, self.share, self.seed, numeric=True)
        spread_D = np.nanstd(table.x[split.train][:, columns.numeric], axis=0)
        rng = np.random.default_rng([_VALUES, self.seed])
        noise = rng.normal(size=(len(split.test), table.x.shape[1]))[:, columns.numeric]
        cells = np.ix_(split.test, columns.numeric)
        x_ND = table.x.copy()
        x_ND[cells] += self.strength * spread_D * noise
        return _corrupted(replace(table, x=x_ND), split)


@final
@dataclass(frozen=True)
class FeatureKnockout:
    """Features of the target are constant: a number, or what is commonest in the training rows.

    Args:
        value: Of numeric features; None: the mean of the training rows. Categorical features are of
            the most frequent category of the training rows.
        features: Names of features; none: they are drawn.
        share: The share of features that are drawn.
        seed: Decides the features.
    """

    value: float | None = None
    features: tuple[str, ...] = ()
    share: float = 0.25
    seed: int = 0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split as it is, with other features of its test rows.

        Raises:
            DataError: Features that don't vary or aren't there.
        """
        columns = _Columns.of(table, split, self.features, self.share, self.seed)
        means = np.nanmean(table.x[split.train][:, columns.numeric], axis=0)
        x_ND = table.x.copy()
        x_ND[np.ix_(split.test, columns.numeric)] = means if self.value is None else self.value
        categorical = list(table.categorical)
        for place in columns.categorical:
            column = categorical[place]
            known = column.codes[split.train]
            commonest = int(np.bincount(known[known >= 0]).argmax())
            categorical[place] = _with_codes(column, split.test, commonest)
        return _corrupted(replace(table, x=x_ND, categorical=tuple(categorical)), split)


@final
@dataclass(frozen=True)
class FeatureScaling:
    """Numeric features of the target are multiplied, as if in another unit.

    Args:
        factor: What they are multiplied by; 1 is no shift.
        features: Names of numeric features; none: they are drawn.
        share: The share of numeric features that are drawn.
        seed: Decides the features.
    """

    factor: float = 2.0
    features: tuple[str, ...] = ()
    share: float = 0.25
    seed: int = 0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split as it is, with other features of its test rows.

        Raises:
            DataError: Features that aren't numeric, don't vary or aren't there.
        """
        columns = _Columns.of(table, split, self.features, self.share, self.seed, numeric=True)
        x_ND = table.x.copy()
        x_ND[np.ix_(split.test, columns.numeric)] *= self.factor
        return _corrupted(replace(table, x=x_ND), split)


@final
@dataclass(frozen=True)
class MissingValues:
    """Cells of the target are missing completely at random; ``data.impute`` fills them from the training rows.

    Args:
        share: The share of cells that are missing, to the nearest cell; 0 is no shift.
        features: Names of features; none for all.
        seed: Decides the cells. Runs with a smaller share miss some of the same cells.
    """

    share: float = 0.25
    features: tuple[str, ...] = ()
    seed: int = 0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split as it is, with other features of its test rows.

        Raises:
            DataError: Features that don't vary or aren't there.
        """
        columns = _Columns.of(table, split, self.features, 1.0, self.seed)
        shape = (len(split.test), len(columns.numeric) + len(columns.categorical))
        rng = np.random.default_rng([_VALUES, self.seed])
        gone = np.zeros(math.prod(shape), dtype=bool)
        gone[rng.permutation(gone.size)[: round(self.share * gone.size)]] = True
        gone_ND = gone.reshape(shape)
        x_ND, categorical = table.x.copy(), list(table.categorical)
        for d, place in enumerate(columns.numeric):
            x_ND[split.test[gone_ND[:, d]], place] = np.nan
        for d, place in enumerate(columns.categorical, start=len(columns.numeric)):
            categorical[place] = _with_codes(categorical[place], split.test[gone_ND[:, d]], -1)
        return _corrupted(replace(table, x=x_ND, categorical=tuple(categorical)), split)


@final
@dataclass(frozen=True, eq=False)
class _Columns:
    """Features of a table: the positions of numeric and of categorical ones, in order."""

    numeric: Ints
    categorical: Ints

    @classmethod
    def of(
        cls,
        table: Table,
        split: Split,
        features: tuple[str, ...],
        share: float,
        seed: int,
        *,
        numeric: bool = False,
    ) -> "_Columns":
        """The named features, or a share of those that vary over the training rows, one at least.

        Features that don't vary there are left out: a network never learned what they mean, and a
        table must have as many features in every shift.
        """
        varies = _varies(table, split.train)
        varies[len(table.feature_names) :] &= not numeric
        names = [*table.feature_names, *(c.name for c in table.categorical)]
        usable = np.flatnonzero(varies)
        kind = "numeric feature" if numeric else "feature"
        choice = [names[place] for place in usable]
        if unknown := [f"'{name}'" for name in features if name not in choice]:
            raise DataError(
                f"{table.name}: shift.features must name a {kind} that varies over the training rows, but "
                f"{several(unknown)} is none; choose from {several(choice)}"
            )
        if not choice:
            raise DataError(
                f"{table.name}: shift: a {kind} must vary over the {len(split.train)} training rows, but none "
                f"of {len(names)} does; choose another shift, or a source with such columns"
            )
        chosen = np.flatnonzero(np.isin(names, features))
        if not features:
            order = np.random.default_rng([_FEATURES, seed]).permutation(usable)
            chosen = np.sort(order[: max(1, round(share * len(usable)))])
        first = len(table.feature_names)
        return cls(chosen[chosen < first], chosen[chosen >= first] - first)


def _varies(table: Table, train: Ints) -> npt.NDArray[np.bool_]:
    x_ND = table.x[train]
    missing = np.isnan(x_ND)
    lowest_D = np.where(missing, np.inf, x_ND).min(axis=0)
    highest_D = np.where(missing, -np.inf, x_ND).max(axis=0)
    codes = [c.codes[train] for c in table.categorical]
    return np.concatenate(
        [lowest_D < highest_D, [len(np.unique(c[c >= 0])) > 1 for c in codes]]
    ).astype(bool)


def _with_codes(column: CategoricalColumn, rows: Ints, code: int) -> CategoricalColumn:
    codes = column.codes.copy()
    codes[rows] = code
    return replace(column, codes=codes)


def _corrupted(table: Table, split: Split) -> Shifted:
    return Shifted(table, split, "corruption", ratio=None, bound=math.nan, ess_share=math.nan)
