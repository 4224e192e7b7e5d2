"""Which rows train, validate and test."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from unitgain.errors import DataError

PARTS = ("train", "val", "test")


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the three parts: int64, none empty, no row in two of them.

    Raises:
        DataError: Where they are not.

    Example:
        >>> Split(train=[0, 1], val=[2], test=[3]).train
        array([0, 1])
    """

    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        faults = []
        for part in PARTS:
            rows = np.asarray(getattr(self, part))
            if rows.ndim != 1 or not len(rows):
                faults.append(
                    f"{part} must be a list of at least one row number, got shape {rows.shape}; "
                    f"change split.fractions or use more rows"
                )
            elif rows.dtype.kind not in "iu" or rows.min() < 0:
                faults.append(
                    f"{part} must hold row numbers from 0 up, got {rows.dtype} from {rows.min()}"
                )
            else:
                object.__setattr__(self, part, rows.astype(np.int64))
        if not faults:
            faults = _overlaps(self)
        if faults:
            raise DataError(*(f"split: {fault}" for fault in faults))

    def parts(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Training, validation and test rows."""
        return self.train, self.val, self.test


def _overlaps(split: Split) -> list[str]:
    rows, counts = np.unique(np.concatenate(split.parts()), return_counts=True)
    twice: npt.NDArray[Any] = rows[counts > 1]
    if not len(twice):
        return []
    return [
        f"each row must stand in one part, once, but {len(twice)} of {len(rows)} rows stand twice "
        f"or more (row number {twice[0]} first)"
    ]
