"""Checkpoint files: sealed, replaced in one step, and with the one before to fall back to."""

import os
import secrets
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from unitgain.errors import CheckpointError
from unitgain.runs._atomic import atomic_write
from unitgain.runs._batch import Batch
from unitgain.runs._seal import MARK, SEAL_SIZE, open_sealed, seal


class Checkpoint(NamedTuple):
    """A checkpoint that was found whole, and what was wrong with newer ones."""

    path: Path
    payload: bytes
    warnings: tuple[str, ...]


def write_sealed(
    path: Path,
    payload: bytes,
    keep_previous: bool = False,
    durable: bool = True,
    batch: Batch | None = None,
) -> None:
    """Seal what ``torch.save`` wrote and put it at ``path`` in one step.

    Args:
        path: the target.
        payload: the bytes of ``torch.save``, plain types only.
        keep_previous: let the file that was there live on as `previous_of` (``last.prev.ckpt``). At
            no moment is there less than one whole checkpoint: the old file gets its second name
            before the new one takes the first, and only when it is whole itself.
        durable: as in `atomic_write`.
        batch: put it in place together with others.

    Raises:
        ValueError: ``payload`` isn't what ``torch.save`` writes.
        OSError: the file can't be written; the old one is untouched.
    """
    sealed = seal(payload)
    before = partial(_keep_previous, path, durable) if keep_previous else None
    with nullcontext(batch) if batch is not None else Batch(durable) as together:
        together.add(path, sealed, before)


def read_sealed(path: Path) -> bytes:
    """The bytes that ``torch.save`` wrote, after checking every one.

    Raises:
        CheckpointError: ``path`` is missing, unreadable, empty, cut short, damaged or unsealed.
    """
    try:
        sealed = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"the checkpoint must exist: {path} is missing; train the run again or name another"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint must be readable: {path}: {error.strerror}; "
            "check its permissions and the disk"
        ) from error
    try:
        return open_sealed(sealed)
    except ValueError as error:
        raise CheckpointError(
            f"the checkpoint must be whole: {path} ({len(sealed)} bytes) {error}; "
            "restore the file from a copy or train the run again"
        ) from error


def has_seal(path: Path) -> bool:
    """Whether a file ends as a sealed one does: quick, and true of one that isn't cut short.

    Raises:
        OSError: it can't be read.
    """
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - SEAL_SIZE))
        return MARK in file.read()


def newest_valid(
    folder: Path, fault: Callable[[Path, bytes], str | None] | None = None
) -> Checkpoint:
    """The newest whole checkpoint to go on from: ``last.ckpt``, else the one before.

    Args:
        folder: of the checkpoints.
        fault: says what else is wrong with one, given its payload.

    Returns:
        path, payload and one warning for each newer checkpoint that had to be passed over.

    Raises:
        CheckpointError: none is whole; one line for each.
    """
    faults: list[str] = []
    for path in (folder / "last.ckpt", previous_of(folder / "last.ckpt")):
        try:
            payload = read_sealed(path)
        except CheckpointError as error:
            faults.extend(error.lines)
            continue
        wrong = fault(path, payload) if fault is not None else None
        if wrong is not None:
            faults.append(wrong)
        else:
            return Checkpoint(path, payload, tuple(_passed_over(fault, path) for fault in faults))
    raise CheckpointError(*faults)


def previous_of(path: Path) -> Path:
    """Where the checkpoint before ``path`` is kept.

    Example:
        >>> previous_of(Path("checkpoints/last.ckpt")).name
        'last.prev.ckpt'
    """
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def drop_previous(path: Path) -> None:
    """Remove the checkpoint before ``path``, once a finished run needs it no more."""
    previous_of(path).unlink(missing_ok=True)


def _keep_previous(path: Path, durable: bool) -> None:
    try:
        sealed = path.read_bytes()
        open_sealed(sealed)
    except (FileNotFoundError, ValueError):
        # A damaged file mustn't push out the whole one that is kept already.
        return
    previous = previous_of(path)
    second_name = path.with_name(f".{previous.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        os.link(path, second_name)
    except OSError:
        # Some filesystems have no hard links: a copy then costs one more write.
        atomic_write(previous, sealed, durable=durable)
        return
    os.replace(second_name, previous)
    # Renaming a link to the file it already is does nothing, and leaves the second name behind.
    second_name.unlink(missing_ok=True)


def _passed_over(fault: str, used: Path) -> str:
    return f"{fault}; going on from {used.name}, the checkpoint before it"
