"""Dropout whose mask depends on the member's seed, the step, the layer and the element, and on nothing else.

The mask comes from a counter-based hash in integer tensor operations, so that it has the same bits in any pack and on
any device, and a resumed run needs no state of a generator. Shapes: K members, B examples, D features.
"""

import abc
from collections.abc import Sequence
from functools import lru_cache
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unitgain.errors import ConfigError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = 0x7FEB352D
_MULTIPLIER_2 = 0x846CA68B - 2**32


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele et al. 2014, doi 10.1145/2714064.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mask_keys(seeds: Sequence[int], first_step: int, steps: int, layers: int) -> Tensor:
    """The keys of the masks of some steps: int32 (S, L, K), each a hash of (seed, step, layer)."""
    with np.errstate(over="ignore"):
        seed_K = _splitmix(np.asarray([s % 2**64 for s in seeds], dtype=np.uint64) + _GOLDEN)
        step_S = np.arange(first_step, first_step + steps, dtype=np.uint64)
        layer_L = np.arange(layers, dtype=np.uint64)
        counter = (step_S[:, None] << np.uint64(16)) | layer_L
        keys = _splitmix(seed_K ^ _splitmix((counter[:, :, None] + np.uint64(1)) * _GOLDEN))
    return torch.from_numpy((keys >> np.uint64(32)).astype(np.uint32).view(np.int32))


@lru_cache(maxsize=64)
def _element_hash(rows: int, width: int, device: torch.device) -> Tensor:
    """int32 (B, D): a well-mixed number for each element of an example's row."""
    with np.errstate(over="ignore"):
        mixed = _splitmix((np.arange(rows * width, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)
    bits = (mixed >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return torch.from_numpy(bits).view(rows, width).to(device)


def keep_mask(keys_K: Tensor, rate_K: Tensor, rows: int, width: int) -> Tensor:
    """Which elements are kept: bool (K, B, D), each true with probability 1 - rate.

    Args:
        keys_K: int32 (K,), from `mask_keys`.
        rate_K: float64 (K,), the probability of dropping an element.
        rows: B.
        width: D.
    """
    bits = _element_hash(rows, width, keys_K.device) ^ keys_K.view(-1, 1, 1)
    bits.mul_(_MULTIPLIER_1)
    bits.bitwise_xor_(
        (bits >> 15).bitwise_and_(0x1FFFF)
    )  # a logical shift: int32's own copies the sign
    bits.mul_(_MULTIPLIER_2)
    # bits is uniform over the signed integers: a fraction `rate` of them lies below the threshold.
    threshold = (rate_K * 2.0**32 - 2.0**31).round().clamp(max=2.0**31 - 1).to(torch.int32)
    return bits >= threshold.view(-1, 1, 1)


def applied(x_KBD: Tensor, factor: Tensor, shift: Tensor | None) -> Tensor:
    """Activations with a step's factors and what it adds, as `DropoutKind.factors` gives them."""
    return x_KBD * factor if shift is None else torch.addcmul(shift, x_KBD, factor)


class DropoutKind(abc.ABC):
    """A kind of dropout with one member's rate; a pack has one kind, and a rate a member.

    Args:
        p: the probability of dropping an element, in [0, 1).

    Raises:
        ConfigError: p is outside [0, 1).
    """

    def __init__(self, p: float = 0.0) -> None:
        if not 0.0 <= p < 1.0:
            raise ConfigError(f"dropout.p: must be at least 0 and below 1, got {p}")
        self.p = p

    @abc.abstractmethod
    def factors(self, keys_K: Tensor, rate_K: Tensor, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a step multiplies activations like these (K, B, D) with, and what it adds, None for nothing.

        Args:
            keys_K: the step's keys, from `mask_keys`.
            rate_K: the members' rates.
            like: of the shape and type that are wanted.
        """

    def apply(self, x_KBD: Tensor, keys_K: Tensor, rate_K: Tensor) -> Tensor:
        """Drop elements of x (K, B, D) with the members' rates (K,)."""
        return applied(x_KBD, *self.factors(keys_K, rate_K, x_KBD))

    @abc.abstractmethod
    def single(self) -> nn.Module:
        """The same dropout for one member, as a torch.nn module."""


@final
class Dropout(DropoutKind):
    r"""Inverted dropout, $y = x m / (1 - p)$ with $P(m = 1) = 1 - p$.

    Reference:
        Srivastava et al. 2014, JMLR 15:1929.
    """

    def factors(self, keys_K: Tensor, rate_K: Tensor, like: Tensor) -> tuple[Tensor, Tensor | None]:
        keep = keep_mask(keys_K, rate_K, *like.shape[1:])
        return keep * (1.0 / (1.0 - rate_K)).to(like.dtype).view(-1, 1, 1), None

    def single(self) -> nn.Module:
        return nn.Dropout(self.p)


@final
class AlphaDropout(DropoutKind):
    r"""Dropout that keeps the mean 0 and variance 1 of SELU activations.

    Dropped elements become $\alpha' = -\lambda\alpha$; then $y = a x' + b$ with
    $a = ((1 - p)(1 + p \alpha'^2))^{-1/2}$ and $b = -a p \alpha'$.

    Reference:
        Klambauer et al. 2017, arXiv 1706.02515, section "New dropout technique".
    """

    SATURATION = -1.7580993408473766

    def factors(self, keys_K: Tensor, rate_K: Tensor, like: Tensor) -> tuple[Tensor, Tensor | None]:
        keep = keep_mask(keys_K, rate_K, *like.shape[1:])
        a = ((1.0 - rate_K) * (1.0 + rate_K * self.SATURATION**2)).rsqrt()
        dropped = a * self.SATURATION * (1.0 - rate_K)
        kept = -a * rate_K * self.SATURATION
        a, dropped, kept = (v.to(like.dtype).view(-1, 1, 1) for v in (a, dropped, kept))
        return keep * a, torch.where(keep, kept, dropped)

    def single(self) -> nn.Module:
        return nn.AlphaDropout(self.p)
