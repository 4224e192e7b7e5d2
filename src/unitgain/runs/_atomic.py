"""Files that are either the old one or the new one, never something in between."""

import contextlib
import os
import re
import secrets
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")


def atomic_write(path: Path, data: bytes, durable: bool = True) -> None:
    """Put ``data`` at ``path`` in one step.

    The bytes go to a temporary file in the folder of ``path`` itself, since a rename is atomic
    within one filesystem only and ``$TMPDIR`` is often another one. Whatever goes wrong, the file
    that was there stays whole and the temporary one is removed; after a ``kill -9`` the latter
    stays, until `remove_leftovers`.

    Args:
        path: the target; its folder exists.
        data: the whole content.
        durable: also ask the disk to keep it before the call returns, against a power failure.

    Raises:
        OSError: the disk is full, the folder is read-only, ...; ``filename`` names the target.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "summary.json"
        >>> atomic_write(target, b"{}")
        >>> target.read_bytes()
        b'{}'
    """
    temporary = write_temporary(path, data)
    try:
        if durable:
            sync_file(temporary, path)
        put(temporary, path)
        if durable:
            sync_folder(path.parent)
    finally:
        discard(temporary)


def write_temporary(path: Path, data: bytes) -> Path:
    """Write ``data`` to a new file in the folder of ``path``, from where it is to be put there.

    Raises:
        OSError: it can't be written, and no file is left; ``filename`` names the target.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
    except OSError as error:
        discard(temporary)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        discard(temporary)
        raise
    return temporary


def put(temporary: Path, path: Path) -> None:
    """Let a file from `write_temporary` take the place of ``path``.

    Raises:
        OSError: it can't; ``filename`` names the target.
    """
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def discard(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(OSError):
        path.unlink()


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files that killed processes left in ``folder``.

    Only the process that owns the run may call this: it takes the file of a write under way too.

    Returns:
        What was removed.
    """
    found = [entry for entry in folder.iterdir() if _LEFTOVER.fullmatch(entry.name)]
    for entry in found:
        discard(entry)
    return found


def sync_file(path: Path, target: Path | None = None) -> None:
    """Ask the disk to keep what a file holds.

    Args:
        path: the file.
        target: what it is to become.

    Raises:
        OSError: the file isn't there, or the disk fails; ``filename`` names the target.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target or path)) from error


def sync_folder(folder: Path) -> None:
    """Ask the disk to keep the names in ``folder``, where the system can (Windows can't)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
