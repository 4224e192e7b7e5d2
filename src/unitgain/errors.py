"""The errors that a user can mend: shown as plain lines, without a traceback."""


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
