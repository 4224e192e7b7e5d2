"""Calls of the user's own code: what it raises, and what it gives that can't be used, is one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from unitgain.errors import ConfigError, UnitgainError, raised


@contextmanager
def explained(key: str, target: str, requirement: str, remedy: str) -> Iterator[None]:
    """Make what the user's code raises inside the block one line."""
    try:
        yield
    except UnitgainError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{key}: {requirement}, but {target} raised {raised(error)}; {remedy} "
            "(HYDRA_FULL_ERROR=1 shows where)"
        ) from error


def check_shape(key: str, target: str, value: object, shape: tuple[int, ...], unit: str) -> None:
    """Refuse what isn't a tensor of this shape."""
    if isinstance(value, Tensor) and value.shape == shape:
        return
    got = (
        f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
    raise ConfigError(
        f"{key}: must give one number {unit}, here a tensor of shape {shape}, but {target} gave "
        f"{got}; reduce over the other axes alone"
    )
