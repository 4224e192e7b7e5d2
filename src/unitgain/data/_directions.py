"""Directions in the space of a table's numeric features, along which source and target differ."""

import numpy as np

from unitgain.data._checks import several
from unitgain.data._table import Floats, Table
from unitgain.errors import DataError

_STREAM = 0x44495245


def standardised(table: Table) -> Floats:
    """(N, D) numeric features with mean 0 and standard deviation 1 over all rows.

    Missing values and constant features are 0.

    Raises:
        DataError: Without a numeric feature.
    """
    x_ND = table.x
    if not x_ND.shape[1]:
        raise DataError(
            f"{table.name}: shift: this shift needs a numeric feature, but the table has none; "
            f"choose shift=label_dirichlet, or a source with numeric columns"
        )
    known = ~np.isnan(x_ND)
    count_D = known.sum(axis=0)
    filled = np.where(known, x_ND, 0.0)
    centred = np.where(known, x_ND - filled.sum(axis=0) / count_D, 0.0)
    spread_D = np.sqrt((centred**2).sum(axis=0) / count_D)
    return np.asarray(centred / np.where(spread_D > 0, spread_D, 1.0), dtype=np.float64)


def first_component(x_ND: Floats) -> Floats:
    """(N,) the first principal component, standardised; its largest loading is positive.

    Raises:
        DataError: Where no feature varies.
    """
    _, vectors = np.linalg.eigh(x_ND.T @ x_ND)
    loading_D = vectors[:, -1]
    return projection(x_ND, loading_D * np.sign(loading_D[np.abs(loading_D).argmax()]))


def projection(x_ND: Floats, direction_D: Floats) -> Floats:
    """(N,) ``x . direction``, with mean 0 and standard deviation 1.

    Raises:
        DataError: Where it doesn't vary.
    """
    z_N = x_ND @ direction_D
    spread = z_N.std()
    if not spread > 1e-12:
        raise DataError(
            "shift: the features that rows are selected by must vary, but they are constant; "
            "choose others"
        )
    return np.asarray((z_N - z_N.mean()) / spread, dtype=np.float64)


def chosen_direction(table: Table, features: tuple[str, ...], seed: int) -> Floats:
    """(N,) the standardised sum of named standardised features, or of all of them in a random direction.

    Raises:
        DataError: Features that aren't there or don't vary.
    """
    x_ND = standardised(table)
    if features:
        return projection(x_ND, named_direction(table, features))
    generator = np.random.default_rng([_STREAM, seed])
    return projection(x_ND, generator.normal(size=(x_ND.shape[1],)))


def sum_in_own_units(
    table: Table, features: tuple[str, ...], coefficients: tuple[float, ...]
) -> Floats:
    """(N,) the sum of coefficients times named features as they are; missing values count as the mean.

    Raises:
        DataError: For a name that no numeric feature has, or another number of coefficients than of names.
    """
    if len(coefficients) != len(features):
        raise DataError(
            f"{table.name}: shift.coefficients must be one for each of shift.features, but there are "
            f"{len(coefficients)} for {len(features)}; name as many"
        )
    named_direction(table, features)
    x_NF = table.x[:, [table.feature_names.index(name) for name in features]]
    filled_NF = np.where(np.isnan(x_NF), np.nanmean(x_NF, axis=0), x_NF)
    return np.asarray(filled_NF @ np.asarray(coefficients), dtype=np.float64)


def named_direction(table: Table, features: tuple[str, ...]) -> Floats:
    """(D,) one for each named numeric feature, zero for all others.

    Raises:
        DataError: For a name that no numeric feature has.
    """
    unknown = [f"'{name}'" for name in features if name not in table.feature_names]
    if unknown:
        raise DataError(
            f"{table.name}: shift.features must name numeric features, but none is called "
            f"{several(unknown)}; choose from {several(table.feature_names)}"
        )
    return np.asarray([float(name in features) for name in table.feature_names], dtype=np.float64)
