"""Shifts of p(y), with the ratio q(y) / p(y) of the target's and the source's class shares."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from unitgain.data._checks import several
from unitgain.data._selection import check_parts, kept_count
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Floats, Ints, Table
from unitgain.errors import DataError

_STREAM = 0x4C41424C


@final
@dataclass(frozen=True)
class LabelDirichlet:
    """The target's class shares are drawn: ``q ~ Dirichlet(alpha, ..., alpha)``.

    Args:
        alpha: Small for one class above all others, large for equal shares.
        seed: Decides q and which rows are kept.
        rows: Of the target; None for as many as the class counts allow, a number that depends on the shares.

    Reference: Lipton, Wang and Smola (2018), Detecting and correcting for label shift with black
    box predictors, arXiv 1802.03916, section 6.
    """

    alpha: float = 1.0
    seed: int = 0
    rows: int | None = None

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split with the kept test rows.

        Raises:
            DataError: For regression, where no test row is left, or where there are too few for ``rows``.
        """
        _check_classes(table)
        generator = np.random.default_rng([_STREAM, self.seed])
        q_C = generator.dirichlet(np.full(len(table.class_names), self.alpha))
        return _drawn(table, split, q_C, self.rows, generator)


@final
@dataclass(frozen=True)
class LabelTweakOne:
    """One class has a given share of the target; the others keep their proportions.

    Args:
        label: The class, by its name or its number.
        share: Its share.
        seed: Decides which rows are kept.
        rows: Of the target; None for as many as the class counts allow, a number that depends on the shares.

    Reference: Lipton, Wang and Smola (2018), arXiv 1802.03916, section 6.
    """

    label: int | str = 0
    share: float = 0.9
    seed: int = 0
    rows: int | None = None

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split with the kept test rows.

        Raises:
            DataError: For regression, an unknown class, where no test row is left, or where there are too few for
                ``rows``.
        """
        c = _class_of(table, self.label)
        q_C = _shares(table, split.train)
        q_C[c] = 0
        q_C *= (1 - self.share) / q_C.sum()
        q_C[c] = self.share
        generator = np.random.default_rng([_STREAM, self.seed])
        return _drawn(table, split, q_C, self.rows, generator)


@final
@dataclass(frozen=True)
class LabelKnockout:
    """A share of one class is missing from training and validation; test rows stay as they are.

    Args:
        label: The class, by its name or its number.
        share: What is removed of its training and of its validation rows, below 1.
        seed: Decides which rows are removed.
        kept: Of the training and of the validation rows, of all classes alike behind the removal; None for all, a
            number that depends on the share.

    Reference: Lipton, Wang and Smola (2018), arXiv 1802.03916, section 6.
    """

    label: int | str = 0
    share: float = 0.9
    seed: int = 0
    kept: float | None = None

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split without the removed rows.

        Raises:
            DataError: For regression, an unknown class, where a part is left without rows, or with fewer than ``kept``.
        """
        c = _class_of(table, self.label)
        generator = np.random.default_rng([_STREAM, self.seed])
        parts = {"test": split.test}
        for part, rows in (("train", split.train), ("val", split.val)):
            of_class = rows[table.y[rows] == c]
            removed = generator.permutation(of_class)[: round(self.share * len(of_class))]
            parts[part] = np.setdiff1d(rows, removed)
            if self.kept is not None:
                count = _count(table, self.kept, self.share, len(rows), len(parts[part]))
                parts[part] = np.sort(generator.choice(parts[part], count, replace=False))
        check_parts(table, split, parts)
        return _with_ratio(table, Split(**parts), _shares(table, split.test))


def _count(table: Table, kept: float, share: float, rows: int, left: int) -> int:
    """How many of a part's rows are kept, which are at most those that the removal leaves."""
    count = kept_count(kept, rows)
    if count > left:
        raise DataError(
            f"{table.name}: shift.kept must be at most {math.floor(100 * left / rows) / 100:g}, as "
            f"shift.share={share:g} leaves {left} rows of a part's {rows}, got {kept:g}; lower kept or share"
        )
    return count


def _check_classes(table: Table) -> None:
    if table.task == "regression":
        raise DataError(
            f"{table.name}: shift: a label shift needs classes, but the task is regression; set "
            f"shift=pca_tilt (or logistic_selection, exponential_tilt, gaussian_mean_shift)"
        )


def _class_of(table: Table, label: int | str) -> int:
    _check_classes(table)
    if str(label) in table.class_names:
        return table.class_names.index(str(label))
    if isinstance(label, int) and 0 <= label < len(table.class_names):
        return label
    raise DataError(
        f"{table.name}: shift.label must be a class or its number from 0 to "
        f"{len(table.class_names) - 1}, got {label}; choose from {several(table.class_names)}"
    )


def _shares(table: Table, rows: Ints) -> Floats:
    counts = np.bincount(table.y[rows].astype(np.int64), minlength=len(table.class_names))
    return np.asarray(counts / len(rows), dtype=np.float64)


def _drawn(
    table: Table, split: Split, q_C: Floats, rows: int | None, generator: np.random.Generator
) -> Shifted:
    """Test rows with class shares ``q_C``, to within a row a class."""
    y = table.y[split.test]
    have_C = np.bincount(y.astype(np.int64), minlength=len(q_C))
    most = int(np.min(have_C[q_C > 0] / q_C[q_C > 0]) + 1e-9)
    if rows is not None and rows > most:
        raise DataError(
            f"{table.name}: shift.rows must be at most {most} for the class shares that are asked "
            f"for, got {rows}; lower it, ask for milder shares, or use more rows"
        )
    total = most if rows is None else rows
    count_C = np.floor(total * q_C + 1e-9).astype(np.int64)
    owed = np.argsort(count_C - total * q_C, kind="stable")
    owed = owed[count_C[owed] < have_C[owed]][: total - count_C.sum()]
    count_C[owed] += 1
    kept = [generator.permutation(split.test[y == c])[:n] for c, n in enumerate(count_C)]
    parts = {"train": split.train, "val": split.val, "test": np.sort(np.concatenate(kept))}
    check_parts(table, split, parts)
    return _with_ratio(table, Split(**parts), q_C)


def _with_ratio(table: Table, split: Split, q_C: Floats) -> Shifted:
    p_C = _shares(table, split.train)
    unseen = [f"'{table.class_names[c]}'" for c in np.flatnonzero((p_C == 0) & (q_C > 0))]
    if unseen:
        raise DataError(
            f"{table.name}: shift: each class of the target needs training rows, but "
            f"{several(unseen)} has none of {len(split.train)}; lower shift.share or use more rows"
        )
    w_C = np.divide(q_C, p_C, out=np.zeros(len(q_C)), where=p_C > 0)
    return Shifted(
        table=table,
        split=split,
        kind="label",
        ratio=w_C[table.y.astype(np.int64)] / float(p_C @ w_C),
        bound=float(w_C.max()),
        ess_share=float(1 / (p_C @ w_C**2)),
    )
