"""What a subcommand is, and what its exit status says."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from unitgain.errors import ConfigError


class Exit(IntEnum):
    """The exit status of the command."""

    FINISHED = 0
    UNEXPECTED = 1
    DIFFERENT = 1  # as of the command diff: what was compared is not the same
    USER_ERROR = 2
    DIVERGED = 3
    DRIFT = 4
    CLAIM_FAILS = 5  # as of the command study: its numbers are not as they were expected
    INTERRUPTED = 130


def exit_of_signal(number: int) -> int:
    """The exit status of a command that a signal ended, as shells have it.

    Example:
        >>> exit_of_signal(15), exit_of_signal(2) == Exit.INTERRUPTED
        (143, True)
    """
    return 128 + number


def exit_of_interrupt(error: KeyboardInterrupt) -> int:
    """The exit status of a command that was interrupted."""
    from unitgain.runs import InterruptedBySignal

    if isinstance(error, InterruptedBySignal):
        return exit_of_signal(error.number)
    return Exit.INTERRUPTED


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


def parsed(
    parser: argparse.ArgumentParser, argv: Sequence[str], command: str
) -> argparse.Namespace:
    """The arguments of a subcommand that takes its own options alone.

    Args:
        parser: made with ``exit_on_error=False``.
        argv: the arguments behind the command's name.
        command: its name, for the message.

    Raises:
        ConfigError: an argument that can't be read, or an option that there isn't.
    """
    try:
        given, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}") from error
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such option; see unitgain {command} --help")
    return given
