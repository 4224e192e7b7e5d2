"""What composing refuses: caught here, and explained in `_explain`."""

from collections.abc import Iterator
from contextlib import contextmanager

from hydra._internal.hydra import Hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from unitgain.errors import ConfigError

REFUSALS = (HydraException, OmegaConfBaseException, ValueError, TypeError)
"""What composing raises for a fault of the user's; Hydra lets bare errors of Python out at some."""


_ADVICE = ("See https", "Search path", "Config search path", "provider=")


@contextmanager
def explained(
    hydra: Hydra, config_name: str, overrides: list[str], *, multirun: bool = False
) -> Iterator[None]:
    """Turn what composing refuses inside the block into one ConfigError with every fault.

    Raises:
        ConfigError: something was refused.
    """
    try:
        yield
    except REFUSALS as error:
        # What it takes to explain costs as much to import as all else, and is seldom needed.
        from unitgain.cli._explain import Explainer

        lines = Explainer(hydra, config_name, multirun).lines(overrides)
        raise ConfigError(*(lines or [one_line(error)])) from error


def one_line(error: object) -> str:
    """What an error says, without line breaks, links and Hydra's advice; its key in front, if known."""
    key = error.full_key if isinstance(error, OmegaConfBaseException) else None
    return f"{key}: {reason(error)}" if key else reason(error)


def reason(error: object) -> str:
    """The same without the key."""
    if isinstance(error, OmegaConfBaseException) and error.msg:
        return error.msg.splitlines()[0]
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join([line for line in lines if line and not line.startswith(_ADVICE)][:3])
