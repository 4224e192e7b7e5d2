"""The hyperparameters of losses, one a member. Shapes: K members."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unitgain.errors import ConfigError


def column(
    name: str,
    arguments: Sequence[Mapping[str, Any]],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Any:
    """One argument of all members: a tensor (K,) of numbers, or the one value that they share."""
    without = [k for k, given in enumerate(arguments) if name not in given]
    if without:
        raise ConfigError(
            f"loss.{name}: all members of a pack must give it or none, member {without[0]} doesn't; add it there"
        )
    values = [given[name] for given in arguments]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return torch.tensor(values, dtype=dtype, device=device)
    if any(v != values[0] for v in values):
        k = next(k for k, v in enumerate(values) if v != values[0])
        raise ConfigError(
            f"loss.{name}: what isn't a number must be the same in all members of a pack, got {values[0]!r} in "
            f"member 0 and {values[k]!r} in member {k}; train them in two packs"
        )
    return values[0]


def per_member(
    name: str, value: float | Tensor, within: Callable[[Tensor], Tensor], range_text: str
) -> Tensor:
    """A hyperparameter as a checked tensor (K,), or () where it is one number for all.

    The latter has float64, and takes the type and device of what it multiplies.
    """
    value_K = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    outside = (~within(value_K)).flatten().nonzero()
    if len(outside):
        k = int(outside[0])
        where = f" in member {k}" if value_K.ndim else ""
        raise ConfigError(
            f"loss.{name}: must be {range_text}, got {float(value_K.flatten()[k]):g}{where}; change it there"
        )
    return value_K


def smoothing(value: float | Tensor) -> Tensor | None:
    """Label smoothing as (K, 1), or () where it is one number for all; None where no member smooths.

    Leaving the term out then doesn't change a bit: where another member's smoothing keeps it in, a member without adds
    zero times a finite number.
    """
    value_K = per_member("label_smoothing", value, lambda s: (s >= 0) & (s < 1), "in [0, 1)")
    if not bool(value_K.any()):
        return None
    return value_K.unsqueeze(-1) if value_K.ndim else value_K
