"""A raw table, before any row is assigned to training or test.

Shape suffixes of this room: N rows, D features, T targets, C classes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

from unitgain.data._domains import Domains
from unitgain.data._labels import encode_labels
from unitgain.errors import DataError

Task = Literal["classification", "regression"]
Encoding = Literal["one_hot", "ordinal"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class CategoricalColumn:
    """A column of categories, encoded as numbers only once the training rows are known.

    Args:
        name: The column's name.
        codes: (N,) int64, the position of each row's category in ``levels``, -1 where missing.
        levels: The categories in order.
        encoding: ``one_hot`` (a column a level) or ``ordinal`` (one column of positions).
    """

    name: str
    codes: Ints
    levels: tuple[str, ...]
    encoding: Encoding = "one_hot"


@final
@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers, categories and targets, in the units it came in.

    `table_from_arrays` builds one from plain arrays.

    Args:
        name: What messages call the table; a file's path for a file.
        task: What ``y`` is for.
        x: (N, D) float64 numeric columns, NaN where missing.
        y: (N,) int64 class codes from 0 to C-1, or (N, T) float64 targets.
        feature_names: D names.
        target_names: T names; one for classification.
        class_names: C names; empty for regression.
        categorical: Further features, see `CategoricalColumn`.
        group: (N,) the group of each row, for splits by group; not a feature.
        time: (N,) float64 or datetime64, for splits by time; not a feature.
        weight: (N,) float64 sample weights.
        constant_ok: Whether constant columns are in the nature of the data (pixels of an image's
            border): no warning then, and none is dropped.
        domains: Which rows are of the target, for shift=given; None where all are of one domain.

    Raises:
        DataError: Where shapes or types don't fit together.
    """

    name: str
    task: Task
    x: Floats
    y: Ints | Floats
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    categorical: tuple[CategoricalColumn, ...] = ()
    group: npt.NDArray[Any] | None = None
    time: npt.NDArray[Any] | None = None
    weight: Floats | None = None
    constant_ok: bool = False
    domains: Domains | None = None

    def __post_init__(self) -> None:
        faults = [*_matrix_faults(self), *_target_faults(self), *_column_faults(self)]
        if faults:
            raise DataError(*(f"{self.name}: {fault}" for fault in faults))

    @property
    def n_rows(self) -> int:
        """N, the number of rows."""
        return len(self.x)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Table":
        """The table of these rows, in this order."""

        def part(column: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
            return None if column is None else column[rows]

        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            categorical=tuple(replace(c, codes=c.codes[rows]) for c in self.categorical),
            group=part(self.group),
            time=part(self.time),
            weight=part(self.weight),
            domains=None if self.domains is None else self.domains.take(rows),
        )

    def fingerprint(self) -> str:
        """The sha256 of everything but the name, the same in every process."""
        columns = [[c.name, list(c.levels), c.encoding] for c in self.categorical]
        head = [self.task, self.feature_names, self.target_names, self.class_names, columns]
        digest = hashlib.sha256(json.dumps(head).encode())
        arrays: list[npt.NDArray[Any] | None] = [
            self.x,
            self.y,
            *(c.codes for c in self.categorical),
        ]
        arrays += [self.group, self.time, self.weight]
        if self.domains is not None:
            arrays += [self.domains.target, self.domains.ratio]
        for array in arrays:
            digest.update(_bytes(array))
        return digest.hexdigest()


def table_from_arrays(
    name: str,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    task: Task,
    feature_names: Sequence[str] | None = None,
    target_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    categorical: Sequence[CategoricalColumn] = (),
    group: npt.ArrayLike | None = None,
    time: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    constant_ok: bool = False,
    domains: Domains | None = None,
) -> Table:
    """A `Table` from plain arrays: the way to write a source of one's own.

    Args:
        name: What messages call the table.
        x: (N, D) numbers.
        y: (N,) labels of any kind, or (N,) or (N, T) numbers.
        task: ``classification`` or ``regression``.
        feature_names: D names, by default ``x0``, ``x1``, ...
        target_names: T names, by default ``y``, or ``y0``, ``y1``, ... for several.
        class_names: C names, where ``y`` holds codes from 0 to C-1 already; by default the sorted
            distinct labels.
        categorical: Further features.
        group: (N,) the group of each row.
        time: (N,) the time of each row.
        weight: (N,) sample weights.
        constant_ok: See `Table`.
        domains: See `Table`.

    Raises:
        DataError: Where the arrays don't fit together, or aren't what the task needs.

    Example:
        >>> table = table_from_arrays("toy", [[1.0], [2.0]], ["no", "yes"], task="classification")
        >>> table.y, table.class_names
        (array([0, 1]), ('no', 'yes'))
    """
    faults: list[str] = []
    x_ND = _numbers(x, "x", faults)
    labels: Sequence[str] = () if class_names is None else tuple(class_names)
    target: Any = np.asarray(y)
    if task == "regression":
        target = _numbers(y, "y", faults)
        target = target[:, None] if target.ndim == 1 else target
    elif class_names is None and target.ndim == 1:
        target, labels = encode_labels(target, "y", faults)
    elif target.dtype.kind in "iu":
        target = target.astype(np.int64)
    if faults:
        raise DataError(*(f"{name}: {fault}" for fault in faults))
    return Table(
        name=name,
        task=task,
        x=x_ND,
        y=target,
        feature_names=_names(feature_names, "x", x_ND.shape[1] if x_ND.ndim == 2 else 0),
        target_names=_names(target_names, "y", target.shape[1] if target.ndim == 2 else 1),
        class_names=tuple(str(label) for label in labels),
        categorical=tuple(categorical),
        group=None if group is None else np.asarray(group),
        time=None if time is None else np.asarray(time),
        weight=None if weight is None else _numbers(weight, "weight", []),
        constant_ok=constant_ok,
        domains=domains,
    )


def _numbers(values: npt.ArrayLike, what: str, faults: list[str]) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        faults.append(
            f"{what} must hold numbers, but its dtype is {array.dtype}; convert it, or give text "
            f"as CategoricalColumn"
        )
        return np.zeros(array.shape)
    return np.ascontiguousarray(array, dtype=np.float64)


def _names(names: Sequence[str] | None, letter: str, count: int) -> tuple[str, ...]:
    if names is not None:
        return tuple(str(name) for name in names)
    if letter == "y" and count == 1:
        return ("y",)
    return tuple(f"{letter}{i}" for i in range(count))


def _matrix_faults(table: Table) -> list[str]:
    if table.x.ndim != 2 or table.x.dtype != np.float64:
        return [f"x must be float64 of shape (rows, features), got {_kind(table.x)}"]
    if len(table.feature_names) != table.x.shape[1]:
        return [
            f"feature_names must name all {table.x.shape[1]} columns of x, "
            f"got {len(table.feature_names)} names"
        ]
    return []


def _target_faults(table: Table) -> list[str]:
    y, n_rows = table.y, len(table.x)
    if table.task == "regression":
        if y.ndim != 2 or y.dtype != np.float64 or len(y) != n_rows:
            return [f"y must be float64 of shape ({n_rows}, targets), got {_kind(y)}"]
        if len(table.target_names) != y.shape[1]:
            count = len(table.target_names)
            return [f"target_names must name all {y.shape[1]} columns of y, got {count} names"]
        return []
    if y.shape != (n_rows,) or y.dtype != np.int64:
        return [f"y must be int64 class codes of shape ({n_rows},), got {_kind(y)}"]
    n_classes = len(table.class_names)
    if n_rows and (y.min() < 0 or y.max() >= n_classes):
        return [
            f"class codes must lie in 0 to {n_classes - 1} for {n_classes} class_names, "
            f"but they range from {y.min()} to {y.max()}"
        ]
    return []


def _column_faults(table: Table) -> list[str]:
    columns = {"group": table.group, "time": table.time, "weight": table.weight}
    columns |= {f"categorical column '{c.name}'": c.codes for c in table.categorical}
    if table.domains is not None:
        columns |= {"domains.target": table.domains.target, "domains.ratio": table.domains.ratio}
    faults = [
        f"{what} must have shape ({len(table.x)},), got {column.shape}"
        for what, column in columns.items()
        if column is not None and column.shape != (len(table.x),)
    ]
    if table.time is not None and table.time.dtype.kind not in "iufM":
        faults.append(f"time must be numbers or datetime64, got {table.time.dtype}")
    faults += [
        f"codes of categorical column '{c.name}' must lie in -1 to {len(c.levels) - 1}, "
        f"but they range from {c.codes.min()} to {c.codes.max()}"
        for c in table.categorical
        if c.codes.size and (c.codes.min() < -1 or c.codes.max() >= len(c.levels))
    ]
    return faults


def _kind(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _bytes(array: npt.NDArray[Any] | None) -> bytes:
    if array is None:
        return b"none"
    head = f"{array.shape}{array.dtype.kind}".encode()
    if array.dtype.kind in "OUS":
        return head + json.dumps([str(value) for value in array]).encode()
    return head + np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
