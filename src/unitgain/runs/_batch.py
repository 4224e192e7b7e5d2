"""Many files that are put in place together: a disk takes as long to keep one as to keep hundreds at once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, final

from unitgain.runs._atomic import discard, put, sync_file, sync_folder, write_temporary

_THREADS = 16
"""How many files the disk is asked to keep at a time; a thread that waits for it costs nothing."""


@final
class Batch:
    """Each file becomes the new one in one step (see `atomic_write`), in the order in which they were added.

    As a context: leaving it puts the files in place, unless an error leaves it, which throws them away.

    Args:
        durable: ask the disk to keep all files before the first is put in place, and all names before it returns.

    Raises:
        OSError: a file can't be written; ``filename`` names the target, and no file has been put in place.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Batch() as batch:
        ...     batch.add(folder / "a", b"1")
        ...     batch.add(folder / "b", b"2")
        ...     (folder / "a").exists()
        False
        >>> (folder / "b").read_bytes()
        b'2'
    """

    def __init__(self, durable: bool = True) -> None:
        self._durable = durable
        self._files: list[tuple[Path, Path, Callable[[], None] | None]] = []
        self._extra: dict[Path, None] = {}

    def add(self, path: Path, data: bytes, before: Callable[[], None] | None = None) -> None:
        """Write ``data`` beside ``path``.

        Args:
            path: the target.
            data: the whole content.
            before: called right before the file is put in place.
        """
        self._files.append((write_temporary(path, data), path, before))

    def sync(self, path: Path) -> None:
        """Have the disk keep a file that is in place already, and its name."""
        self._extra[path] = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            for temporary, _, _ in self._files:
                discard(temporary)

    def _commit(self) -> None:
        paths = [path for _, path, _ in self._files]
        if self._durable:
            files = [partial(sync_file, temporary, path) for temporary, path, _ in self._files]
            _together([*files, *(partial(_sync, path) for path in self._extra)])
        for temporary, path, before in self._files:
            if before is not None:
                before()
            put(temporary, path)
        if self._durable:
            folders = dict.fromkeys(path.parent for path in (*paths, *self._extra))
            _together([partial(sync_folder, folder) for folder in folders])


def _sync(path: Path) -> None:
    (sync_folder if path.is_dir() else sync_file)(path)


def _together(calls: Sequence[Callable[[], None]]) -> None:
    """Make calls that wait for the disk, many at a time; raises what the first to fail raised."""
    if len(calls) == 1:
        calls[0]()
        return
    with ThreadPoolExecutor(_THREADS, "unitgain-sync") as threads:
        for done in [threads.submit(call) for call in calls]:
            done.result()
