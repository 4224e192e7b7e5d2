"""What the user's own code gives that can't be used is one line."""

from torch import Tensor

from unitgain.errors import ConfigError


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
