r"""Standard deviations that follow from the network: critical, scaled residual and spectral initialization.

A layer with pre-activations of variance q hands on the second moment M(q) and multiplies the squared gradient by t(q)
(norm and dropout included), so that

$q' = \sigma_w^2 M(q) + \sigma_b^2$ and $\chi_1 = \sigma_w^2 \, t(q)$.

Reference:
    Poole et al. 2016, arXiv 1606.05340; Schoenholz et al. 2017, arXiv 1611.01232.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from unitgain.errors import ConfigError
from unitgain.theory import weights
from unitgain.theory._branch import NO_DROPOUT, NO_NORM, Dropout, Moments, Norm
from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import moments
from unitgain.theory.weights import Spread

Array = NDArray[np.float64]
Role = Literal["first", "hidden", "output"]
Draw = Literal["normal", "orthogonal"]
Base = Literal["he", "lecun", "xavier", "orthogonal", "torch_default", "critical"]
Rule = Literal["sgd", "adam"]
"""How an optimizer's step follows the gradient: in proportion to it, or to its sign at most."""
Kind = Literal["weight", "vector"]
DERIVED = ("critical", "scaled_residual", "spectral")
"""The options of ``init`` that are functions of this module, facts first."""


@final
@dataclass(frozen=True)
class Facts:
    """What a layer's initializer may know of the network.

    Args:
        activation: of the hidden layers.
        role: whether the layer is the first one, the output layer, or any other.
        inputs: features of an example.
        outputs: units of the output layer.
        widths: units of each hidden layer.
        bias: whether the layer has biases.
        norm: of the hidden layers.
        dropout: of the hidden layers.
        residual: whether the layer's input is added to its output.
        branches: how many layers are so.
        branch_scale: what is multiplied to a residual layer's branch.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> Facts(tanh(), "hidden", 64, 10, (32, 32)).depth
        2
    """

    activation: Activation
    role: Role
    inputs: int
    outputs: int
    widths: tuple[int, ...]
    bias: bool = True
    norm: Norm = NO_NORM
    dropout: Dropout = NO_DROPOUT
    residual: bool = False
    branches: int = 0
    branch_scale: float = 1.0

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.widths)


@final
@dataclass(frozen=True)
class Point:
    r"""A choice of weights and biases.

    Attributes:
        q: the variance of pre-activations that it is made for.
        sigma_w: $\sigma_w$.
        sigma_b: $\sigma_b$.
        exact: whether q is a fixed point with $\chi_1 = 1$ that lengths don't run away from.
    """

    q: float
    sigma_w: float
    sigma_b: float
    exact: bool


@lru_cache(maxsize=256)
def critical_point(
    activation: Activation,
    q: float = 1.0,
    *,
    bias: bool = True,
    norm: Norm = NO_NORM,
    dropout: Dropout = NO_DROPOUT,
) -> Point:
    r"""Weights and biases with $\chi_1 = 1$ at a fixed point of lengths:

    $\sigma_w^2 = 1 / t(q)$, $\sigma_b^2 = q - M(q) / t(q)$.

    Where this asks for $\sigma_b^2 < 0$, or lengths would run away from q (their own slope $\sigma_w^2 M'(q)$ is
    above 1, as for GELU below q = 3.5), q is raised to the least one that will do: for GELU and SiLU the half-stable
    point where both slopes are 1. Where none will do (softplus; most activations without biases) it is the stable q
    whose $\sigma_b^2$ would be nearest to 0 relative to q, without biases. Where a norm takes off what could be chosen
    (batch norm; the others in front of softplus or sigmoid), weights keep the variance q, and $\chi_1$ is the norm's.

    Args:
        activation: of the layers.
        q: the variance of pre-activations that is wanted.
        bias: whether the layers have biases.
        norm: of the layers.
        dropout: of the layers.

    Example:
        >>> from unitgain.theory.activations import gelu, relu, tanh
        >>> point = critical_point(relu(), dropout=Dropout(0.5))
        >>> round(point.sigma_w**2, 9), point.sigma_b
        (1.0, 0.0)
        >>> point = critical_point(gelu())
        >>> round(point.sigma_w**2, 5), round(point.sigma_b**2, 5)
        (1.98306, 0.17292)

    Reference:
        Schoenholz et al. 2017, arXiv 1611.01232, section 3; Hayou et al. 2019, arXiv 1902.06853 (GELU and the like).
    """
    batch = norm.kind == "batch"
    if not batch and _fits(activation, norm, dropout, bias, np.array([q]))[0]:
        return _point(activation, norm, dropout, q)
    if batch or (norm.kind != "none" and norm.first):
        second, _ = _terms(activation, norm, dropout, np.array([q]))
        return Point(q, math.sqrt(q / float(second[0])), 0.0, exact=False)
    grid_Q = np.geomspace(1e-3, 1e6, 181)
    if (
        bias
        and (above := grid_Q[(grid_Q > q) & _fits(activation, norm, dropout, bias, grid_Q)]).size
    ):
        low, high = q, float(above[0])
        for _ in range(60):
            middle = math.sqrt(low * high)
            fits = bool(_fits(activation, norm, dropout, bias, np.array([middle]))[0])
            low, high = (low, middle) if fits else (middle, high)
        return _point(activation, norm, dropout, high)
    second_Q, gain_Q = _terms(activation, norm, dropout, grid_Q)
    stable_Q = _length_slope(activation, norm, dropout, grid_Q) <= 1.0 + 1e-6
    lacking_Q = np.abs(1.0 - second_Q / (gain_Q * grid_Q))
    best = int(np.argmin(np.where(stable_Q | ~stable_Q.any(), lacking_Q, np.inf)))
    return Point(q, 1.0 / math.sqrt(float(gain_Q[best])), 0.0, exact=False)


def critical(facts: Facts, q: float = 1.0, distribution: Draw = "normal") -> Spread:
    r"""What `critical_point` says of the hidden layers.

    The first layer brings inputs of mean square 1 to the variance q; the output layer has $1 / fan_{in}$ and no
    biases. Residual networks without a norm are `scaled_residual`'s.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> spread = critical(Facts(tanh(), "hidden", 64, 10, (32, 32)))
        >>> round(spread.sigma_w(32, 32) ** 2, 4), round(spread.bias(32) ** 2, 4)
        (2.1533, 0.151)
    """
    weights.one_of("init.distribution", distribution, ("normal", "orthogonal"))
    if facts.branches and facts.norm.kind == "none":
        return scaled_residual(facts, q, distribution)
    return _spread(*_sigmas(facts, q), distribution)


def scaled_residual(facts: Facts, q: float = 1.0, distribution: Draw = "normal") -> Spread:
    r"""Branches so small that N of them multiply lengths and squared gradients by O(1), whatever N is.

    The stream's gradient grows by $1 + s^2 \sigma_w^2 t$ a branch, so $s^2 \sigma_w^2 \, t = 1 / N$ gives
    $(1 + 1/N)^N < e$: weights shrink as $N^{-1/2}$. (Fixup's $N^{-1 / (2 m - 2)}$ is for the first m - 1 of m maps a
    branch, the last being zero; here m = 1.) That holds for lengths too where $E[\phi] = 0$. Where it isn't, branches
    add up their means: $N s |E[\phi]| \le \sqrt{M_0} / 2$ is asked for as well, which for ReLU makes it $N^{-1}$.
    An activation with $\phi(0) \ne 0$ keeps its mean however small its weights are: there s must fall as $1 / N$.

    Args:
        facts: of the network.
        q: the variance of pre-activations behind the first layer.
        distribution: of the weights.

    Raises:
        ConfigError: no layer is residual, or a norm undoes the scale of weights.

    Example:
        >>> from unitgain.theory.activations import identity, relu
        >>> facts = Facts(identity(), "hidden", 64, 10, (32,) * 101, residual=True, branches=100)
        >>> round(scaled_residual(facts).sigma_w(32, 32), 9)
        0.1

    Reference:
        Zhang et al. 2019, arXiv 1901.09321, section 3; De and Smith 2020, arXiv 2002.10444, section 3.
    """
    weights.one_of("init.distribution", distribution, ("normal", "orthogonal"))
    if facts.branches == 0:
        raise ConfigError(
            "init: scaled_residual needs residual layers, but there are none; "
            "set model.residual=true or choose init=critical"
        )
    if facts.norm.kind != "none":
        raise ConfigError(
            "init: scaled_residual scales the weights of branches, but the norm in them undoes that; "
            f"set model.branch_scale={facts.branches**-0.5:.2g} with init=critical, or norm=none"
        )
    if facts.role == "first" and not facts.residual:
        return _spread(math.sqrt(q), 0.0, distribution)
    if not facts.residual:
        return _spread(*_sigmas(facts, q), distribution)
    first_is_one = facts.branches == facts.depth
    second, _ = _terms(facts.activation, NO_NORM, facts.dropout, np.array([q]))
    start = 1.0 if first_is_one else float(second[0])
    sigma_w = _branch_sigma(
        facts.activation, facts.dropout, facts.branches, facts.branch_scale, start
    )
    return _spread(sigma_w, 0.0, distribution)


def spectral(facts: Facts, base: Base = "he", base_width: int = 64) -> Spread:
    r"""The base initializer of a network whose hidden layers have ``base_width`` units, carried to this one's widths.

    With $m = fan_{in} / base$ of a hidden or output map: standard deviations times 1 (first layer, biases),
    $m^{-1/2}$ (hidden), $m^{-1}$ (output). `rate_factor` has what goes with it.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> facts = Facts(relu(), "output", 64, 10, (256, 256))
        >>> spectral(facts).weight(256, 10) / spectral(facts, base_width=256).weight(256, 10)
        0.5

    Reference:
        Yang et al. 2022, arXiv 2203.03466, table 3; Yang, Simon and Bernstein 2023, arXiv 2310.17813, equations 11, 12.
    """
    stated = base_spread(facts, base)
    assert stated.weight is not None
    fans = base_fans(facts, base_width)
    std, power = stated.weight(*fans), {"first": 0.0, "hidden": -0.5, "output": -1.0}[facts.role]
    return Spread(
        partial(_carried_std, std=std, base_in=fans[0], power=power),
        partial(_same_bias_std, std=stated.bias(fans[0])),
        stated.orthogonal,
    )


def base_spread(facts: Facts, base: Base) -> Spread:
    """What the initializer that `spectral` starts from says of a layer."""
    weights.one_of(
        "init.base", base, ("he", "lecun", "xavier", "orthogonal", "torch_default", "critical")
    )
    plain: dict[str, Callable[[], Spread]] = {
        "he": weights.he,
        "lecun": weights.lecun,
        "xavier": weights.xavier,
        "orthogonal": weights.orthogonal,
        "torch_default": weights.torch_default,
    }
    return critical(facts) if base == "critical" else plain[base]()


def base_fans(facts: Facts, base_width: int) -> tuple[int, int]:
    """Inputs and outputs that the layer would have if hidden layers had ``base_width`` units."""
    fan_in = facts.inputs if facts.role == "first" else base_width
    return fan_in, facts.outputs if facts.role == "output" else base_width


def rate_factor(
    role: Role, rule: Rule, kind: Kind, fan_in: int, fan_out: int, base_width: int
) -> float:
    r"""What a layer's learning rate is multiplied by under `spectral`, with m = fan / base_width:

    | | first weights | hidden weights | output weights | biases and norms (output's) |
    | --- | --- | --- | --- | --- |
    | SGD | $m_{out}$ | $m_{out} / m_{in}$ | $1 / m_{in}$ | $m_{out}$ (1) |
    | Adam | 1 | $1 / m_{in}$ | $1 / m_{in}$ | 1 (1) |

    Example:
        >>> rate_factor("hidden", "adam", "weight", 256, 256, 64), rate_factor("first", "sgd", "weight", 9, 256, 64)
        (0.25, 4.0)

    Reference:
        Yang et al. 2022, arXiv 2203.03466, table 3.
    """
    m_in = 1.0 if role == "first" else fan_in / base_width
    m_out = 1.0 if role == "output" else fan_out / base_width
    if rule == "sgd":
        return m_out if kind == "vector" else m_out / m_in
    return 1.0 if kind == "vector" else 1.0 / m_in


def _sigmas(facts: Facts, q: float) -> tuple[float, float]:
    """What `critical` gives a layer that isn't residual."""
    if facts.role == "output":
        return 1.0, 0.0
    point = critical_point(
        facts.activation, q, bias=facts.bias, norm=facts.norm, dropout=facts.dropout
    )
    if facts.role == "first":
        return math.sqrt(max(point.q - point.sigma_b**2, 0.0)), point.sigma_b
    return point.sigma_w, point.sigma_b


def _terms(activation: Activation, norm: Norm, dropout: Dropout, q_Q: Array) -> tuple[Array, Array]:
    """M and t of the module's formulas at some variances."""
    normed = norm.kind != "none" and norm.first
    m = moments(activation, np.ones_like(q_Q) if normed else q_Q)
    mean, second, gain = m.mean, m.second, m.slope_second
    if normed:
        gain = gain / q_Q
    elif norm.kind != "none":
        spread = m.second if norm.kind == "rms" else m.variance
        mean = m.mean / np.sqrt(spread) if norm.kind == "rms" else np.zeros_like(q_Q)
        second, gain = np.ones_like(q_Q), gain / spread
    dropped = [
        dropout.applied(Moments(float(a), float(b), 0.0)).second
        for a, b in zip(mean, second, strict=True)
    ]
    return np.array(dropped), gain * dropout.gain


def _length_slope(activation: Activation, norm: Norm, dropout: Dropout, q_Q: Array) -> Array:
    """How a deviation of q grows in a layer with chi_1 = 1 there: M'(q) / t(q)."""
    step = 1e-4
    above, below = (_terms(activation, norm, dropout, q_Q * f)[0] for f in (1 + step, 1 - step))
    slope: Array = (above - below) / (2 * step * q_Q * _terms(activation, norm, dropout, q_Q)[1])
    return slope


def _fits(
    activation: Activation, norm: Norm, dropout: Dropout, bias: bool, q_Q: Array
) -> NDArray[np.bool_]:
    second_Q, gain_Q = _terms(activation, norm, dropout, q_Q)
    lacking_Q = 1.0 - second_Q / (gain_Q * q_Q)
    possible = lacking_Q >= -1e-9 if bias else np.abs(lacking_Q) <= 1e-9
    return possible & (_length_slope(activation, norm, dropout, q_Q) <= 1.0 + 1e-6)


def _point(activation: Activation, norm: Norm, dropout: Dropout, q: float) -> Point:
    second, gain = (float(v[0]) for v in _terms(activation, norm, dropout, np.array([q])))
    sigma_b2 = q - second / gain
    sigma_b = math.sqrt(sigma_b2) if sigma_b2 > 1e-9 * q else 0.0
    return Point(q, 1.0 / math.sqrt(gain), sigma_b, exact=True)


@lru_cache(maxsize=256)
def _branch_sigma(
    activation: Activation, dropout: Dropout, branches: int, scale: float, start: float
) -> float:
    """The largest sigma_w, up to that of a critical branch, that keeps both sums of `scaled_residual`."""
    shifts = activation.value(np.zeros(1))[0] != 0.0

    def too_large(sigma_w: float) -> bool:
        m = moments(activation, sigma_w**2 * start)
        gradient = branches * (scale * sigma_w) ** 2 * float(m.slope_second) * dropout.gain
        mean = 0.0 if shifts else branches * scale * abs(float(m.mean))
        return gradient > 1.0 or mean > 0.5 * math.sqrt(start)

    low, high = 1e-9, critical_point(activation, bias=False, dropout=dropout).sigma_w
    if not too_large(high):
        return high
    for _ in range(80):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if too_large(middle) else (middle, high)
    return low


def _spread(sigma_w: float, sigma_b: float, distribution: Draw) -> Spread:
    stated = weights.mean_field(sigma_w, sigma_b)
    return Spread(stated.weight, stated.bias, orthogonal=distribution == "orthogonal")


def _carried_std(fan_in: int, fan_out: int, std: float, base_in: int, power: float) -> float:
    del fan_out
    return std * math.pow(fan_in / base_in, power)


def _same_bias_std(fan_in: int, std: float) -> float:
    del fan_in
    return std
