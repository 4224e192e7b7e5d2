"""Listens to packs that train, and tells them which members end early."""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from types import TracebackType
from typing import Any, final

from unitgain.errors import UnitgainError
from unitgain.runs import RunDirectory
from unitgain.runs.pruning import VARIABLE

Job = tuple[str, ...]
Decide = Callable[[Job, int, float], bool]


@final
class Pruner:
    """Decides while jobs train, in whatever process of this machine they do.

    Workers find it by an environment variable, which holds as long as the block does.

    Args:
        decide: whether a job ends, by its overrides, the epochs behind it and the value of its metric.

    Attributes:
        pruned: the jobs that ended so.
        failure: what deciding raised first; the jobs then go on.
    """

    def __init__(self, decide: Decide) -> None:
        self._decide, self._lock = decide, threading.Lock()
        self._key = secrets.token_bytes(16)
        self._jobs: dict[Path, Job] = {}
        self._over = False
        self.pruned: set[Job] = set()
        self.failure: Exception | None = None

    def __enter__(self) -> "Pruner":
        self._listener = Listener(authkey=self._key)
        os.environ[VARIABLE] = f"{self._listener.address}|{self._key.hex()}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        os.environ.pop(VARIABLE, None)
        self._over = True
        # What waits for a caller ends with a last one.
        with suppress(OSError):
            Client(self._listener.address, authkey=self._key).close()

    def _accept(self) -> None:
        while not self._over:
            with suppress(OSError, EOFError, AuthenticationError):
                connection: Connection[Any, Any] = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        self._listener.close()

    def _serve(self, connection: "Connection[Any, Any]") -> None:
        with connection, suppress(EOFError, OSError):
            while True:
                epochs, values = connection.recv()
                ends = {path for path, value in values.items() if self._ends(path, epochs, value)}
                connection.send(ends)

    def _ends(self, path: Path, epochs: int, value: float) -> bool:
        with self._lock:
            if path not in self._jobs:
                try:
                    self._jobs[path] = tuple(RunDirectory(path).read_overrides())
                except UnitgainError:
                    return False
            job = self._jobs[path]
            try:
                ends = self._decide(job, epochs, value)
            except Exception as error:
                self.failure = self.failure or error
                return False
            if ends:
                self.pruned.add(job)
            return ends
