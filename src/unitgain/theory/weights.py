r"""The standard deviations of every shipped initializer, as plain functions of a layer's fans.

A function here bears the name and takes the arguments of its namesake in ``unitgain.nn.init``, so that what is said of
a configuration needs no tensors. With $\sigma_w^2 = fan_{in} \, std^2$ these are the terms of mean-field theory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

from unitgain.errors import ConfigError

Distribution = Literal["normal", "uniform"]
Mode = Literal["fan_in", "fan_out"]
WeightStd = Callable[[int, int], float]
BiasStd = Callable[[int], float]


@final
@dataclass(frozen=True)
class Spread:
    """What an initializer says of one layer's weights and biases.

    Args:
        weight: (fan_in, fan_out) -> the standard deviation of an entry over draws; None where there is none to state.
        bias: fan_in -> the standard deviation of a bias over draws.
        orthogonal: whether the weight is a multiple of a matrix with orthonormal rows or columns.
        mean: what every weight is, where all are the same.

    Example:
        >>> spread = mean_field(sigma_w=2.0, sigma_b=0.3)
        >>> spread.sigma_w(100, 10), spread.bias(100)
        (2.0, 0.3)
    """

    weight: WeightStd | None
    bias: BiasStd
    orthogonal: bool = False
    mean: float = 0.0

    def sigma_w(self, fan_in: int, fan_out: int) -> float | None:
        """sqrt(fan_in) times the standard deviation of a weight, None where there is none to state."""
        return None if self.weight is None else math.sqrt(fan_in) * self.weight(fan_in, fan_out)


def bias_zeros() -> BiasStd:
    """Every bias 0."""
    return partial(_bias_std, std=0.0)


def bias_constant(value: float) -> BiasStd:
    """Every bias the same: nothing is drawn."""
    del value
    return bias_zeros()


def bias_normal(std: float = 0.01) -> BiasStd:
    """N(0, std^2)."""
    return partial(_bias_std, std=std)


def bias_uniform(bound: float = 0.05) -> BiasStd:
    """U(-bound, bound): bound / sqrt(3)."""
    return partial(_bias_std, std=bound / math.sqrt(3.0))


def zeros() -> Spread:
    """Every weight 0."""
    return constant(0.0)


def constant(value: float = 0.1) -> Spread:
    """Every weight the same: nothing is drawn."""
    return Spread(partial(_fixed_std, std=0.0), bias_zeros(), mean=value)


def normal(std: float = 0.01) -> Spread:
    """std, whatever the layer's size."""
    return Spread(partial(_fixed_std, std=std), bias_zeros())


def uniform(bound: float = 0.05) -> Spread:
    """U(-bound, bound): bound / sqrt(3)."""
    return Spread(partial(_fixed_std, std=bound / math.sqrt(3.0)), bias_zeros())


def xavier(distribution: Distribution = "normal", gain: float = 1.0) -> Spread:
    """Entries of gain sqrt(2 / (fan_in + fan_out)).

    Reference:
        Glorot and Bengio 2010, equation 16.
    """
    one_of("init.distribution", distribution, ("normal", "uniform"))
    return Spread(partial(_xavier_std, gain=gain), bias_zeros())


def he(
    distribution: Distribution = "normal", mode: Mode = "fan_in", negative_slope: float = 0.0
) -> Spread:
    """sqrt(2 / ((1 + negative_slope^2) fan)).

    Reference:
        He et al. 2015, arXiv 1502.01852, equations 10, 14 and 15.
    """
    one_of("init.distribution", distribution, ("normal", "uniform"))
    one_of("init.mode", mode, ("fan_in", "fan_out"))
    return Spread(partial(_he_std, mode=mode, negative_slope=negative_slope), bias_zeros())


def lecun(distribution: Distribution = "normal") -> Spread:
    """1 / sqrt(fan_in).

    Reference:
        LeCun et al. 1998, Efficient BackProp, equation 16; Klambauer et al. 2017, arXiv 1706.02515.
    """
    one_of("init.distribution", distribution, ("normal", "uniform"))
    return Spread(partial(_fan_in_std, sigma=1.0), bias_zeros())


def orthogonal(gain: float = 1.0) -> Spread:
    """Entries of gain / sqrt(max(fan_in, fan_out)), the root mean square of each draw.

    Reference:
        Saxe, McClelland and Ganguli 2014, arXiv 1312.6120.
    """
    return Spread(partial(_orthogonal_std, gain=gain), bias_zeros(), orthogonal=True)


def truncated_normal(std: float = 0.02, cutoff: float = 2.0) -> Spread:
    """Entries of std sqrt(1 - 2 c density(c) / (2 cdf(c) - 1)) with c the cutoff.

    Example:
        >>> round(truncated_normal(1.0).weight(64, 10), 6)
        0.879626
    """
    return Spread(partial(_fixed_std, std=std * _truncated_std(cutoff)), bias_zeros())


def sparse(sparsity: float = 0.9, std: float = 0.01) -> Spread:
    """Entries of std sqrt(kept / fan_in)."""
    return Spread(partial(_sparse_std, sparsity=sparsity, std=std), bias_zeros())


def identity(gain: float = 1.0) -> Spread:
    """Nothing is drawn; between layers of one width it's ``gain`` times an orthogonal matrix."""
    del gain
    return Spread(None, bias_zeros(), orthogonal=True)


def mean_field(sigma_w: float = math.sqrt(2.0), sigma_b: float = 0.0) -> Spread:
    """sigma_w / sqrt(fan_in), and sigma_b for biases.

    Reference:
        Poole et al. 2016, arXiv 1606.05340, section 2.
    """
    return Spread(partial(_fan_in_std, sigma=sigma_w), bias_normal(sigma_b))


def torch_default() -> Spread:
    """1 / sqrt(3 fan_in), for weights and biases: what ``torch.nn.Linear`` does."""
    sigma = 1.0 / math.sqrt(3.0)
    return Spread(partial(_fan_in_std, sigma=sigma), partial(_fan_in_bias_std, sigma=sigma))


def lsuv(target_std: float = 1.0, tolerance: float = 0.01, max_iterations: int = 10) -> Spread:
    """An orthogonal matrix, rescaled on data: no standard deviation to state."""
    del target_std, tolerance, max_iterations
    return Spread(None, bias_zeros(), orthogonal=True)


def kept_inputs(fan_in: int, sparsity: float) -> int:
    """How many of a unit's incoming weights `sparse` leaves.

    Example:
        >>> kept_inputs(64, 0.9), kept_inputs(4, 0.9)
        (6, 1)
    """
    # 0.55 * 100 is 55.00000000000001: an excess that small is rounding.
    return max(1, fan_in - math.ceil(sparsity * fan_in - 1e-9))


def one_of(key: str, value: str, accepted: tuple[str, ...]) -> None:
    """Refuse a word that isn't accepted.

    Raises:
        ConfigError: it isn't.
    """
    if value not in accepted:
        raise ConfigError(f"{key}: one of {', '.join(accepted)} is needed, but it is {value!r}")


def _bias_std(fan_in: int, std: float) -> float:
    del fan_in
    return std


def _fan_in_bias_std(fan_in: int, sigma: float) -> float:
    return sigma / math.sqrt(fan_in)


def _fixed_std(fan_in: int, fan_out: int, std: float) -> float:
    del fan_in, fan_out
    return std


def _fan_in_std(fan_in: int, fan_out: int, sigma: float) -> float:
    del fan_out
    return sigma / math.sqrt(fan_in)


def _xavier_std(fan_in: int, fan_out: int, gain: float) -> float:
    return gain * math.sqrt(2.0 / (fan_in + fan_out))


def _he_std(fan_in: int, fan_out: int, mode: Mode, negative_slope: float) -> float:
    fan = fan_in if mode == "fan_in" else fan_out
    return math.sqrt(2.0 / ((1.0 + negative_slope**2) * fan))


def _orthogonal_std(fan_in: int, fan_out: int, gain: float) -> float:
    return gain / math.sqrt(max(fan_in, fan_out))


def _sparse_std(fan_in: int, fan_out: int, sparsity: float, std: float) -> float:
    del fan_out
    return std * math.sqrt(kept_inputs(fan_in, sparsity) / fan_in)


def _truncated_std(cutoff: float) -> float:
    """The standard deviation of N(0, 1) given that |z| <= cutoff."""
    density = math.exp(-0.5 * cutoff**2) / math.sqrt(2.0 * math.pi)
    inside = math.erf(cutoff / math.sqrt(2.0))
    return math.sqrt(1.0 - 2.0 * cutoff * density / inside)
