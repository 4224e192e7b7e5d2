"""What a finite width adds to the mean-field theory of rectifier networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from unitgain.errors import ConfigError


@final
@dataclass(frozen=True)
class LogNorm:
    """The logarithm of a squared norm over random weights: about normal in a deep network.

    Attributes:
        mean: Of log |h_L|^2 / |h_0|^2, per unit, and likewise of the squared gradient's.
        variance: The same.
    """

    mean: float
    variance: float


def log_norm(widths: Sequence[int], negative_slope: float = 0.0) -> LogNorm:
    r"""How far a critical rectifier network's signal and gradient stray from their mean, to first order in 1 / width.

    $$\mathrm{Var} \log |h_L|^2 = \beta \sum_l 1 / n_l, \quad E \log |h_L|^2 = -\frac{1}{2} \beta \sum_l 1 / n_l, \quad
    \beta = 6 \frac{1 + a^4}{(1 + a^2)^2} - 1$$

    Given the layer before it, a layer's squared norm is a mean of n independent numbers with variance beta in units of
    the squared mean: 5 for ReLU, 2 for the identity.

    Args:
        widths: Of each hidden layer.
        negative_slope: The slope a below 0, in a network with sigma_w^2 = 2 / (1 + a^2) and no biases.

    Raises:
        ConfigError: A width is below 1.

    Example:
        >>> log_norm([100] * 20)
        LogNorm(mean=-0.5, variance=1.0)

    Reference:
        Hanin and Rolnick 2018, arXiv 1803.01719; Hanin 2018, arXiv 1801.03744.
    """
    a = negative_slope
    spread = 6.0 * (1.0 + a**4) / (1.0 + a * a) ** 2 - 1.0
    total = math.fsum(1.0 / n for n in _checked(widths))
    return LogNorm(-0.5 * spread * total, spread * total)


def dead_at_birth(widths: Sequence[int]) -> float:
    r"""The probability that a ReLU network without biases is constant: all units of some layer silent for an input.

    $$1 - \prod_l (1 - 2^{-n_l})$$

    Args:
        widths: Of each hidden layer.

    Raises:
        ConfigError: A width is below 1.

    Example:
        >>> dead_at_birth([1]), dead_at_birth([2, 2])
        (0.5, 0.4375)

    Reference:
        Lu et al. 2019, arXiv 1903.06733.
    """
    return -math.expm1(math.fsum(math.log1p(-(2.0 ** -min(n, 1000))) for n in _checked(widths)))


def _checked(widths: Sequence[int]) -> Sequence[int]:
    if any(n < 1 for n in widths):
        raise ConfigError(
            f"widths: 1 or more units are needed, but these are {list(widths)}; raise them"
        )
    return widths
