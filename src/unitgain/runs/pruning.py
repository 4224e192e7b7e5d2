"""The line from a pack that trains to whoever decides which of its members end early."""

import os
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, final

VARIABLE = "UNITGAIN_PRUNER"
"""Where the one who decides listens, and the key to it; set by a search for the processes that it starts."""


@final
class Pruning:
    """Asks after each epoch which members of a pack end early.

    Args:
        connection: to the one who decides.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection: Connection[Any, Any] | None = connection

    @classmethod
    def connect(cls) -> "Pruning | None":
        """The line of this process, if somebody listens."""
        address, _, key = os.environ.get(VARIABLE, "").rpartition("|")
        if not address:
            return None
        try:
            return cls(Client(address, authkey=bytes.fromhex(key)))
        except OSError:
            return None

    def ask(self, epochs: int, values: Mapping[Path, float]) -> set[Path]:
        """The directories of the runs that end.

        Args:
            epochs: behind the pack.
            values: the monitored metric of each run that goes on.
        """
        if self._connection is None:
            return set()
        try:
            self._connection.send((epochs, dict(values)))
            answer: set[Path] = self._connection.recv()
        except (EOFError, OSError):
            # Nobody decides any more.
            self.close()
            return set()
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
