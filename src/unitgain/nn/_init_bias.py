"""Initializers of biases, for where the weight's own word on them isn't wanted."""

from functools import partial

import torch
from torch import Tensor, nn

from unitgain.nn._init_base import BiasInitializer
from unitgain.theory import weights


def bias_zeros() -> BiasInitializer:
    """Every bias 0, whatever the weight's initializer says.

    Example:
        >>> bias_zeros().std(64)
        0.0
    """
    return BiasInitializer(partial(_constant, value=0.0), weights.bias_zeros())


def bias_constant(value: float) -> BiasInitializer:
    """Every bias the same ``value``.

    Example:
        >>> bias_constant(0.1).std(64)
        0.0
    """
    return BiasInitializer(partial(_constant, value=value), weights.bias_constant(value))


def bias_normal(std: float = 0.01) -> BiasInitializer:
    """Biases from N(0, std^2).

    Example:
        >>> bias_normal(0.3).std(64)
        0.3
    """
    return BiasInitializer(partial(_normal, std=std), weights.bias_normal(std))


def bias_uniform(bound: float = 0.05) -> BiasInitializer:
    """Biases from U(-bound, bound), whose standard deviation is bound / sqrt(3).

    Example:
        >>> round(bias_uniform(0.3).std(64), 6)
        0.173205
    """
    return BiasInitializer(partial(_uniform, bound=bound), weights.bias_uniform(bound))


def _constant(bias: Tensor, fan_in: int, /, *, generator: torch.Generator, value: float) -> None:
    del fan_in, generator
    nn.init.constant_(bias, value)


def _normal(bias: Tensor, fan_in: int, /, *, generator: torch.Generator, std: float) -> None:
    del fan_in
    nn.init.normal_(bias, std=std, generator=generator)


def _uniform(bias: Tensor, fan_in: int, /, *, generator: torch.Generator, bound: float) -> None:
    del fan_in
    nn.init.uniform_(bias, -bound, bound, generator=generator)
