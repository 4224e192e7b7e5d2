r"""What norm, activation and dropout make of a layer's pre-activations, and of the gradient on its way back."""

import math
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory.activations import Activation
from unitgain.theory.batch_norm import SMALLEST, batch_moments, batch_norm_behind
from unitgain.theory.gaussian import moments

Array = NDArray[np.float64]
NormKind = Literal["none", "batch", "layer", "rms"]

_ALPHA = -1.7580993408473766
"""What alpha dropout puts in the place of what it drops (Klambauer et al. 2017)."""


@final
@dataclass(frozen=True)
class Norm:
    """A norm without trained scale or shift, as it is at initialization.

    Args:
        kind: over a batch's examples, over an example's features, the latter without centring, or none.
        first: whether it stands between linear map and activation, or behind the activation.
        eps: added to the variance.
        batch: examples of a batch, for batch norm; None for the limit of many.
    """

    kind: NormKind = "none"
    first: bool = True
    eps: float = 1e-5
    batch: int | None = None


@final
@dataclass(frozen=True)
class Dropout:
    r"""Inverted dropout, $m x / k$ with $P(m = 1) = k = 1 - p$; ``alpha`` keeps mean 0 and variance 1 instead.

    Alpha dropout is $a (m x + (1 - m) \alpha) - a p \alpha$ with $a^2 = 1 / (k (1 + p \alpha^2))$.

    Args:
        p: the probability of dropping a unit.
        alpha: whether it is alpha dropout.

    Reference:
        Srivastava et al. 2014, JMLR 15:1929; Klambauer et al. 2017, arXiv 1706.02515.
    """

    p: float = 0.0
    alpha: bool = False

    @property
    def gain(self) -> float:
        """The mean square of the factor, which the squared gradient is multiplied by."""
        if not self.alpha:
            return 1 / (1 - self.p)
        return 1 / (1 + self.p * _ALPHA**2)

    @property
    def shared_gain(self) -> float:
        """The product of the mean factors of two examples."""
        return self.gain * (1 - self.p) if self.alpha else 1.0

    def applied(self, h: "Moments") -> "Moments":
        """Moments behind it; two examples have masks of their own."""
        keep, p = 1 - self.p, self.p
        if not self.alpha:
            return Moments(h.mean, h.second / keep, h.pair)
        scale = self.gain / keep  # a^2
        second = h.second + p * _ALPHA**2 - 2 * p * _ALPHA * h.mean
        return Moments(
            math.sqrt(scale) * keep * h.mean, scale * keep * second, scale * keep**2 * h.pair
        )


NO_NORM, NO_DROPOUT = Norm(), Dropout()


@final
@dataclass(frozen=True)
class Moments:
    """E[x], E[x^2], and E[x x'] of two examples."""

    mean: float
    second: float
    pair: float


@final
@dataclass(frozen=True)
class Branch:
    r"""A layer between its pre-activations and what it hands on.

    Args:
        activation: moments of $\phi$'s outputs.
        output: moments behind norm and dropout.
        gain: t, the squared gradient at the pre-activations over that at the output.
        mean_slope: derivative of the output's mean with respect to q; 0 behind a norm, which keeps it.
        second_slope: likewise, of its mean square.
    """

    activation: Moments
    output: Moments
    gain: float
    mean_slope: float = 0.0
    second_slope: float = 0.0


def branch_of(
    activation: Activation, norm: Norm, dropout: Dropout, q: float, covariance: float, mean: float
) -> Branch:
    """The layer whose pre-activations have mean square ``q``, mean ``mean`` and E[z z'] ``covariance``."""
    variance = max(q - mean**2, 1e-280)
    shared = min(max(covariance - mean**2, -variance), variance)
    if norm.kind == "none":
        phi, slopes = _gaussian(activation, variance, shared, mean)
        bend, growth = _length_slopes(moved(activation, mean, 1.0), float(f"{variance:.12g}"))
        moving, still = (dropout.applied(Moments(a, b, 0.0)) for a, b in ((bend, growth), (0, 0)))
        return Branch(
            phi,
            dropout.applied(phi),
            slopes * dropout.gain,
            moving.mean - still.mean,
            moving.second - still.second,
        )
    if norm.first:
        phi, gain = _norm_first(activation, norm, dropout, variance, shared, mean)
        return Branch(phi, dropout.applied(phi), gain)
    phi, normed, gain = _norm_behind(activation, norm, variance, shared, mean)
    return Branch(phi, dropout.applied(normed), gain * dropout.gain)


def _norm_first(
    activation: Activation,
    norm: Norm,
    dropout: Dropout,
    variance: float,
    shared: float,
    mean: float,
) -> tuple[Moments, float]:
    if norm.kind == "batch":
        return _batch_norm_first(activation, norm, dropout, max(variance - shared, 1e-280))
    if norm.kind == "layer":
        scale, mean = variance + norm.eps, 0.0
    else:
        scale = variance + mean**2 + norm.eps
    phi, slopes = _gaussian(activation, variance / scale, shared / scale, mean / math.sqrt(scale))
    return phi, slopes / scale * dropout.gain


def _batch_norm_first(
    activation: Activation, norm: Norm, dropout: Dropout, variance: float
) -> tuple[Moments, float]:
    """Only what differs between examples counts: ``variance`` is that over the batch."""
    # Rounded, so that what is known of a batch serves every layer.
    scale = max(round(math.sqrt(variance / (variance + norm.eps)), 4), 1e-4)
    normed = moved(activation, 0.0, scale)
    if norm.batch is None or norm.batch < SMALLEST:
        phi, slopes = _gaussian(normed, 1.0, 0.0, 0.0)
        return phi, slopes / variance * dropout.gain
    m = batch_moments(normed, norm.batch)
    gain = m.own_gain * dropout.gain + m.cross_gain * dropout.shared_gain
    return Moments(m.mean, m.second, m.pair), gain / variance


def _norm_behind(
    activation: Activation, norm: Norm, variance: float, shared: float, mean: float
) -> tuple[Moments, Moments, float]:
    phi, slopes = _gaussian(activation, variance, shared, mean)
    if norm.kind == "rms":
        scale = phi.second + norm.eps
        normed = Moments(phi.mean / math.sqrt(scale), phi.second / scale, phi.pair / scale)
        return phi, normed, slopes / scale
    if norm.kind == "layer":
        spread = phi.second - phi.mean**2
        scale = spread + norm.eps
        normed = Moments(0.0, spread / scale, (phi.pair - phi.mean**2) / scale)
        return phi, normed, slopes / scale
    behind = batch_norm_behind(moved(activation, mean, 1.0), variance, shared, norm.eps, norm.batch)
    # The examples of a batch whose mean was taken off are correlated by -1 / (B - 1).
    pair = 0.0 if norm.batch is None else -behind.second / (norm.batch - 1)
    return phi, Moments(0.0, behind.second, pair), behind.gain


def _gaussian(
    activation: Activation, variance: float, shared: float, mean: float
) -> tuple[Moments, float]:
    r"""Moments of $\phi(z)$ and $E[\phi'(z)^2]$, $z \sim N(mean, variance)$ of covariance ``shared``."""
    # Twelve digits: a recursion that has come to rest asks for what is known.
    phi, q = moved(activation, mean, 1.0), float(f"{variance:.12g}")
    expected, second, slopes = _single(phi, q)
    return Moments(expected, second, _pair(phi, q, second, shared / variance)), slopes


@lru_cache(maxsize=4096)
def _single(activation: Activation, q: float) -> tuple[float, float, float]:
    single = moments(activation, q)
    return float(single.mean), float(single.second), float(single.slope_second)


def _pair(activation: Activation, q: float, second: float, correlation: float) -> float:
    r"""$E[\phi(u_1) \phi(u_2)]$ in closed form, or $\sum_k a_k^2 c^k$ with the Hermite coefficients of $\phi$.

    What the first coefficients leave of $E[\phi^2]$ is taken for the next one: `gaussian.pair_expectation` is more
    exact, and takes a thousand times as long.
    """
    c = min(max(correlation, -1.0), 1.0)
    if activation.kernel is not None:
        return activation.kernel(q, q, c)[0]
    squares = _hermite_squares(activation, q)
    powers = c ** np.arange(_ORDERS + 1)
    rest = max(second - float(squares.sum()), 0.0)
    return float(squares @ powers[:-1] + rest * powers[-1])


_ORDERS = 64


@lru_cache(maxsize=4096)
def _hermite_squares(activation: Activation, q: float) -> Array:
    x_N, functions_KN = _hermite_functions()
    squares: Array = (functions_KN @ activation.value(math.sqrt(q) * x_N)) ** 2
    return squares


@lru_cache(maxsize=4096)
def _length_slopes(activation: Activation, q: float) -> tuple[float, float]:
    r"""The derivatives of $E[\phi]$ and $E[\phi^2]$ with respect to q: $E[\phi''] / 2$, and the moments' growth."""
    x_N, functions_KN = _hermite_functions()
    coefficient = float(functions_KN[2] @ activation.value(math.sqrt(q) * x_N))
    return coefficient / (math.sqrt(2) * q), float(moments(activation, q).growth)


@cache
def _hermite_functions() -> tuple[Array, Array]:
    """Nodes x, and the normalized Hermite polynomials on them times the weights of N(0, 1): (K, N)."""
    node, weight = np.polynomial.legendre.leggauss(128)
    edges = np.array([-12.0, -4.0, 0.0, 4.0, 12.0])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    x_N = (middle[:, None] + half[:, None] * node).ravel()
    mass_N = (half[:, None] * weight).ravel() * np.exp(-0.5 * x_N**2)
    before, now = np.zeros_like(x_N), np.ones_like(x_N)
    rows = []
    for k in range(_ORDERS):
        rows.append(now)
        following = (x_N * now - math.sqrt(k) * before) / math.sqrt(k + 1)
        before, now = now, following
    return x_N, np.array(rows) * (mass_N / mass_N.sum())


@lru_cache(maxsize=1024)
def moved(activation: Activation, shift: float, scale: float) -> Activation:
    r"""$x \mapsto \phi(shift + scale \, x)$."""
    if shift == 0 and scale == 1:
        return activation
    return Activation(
        activation.name,
        partial(_moved_value, activation, shift, scale),
        partial(_moved_slope, activation, shift, scale),
        tuple((kink - shift) / scale for kink in activation.kinks),
    )


def _moved_value(activation: Activation, shift: float, scale: float, x: Array) -> Array:
    return activation.value(shift + scale * x)


def _moved_slope(activation: Activation, shift: float, scale: float, x: Array) -> Array:
    return scale * activation.slope(shift + scale * x)
