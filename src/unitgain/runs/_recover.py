"""From which checkpoint a run goes on: a whole one, whose run's files are what it counts on."""

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from unitgain.errors import CheckpointError
from unitgain.runs._checkpoints import Checkpoint, newest_valid, read_sealed
from unitgain.runs._directory import RunDirectory
from unitgain.runs._gradients import gradients_fault
from unitgain.runs._metrics import metrics_fault


def newest_usable(run: RunDirectory) -> Checkpoint:
    """The newest checkpoint that a run can go on from to the bits of one that was never interrupted.

    It is whole; metrics.csv and gradients.parquet hold the rows before it; and best.ckpt is whole, and of its best
    epoch or a later one.

    Returns:
        path, payload and one warning for each newer checkpoint that had to be passed over.

    Raises:
        CheckpointError: there is none; one line for each.
    """

    def fault(path: Path, payload: bytes) -> str | None:
        facts = checkpoint_facts(path, payload)
        return _rows_fault(run, facts) or _best_fault(run, facts)

    return newest_valid(run.checkpoints_dir, fault)


def cut_back(run: RunDirectory, facts: Mapping[str, Any]) -> None:
    """Leave of the files that grow what a checkpoint counts on: what is behind it comes again, and may be damaged.

    Args:
        run: whose `newest_usable` checkpoint it is.
        facts: of the checkpoint; one of an earlier version doesn't say what it counts on, and cuts nothing.

    Raises:
        OSError: a file can't be cut.
    """
    files = facts.get("files")
    if files is None:
        return
    kept = int(files["metrics.csv"]["bytes"])
    if not kept:
        run.metrics.unlink(missing_ok=True)
    elif run.metrics.stat().st_size > kept:
        os.truncate(run.metrics, kept)
    if not files["gradients.parquet"]["rows"]:
        run.gradients.unlink(missing_ok=True)


def checkpoint_facts(path: Path, payload: bytes) -> Mapping[str, Any]:
    """The plain values of a checkpoint, without its tensors and without torch.

    Args:
        path: where it was.
        payload: as of `read_sealed`.

    Raises:
        CheckpointError: it doesn't say which epoch it is of.
    """
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        [name] = [each for each in archive.namelist() if each.endswith("/data.pkl")]
        content = _Facts(io.BytesIO(archive.read(name))).load()
    if not isinstance(content, dict) or not isinstance(content.get("epoch"), int):
        raise CheckpointError(
            f"{path}: must say which epoch it is of, but doesn't; train the run again"
        )
    return content


def _rows_fault(run: RunDirectory, facts: Mapping[str, Any]) -> str | None:
    """What is wrong with the files that grow; checkpoints of earlier versions don't say what they count on."""
    files = facts.get("files")
    if files is None:
        return None
    return metrics_fault(run.metrics, files["metrics.csv"]) or gradients_fault(
        run.gradients, files["gradients.parquet"], facts["step"] - 1
    )


def _best_fault(run: RunDirectory, facts: Mapping[str, Any]) -> str | None:
    wanted = (facts.get("tracker") or {}).get("best_epoch", -1)
    if wanted < 0:
        return None
    path = run.best_checkpoint
    try:
        found = checkpoint_facts(path, read_sealed(path))
    except CheckpointError as error:
        return "; ".join(error.lines)
    epoch = (found.get("tracker") or {}).get("best_epoch", -1)
    if epoch >= wanted:
        return None
    return (
        f"{path}: must be of epoch {wanted}, the best one until the checkpoint, but is of {epoch}"
    )


@final
class _Opaque:
    """What stands for a tensor or any other object."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


@final
class _Facts(pickle.Unpickler):
    """Reads the plain values of a checkpoint and makes no object of any class."""

    def find_class(self, _module: str, name: str) -> Any:
        return dict if name == "OrderedDict" else _Opaque

    def persistent_load(self, _identity: Any) -> Any:
        return None
