"""What a subcommand is, and what its exit status says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """The exit status of the command."""

    FINISHED = 0
    UNEXPECTED = 1
    USER_ERROR = 2
    DIVERGED = 3
    DRIFT = 4
    INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Args:
        name: what the user types behind ``unitgain``.
        summary: one line for ``unitgain --help``.
        run: takes the arguments behind the name and gives the exit status. Its module imports
            nothing heavy; `run` does, once it knows that it must.
    """

    name: str
    summary: str
    run: Callable[[Sequence[str]], int]
