"""Splits: callables from a `Table` to a `Split`.

A split of one's own is any such callable, named by ``_target_``: a class whose instances are
called, or, with ``_partial_: true``, a plain function ``(table, *, ...) -> Split``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from unitgain.data._checks import several
from unitgain.data._partition import by_group, by_time, normalised
from unitgain.data._split import Split
from unitgain.data._table import Table
from unitgain.errors import DataError

__all__ = ["Group", "Random", "Split", "Stratified", "Time"]

Rows = npt.NDArray[np.int64]
Fractions = tuple[float, float, float]
# A source may draw from its seed too: the split's stream is apart from it.
_STREAM = 0x53504C49


@final
@dataclass(frozen=True)
class Random:
    """Rows are drawn at random.

    Args:
        fractions: Parts of the rows for training, validation and test.
        seed: Decides the draw, alone.

    Example:
        >>> from unitgain.data import table_from_arrays
        >>> table = table_from_arrays("toy", np.arange(10.0)[:, None], np.arange(10.0),
        ...                           task="regression")
        >>> [len(part) for part in Random((0.6, 0.2, 0.2), seed=1)(table).parts()]
        [6, 2, 2]
    """

    fractions: Fractions = (0.6, 0.2, 0.2)
    seed: int = 0

    def __call__(self, table: Table) -> Split:
        """The split of ``table``."""
        order = _generator(self.seed).permutation(table.n_rows)
        return _cut(table, order, _sizes(table.n_rows, self.fractions))


@final
@dataclass(frozen=True)
class Stratified:
    """Rows are drawn at random within each class: each part has the classes of the whole.

    In each class, a part's count differs by less than one from its fraction of the class.

    Args:
        fractions: Parts of the rows for training, validation and test.
        seed: Decides the draw, alone.
    """

    fractions: Fractions = (0.6, 0.2, 0.2)
    seed: int = 0

    def __call__(self, table: Table) -> Split:
        """The split of ``table``.

        Raises:
            DataError: For regression, and where a class has fewer than three rows.
        """
        if table.task == "regression":
            raise DataError(
                f"{table.name}: a stratified split needs classes, but the task is regression; "
                f"set split=random (or group, time)"
            )
        classes, counts = np.unique(table.y, return_counts=True)
        small = [f"'{table.class_names[c]}'" for c in classes[counts < 3]]
        if small:
            raise DataError(
                f"{table.name}: a stratified split needs at least three rows of each class, but "
                f"{several(small)} has {counts[counts < 3].max()} of {table.n_rows} at most; remove "
                f"or merge it, or set split=random"
            )
        rng = _generator(self.seed)
        part_of = np.zeros(table.n_rows, dtype=np.int64)
        for c, sizes in zip(classes, _class_sizes(counts, self.fractions), strict=True):
            rows = rng.permutation(np.flatnonzero(table.y == c))
            part_of[rows] = np.repeat([0, 1, 2], sizes)
        return _sorted_split(table, *(np.flatnonzero(part_of == p) for p in range(3)))


@final
@dataclass(frozen=True)
class Group:
    """Whole groups are drawn at random: no group spans two parts.

    In random order, each group goes to the part that lacks most of its fraction of the rows.

    Args:
        fractions: Parts of the rows for training, validation and test.
        seed: Decides the draw, alone.
    """

    fractions: Fractions = (0.6, 0.2, 0.2)
    seed: int = 0

    def __call__(self, table: Table) -> Split:
        """The split of ``table``.

        Raises:
            DataError: Without a group column, or with fewer than three groups.
        """
        part_of_N = by_group(table, self.fractions, _generator(self.seed))
        return _sorted_split(table, *(np.flatnonzero(part_of_N == p) for p in range(3)))


@final
@dataclass(frozen=True)
class Time:
    """The earliest rows train, the latest test; rows of one time stay together.

    Args:
        fractions: Parts of the rows for training, validation and test; each border is moved to
            the nearest change of time.
    """

    fractions: Fractions = (0.6, 0.2, 0.2)

    def __call__(self, table: Table) -> Split:
        """The split of ``table``.

        Raises:
            DataError: Without a time column, or with fewer than three times.
        """
        part_of_N = by_time(table, self.fractions)
        return _sorted_split(table, *(np.flatnonzero(part_of_N == p) for p in range(3)))


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([_STREAM, seed])


def _sizes(n_rows: int, fractions: Fractions) -> list[int]:
    """Sizes of the parts that sum to ``n_rows``, each at most one row off its fraction."""
    bounds = np.round(np.cumsum(normalised(fractions)) * n_rows).astype(int)
    return [int(size) for size in np.diff(bounds, prepend=0)]


def _class_sizes(counts: npt.NDArray[np.int64], fractions: Fractions) -> Iterator[Rows]:
    """Sizes of the parts in each class: whole rows, less than one off the fraction.

    What a class can't give a part in whole rows is owed to the part by the next classes.
    """
    owed = np.zeros(3)
    for count in counts:
        exact = count * normalised(fractions)
        sizes = np.floor(exact).astype(np.int64)
        owed += exact - sizes
        extra = np.argsort(-owed, kind="stable")[: count - sizes.sum()]
        sizes[extra] += 1
        owed[extra] -= 1
        yield sizes


def _cut(table: Table, order: Rows, sizes: list[int]) -> Split:
    train, val, test = np.split(order, np.cumsum(sizes)[:-1])
    return _sorted_split(table, train, val, test)


def _sorted_split(table: Table, train: Rows, val: Rows, test: Rows) -> Split:
    """Ascending rows, so that a part is the same whichever way it was found."""
    sizes = (len(train), len(val), len(test))
    if min(sizes) == 0:
        raise DataError(
            f"{table.name}: training, validation and test need at least one row each, but "
            f"{table.n_rows} rows give {sizes}; change split.fractions or use more rows"
        )
    return Split(train=np.sort(train), val=np.sort(val), test=np.sort(test))
