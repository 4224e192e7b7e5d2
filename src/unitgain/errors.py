"""The errors that a user can mend: shown as plain lines, without a traceback."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def raised(error: BaseException) -> str:
    """What a user's own code raised, on one line.

    Example:
        >>> raised(KeyError("gain"))
        "KeyError: 'gain'"
    """
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


@contextmanager
def explained(key: str, target: str, requirement: str, remedy: str) -> Iterator[None]:
    """Make what a user's own code raises inside the block one line."""
    try:
        yield
    except UnitgainError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{key}: {requirement}, but {target} raised {raised(error)}; {remedy} "
            "(HYDRA_FULL_ERROR=1 shows where)"
        ) from error


@contextmanager
def no_warnings_of_errors() -> Iterator[None]:
    """Hold warnings back until the block ends: where it raises they are dropped, its error says more."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for held in caught:
        warnings.warn_explicit(held.message, held.category, held.filename, held.lineno)


class UnitgainWarning(UserWarning):
    """Something that is probably not meant, and that a run survives: shown as a plain line."""


class UnitgainError(Exception):
    """A fault in what the user gave: ``lines`` holds one self-contained sentence a fault.

    Each line says the requirement, then the fact, then the remedy.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class ConfigError(UnitgainError):
    """The configuration asks for something that doesn't exist or can't be."""


class DataError(UnitgainError):
    """A table can't be used as it is."""


class CheckpointError(UnitgainError):
    """A checkpoint is missing, damaged or doesn't belong to the run."""


class LostProcessError(UnitgainError):
    """Another process that shares the work is gone."""
