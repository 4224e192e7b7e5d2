"""metrics.csv: one row an epoch, on disk as soon as it is known."""

import contextlib
import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

from unitgain.errors import DataError
from unitgain.runs._atomic import atomic_write, sync_file
from unitgain.runs._batch import Batch
from unitgain.runs._record import Record, fault_as_recorded, fault_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEYS = ("epoch", "step")


@final
class MetricsWriter:
    r"""Appends rows to metrics.csv; the columns are those of the first row.

    The file is open during a write only, so that a pack of a thousand members stays within the
    system's limit of open files. Its bytes depend on the rows alone: numbers are written in the
    shortest form that reads back as the same float.

    Args:
        path: the file.
        keep_until: None to start afresh; an epoch to go on behind it: later rows and a last line
            that was cut short are dropped.
        durable: ask the disk to keep the rows in `sync`.

    Raises:
        DataError: the file to go on with isn't what this class writes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> with MetricsWriter(path) as metrics:
        ...     metrics.append(0, 17, {"train/loss": 0.1})
        >>> path.read_text()
        'epoch,step,train/loss\n0,17,0.1\n'
    """

    def __init__(self, path: Path, keep_until: int | None = None, durable: bool = True) -> None:
        self._path = path
        self._durable = durable
        self._columns: tuple[str, ...] = ()
        self._last_epoch: int | None = None
        self._size, self._digest = 0, hashlib.sha256()
        if keep_until is None:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._truncate(keep_until)

    @property
    def last_epoch(self) -> int | None:
        """The epoch of the last row, or None before the first."""
        return self._last_epoch

    def append(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Write one row; a column of the first row that isn't in ``values`` stays empty.

        Raises:
            ValueError: a name that the first row didn't have, or that can't be a column.
            OSError: the row can't be written; none of it stays in the file.
        """
        first = not self._columns
        columns = self._columns or _columns_of(values)
        unknown = [name for name in values if name not in columns]
        if unknown:
            raise ValueError(f"metrics.csv has the columns {columns}; {unknown} came too late")
        row: list[object] = [int(epoch), int(step)]
        row += [repr(float(values[name])) if name in values else "" for name in columns[2:]]
        data = _lines([columns, row] if first else [row])
        _append(self._path, data, create=first)
        self._count(data)
        self._columns = columns
        self._last_epoch = int(epoch)

    def sync(self, batch: Batch | None = None) -> None:
        """Ask the disk to keep the rows: before a checkpoint that counts on them.

        Args:
            batch: ask together with other files.
        """
        if not (self._durable and self._columns):
            return
        if batch is None:
            sync_file(self._path)
        else:
            batch.sync(self._path)

    def record(self) -> Record:
        """What the file holds if nothing has changed it but this writer."""
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sync()

    def _truncate(self, keep_until: int) -> None:
        before = self._path.read_bytes()
        columns, rows = _parse(before, self._path)
        kept = [row for row in rows if int(row[0]) <= keep_until]
        after = _lines([columns, *kept]) if kept else b""
        if not kept:
            self._path.unlink()
            return
        if after != before:
            atomic_write(self._path, after, durable=self._durable)
        self._count(after)
        self._columns = tuple(columns)
        self._last_epoch = int(kept[-1][0])

    def _count(self, data: bytes) -> None:
        self._size += len(data)
        self._digest.update(data)


def read_metrics(path: Path) -> dict[str, "NDArray[Any]"]:
    """The columns of metrics.csv: ``epoch`` and ``step`` int64, the rest float64, NaN if empty.

    A last line that was cut short, as in a run under way, is left out.

    Raises:
        DataError: the file is missing, damaged or not what the run's summary records.
    """
    import numpy as np

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(_fault(path, f"can't be read ({error.strerror})")) from error
    if fault := fault_as_recorded(path, data):
        raise DataError(fault)
    columns, rows = _parse(data, path)
    table: dict[str, NDArray[Any]] = {}
    for index, name in enumerate(columns):
        if name in _KEYS:
            table[name] = np.array([int(row[index]) for row in rows], dtype=np.int64)
        else:
            cells = [float(row[index] or "nan") for row in rows]
            table[name] = np.array(cells, dtype=np.float64)
    return table


def metrics_fault(path: Path, record: Record) -> str | None:
    """What is wrong with a file whose beginning was recorded, in a line; None where that is still the same."""
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        return _fault(path, f"can't be read ({error.strerror})")
    return fault_of(path, data[: int(record["bytes"])], record)


def _columns_of(values: Mapping[str, float]) -> tuple[str, ...]:
    wrong = [name for name in values if name in _KEYS or "\n" in name or "\r" in name]
    if wrong:
        raise ValueError(f"{wrong} can't be columns of metrics.csv")
    return (*_KEYS, *values)


def _lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _parse(data: bytes, path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows, checked; what follows the last line feed was cut short and is dropped."""
    whole = data[: data.rfind(b"\n") + 1] or _lines([_KEYS])
    try:
        columns, *rows = csv.reader(io.StringIO(whole.decode(), newline=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(_fault(path, "isn't a CSV file")) from error
    if tuple(columns[:2]) != _KEYS:
        raise DataError(_fault(path, f"starts with the columns {columns[:2]}"))
    for number, row in enumerate(rows, start=2):
        if not _is_row(row, len(columns)):
            raise DataError(_fault(path, f"has a damaged line {number}"))
    return columns, rows


def _is_row(row: list[str], width: int) -> bool:
    try:
        [int(cell) for cell in row[:2]]
        [float(cell or "nan") for cell in row[2:]]
    except ValueError:
        return False
    return len(row) == width


def _fault(path: Path, fact: str) -> str:
    return (
        f"metrics.csv must hold a row an epoch under the columns epoch, step, ...: {path} {fact}; "
        "restore it from a copy or train the run again"
    )


def _append(path: Path, data: bytes, create: bool) -> None:
    flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if create else 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, data)
        except OSError as error:
            # On a full disk half a row would otherwise run into the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
