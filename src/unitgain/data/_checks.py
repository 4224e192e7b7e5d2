"""What a table must be before anything is trained on it: every fault at once."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from unitgain.data._labels import example_rows, missing_mask
from unitgain.data._split import PARTS, Split
from unitgain.data._table import Table
from unitgain.errors import DataError, UnitgainWarning

Bools = npt.NDArray[np.bool_]
# Far within float32, so that squares and sums stay within float64.
LARGEST = 1e30


class DataWarning(UnitgainWarning):
    """Something in the data that is probably not meant, and that training survives."""


def check_table(table: Table, *, impute: str | None = None) -> None:
    """Raise one `DataError` with every fault of the table, warn of columns that are copies.

    Args:
        table: The whole table, before any split.
        impute: How missing features are to be filled; ``None`` makes them a fault.

    Raises:
        DataError: No rows or no features, repeated column names, missing values, infinities,
            fewer than two classes, a class with one row, impossible weights.
    """
    checks: tuple[Callable[[Table], Iterator[str]], ...] = (
        _name_faults,
        _void_faults,
        _infinity_faults,
        _target_value_faults,
        _class_faults,
        _role_faults,
    )
    faults = list(_emptiness_faults(table))
    if not faults:
        faults = [] if impute else missing_faults(table)
        faults += [fault for check in checks for fault in check(table)]
    if faults:
        raise DataError(*(f"{table.name}: {fault}" for fault in faults))
    _warn_of_copies(table)


def check_split(table: Table, split: Split, *, batch_size: int) -> None:
    """Raise one `DataError` with every reason why the split can't be trained on.

    A class that validation or test holds must have training rows: its outputs would stay as they
    were drawn, and its metrics would be about nothing.

    Raises:
        DataError: Rows beyond the table, fewer training rows than a batch, an unseen class.
    """
    faults = []
    highest = max(int(part.max()) for part in split.parts())
    if highest >= table.n_rows:
        raise DataError(
            f"{table.name}: a split must hold row numbers from 0 to {table.n_rows - 1}, "
            f"but it holds {highest}; mend the split"
        )
    if len(split.train) < batch_size:
        faults.append(
            f"training needs at least one full batch, but it has {len(split.train)} of "
            f"{table.n_rows} rows and data.batch_size is {batch_size}; set data.batch_size="
            f"{len(split.train)} or less, or raise the training part of split.fractions"
        )
    if table.task == "classification":
        faults += _unseen_class_faults(table, split)
    if faults:
        raise DataError(*(f"{table.name}: {fault}" for fault in faults))


def several(items: Iterable[str], limit: int = 5) -> str:
    """The first few items, and how many more there are.

    Example:
        >>> several(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    items = list(items)
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _emptiness_faults(table: Table) -> Iterator[str]:
    if not table.n_rows:
        yield "a table needs rows, but it has 0"
    if not table.feature_names and not table.categorical:
        yield f"a table needs a feature column, but of its {table.n_rows} rows none has one"


def missing_faults(table: Table) -> list[str]:
    """The one fault of missing features, where nothing is to fill them."""
    masks = _missing_masks(table)
    faulty = {name: mask for name, mask in masks.items() if mask.any()}
    if not faulty:
        return []
    return [
        f"features must have no missing values, but {len(faulty)} of {len(masks)} columns do: "
        f"{_per_column(faulty)}; set data.impute=median (or mean, most_frequent), or remove these "
        f"rows"
    ]


def _void_faults(table: Table) -> Iterator[str]:
    """Columns without any value, which nothing can fill."""
    empty = [f"'{name}'" for name, mask in _missing_masks(table).items() if mask.all()]
    if empty:
        yield (
            f"a feature column needs values, but all {table.n_rows} rows are missing in "
            f"{several(empty)}; drop it (data.drop_columns)"
        )


def _missing_masks(table: Table) -> dict[str, Bools]:
    masks: dict[str, Bools] = {
        name: np.isnan(table.x[:, d]) for d, name in enumerate(table.feature_names)
    }
    return masks | {c.name: c.codes < 0 for c in table.categorical}


def _infinity_faults(table: Table) -> Iterator[str]:
    masks = {name: np.abs(table.x[:, d]) > LARGEST for d, name in enumerate(table.feature_names)}
    infinite = {name: mask for name, mask in masks.items() if mask.any()}
    if infinite:
        yield (
            f"features must be finite and below {LARGEST:g} in size, but {len(infinite)} of "
            f"{len(masks)} columns hold infinite or larger values: {_per_column(infinite)}; "
            f"remove or replace these values"
        )


def _target_value_faults(table: Table) -> Iterator[str]:
    if table.task == "classification":
        return
    masks = {name: ~(np.abs(table.y[:, t]) <= LARGEST) for t, name in enumerate(table.target_names)}
    faulty = {name: mask for name, mask in masks.items() if mask.any()}
    if faulty:
        yield (
            f"targets must be finite and below {LARGEST:g} in size in every row, but some are "
            f"missing, infinite or larger: {_per_column(faulty)}; remove these rows (imputation is for features)"
        )


def _class_faults(table: Table) -> Iterator[str]:
    if table.task == "regression":
        return
    counts = np.bincount(table.y.astype(np.int64), minlength=len(table.class_names))
    present = np.flatnonzero(counts)
    if len(present) < 2:
        yield (
            f"classification needs at least two classes, but all {table.n_rows} rows are of class "
            f"'{table.class_names[present[0]]}'; check the target column"
        )
    lone = [f"'{table.class_names[c]}'" for c in np.flatnonzero(counts == 1)]
    if lone:
        rows = np.isin(table.y, np.flatnonzero(counts == 1))
        yield (
            f"every class needs at least two rows, but {len(lone)} of {len(present)} classes have "
            f"one ({several(lone)}: {example_rows(rows)} of {table.n_rows}); remove or merge them"
            f"{', or set data.task=regression' if len(lone) > len(present) / 2 else ''}"
        )


def _name_faults(table: Table) -> Iterator[str]:
    names = [*table.feature_names, *(c.name for c in table.categorical)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"feature names must differ, but {several(repr(name) for name in twice)} stands for several; rename them"


def _role_faults(table: Table) -> Iterator[str]:
    """Groups, times and weights: a value in every row, and weights that are weights."""
    for what, column in (("group", table.group), ("time", table.time), ("weight", table.weight)):
        if column is not None and (missing := missing_mask(column)).any():
            yield (
                f"the {what} must be known in every row, but it is missing in {missing.sum()} of "
                f"{table.n_rows} rows ({example_rows(missing)}); fill it in or remove these rows"
            )
    weight = table.weight
    if weight is None:
        return
    faulty = np.isinf(weight) | (weight < 0)
    if faulty.any():
        yield (
            f"weights must be finite and not negative, but {faulty.sum()} of {table.n_rows} rows "
            f"are ({example_rows(faulty)}: {weight[faulty][0]:g}); mend the weight column"
        )
    elif not (weight > 0).any():
        yield f"some weight must be above 0, but all {table.n_rows} are 0; mend the weight column"


def _unseen_class_faults(table: Table, split: Split) -> Iterator[str]:
    trained = set(np.unique(table.y[split.train]).tolist())
    for part in PARTS[1:]:
        held = np.unique(table.y[getattr(split, part)]).tolist()
        unseen = [f"'{table.class_names[c]}'" for c in held if c not in trained]
        if unseen:
            yield (
                f"every class needs training rows, but {several(unseen)} in {part} has none "
                f"({len(split.train)} of {table.n_rows} rows train); set split=stratified, "
                f"another split.seed, or a larger training part of split.fractions"
            )


def _warn_of_copies(table: Table) -> None:
    """Warn of numeric columns with the same content; constant ones are another matter."""
    first: dict[bytes, str] = {}
    for d, name in enumerate(table.feature_names):
        column = table.x[:, d]
        if (column == column[0]).all():
            continue
        original = first.setdefault(column.tobytes(), name)
        if original != name:
            warnings.warn(
                f"{table.name}: columns '{original}' and '{name}' are the same in all "
                f"{table.n_rows} rows; one of them can be dropped",
                DataWarning,
                stacklevel=3,
            )


def _per_column(masks: dict[str, Bools]) -> str:
    return several(
        f"'{name}' in {mask.sum()} of {len(mask)} rows ({example_rows(mask)})"
        for name, mask in masks.items()
    )


def column_is_constant(x_ND: npt.NDArray[Any]) -> Bools:
    """(D,) whether a column has one value only; one without rows has."""
    if not len(x_ND):
        return np.ones(x_ND.shape[1], dtype=bool)
    constant: Bools = x_ND.max(axis=0) == x_ND.min(axis=0)
    return constant
