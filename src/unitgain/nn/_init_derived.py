"""Initializers that follow from the network: critical, scaled residual, spectral."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from unitgain.errors import ConfigError
from unitgain.nn._init_base import BiasFill, Derived, Initializer, WeightFill
from unitgain.nn._init_random import he, lecun, torch_default, xavier
from unitgain.nn._init_structured import orthogonal
from unitgain.theory import derived
from unitgain.theory.derived import Base, Draw, Facts, Kind, Role, Rule
from unitgain.theory.weights import Spread, WeightStd, one_of


def critical(q: float = 1.0, distribution: Draw = "normal") -> Derived:
    r"""The critical point of the run's activation, dropout and norm: $\chi_1 = 1$ with pre-activations of variance q.

    $\sigma_w^2 = 1 / E[\phi'^2]$ and $\sigma_b^2 = q - E[\phi^2] / E[\phi'^2]$ without norm and dropout; ReLU: (2, 0),
    as `he`. The first layer makes q of inputs with mean square 1, the output layer has variance $1 / fan_{in}$.

    Args:
        q: The variance of pre-activations; raised where there is no stable critical point with this one.
        distribution: ``normal``, or ``orthogonal`` for matrices whose gain is the critical one.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> initializer = critical().make(Facts(tanh(), "hidden", 64, 10, (50, 50)))
        >>> round(50 * initializer.weight_std(50, 50) ** 2, 4), round(initializer.bias_std(50) ** 2, 4)
        (2.1533, 0.151)

    Reference:
        Schoenholz et al. 2017, arXiv 1611.01232, section 3; orthogonal: Pennington et al. 2017, arXiv 1711.04735.
    """
    one_of("init.distribution", distribution, ("normal", "orthogonal"))
    return Derived(partial(_critical, q=q, distribution=distribution))


def scaled_residual(q: float = 1.0, distribution: Draw = "normal") -> Derived:
    r"""Residual branches so small that lengths and gradients are O(1) at any depth.

    With N branches $s^2 \sigma_w^2 E[\phi'^2] = 1 / N$, less where branches add up their means (ReLU: 1 / N^2).

    Args:
        q: The variance of pre-activations in the first layer.
        distribution: ``normal`` or ``orthogonal``.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> facts = Facts(tanh(), "hidden", 64, 10, (50,) * 101, residual=True, branches=100)
        >>> round(50 * scaled_residual().make(facts).weight_std(50, 50) ** 2, 4)
        0.0101

    Reference:
        Zhang et al. 2019, arXiv 1901.09321; De and Smith 2020, arXiv 2002.10444.
    """
    one_of("init.distribution", distribution, ("normal", "orthogonal"))
    return Derived(partial(_scaled_residual, q=q, distribution=distribution))


def spectral(base: Base = "he", base_width: int = 64) -> Derived:
    r"""Widths scaled so that features learn alike at any of them: maximal update parametrization.

    At ``base_width`` it is the base initializer. With m = width / base_width, standard deviations of hidden weights
    are $m^{-1/2}$ and those of output weights $m^{-1}$ times the base's; learning rates of layers have factors that
    `unitgain.theory.derived.rate_factor` lists.

    Args:
        base: The initializer at ``base_width``, with its defaults.
        base_width: The width at which nothing changes: where the learning rate was tuned.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> initializer = spectral().make(Facts(relu(), "output", 64, 10, (256, 256)))
        >>> initializer.rate_factor("adam", "weight", 256, 10)
        0.25

    Reference:
        Yang et al. 2022, arXiv 2203.03466, table 3; Yang, Simon and Bernstein 2023, arXiv 2310.17813, equations 11, 12.
    """
    one_of("init.base", base, (*_BASES, "critical"))
    if base_width < 1:
        raise ConfigError(f"init.base_width: must be at least 1, got {base_width}")
    return Derived(partial(_spectral, base=base, base_width=base_width))


_BASES: Mapping[str, Callable[[], Initializer]] = {
    "he": he,
    "lecun": lecun,
    "xavier": xavier,
    "orthogonal": orthogonal,
    "torch_default": torch_default,
}


def _critical(facts: Facts, q: float, distribution: Draw) -> Initializer:
    return _drawn(derived.critical(facts, q, distribution))


def _scaled_residual(facts: Facts, q: float, distribution: Draw) -> Initializer:
    return _drawn(derived.scaled_residual(facts, q, distribution))


def _drawn(spread: Spread) -> Initializer:
    """Weights and biases as they are stated, normal or orthogonal."""
    std = spread.weight
    assert std is not None
    return Initializer(
        weight=partial(_orthogonal if spread.orthogonal else _normal, std=std),
        weight_std=std,
        bias=partial(_bias, std=spread.bias(1)) if spread.bias(1) else None,
        bias_std=spread.bias,
    )


def _spectral(facts: Facts, base: Base, base_width: int) -> Initializer:
    initializer = critical().make(facts) if base == "critical" else _BASES[base]()
    spread = derived.spectral(facts, base, base_width)
    std, drawn_std = spread.weight, initializer.weight_std
    assert std is not None
    assert drawn_std is not None
    base_in, _ = derived.base_fans(facts, base_width)
    bias = initializer.bias
    return Initializer(
        weight=partial(_rescaled, fill=initializer.weight, drawn_std=drawn_std, std=std),
        weight_std=std,
        bias=None if bias is None else partial(_bias_of_base, fill=bias, base_in=base_in),
        bias_std=spread.bias,
        rate_factor=partial(_rate_factor, role=facts.role, base_width=base_width),
    )


def _normal(weight: Tensor, /, *, generator: torch.Generator, std: WeightStd) -> None:
    nn.init.normal_(weight, std=std(weight.shape[1], weight.shape[0]), generator=generator)


def _orthogonal(weight: Tensor, /, *, generator: torch.Generator, std: WeightStd) -> None:
    # Entries of a matrix with orthonormal rows or columns have mean square 1 / max(fan_in, fan_out).
    gain = std(weight.shape[1], weight.shape[0]) * max(weight.shape) ** 0.5
    nn.init.orthogonal_(weight, gain=gain, generator=generator)


def _bias(bias: Tensor, fan_in: int, /, *, generator: torch.Generator, std: float) -> None:
    del fan_in
    nn.init.normal_(bias, std=std, generator=generator)


def _rescaled(
    weight: Tensor,
    /,
    *,
    generator: torch.Generator,
    fill: WeightFill,
    drawn_std: WeightStd,
    std: WeightStd,
) -> None:
    fans = weight.shape[1], weight.shape[0]
    fill(weight, generator=generator)
    # Exactly 1 at the base width, where the numbers are the base's own.
    factor = std(*fans) / drawn_std(*fans)
    with torch.no_grad():
        weight.mul_(factor)


def _bias_of_base(
    bias: Tensor, fan_in: int, /, *, generator: torch.Generator, fill: BiasFill, base_in: int
) -> None:
    del fan_in
    fill(bias, base_in, generator=generator)


def _rate_factor(
    rule: Rule, kind: Kind, fan_in: int, fan_out: int, *, role: Role, base_width: int
) -> float:
    return derived.rate_factor(role, rule, kind, fan_in, fan_out, base_width)
