"""Labelled rows of a file, put behind a run's own table."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from unitgain.data._checks import _infinity_faults, _target_value_faults, missing_faults, several
from unitgain.data._frame import table_from_frame
from unitgain.data._labels import example_rows
from unitgain.data._table import CategoricalColumn, Floats, Ints, Table
from unitgain.data.streams import stream_batches
from unitgain.errors import DataError


def with_labelled_rows(
    table: Table, path: Path, *, separator: str = ",", impute: str | None = None
) -> Table:
    """The table with the rows of a file behind its own.

    Args:
        table: Of a run.
        path: A CSV or Parquet file with the table's feature and target columns; others are left out.
        separator: What stands between two cells of a CSV.
        impute: How missing features are to be filled; None makes them a fault.

    Returns:
        N + M rows, without groups, times and sample weights.

    Raises:
        DataError: The file can't be read, a column or all rows are missing, cells can't be used, or
            a class isn't the table's.
    """
    rows = _read(table, path, separator)
    faults = [] if impute else missing_faults(rows)
    faults += [*_infinity_faults(rows), *_target_value_faults(rows)]
    if faults:
        raise DataError(*(f"{path}: {fault}" for fault in faults))
    categorical = [
        _joined(ours, theirs)
        for ours, theirs in zip(table.categorical, rows.categorical, strict=True)
    ]
    return replace(
        table,
        x=np.concatenate([table.x, rows.x]),
        y=np.concatenate([table.y, _labels(table, rows)]),
        categorical=tuple(categorical),
        group=None,
        time=None,
        weight=None,
    )


def _read(table: Table, path: Path, separator: str) -> Table:
    import pandas as pd

    categorical = [column.name for column in table.categorical]
    columns = (*table.feature_names, *categorical, *table.target_names)
    frames = list(stream_batches(path, columns, rows=2**16, separator=separator))
    if not frames:
        raise DataError(f"{path}: must hold labelled rows, but has none below its first line")
    targets = table.target_names[0] if table.task == "classification" else table.target_names
    frame = pd.concat(frames, ignore_index=True)
    return table_from_frame(str(path), frame, table.task, targets, {"categorical": categorical})


def _labels(table: Table, rows: Table) -> Ints | Floats:
    """The targets of the rows, in the codes of the table's classes.

    Raises:
        DataError: a class that the table hasn't.
    """
    if table.task == "regression":
        return rows.y
    strange = [name for name in rows.class_names if name not in table.class_names]
    if strange:
        odd = np.isin(rows.y, [rows.class_names.index(name) for name in strange])
        raise DataError(
            f"{rows.name}: target column '{table.target_names[0]}' must hold the classes that were trained on "
            f"({several(table.class_names)}), but {odd.sum()} of {rows.n_rows} rows hold {several(strange)} "
            f"({example_rows(odd)}); remove these rows, or train anew with all classes"
        )
    places = [table.class_names.index(name) for name in rows.class_names]
    return np.array(places, dtype=np.int64)[rows.y]


def _joined(ours: CategoricalColumn, theirs: CategoricalColumn) -> CategoricalColumn:
    levels = (*ours.levels, *(level for level in theirs.levels if level not in ours.levels))
    # The last entry serves the code -1, missing.
    place = np.array([*(levels.index(level) for level in theirs.levels), -1], dtype=np.int64)
    return replace(ours, codes=np.concatenate([ours.codes, place[theirs.codes]]), levels=levels)
