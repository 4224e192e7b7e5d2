"""The door: finds the subcommand, and turns what goes wrong into lines and an exit status."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from unitgain import __version__
from unitgain.cli import (
    _cite,
    _compare,
    _coordinates,
    _diff,
    _doctor,
    _ensemble,
    _monitor,
    _predict,
    _report,
    _reproduce,
    _runs,
    _shift,
    _status,
    _study,
    _sync,
    _table,
    _train,
    _update,
    _worker,
)
from unitgain.cli._command import Command, Exit, exit_of_interrupt
from unitgain.errors import ConfigError, LostProcessError, UnitgainError, UnitgainWarning

COMMANDS: tuple[Command, ...] = (
    _train.COMMAND,
    _predict.COMMAND,
    _doctor.COMMAND,
    _shift.COMMAND,
    _update.COMMAND,
    _monitor.COMMAND,
    _runs.EVALUATE,
    _runs.RESUME,
    _sync.COMMAND,
    _status.COMMAND,
    _worker.COMMAND,
    _table.COMMAND,
    _diff.COMMAND,
    _reproduce.COMMAND,
    _cite.COMMAND,
    _compare.COMMAND,
    _ensemble.COMMAND,
    _report.COMMAND,
    _study.COMMAND,
    _coordinates.COMMAND,
)
"""Every subcommand, in the order of the help."""

HELP = """\
usage: unitgain COMMAND ...

Trainability, gradient flow and distribution shift.

commands:
{commands}

options:
  -h, --help  show this, or behind a command its own help
  --version   show the version

Begin with `unitgain train`, and look around with `unitgain train --help`.

environment:
  UNITGAIN_RUNS     where runs go, instead of ./runs
  UNITGAIN_SWEEPS   where multiruns go, instead of ./sweeps
  UNITGAIN_LEASE_S  seconds of silence after which a process of another machine counts as dead
  UNITGAIN_ALLOW    more prefixes that a _target_ may have: package,package.module
  HYDRA_FULL_ERROR  1 shows the traceback of every error

exit status: 0 finished, 1 unexpected error or a difference, 2 error in what was given,
  3 diverged, 4 drift, 130 interrupted, 128 + N ended by signal N, and saved
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments behind ``unitgain``; None takes those of the process.

    Returns:
        The exit status, one of `Exit`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with _warnings_as_lines():
        return _guarded(arguments)


def _guarded(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except UnitgainError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        for line in error.lines:
            print(f"error: {line}", file=sys.stderr)
        return Exit.UNEXPECTED if isinstance(error, LostProcessError) else Exit.USER_ERROR
    except SystemExit as error:
        # How argparse ends: after a help text, or after it printed what is wrong.
        return error.code if isinstance(error.code, int) else Exit.FINISHED
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return exit_of_interrupt(error)
    except BrokenPipeError:
        # The reader of a pipe has left, as `head` does; a second write at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.UNEXPECTED
    except Exception:
        traceback.print_exc()
        return Exit.UNEXPECTED


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print the project's own warnings as it prints errors, without the place in the code."""
    usual = warnings.formatwarning

    def as_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, UnitgainWarning):
            return f"warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = as_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help"):
        width = max(len(command.name) for command in COMMANDS)
        rows = (f"  {command.name:{width}}  {command.summary}" for command in COMMANDS)
        print(HELP.format(commands="\n".join(rows)), end="")
        return Exit.FINISHED
    if first == "--version":
        print(f"unitgain {__version__}")
        return Exit.FINISHED
    for command in COMMANDS:
        if command.name == first:
            return command.run(arguments[1:])
    raise ConfigError(_unknown(arguments))


def _unknown(arguments: list[str]) -> str:
    import difflib

    first, names = arguments[0], [command.name for command in COMMANDS]
    if "=" in first:
        return f"{first}: must come behind a command; did you mean unitgain train {first}?"
    close = difflib.get_close_matches(first, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{first}: no such command; {hint}commands: {', '.join(names)}"
