"""A pandas frame as a `Table`: each column has one role, and nothing is converted unasked."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, final

import numpy as np
import numpy.typing as npt

from unitgain.data._checks import several
from unitgain.data._labels import encode_labels, example_rows, missing_mask, plain_text
from unitgain.data._table import CategoricalColumn, Encoding, Floats, Ints, Table, Task
from unitgain.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# The largest whole number up to which float64 holds all of them.
_EXACT = 2**53
_FEATURE = "declare it (data.categorical), drop it (data.drop_columns) or mend it"


class ColumnRoles(TypedDict, total=False):
    """What columns are for, beside the targets; those not named are numeric features.

    Args:
        categorical: Feature columns that are categories.
        encoding: ``one_hot`` (the default) or ``ordinal``, for all of them.
        group_column: The group of each row, for split=group; not a feature.
        time_column: Numbers or ISO 8601 dates, for split=time; not a feature.
        weight_column: The sample weight of each row; not a feature.
        drop_columns: Columns to leave out.
    """

    categorical: Sequence[str]
    encoding: Encoding
    group_column: str | None
    time_column: str | None
    weight_column: str | None
    drop_columns: Sequence[str]


@final
@dataclass
class FrameReader:
    """Columns of one frame as arrays, with the faults found on the way."""

    frame: "pd.DataFrame"
    faults: list[str] = field(default_factory=list)

    def values(self, column: str) -> npt.NDArray[Any]:
        """(N,) as numpy has it: float64, int64, bool, datetime64 or object with None."""
        series = self.frame[column]
        if series.dtype.kind in "iubfM" and isinstance(series.dtype, np.dtype):
            return series.to_numpy()
        plain = series.astype(object).where(series.notna(), None).to_numpy()
        held = [value for value in plain if value is not None]
        if held and all(_is_number(value) for value in held):
            return _unboxed(plain, complete=len(held) == len(plain))
        return plain

    def numbers(self, column: str, what: str, remedy: str) -> Floats:
        """(N,) float64; text is a fault."""
        values = self.values(column)
        if values.dtype.kind in "OM":
            if missing_mask(values).all():
                return np.full(len(values), np.nan)
            odd = np.array([_not_number(value) for value in values])
            odd = odd if odd.any() else ~missing_mask(values)
            self.faults.append(
                f"{what} '{column}' must be numbers, but {odd.sum()} of {len(values)} rows hold "
                f"something else ({example_rows(odd)}: '{plain_text(values[odd][0])}'); {remedy}"
            )
            return np.zeros(len(values))
        if values.dtype.kind in "iu" and (large := _beyond(values)).any():
            self.faults.append(
                f"{what} '{column}' must hold numbers that float64 holds exactly, but {large.sum()} "
                f"of {len(values)} rows are beyond 2^53 ({example_rows(large)}: "
                f"{values[large][0]}); drop it (data.drop_columns), or rescale it"
            )
        return values.astype(np.float64)

    def categories(self, column: str, encoding: Encoding) -> CategoricalColumn:
        """Codes and levels; levels in their own order where the file has one."""
        series, values = self.frame[column], self.values(column)
        missing = missing_mask(values)
        text = np.array([plain_text(value) for value in values], dtype=object)
        kinds = getattr(series.dtype, "categories", None)
        declared = [] if kinds is None else [plain_text(level) for level in kinds]
        held = set(text[~missing])
        levels = [level for level in declared if level in held] or sorted(held, key=_natural)
        place = {level: code for code, level in enumerate(levels)}
        pairs = zip(text, missing, strict=True)
        codes = [-1 if gone else place[level] for level, gone in pairs]
        return CategoricalColumn(column, np.array(codes, dtype=np.int64), tuple(levels), encoding)

    def times(self, column: str) -> npt.NDArray[Any]:
        """(N,) float64 or datetime64; text must be ISO 8601."""
        import pandas as pd

        values = self.values(column)
        if values.dtype.kind in "iufb":
            return values.astype(np.float64)
        if values.dtype.kind == "M":
            return values.astype("datetime64[ns]")
        parsed = pd.to_datetime(pd.Series(values), format="ISO8601", errors="coerce", utc=True)
        odd = parsed.isna().to_numpy() & ~missing_mask(values)
        if odd.any():
            self.faults.append(
                f"time_column '{column}' must hold numbers or ISO 8601 dates (2026-01-31), but "
                f"{odd.sum()} of {len(values)} rows hold something else ({example_rows(odd)}: "
                f"'{values[odd][0]}'); write the dates so"
            )
        return parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")


def table_from_frame(
    name: str,
    frame: "pd.DataFrame",
    task: Task,
    target_column: str | Sequence[str],
    roles: ColumnRoles,
) -> Table:
    """The table of a frame.

    Args:
        name: What messages call it.
        frame: Its columns have distinct names.
        task: What the targets are for.
        target_column: One target for classification, one or more for regression.
        roles: What the other columns are for.

    Raises:
        DataError: Every fault of names and types at once.
    """
    columns = [str(column) for column in frame.columns]
    targets = (target_column,) if isinstance(target_column, str) else tuple(target_column)
    named = named_columns(targets, roles)
    absent = [
        _absent(key, column, columns) for column, key in named.items() if column not in columns
    ]
    if absent:
        raise DataError(*(f"{name}: {fault}" for fault in absent))
    reader = FrameReader(frame.set_axis(columns, axis=1))
    features = [column for column in columns if column not in named]
    x_ND = _matrix([reader.numbers(c, "feature column", _FEATURE) for c in features], len(frame))
    y, class_names = _targets(reader, task, targets)
    encoding = roles.get("encoding", "one_hot")
    categorical = [reader.categories(c, encoding) for c in roles.get("categorical", ())]
    group, time = roles.get("group_column"), roles.get("time_column")
    weight = roles.get("weight_column")
    group_N = reader.values(group) if group else None
    time_N = reader.times(time) if time else None
    weight_N = reader.numbers(weight, "weight_column", "mend it") if weight else None
    if reader.faults:
        raise DataError(*(f"{name}: {fault}" for fault in reader.faults))
    return Table(
        name=name,
        task=task,
        x=x_ND,
        y=y,
        feature_names=tuple(features),
        target_names=targets,
        class_names=class_names,
        categorical=tuple(categorical),
        group=group_N,
        time=time_N,
        weight=weight_N,
    )


def header_faults(header: Sequence[str]) -> list[str]:
    """Faults of a line of column names: repeated or empty ones."""
    faults = []
    twice = sorted({name for name in header if name and list(header).count(name) > 1})
    if twice:
        places = [str(i + 1) for i, name in enumerate(header) if name == twice[0]]
        faults.append(
            f"column names must differ, but {several(repr(name) for name in twice)} stands for "
            f"several of {len(header)} columns (columns {', '.join(places)}); rename or remove them"
        )
    blank = [str(i + 1) for i, name in enumerate(header) if not name.strip()]
    if blank:
        faults.append(
            f"every column needs a name in the first line, but column {several(blank)} of "
            f"{len(header)} has none; name or remove it"
        )
    return faults


def named_columns(targets: Sequence[str], roles: ColumnRoles) -> dict[str, str]:
    """Each column that has a role of its own, and the key that gives it."""
    named = dict.fromkeys(targets, "target_column")
    named |= dict.fromkeys(roles.get("categorical", ()), "categorical")
    named |= dict.fromkeys(roles.get("drop_columns", ()), "drop_columns")
    singles = {
        "group_column": roles.get("group_column"),
        "time_column": roles.get("time_column"),
        "weight_column": roles.get("weight_column"),
    }
    return named | {column: key for key, column in singles.items() if column is not None}


def _targets(
    reader: FrameReader, task: Task, targets: Sequence[str]
) -> tuple[Ints | Floats, tuple[str, ...]]:
    if task == "classification":
        (column,) = targets
        return encode_labels(reader.values(column), f"target column '{column}'", reader.faults)
    remedy = "mend it, or set data.task=classification"
    numbers = [reader.numbers(column, "target column", remedy) for column in targets]
    return _matrix(numbers, len(reader.frame)), ()


def _matrix(columns: Sequence[Floats], n_rows: int) -> Floats:
    return np.stack(columns, axis=1) if columns else np.zeros((n_rows, 0))


def _absent(key: str, column: str, columns: Sequence[str]) -> str:
    meant = difflib.get_close_matches(column, columns, n=1)
    hint = f"did you mean '{meant[0]}'? " if meant else ""
    return (
        f"data.{key} must name a column, but none is called '{column}'; {hint}"
        f"the {len(columns)} columns are {several(columns, limit=12)}"
    )


def _unboxed(plain: npt.NDArray[Any], *, complete: bool) -> npt.NDArray[Any]:
    """Numbers out of an object column, whole ones as int64 where none is missing."""
    if complete and not any(isinstance(value, float | np.floating) for value in plain):
        return np.array([int(value) for value in plain], dtype=np.int64)
    return np.array([np.nan if value is None else float(value) for value in plain])


def _is_number(value: object) -> bool:
    """Whether numpy has a numeric type for it: Python's integers have no end."""
    if isinstance(value, int | np.integer):
        return abs(int(value)) < 2**63
    return isinstance(value, float | np.number)


def _beyond(values: Ints) -> npt.NDArray[np.bool_]:
    return (values > _EXACT) | (values < -_EXACT)


def _not_number(value: object) -> bool:
    if value is None:
        return False
    try:
        float(str(value))
    except ValueError:
        return True
    return False


def _natural(level: str) -> tuple[int, float, str]:
    """Sorts numbers as numbers, in front of text."""
    return (1, 0.0, level) if _not_number(level) else (0, float(level), level)
