"""Tables in files: CSV and Parquet."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from unitgain.data._frame import ColumnRoles, header_faults, table_from_frame
from unitgain.data._table import Table, Task
from unitgain.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Separators that a first line of one column may have been meant with, as overrides spell them.
_SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}


def csv(
    path: str,
    target_column: str | Sequence[str],
    task: Task,
    separator: str = ",",
    **roles: Unpack[ColumnRoles],
) -> Table:
    """A text file in UTF-8 with a line of column names.

    Empty cells and the words that pandas takes for missing (NA, NaN, null, ...) are missing.
    Columns of nothing but ``True`` and ``False`` are 1 and 0.

    Args:
        path: The file, also compressed (.gz, .bz2, .xz, .zip); a relative one starts at the
            working directory.
        target_column: One column, or for regression several.
        task: ``classification`` or ``regression``.
        separator: What stands between two cells.
        **roles: What other columns are for, see `ColumnRoles`.

    Raises:
        DataError: Every fault of the file, or of its columns, at once.
    """
    file = _existing(path)
    header = _csv_header(path, file, separator)
    faults = header_faults(header)
    if faults:
        raise DataError(*(f"{path}: {fault}" for fault in faults))
    frame = _csv_frame(path, file, separator)
    _need_rows(path, frame)
    return table_from_frame(path, frame, task, target_column, roles)


def parquet(
    path: str,
    target_column: str | Sequence[str],
    task: Task,
    **roles: Unpack[ColumnRoles],
) -> Table:
    """A Parquet file; for the arguments see `csv`.

    Raises:
        DataError: Every fault of the file, or of its columns, at once.
    """
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    file = _existing(path)
    try:
        with ParquetFile(file) as source:  # type: ignore[no-untyped-call]
            header = source.schema_arrow.names
            faults = header_faults(header)
            if faults:
                raise DataError(*(f"{path}: {fault}" for fault in faults))
            frame = source.read().to_pandas(ignore_metadata=True)
    except (ArrowException, OSError) as error:
        raise DataError(
            f"{path}: must be a readable Parquet file, but of its {file.stat().st_size} bytes "
            f"pyarrow says: {_first_line(error)}; write it again, or read text with data=csv"
        ) from error
    _need_rows(path, frame)
    return table_from_frame(path, frame, task, target_column, roles)


def _existing(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.exists():
        where = "" if file.is_absolute() else f" in the working directory {Path.cwd()}"
        raise DataError(
            f"{path}: data.path must be a file, but there is none{where}; mend the path"
        )
    if not file.is_file():
        raise DataError(
            f"{path}: data.path must be a file, but this is a folder; name a file in it"
        )
    if not file.stat().st_size:
        raise DataError(f"{path}: a table needs columns and rows, but the file is empty (0 bytes)")
    return file


def _csv_header(path: str, file: Path, separator: str) -> list[str]:
    """The names in the first line, as they stand there: read_csv renames repeated ones."""
    first = _read_csv(path, file, separator, header=None, nrows=1, dtype=str, keep_default_na=False)
    header = [str(name) for name in first.iloc[0]]
    if len(header) == 1:
        others = [name for mark, name in _SEPARATORS.items() if mark in header[0]]
        remedy = f'set "data.separator={others[0]}"' if others else "set data.separator"
        raise DataError(
            f"{path}: a table needs a target and a feature, but its first line is one column "
            f"'{header[0]}' for data.separator='{separator}'; {remedy}"
        )
    return header


def _csv_frame(path: str, file: Path, separator: str) -> "pd.DataFrame":
    # Without index_col, a first column is taken for row labels where lines are one cell too long.
    return _read_csv(path, file, separator, header=0, index_col=False, low_memory=False)


def _read_csv(path: str, file: Path, separator: str, **options: object) -> "pd.DataFrame":
    """`pandas.read_csv`, what it says about a bad file being a `DataError`."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(file, sep=separator, **options)  # type: ignore[call-overload]
            return frame
    except pd.errors.EmptyDataError as error:
        raise DataError(
            f"{path}: a table needs columns and rows, but the file holds no text "
            f"({file.stat().st_size} bytes)"
        ) from error
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"{path}: every row must have as many cells as the first line, but some have more; "
            f"mend these rows or set data.separator"
        ) from error
    except pd.errors.ParserError as error:
        raise DataError(
            f"{path}: every row must have as many cells as the first line, but pandas says: "
            f"{_first_line(error)}; mend this line or set data.separator"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: text must be UTF-8, but byte {error.start} is not; save it as UTF-8"
        ) from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: must be readable, but {_first_line(error)}") from error


def _need_rows(path: str, frame: "pd.DataFrame") -> None:
    if not len(frame):
        raise DataError(
            f"{path}: a table needs rows, but it has {len(frame.columns)} columns and 0 rows"
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (
        lines[0].removeprefix("Error tokenizing data. C error: ") if lines else type(error).__name__
    )
