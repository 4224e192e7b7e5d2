"""Initializers whose entries are drawn one by one, scaled by the layer's fans."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from unitgain.nn._init_base import Initializer, with_bias
from unitgain.nn._init_bias import bias_normal
from unitgain.theory import weights
from unitgain.theory.weights import Distribution, Mode


def normal(std: float = 0.01) -> Initializer:
    """Weights from N(0, std^2), whatever the layer's size.

    Example:
        >>> normal(0.02).weight_std(64, 10)
        0.02
    """
    return Initializer(partial(nn.init.normal_, std=std), weights.normal(std).weight)


def uniform(bound: float = 0.05) -> Initializer:
    """Weights from U(-bound, bound), whose standard deviation is bound / sqrt(3).

    Example:
        >>> round(uniform(0.3).weight_std(64, 10), 6)
        0.173205
    """
    return Initializer(
        partial(nn.init.uniform_, a=-bound, b=bound),
        weights.uniform(bound).weight,
    )


def xavier(distribution: Distribution = "normal", gain: float = 1.0) -> Initializer:
    """Variance gain^2 * 2 / (fan_in + fan_out): between what each direction would keep.

    Example:
        >>> xavier().weight_std(30, 20)
        0.2

    Reference:
        Glorot and Bengio 2010, equation 16.
    """
    fills = {"normal": nn.init.xavier_normal_, "uniform": nn.init.xavier_uniform_}
    std = weights.xavier(distribution, gain).weight
    return Initializer(partial(fills[distribution], gain=gain), std)


def he(
    distribution: Distribution = "normal", mode: Mode = "fan_in", negative_slope: float = 0.0
) -> Initializer:
    """Variance 2 / ((1 + a^2) fan): keeps the second moment through ReLU and leaky ReLU.

    Args:
        distribution: Of each entry.
        mode: ``fan_in`` keeps the forward pass, ``fan_out`` the backward pass.
        negative_slope: a, of the leaky ReLU in front.

    Example:
        >>> he().weight_std(50, 10), he(mode="fan_out").weight_std(10, 50)
        (0.2, 0.2)

    Reference:
        He et al. 2015, arXiv 1502.01852, equations 10, 14 and 15.
    """
    fills = {"normal": nn.init.kaiming_normal_, "uniform": nn.init.kaiming_uniform_}
    std = weights.he(distribution, mode, negative_slope).weight
    return Initializer(
        partial(fills[distribution], a=negative_slope, mode=mode, nonlinearity="leaky_relu"), std
    )


def lecun(distribution: Distribution = "normal") -> Initializer:
    """Variance 1 / fan_in: keeps the second moment through a linear layer; selu's companion.

    Example:
        >>> lecun().weight_std(25, 10)
        0.2

    Reference:
        LeCun et al. 1998, Efficient BackProp, equation 16; Klambauer et al. 2017, arXiv 1706.02515.
    """
    fills = {"normal": nn.init.kaiming_normal_, "uniform": nn.init.kaiming_uniform_}
    std = weights.lecun(distribution).weight
    return Initializer(partial(fills[distribution], mode="fan_in", nonlinearity="linear"), std)


def truncated_normal(std: float = 0.02, cutoff: float = 2.0) -> Initializer:
    """Weights from N(0, std^2), redrawn while they lie beyond cutoff * std.

    The standard deviation of what remains is smaller than ``std``, with c the cutoff:
    std * sqrt(1 - 2 c density(c) / (2 cdf(c) - 1)); 0.8796 std at c = 2.

    Example:
        >>> round(truncated_normal(1.0).weight_std(64, 10), 6)
        0.879626
    """
    bound = cutoff * std
    return Initializer(
        partial(nn.init.trunc_normal_, std=std, a=-bound, b=bound),
        weights.truncated_normal(std, cutoff).weight,
    )


def mean_field(sigma_w: float = math.sqrt(2.0), sigma_b: float = 0.0) -> Initializer:
    """Weights from N(0, sigma_w^2 / fan_in), biases from N(0, sigma_b^2): the theory's own terms.

    Example:
        >>> initializer = mean_field(sigma_w=2.0, sigma_b=0.3)
        >>> initializer.weight_std(100, 10), initializer.bias_std(100)
        (0.2, 0.3)

    Reference:
        Poole et al. 2016, arXiv 1606.05340, section 2.
    """
    std = weights.mean_field(sigma_w).weight
    return with_bias(Initializer(partial(scaled_normal, sigma=sigma_w), std), bias_normal(sigma_b))


def torch_default() -> Initializer:
    """What ``torch.nn.Linear`` does: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), weights and biases.

    That is sigma_w^2 = 1/3: a deep ReLU or tanh network loses its gradient with it.

    Example:
        >>> initializer = torch_default()
        >>> round(initializer.weight_std(100, 10), 6), round(initializer.bias_std(100), 6)
        (0.057735, 0.057735)
    """
    stated = weights.torch_default()
    return Initializer(
        # Linear's own words: a^2 = 5 makes the bound 1 / sqrt(fan_in).
        weight=partial(nn.init.kaiming_uniform_, a=math.sqrt(5.0)),
        weight_std=stated.weight,
        bias=_torch_default_bias,
        bias_std=stated.bias,
    )


def scaled_normal(weight: Tensor, /, *, generator: torch.Generator, sigma: float) -> None:
    """Fill ``weight`` from N(0, sigma^2 / fan_in)."""
    nn.init.normal_(weight, std=sigma / math.sqrt(weight.shape[1]), generator=generator)


def _torch_default_bias(bias: Tensor, fan_in: int, /, *, generator: torch.Generator) -> None:
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(bias, -bound, bound, generator=generator)
