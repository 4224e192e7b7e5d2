"""Rows that come one after another: batches of a file that may grow, and what a model does to its own inputs.

Shapes: B rows of a batch, D features, N rows in all.
"""

import csv
import difflib
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, final

import numpy as np

from unitgain.data._checks import several
from unitgain.data._encoder import Encoder
from unitgain.data._frame import FrameReader, header_faults
from unitgain.data._table import CategoricalColumn, Floats, Table
from unitgain.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@final
@dataclass(frozen=True)
class Follow:
    """How to wait for more rows of a file that grows.

    Args:
        every: seconds between two looks.
        idle: seconds without a new line after which the stream is over.
    """

    every: float = 1.0
    idle: float = 60.0


def stream_batches(
    path: Path,
    columns: tuple[str, ...],
    *,
    rows: int = 256,
    separator: str = ",",
    follow: Follow | None = None,
) -> "Iterator[pd.DataFrame]":
    """The batches of a CSV or Parquet file.

    Args:
        path: A text file in UTF-8 with a line of column names, or one that ends in ``.parquet``.
        columns: Those that must be there; others are left out.
        rows: Of a batch, at most.
        separator: What stands between two cells.
        follow: How to wait for rows that are yet to be written; None stops at the end. A batch
            is then what is there when one looks, and a line counts once its end is written.

    Raises:
        DataError: There is no such file, it can't be read, a column isn't there, or a Parquet
            file is to be followed.
    """
    if not path.is_file():
        raise DataError(f"{path}: a stream must be a file, but there is none; mend the path")
    if path.suffix != ".parquet":
        with path.open("rb") as file:
            yield from _csv_batches(path, file, columns, rows, separator, follow)
    elif follow is None:
        yield from _parquet_batches(path, columns, rows)
    else:
        raise DataError(f"{path}: only a CSV can grow, but this is Parquet; leave --follow out")


def encode_batch(
    name: str, frame: "pd.DataFrame", encoder: Encoder, first: int
) -> tuple[Floats, int]:
    """The features of a batch, as the network takes them.

    Args:
        name: What messages call the stream.
        frame: The batch, with the columns that the encoder was fitted on.
        encoder: Of the run.
        first: The number of the batch's first row, for messages.

    Returns:
        (B, D) features, and how many cells hold a category that wasn't trained on.

    Raises:
        DataError: Text or infinities where numbers must be, or missing values that nothing fills.
    """
    reader = FrameReader(frame)
    numbers = [reader.numbers(c, "feature column", "mend it") for c in encoder.numeric]
    last = first + len(frame) - 1
    if reader.faults:
        raise DataError(*(f"{name}: rows {first} to {last}: {fault}" for fault in reader.faults))
    x_BD = np.stack(numbers, axis=1) if numbers else np.zeros((len(frame), 0))
    categorical = []
    for category in encoder.categories:
        column = reader.categories(category.name, "one_hot" if category.one_hot else "ordinal")
        categorical.append(column)
    _check_cells(name, x_BD, categorical, encoder, first)
    unknown = 0
    for column, category in zip(categorical, encoder.categories, strict=True):
        seen = {level for level, some in zip(category.levels, category.seen, strict=True) if some}
        strange = [code for code, level in enumerate(column.levels) if level not in seen]
        unknown += int(np.isin(column.codes, strange).sum())
    table = Table(
        name=name,
        task="regression",
        x=x_BD,
        y=np.zeros((len(frame), 1)),
        feature_names=encoder.numeric,
        target_names=("",),
        categorical=tuple(categorical),
    )
    return encoder.encode(table), unknown


def feedback_stream(
    predict: Callable[[Floats], Floats],
    rows: Floats,
    generator: np.random.Generator,
    strength: float,
    *,
    feature: int = 0,
    near: float = 0.3,
    batch: int = 50,
) -> Iterator[Floats]:
    """What a deployed model sees once people respond to it.

    Each batch is a round of new people. Those of round t have heard of t rounds before them: up
    to t times, whoever is refused but near the boundary moves one feature by ``strength`` towards
    approval. With strength 0 the stream is the rows, shuffled.

    Args:
        predict: the probability of approval, (B,), of rows (B, D).
        rows: (N, D) people who haven't responded yet.
        generator: shuffles them.
        strength: the length of one move, in standard deviations of the feature.
        feature: which one can be moved.
        near: whoever's probability is below 1/2 by less than this is near the boundary.
        batch: B, people a round.

    Example:
        >>> people = np.linspace(-1, 1, 100)[:, None]
        >>> approve = lambda x: (x[:, 0] > 0) * 0.8 + 0.1 + 0.25 * (abs(x[:, 0]) < 0.2)
        >>> stream = feedback_stream(approve, people, np.random.default_rng(0), 0.5)
        >>> float(sum(rows.sum() for rows in stream)) > 1
        True

    Reference:
        Hardt, Megiddo, Papadimitriou and Wootters (2016), Strategic classification,
        arXiv 1506.06980; Perdomo et al. (2020), Performative prediction, arXiv 2002.06673.
    """
    step = strength * float(rows[:, feature].std())
    people = rows[generator.permutation(len(rows))]
    for heard, start in enumerate(range(0, len(people), batch)):
        now = people[start : start + batch].copy()
        for _ in range(heard):
            before = predict(now)
            moving = (before < 0.5) & (before > 0.5 - near)
            if step == 0 or not moving.any():
                break
            up, down = now.copy(), now.copy()
            up[:, feature] += step
            down[:, feature] -= step
            better = np.where(predict(up) >= predict(down), step, -step)
            now[moving, feature] += better[moving]
        yield now


def _check_cells(
    name: str,
    x_BD: Floats,
    categorical: list[CategoricalColumn],
    encoder: Encoder,
    first: int,
) -> None:
    """Refuse what can't be encoded.

    Raises:
        DataError: Infinities, or missing cells where the run imputes nothing.
    """
    columns = [*zip(encoder.numeric, x_BD.T, strict=True)]
    for column, values in columns:
        if (odd := np.isinf(values)).any():
            raise DataError(
                f"{name}: feature column '{column}' must be finite, but row "
                f"{first + int(odd.argmax())} isn't; mend it"
            )
    missing = [(column, np.isnan(values)) for column, values in columns]
    missing += [(column.name, column.codes < 0) for column in categorical]
    for column, gone in missing:
        if encoder.impute is None and gone.any():
            raise DataError(
                f"{name}: feature column '{column}' must have a value in every row, but row "
                f"{first + int(gone.argmax())} has none; mend it, or train with data.impute=median"
            )


def _csv_batches(
    path: Path,
    file: BinaryIO,
    columns: tuple[str, ...],
    rows: int,
    separator: str,
    follow: Follow | None,
) -> "Iterator[pd.DataFrame]":
    header: str | None = None
    held: list[str] = []
    first = 1
    for record in _records(path, file, follow):
        if record is not None and header is None:
            header = record
            names = next(csv.reader([record], delimiter=separator))
            _check_columns(path, names, columns)
            continue
        if record is not None:
            held.append(record)
        if header is not None and held and (record is None or len(held) == rows):
            yield _parsed(path, header, held, columns, separator, first)
            first, held = first + len(held), []
    if header is None:
        raise DataError(f"{path}: a stream needs a line of column names, but the file is empty")
    if held:
        yield _parsed(path, header, held, columns, separator, first)


def _records(path: Path, file: BinaryIO, follow: Follow | None) -> Iterator[str | None]:
    """Rows of text, whole ones (a quoted cell may hold line ends); None before each wait."""
    held, since = b"", time.monotonic()
    while True:
        line = file.readline()
        if line:
            held, since = held + line, time.monotonic()
            if line.endswith(b"\n") and held.count(b'"') % 2 == 0:
                if held.strip():
                    yield _text(path, held)
                held = b""
        elif follow is None or time.monotonic() - since >= follow.idle:
            if held.strip():
                yield _text(path, held)
            return
        else:
            yield None
            time.sleep(follow.every)


def _text(path: Path, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig").rstrip("\r\n") + "\n"
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: text must be UTF-8, but a line isn't; save it as UTF-8"
        ) from error


def _parsed(
    path: Path, header: str, held: list[str], columns: tuple[str, ...], separator: str, first: int
) -> "pd.DataFrame":
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            text = io.StringIO(header + "".join(held))
            frame = pd.read_csv(text, sep=separator, index_col=False, low_memory=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(
            f"{path}: every row must have as many cells as the first line, but one of rows {first} "
            f"to {first + len(held) - 1} has more; mend it or set --separator"
        ) from error
    return frame[list(columns)]


def _parquet_batches(path: Path, columns: tuple[str, ...], rows: int) -> "Iterator[pd.DataFrame]":
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as source:  # type: ignore[no-untyped-call]
            _check_columns(path, source.schema_arrow.names, columns)
            for batch in source.iter_batches(batch_size=rows, columns=list(columns)):
                yield batch.to_pandas()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: must be a readable Parquet file; write it again") from error


def _check_columns(path: Path, names: list[str], columns: tuple[str, ...]) -> None:
    if faults := header_faults(names):
        raise DataError(*(f"{path}: {fault}" for fault in faults))
    absent = [column for column in columns if column not in names]
    if absent:
        meant = difflib.get_close_matches(absent[0], names, n=1)
        hint = f"is '{meant[0]}' meant? " if meant else ""
        raise DataError(
            f"{path}: a stream must have the {len(columns)} columns that were trained on, but "
            f"{several(repr(name) for name in absent)} isn't there; {hint}rename it, or set "
            f"--separator (the first line has {several(names, limit=8)})"
        )
