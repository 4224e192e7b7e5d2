"""Class labels of any kind as codes and names."""

from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt


def example_rows(mask: npt.NDArray[np.bool_], limit: int = 3) -> str:
    """The first few rows where ``mask`` holds, counted from 1.

    Example:
        >>> example_rows(np.array([False, True, True]))
        'rows 2, 3'
    """
    rows = np.flatnonzero(mask) + 1
    shown = ", ".join(str(row) for row in rows[:limit])
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{', ...' if len(rows) > limit else ''}"


def plain_text(value: object) -> str:
    """A label or category as text: ``3.0`` is ``3``, whatever type the file gave it."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def missing_mask(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a column of any type has no value: NaN, NaT or None."""
    if values.dtype.kind in "fM":
        return np.asarray(np.isnan(values) if values.dtype.kind == "f" else np.isnat(values))
    if values.dtype.kind == "O":
        absent = [value is None or (isinstance(value, float) and isnan(value)) for value in values]
        return np.array(absent, dtype=bool)
    return np.zeros(len(values), dtype=bool)


def encode_labels(
    labels: npt.NDArray[Any], what: str, faults: list[str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Codes from 0 to C-1 in the sorted order of the labels, and the C names.

    Numbers sort as numbers. Faults are appended, naming ``what``; missing labels and floats that
    aren't whole numbers are faults.

    Example:
        >>> encode_labels(np.array([7, 3, 7]), "y", [])
        (array([1, 0, 1]), ('3', '7'))
    """
    nothing = np.zeros(len(labels), dtype=np.int64)
    missing = missing_mask(labels)
    if missing.any():
        faults.append(
            f"{what} must have a label in every row, but {missing.sum()} of {len(labels)} rows "
            f"have none ({example_rows(missing)}); remove these rows (imputation is for features)"
        )
        return nothing, ()
    whole = labels.dtype.kind != "f" or np.isfinite(labels) & (labels == np.floor(labels))
    if (off := ~np.asarray(whole)).any():
        faults.append(
            f"{what} must hold text or whole numbers as class labels, but {off.sum()} of "
            f"{len(labels)} rows hold other numbers ({example_rows(off)}: {labels[off][0]:g}); "
            f"set data.task=regression, or make labels of them"
        )
        return nothing, ()
    if labels.dtype.kind in "biuf":
        found, codes = np.unique(labels, return_inverse=True)
    else:
        found, codes = np.unique([plain_text(label) for label in labels], return_inverse=True)
    return codes.astype(np.int64), tuple(plain_text(label) for label in found)
