"""The critical line: weights and biases with which gradients keep their size."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unitgain.errors import ConfigError
from unitgain.theory._roots import root_between
from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import moments

Array = NDArray[np.float64]

_ROUNDING = 1e-12  # of q: what sigma_b^2 may miss zero by, for activations that need no bias
_SCAN_Q = np.logspace(-8.0, 8.0, 257)


@final
@dataclass(frozen=True)
class Critical:
    """A point of the critical line.

    Attributes:
        sigma_w: The standard deviation of the weights times the square root of their fan-in.
        sigma_b: The standard deviation of the biases.
        q: The variance of pre-activations that is a fixed point with them.
        chi_q: V'(q), the factor a layer by which a small deviation from q changes: above 1 lengths leave q.
    """

    sigma_w: float
    sigma_b: float
    q: float
    chi_q: float


def critical(activation: Activation, q: float = 1.0, keep: float = 1.0) -> Critical:
    r"""The weights and biases with fixed point q and chi_1 = 1.

    $$\sigma_w^2 = \rho / E[\phi'(z)^2], \quad \sigma_b^2 = q - E[\phi(z)^2] / E[\phi'(z)^2], \quad z \sim N(0, q)$$

    With dropout gradients keep their size there, but inputs' correlations still forget within a finite depth.

    Args:
        activation: phi.
        q: The variance of pre-activations.
        keep: rho, one minus the probability of dropout.

    Raises:
        ConfigError: q isn't a fixed point with any biases, since sigma_b^2 would be negative.

    Example:
        >>> from unitgain.theory.activations import relu, softplus
        >>> point = critical(relu())
        >>> round(point.sigma_w**2, 12), point.sigma_b
        (2.0, 0.0)
        >>> critical(softplus())
        Traceback (most recent call last):
        ...
        unitgain.errors.ConfigError: q: a critical point needs q >= E[phi^2] / E[phi'^2], but q = 1 is
        below 3.14 for softplus, and so is every other; use a norm instead

    Reference:
        Schoenholz et al. 2017, arXiv 1611.01232, section 3.
    """
    m = moments(activation, q)
    slope, second = float(m.slope_second), float(m.second)
    if not 0.0 < slope < math.inf or not q > 0.0:
        raise ConfigError(
            f"q: a positive variance at which {activation.name} has a slope is needed, but at q = {q:g} "
            f"E[phi'^2] = {slope:g}; choose another q"
        )
    rest = q - second / slope
    if rest < -_ROUNDING * q:
        raise ConfigError(
            f"q: a critical point needs q >= E[phi^2] / E[phi'^2], but q = {q:g} is below "
            f"{second / slope:.3g} for {activation.name}, {_remedy(activation, q)}"
        )
    sigma_b = math.sqrt(rest) if rest > _ROUNDING * q else 0.0
    return Critical(math.sqrt(keep / slope), sigma_b, q, float(m.growth) / slope)


def _remedy(activation: Activation, q: float) -> str:
    """Which q does have a critical point."""
    possible = _SCAN_Q[_bias_variance(activation, _SCAN_Q) >= 0.0]
    if possible.size == 0:
        return "and so is every other; use a norm instead"
    nearest = float(possible[np.abs(np.log(possible / q)).argmin()])
    return f"but there is one at q = {nearest:.3g}; choose that, or use a norm"


def _bias_variance(activation: Activation, q: Array) -> Array:
    """sigma_b^2 on the critical line, negative where there is no such point."""
    m = moments(activation, q)
    rest = q - m.second / m.slope_second
    return np.where(np.abs(rest) <= _ROUNDING * q, 0.0, rest)


def critical_line(activation: Activation, q: ArrayLike, keep: float = 1.0) -> tuple[Array, Array]:
    """sigma_w and sigma_b of the critical points with the given q; nan where there is none.

    Shape:
        - q: any
        - return: the same, both

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> sigma_w, sigma_b = critical_line(tanh(), [0.5, 1.0])
        >>> (sigma_w**2).round(3), (sigma_b**2).round(3)
        (array([1.688, 2.153]), array([0.038, 0.151]))
    """
    q = np.asarray(q, dtype=np.float64)
    rest = _bias_variance(activation, q)
    exists = rest >= 0.0
    sigma_w = np.sqrt(keep / moments(activation, q).slope_second)
    return (
        np.where(exists, sigma_w, np.nan),
        np.sqrt(np.where(exists, rest, np.nan)),
    )


def critical_sigma_w(activation: Activation, sigma_b: float, keep: float = 1.0) -> Critical:
    """The critical point with the given biases; of several, the one whose q is nearest to 1.

    Raises:
        ConfigError: There is none.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> round(critical_sigma_w(tanh(), sigma_b=0.05**0.5).sigma_w ** 2, 5)
        1.76095
    """
    wanted = sigma_b**2

    def miss(log_q: float) -> float:
        return float(_bias_variance(activation, np.array([math.exp(log_q)]))[0]) - wanted

    misses = _bias_variance(activation, _SCAN_Q) - wanted
    if abs(misses[_SCAN_Q.size // 2]) <= _ROUNDING:
        return critical(activation, 1.0, keep)
    places = _crossings(miss, misses)
    if not places:
        raise ConfigError(
            f"sigma_b: {activation.name} has no critical point with sigma_b = {sigma_b:g}; "
            "choose sigma_b by q, with critical_line"
        )
    return critical(activation, math.exp(min(places, key=abs)), keep)


def double_critical(activation: Activation) -> Critical | None:
    r"""The critical point at which lengths, too, have slope one: chi_1 = V'(q) = 1, $E[\phi \phi''] = 0$.

    Smooth activations that aren't odd, such as gelu and silu, have one, from which on critical points attract: those
    with a smaller q are left by the lengths of a real network. Of several, the largest q; None where there is none,
    or where it is so at every q, as for relu.

    Example:
        >>> from unitgain.theory.activations import gelu, tanh
        >>> point = double_critical(gelu())
        >>> round(point.sigma_w**2, 5), round(point.sigma_b**2, 5)
        (1.98306, 0.17292)
        >>> double_critical(tanh()) is None
        True
    """

    def excess(log_q: float) -> float:
        m = moments(activation, math.exp(log_q))
        return float(m.growth / m.slope_second) - 1.0

    m = moments(activation, _SCAN_Q)
    excesses = m.growth / m.slope_second - 1.0
    excesses[np.abs(excesses) <= _ROUNDING] = 0.0
    places = _crossings(excess, excesses)
    possible = [
        q for q in map(math.exp, places) if _bias_variance(activation, np.array([q]))[0] >= 0.0
    ]
    return critical(activation, max(possible)) if possible else None


def _crossings(function: Callable[[float], float], scanned: Array) -> list[float]:
    """The logarithms of q at the sign changes of a function that was scanned."""
    logs = np.log(_SCAN_Q)
    changes = np.flatnonzero(scanned[:-1] * scanned[1:] < 0.0)
    return [
        root_between(
            function, float(logs[i]), float(logs[i + 1]), float(scanned[i]), float(scanned[i + 1])
        )
        for i in changes
    ]
