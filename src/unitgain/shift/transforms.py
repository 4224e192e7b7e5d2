r"""Weights made milder: less variance for some bias. All have mean one over the rows that they are given.

Weights are those of a whole training set: normalising within a batch makes gradients biased.
Shapes: N source rows.
"""

import math

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.shift.diagnostics import check_weights


def normalise(weight_N: Tensor) -> Tensor:
    r"""Weights over their mean: :math:`w_n / \frac1N \sum_m w_m`, float64.

    Raises:
        DataError: weights aren't a finite vector of numbers of 0 or above with a positive sum.

    Example:
        >>> normalise(torch.tensor([1.0, 3.0]))
        tensor([0.5000, 1.5000], dtype=torch.float64)
    """
    weight = check_weights(weight_N)
    # Over the largest first, so that no sum overflows.
    weight = weight / weight.max()
    return weight / weight.mean()


def flatten(weight_N: Tensor, exponent: float) -> Tensor:
    r"""Shimodaira's flattening :math:`w_n^\lambda`, normalised.

    Args:
        weight_N: the weights.
        exponent: lambda in [0, 1]: 0 is no correction, 1 all of it.

    Raises:
        ConfigError: lambda is outside [0, 1].
        DataError: weights can't be used.

    Example:
        >>> flatten(torch.tensor([1.0, 9.0]), 0.5)
        tensor([0.5000, 1.5000], dtype=torch.float64)

    Reference:
        Shimodaira (2000), doi 10.1016/S0378-3758(00)00115-4, section 7.
    """
    if not 0 <= exponent <= 1:
        raise ConfigError(f"exponent: must be in [0, 1], got {exponent:g}; 0.5 is a usual choice")
    return normalise(normalise(weight_N) ** exponent)


def clip(weight_N: Tensor, largest: float) -> Tensor:
    r"""Weights of mean one of which none exceeds ``largest``: :math:`\min(c w_n, B)` with c such that the mean is one.

    What is cut off goes to the others in proportion. Where too few weights are above 0 to reach the mean, these all
    get B, and the mean stays below one.

    Args:
        weight_N: the weights.
        largest: the bound B, at least 1.

    Raises:
        ConfigError: the bound is below 1.
        DataError: weights can't be used.

    Example:
        >>> clip(torch.tensor([1.0, 1.0, 10.0]), 2.0)
        tensor([0.5000, 0.5000, 2.0000], dtype=torch.float64)

    Reference:
        Ionides (2008), doi 10.1198/106186008X320456.
    """
    if not largest >= 1 or math.isinf(largest):
        raise ConfigError(f"largest: must be a number of at least 1, got {largest:g}; raise it")
    weight = normalise(weight_N)
    ordered = weight.sort(descending=True).values
    rest = ordered.flip(0).cumsum(0).flip(0)  # the sum of each and of those below it
    count = len(weight)
    cut = torch.arange(count, dtype=ordered.dtype, device=ordered.device)
    # With the j largest at the bound, the others share what is left of the sum.
    factor = (count - cut * largest) / rest.clamp(min=1e-300)
    fits = (factor * ordered <= largest) & (factor >= 0) & (rest > 0)
    if not bool(fits.any()):
        return (weight > 0) * largest
    return (weight * factor[fits.long().argmax()]).clamp(max=largest)
