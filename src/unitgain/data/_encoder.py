"""From raw columns to the numbers that a network takes, learned from the training rows alone."""

import warnings
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from unitgain.data._checks import DataWarning, column_is_constant, missing_faults, several
from unitgain.data._table import CategoricalColumn, Floats, Ints, Table
from unitgain.errors import DataError

Scale = Literal["standard", "minmax", "none"]
Impute = Literal["mean", "median", "most_frequent"]


@final
@dataclass(frozen=True, eq=False)
class CategoryCode:
    """How one categorical column becomes numbers.

    Args:
        name: The column.
        one_hot: A column of 0 and 1 for each level, else one column of positions.
        levels: All levels of the table (one-hot), or those of the training rows (ordinal).
        seen: Which levels have training rows: the others are all zero (one-hot).
        fill: The most frequent training level, for missing categories.
    """

    name: str
    one_hot: bool
    levels: tuple[str, ...]
    seen: npt.NDArray[np.bool_]
    fill: str

    def names(self) -> list[str]:
        """The names of the columns it gives."""
        return [f"{self.name}={level}" for level in self.levels] if self.one_hot else [self.name]


@final
@dataclass(frozen=True, eq=False)
class Encoder:
    """The fitted map from a table's raw columns to features: ``x' = (x - center) / scale``.

    Columns: the numeric ones, then each categorical one. Of the D encoded columns those in
    ``keep`` are handed on; among them those not ``active`` are 0 in every row.

    Args:
        names: (D,) names of all encoded columns.
        numeric: Names of the numeric columns.
        impute: How missing values were filled; ``None`` refuses them.
        fill: What a missing number becomes, for each numeric column.
        categories: What becomes of the categorical columns.
        keep: (D,) columns that vary over the table.
        active: (D,) columns that vary over the training rows.
        center: (D,)
        scale: (D,)
    """

    names: tuple[str, ...]
    numeric: tuple[str, ...]
    impute: Impute | None
    fill: Floats
    categories: tuple[CategoryCode, ...]
    keep: npt.NDArray[np.bool_]
    active: npt.NDArray[np.bool_]
    center: Floats
    scale: Floats

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns that it gives."""
        return tuple(name for name, keep in zip(self.names, self.keep, strict=True) if keep)

    def encode(self, table: Table) -> Floats:
        """The features of every row of a table with the same columns.

        Returns:
            (N, D') float64. A category without training rows is all zero (one-hot) or -1 before
            scaling (ordinal).

        Raises:
            DataError: Where the table's columns are others than the encoder was fitted on.
        """
        columns = (table.feature_names, tuple(c.name for c in table.categorical))
        fitted = (self.numeric, tuple(c.name for c in self.categories))
        if columns != fitted:
            raise DataError(
                f"{table.name}: features must be the {len(self.numeric)} numeric and "
                f"{len(self.categories)} categorical columns that were trained on, in their "
                f"order, but they are {several([*columns[0], *columns[1]])}"
            )
        x_ND = _raw(table, self.impute, self.fill, self.categories)
        x_ND = np.where(self.active, (x_ND - self.center) / self.scale, 0.0)
        return np.ascontiguousarray(x_ND[:, self.keep])


def fit_encoder(table: Table, train: Ints, *, scale: Scale, impute: Impute | None) -> Encoder:
    """Fit imputation, categories and scaling on the training rows.

    Columns with one value in the whole table are dropped. Those with one value in the training
    rows alone become 0 (a network can't learn what they mean), so that the number of features is
    the same for every split of a table. Both are warned of, unless ``table.constant_ok``.
    One-hot columns aren't scaled.

    Args:
        table: The raw table.
        train: Row numbers of the training part.
        scale: ``standard`` (mean 0, standard deviation 1), ``minmax`` (0 to 1), ``none``.
        impute: What fills missing numbers; categories are filled with the most frequent one.

    Raises:
        DataError: A column without values in the training rows, missing values that nothing
            fills, or no column that varies.
    """
    part = table.take(train)
    categories = tuple(_fit_category(table.name, column) for column in part.categorical)
    names = [*table.feature_names, *(name for c in categories for name in c.names())]
    fill = _fills(part, impute)
    x_ND = _raw(table, impute, fill, categories)
    one_hot, keep = _fixed_and_kept(table, categories, x_ND)
    varies = ~column_is_constant(x_ND[train])
    if not (keep & varies).any():
        raise DataError(
            f"{table.name}: some feature must vary over the {len(train)} training rows, but all "
            f"{len(names)} columns are constant; check data.drop_columns and the split"
        )
    center, spread = _center_and_scale(x_ND[train], scale)
    scaled = varies & ~one_hot
    encoder = Encoder(
        names=tuple(names),
        numeric=table.feature_names,
        impute=impute,
        fill=fill,
        categories=categories,
        keep=keep,
        active=one_hot | varies,
        center=np.where(scaled, center, 0.0),
        scale=np.where(scaled, spread, 1.0),
    )
    if not table.constant_ok:
        _warn_of_constants(table, encoder, len(train))
    return encoder


def _fills(part: Table, impute: Impute | None) -> Floats:
    """What stands for a missing number in each numeric column, from the training rows."""
    missing = np.isnan(part.x)
    if impute is None:
        return np.zeros(part.x.shape[1])
    empty = [f"'{part.feature_names[d]}'" for d in np.flatnonzero(missing.all(axis=0))]
    if empty:
        raise DataError(
            f"{part.name}: a feature column needs values in the training rows, but all "
            f"{len(part.x)} are missing in {several(empty)}; drop it (data.drop_columns)"
        )
    if impute == "mean":
        return np.asarray(np.nanmean(part.x, axis=0), dtype=np.float64)
    if impute == "median":
        return np.asarray(np.nanmedian(part.x, axis=0), dtype=np.float64)
    found = [np.unique(column[~np.isnan(column)], return_counts=True) for column in part.x.T]
    return np.array([values[counts.argmax()] for values, counts in found], dtype=np.float64)


def _fit_category(table: str, column: CategoricalColumn) -> CategoryCode:
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
    if not counts.any():
        raise DataError(
            f"{table}: categorical column '{column.name}' needs values in the training rows, but "
            f"all {len(column.codes)} are missing; drop it (data.drop_columns)"
        )
    seen = counts > 0
    fill = column.levels[int(counts.argmax())]
    if column.encoding == "one_hot":
        return CategoryCode(column.name, True, column.levels, seen, fill)
    levels = tuple(level for level, some in zip(column.levels, seen, strict=True) if some)
    return CategoryCode(column.name, False, levels, np.ones(len(levels), dtype=bool), fill)


def _fixed_and_kept(
    table: Table, categories: tuple[CategoryCode, ...], x_ND: Floats
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(D,) whether a column is one of 0 and 1 for a category, and whether it is handed on.

    The columns of one category stay together: they go where the table has no other category.
    """
    one_hot = [False] * len(table.feature_names)
    single = [False] * len(table.feature_names)
    for column, category in zip(table.categorical, categories, strict=True):
        codes = np.where(column.codes < 0, column.levels.index(category.fill), column.codes)
        width = len(category.names())
        one_hot += [category.one_hot] * width
        single += [len(np.unique(codes)) == 1] * width
    fixed = np.array(one_hot, dtype=bool)
    constant = np.where(fixed, single, column_is_constant(x_ND))
    return fixed, ~constant | table.constant_ok


def _raw(
    table: Table, impute: Impute | None, fill: Floats, categories: tuple[CategoryCode, ...]
) -> Floats:
    """(N, D) imputed and encoded, not yet scaled."""
    if impute is None and (faults := missing_faults(table)):
        raise DataError(*(f"{table.name}: {fault}" for fault in faults))
    blocks = [np.where(np.isnan(table.x), fill, table.x)]
    for column, category in zip(table.categorical, categories, strict=True):
        place = {level: position for position, level in enumerate(category.levels)}
        # The last entry serves the code -1, missing.
        places = [place.get(level, -1) for level in column.levels] + [place[category.fill]]
        code_N = np.array(places)[column.codes]
        if category.one_hot:
            one_hot_NL = (code_N[:, None] == np.arange(len(category.seen))) & category.seen
            blocks.append(one_hot_NL.astype(np.float64))
        else:
            blocks.append(code_N[:, None].astype(np.float64))
    return np.concatenate(blocks, axis=1)


def _center_and_scale(x_ND: Floats, scale: Scale) -> tuple[Floats, Floats]:
    if scale == "standard":
        return x_ND.mean(axis=0), x_ND.std(axis=0)
    if scale == "minmax":
        return x_ND.min(axis=0), x_ND.max(axis=0) - x_ND.min(axis=0)
    return np.zeros(x_ND.shape[1]), np.ones(x_ND.shape[1])


def _warn_of_constants(table: Table, encoder: Encoder, n_train: int) -> None:
    dropped = [f"'{name}'" for name in _pick(encoder.names, ~encoder.keep)]
    if dropped:
        warnings.warn(
            f"{table.name}: {len(dropped)} of {len(encoder.names)} feature columns have one value "
            f"in all {table.n_rows} rows and are dropped: {several(dropped)}",
            DataWarning,
            stacklevel=4,
        )
    zeroed = [f"'{name}'" for name in _pick(encoder.names, encoder.keep & ~encoder.active)]
    if zeroed:
        warnings.warn(
            f"{table.name}: {len(zeroed)} of {len(encoder.names)} feature columns have one value "
            f"in the {n_train} training rows and are 0 in all: {several(zeroed)}",
            DataWarning,
            stacklevel=4,
        )


def _pick(names: tuple[str, ...], mask: npt.NDArray[np.bool_]) -> list[str]:
    return [names[d] for d in np.flatnonzero(mask)]
