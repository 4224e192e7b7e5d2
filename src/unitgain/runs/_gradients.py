"""gradients.parquet: what the probe measured, as rows of step, layer, quantity, value.

Shape suffixes: N rows, S recorded steps, L layers.
"""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unitgain.errors import DataError
from unitgain.runs._batch import Batch
from unitgain.runs._record import Record, fault_as_recorded, record_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@final
@dataclass(frozen=True)
class Gradients:
    """The content of gradients.parquet.

    Shape: ``steps``, ``layers`` (from 1; the last is the output head), ``codes`` (which of
    ``names``, the quantities) and ``values`` are all (N,).
    """

    steps: "NDArray[np.int64]"
    layers: "NDArray[np.int32]"
    codes: "NDArray[np.int32]"
    values: "NDArray[np.float64]"
    names: tuple[str, ...]

    def grid(self, quantity: str) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """One quantity over recorded steps and layers; NaN where nothing was recorded.

        Returns:
            step_S, ascending, and value_SL.

        Raises:
            KeyError: the quantity wasn't recorded.
        """
        import numpy as np

        if quantity not in self.names:
            raise KeyError(quantity)
        rows = self.codes == self.names.index(quantity)
        step_S, row_N = np.unique(self.steps[rows], return_inverse=True)
        layer_N = self.layers[rows]
        value_SL = np.full((step_S.size, int(layer_N.max())), np.nan)
        value_SL[row_N, layer_N - 1] = self.values[rows]
        return step_S, value_SL

    def until(self, step: int) -> "Gradients":
        """What was measured up to a step; the quantities in the order in which these rows bring them up."""
        import numpy as np

        rows = self.steps <= step
        used, first = np.unique(self.codes[rows], return_index=True)
        order = used[np.argsort(first)]
        renumber = np.zeros(max(len(self.names), 1), dtype=np.int32)
        renumber[order] = np.arange(order.size, dtype=np.int32)
        codes = renumber[self.codes[rows]]
        names = tuple(self.names[code] for code in order.tolist())
        return Gradients(self.steps[rows], self.layers[rows], codes, self.values[rows], names)

    def record(self) -> Record:
        """How many rows there are, and the SHA-256 of what they say."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for column in (self.steps, self.layers, self.codes, self.values):
            digest.update(column.tobytes())
        return {"rows": len(self.steps), "sha256": digest.hexdigest()}


_NO_ROWS: Record = {"rows": 0, "sha256": hashlib.sha256().hexdigest()}


@final
class GradientsWriter:
    """Collects measurements and writes them to gradients.parquet.

    The file's bytes depend on the measurements alone, in the order of their steps: neither on how
    they were cut into calls, nor on how often the file was written or the run resumed. One thread may
    flush while another appends.

    Args:
        path: the file.
        keep_until: None to start afresh; a step to go on behind it: later rows are dropped.
        durable: as in `atomic_write`.

    Raises:
        DataError: the file to go on with isn't what this class writes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "gradients.parquet"
        >>> gradients = GradientsWriter(path)
        >>> gradients.append(0, {"grad_weight": [0.5, 0.25]})
        >>> gradients.append([10, 20], {"grad_weight": [[0.4, 0.2], [0.3, 0.1]]})
        >>> gradients.flush()
        >>> step_S, value_SL = read_gradients(path).grid("grad_weight")
        >>> step_S.tolist(), value_SL.tolist()
        ([0, 10, 20], [[0.5, 0.25], [0.4, 0.2], [0.3, 0.1]])
    """

    def __init__(self, path: Path, keep_until: int | None = None, durable: bool = True) -> None:
        self._path = path
        self._durable = durable
        self._codes: dict[str, int] = {}
        self._blocks: list[tuple[NDArray[Any], ...]] = []
        self._layouts: dict[tuple[tuple[str, int], ...], tuple[NDArray[Any], NDArray[Any]]] = {}
        self._lock = threading.Lock()
        self._written = 0
        self._record: Record | None = None
        if keep_until is None:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._load(keep_until)

    def append(self, step: "int | Sequence[int]", values: "Mapping[str, ArrayLike]") -> None:
        """Add what was measured at one step, or at several at once.

        Args:
            step: a step, or S of them, ascending.
            values: quantity -> (L,) values of one step or (S, L) of several; the first layer comes
                first, and a quantity without an output head is one shorter.

        Raises:
            ValueError: shapes that don't fit.
        """
        import numpy as np

        step_S = np.atleast_1d(np.asarray(step, dtype=np.int64))
        value_SL = {name: self._matrix(name, item, step_S.size) for name, item in values.items()}
        if not value_SL:
            return
        layer_C, code_C = self._layout(tuple((name, x.shape[1]) for name, x in value_SL.items()))
        block_SC = np.concatenate(list(value_SL.values()), axis=1)
        block = (
            np.repeat(step_S, layer_C.size),
            np.tile(layer_C, step_S.size),
            np.tile(code_C, step_S.size),
            block_SC.ravel(),
        )
        with self._lock:
            self._blocks.append(block)

    def flush(self, batch: Batch | None = None) -> None:
        """Write everything so far in one step; without any measurement there is no file.

        Args:
            batch: put it in place together with other files.
        """
        rows = self.rows()
        if rows is None:
            self._path.unlink(missing_ok=True)
        elif len(rows.steps) != self._written:
            data = _to_parquet(rows)
            with nullcontext(batch) if batch is not None else Batch(self._durable) as together:
                together.add(self._path, data)
            self._written, self._record = len(rows.steps), record_of(data)

    def record(self) -> Record | None:
        """What the file holds if nothing has changed it since `flush`; None where there is none."""
        return self._record

    def rows(self) -> Gradients | None:
        """What has been collected, with the rows that it goes on behind; None where there is nothing."""
        with self._lock:
            return self._joined() if self._blocks else None

    def record_until(self, step: int) -> Record:
        """How many rows there are up to a step, and the SHA-256 of what they say."""
        rows = self.rows()
        return _NO_ROWS if rows is None else rows.until(step).record()

    @staticmethod
    def _matrix(name: str, item: "ArrayLike", steps: int) -> "NDArray[np.float64]":
        import numpy as np

        value_SL = np.atleast_2d(np.asarray(item, dtype=np.float64))
        if value_SL.ndim != 2 or value_SL.shape[0] != steps:
            raise ValueError(f"{name}: {steps} steps don't fit values of shape {value_SL.shape}")
        return value_SL

    def _layout(
        self, key: tuple[tuple[str, int], ...]
    ) -> "tuple[NDArray[np.int32], NDArray[np.int32]]":
        """Layer and code of one step's values, side by side: the same at almost every step."""
        import numpy as np

        if key not in self._layouts:
            layers = [np.arange(1, width + 1, dtype=np.int32) for _, width in key]
            codes = [
                np.full(width, self._codes.setdefault(name, len(self._codes)), dtype=np.int32)
                for name, width in key
            ]
            self._layouts[key] = (np.concatenate(layers), np.concatenate(codes))
        return self._layouts[key]

    def _joined(self) -> Gradients:
        import numpy as np

        if len(self._blocks) > 1:
            columns = zip(*self._blocks, strict=True)
            self._blocks = [tuple(np.concatenate(parts) for parts in columns)]
        step_N, layer_N, code_N, value_N = self._blocks[0]
        return Gradients(step_N, layer_N, code_N, value_N, tuple(self._codes))

    def _load(self, keep_until: int) -> None:
        kept = read_gradients(self._path).until(keep_until)
        if not len(kept.steps):
            return
        self._codes = {name: code for code, name in enumerate(kept.names)}
        self._blocks = [(kept.steps, kept.layers, kept.codes, kept.values)]


def read_gradients(path: Path) -> Gradients:
    """Read gradients.parquet.

    Raises:
        DataError: the file is missing, isn't what `GradientsWriter` writes or not what the run's summary records.
    """
    pa, pq = _arrow()
    try:
        data = path.read_bytes()
        if fault := fault_as_recorded(path, data):
            raise DataError(fault)
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        table = file.read(use_threads=False).unify_dictionaries().combine_chunks()
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Arrow's own complaints about the content are partly OSErrors, without a number.
        number = error.errno if isinstance(error, OSError) else None
        fact = "is damaged" if number is None else f"can't be read ({os.strerror(number)})"
        raise DataError(_fault(path, fact)) from error
    if not table.schema.equals(_schema()) or table.num_rows != file.metadata.num_rows:
        raise DataError(_fault(path, "is damaged or something else wrote it"))
    quantity = table.column("quantity").combine_chunks()
    return Gradients(
        steps=table.column("step").to_numpy(),
        layers=table.column("layer").to_numpy(),
        codes=quantity.indices.to_numpy(),
        values=table.column("value").to_numpy(),
        names=tuple(quantity.dictionary.to_pylist()),
    )


def gradients_fault(path: Path, record: Record, step: int) -> str | None:
    """What is wrong with a file whose rows up to a step were recorded; None where those are still the same."""
    if not record["rows"]:
        return None
    try:
        found = read_gradients(path).until(step).record()
    except DataError as error:
        return str(error)
    if found == record:
        return None
    fact = f"has other rows than the {record['rows']} before step {step + 1} that a checkpoint counts on"
    return _fault(path, fact)


def _arrow() -> tuple[Any, Any]:
    """Arrow and its Parquet part, imported late: they take a third of a second."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa, pq


def _schema() -> Any:
    pa, _ = _arrow()
    return pa.schema(
        [
            pa.field("step", pa.int64(), nullable=False),
            pa.field("layer", pa.int32(), nullable=False),
            pa.field("quantity", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("value", pa.float64(), nullable=False),
        ]
    )


def _to_parquet(rows: Gradients) -> bytes:
    pa, pq = _arrow()
    quantity = pa.DictionaryArray.from_arrays(pa.array(rows.codes), pa.array(rows.names))
    columns = [pa.array(rows.steps), pa.array(rows.layers), quantity, pa.array(rows.values)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=_schema()),
        sink,
        compression="snappy",
        use_dictionary=["step", "layer", "quantity"],
        use_byte_stream_split=["value"],
        write_statistics=False,
        write_page_checksum=True,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _fault(path: Path, fact: str) -> str:
    return (
        f"gradients.parquet must hold step, layer, quantity, value: {path} {fact}; "
        "restore it from a copy or train the run again with the probe on"
    )
