r"""Batch norm in a wide network, for a batch of any size.

The pre-activations of one unit over a batch of B examples whose inputs are equally far apart are Gaussian; centred and
scaled they are a point y of the sphere of radius $\sqrt{B}$ in B - 1 dimensions, uniformly distributed. A coordinate
is $y_b = \sqrt{B - 1} \, t$ with density of t proportional to $(1 - t^2)^{(B - 4) / 2}$, and two of them are
correlated by -1 / (B - 1).

Reference:
    Yang et al. 2019, arXiv 1902.08129, sections 3 and 4.

Shapes: N quadrature nodes, M nodes of the second coordinate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory.activations import Activation

Array = NDArray[np.float64]

SMALLEST = 4
"""The largest batch whose mean of 1 / variance is infinite is 3."""

_REACH = 9.0
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(48)
_UNIT, _MASS = np.polynomial.hermite_e.hermegauss(41)


@final
@dataclass(frozen=True)
class BatchMoments:
    r"""What an activation makes of normalized units of a batch.

    Args:
        mean: $E[\phi(y_1)]$.
        second: $E[\phi(y_1)^2]$.
        pair: $E[\phi(y_1) \phi(y_2)]$, two examples of the batch.
        own_gain: the squared gradient in front of the norm over that behind the activation, times $\lambda$, the
            variance of a pre-activation over examples: the part of an example's own slope.
        cross_gain: the part of the slopes of two examples.
    """

    mean: float
    second: float
    pair: float
    own_gain: float
    cross_gain: float


@lru_cache(maxsize=256)
def batch_moments(activation: Activation, batch: int) -> BatchMoments:
    r"""The moments behind batch norm and activation, in the limit of wide layers.

    With $d = \phi'(y)$ and the projector $Q = 1 - 11^T/B - yy^T/B$ of batch norm's Jacobian, the means of
    $tr(Q d (1 - 11^T/B) d) / (B - 1)$ over y and of 1 / variance, $B / (B - 3)$ in units of $1 / \lambda$, give

    $\frac{B}{B - 3} E[d_1^2 (1 - (1 + y_1^2) / B)]$ and $\frac{1}{B - 3} E[d_1 d_2 (1 + y_1 y_2)]$.

    As B grows the first is $E[\phi'^2]$ on N(0, 1) and the second nothing. Dropout multiplies them with the mean square
    of its factor and its squared mean.

    Args:
        activation: $\phi$.
        batch: B, at least 4.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> m = batch_moments(relu(), 100_000)
        >>> round(m.own_gain / (m.second - m.pair), 3), round(math.pi / (math.pi - 1), 3)
        (1.467, 1.467)
    """
    spread = math.sqrt(batch - 1)
    y_N, weight_N = _coordinate(batch - 1, spread, activation.kinks)
    value_N, slope_N = activation.value(y_N), activation.slope(y_N)
    cross_value, cross_slope = _cross(activation, batch, y_N, weight_N)
    own = weight_N @ (slope_N**2 * (1 - (1 + y_N**2) / batch))
    return BatchMoments(
        mean=float(weight_N @ value_N),
        second=float(weight_N @ value_N**2),
        pair=cross_value,
        own_gain=float(batch / (batch - 3) * own),
        cross_gain=cross_slope / (batch - 3),
    )


@final
@dataclass(frozen=True)
class Behind:
    """Batch norm behind an activation.

    Args:
        second: the mean square behind the norm.
        gain: the squared gradient at the pre-activations over that behind the norm.
    """

    second: float
    gain: float


@lru_cache(maxsize=256)
def batch_norm_behind(
    activation: Activation, variance: float, shared: float, eps: float, batch: int | None
) -> Behind:
    r"""Batch norm behind the activation of pre-activations that differ over the batch by ``variance - shared``.

    A unit has over the batch the mean $\sqrt{shared} \, u$, u ~ N(0, 1), so its activations have a variance V(u) of
    their own: the gain is $E_u[E[\phi'^2] / V(u)]$. With h the normalized activation of kurtosis $\kappa$, a batch of B
    changes that to first order in 1 / B to

    $\left(E[\phi'^2] + (\kappa E[\phi'^2] - 2 E[\phi'^2 h^2] + E[\phi']^2 + E[\phi' h]^2) / B\right) / V$,

    with V larger by $E[\phi']^2$ times what ``shared`` is below zero.

    Args:
        activation: of z less its mean over everything.
        variance: of a pre-activation.
        shared: its covariance between examples.
        eps: of the norm.
        batch: B; None for the limit of many.
    """
    if shared <= 1e-9 * variance:
        units = [(0.0, 1.0)]
        between = math.sqrt(variance)
    else:
        units = [
            (math.sqrt(shared) * float(u), float(w))
            for u, w in zip(_UNIT, _MASS / _MASS.sum(), strict=True)
            if w > 1e-12
        ]
        between = math.sqrt(max(variance - shared, 1e-280))
    second = gain = 0.0
    for centre, mass in units:
        of_unit = _behind_of_unit(activation, centre, between, max(-shared, 0.0), eps, batch)
        second += mass * of_unit.second
        gain += mass * of_unit.gain
    return Behind(second, gain)


def _behind_of_unit(
    activation: Activation,
    centre: float,
    spread: float,
    apart: float,
    eps: float,
    batch: int | None,
) -> Behind:
    x_N, weight_N = _normal_nodes([(kink - centre) / spread for kink in activation.kinks])
    z_N = centre + spread * x_N
    value_N, slope_N = activation.value(z_N), activation.slope(z_N)
    value_N = value_N - weight_N @ value_N
    variance = float(weight_N @ value_N**2 + apart * (weight_N @ slope_N) ** 2)
    square = float(weight_N @ slope_N**2)
    if variance < 1e-30:
        return Behind(0.0, square / eps)
    h_N = value_N / math.sqrt(variance)
    if batch is not None:
        kurtosis = weight_N @ h_N**4
        mixed = weight_N @ (slope_N**2 * (2 * h_N**2 - 1))
        across = (weight_N @ slope_N) ** 2 + (weight_N @ (slope_N * h_N)) ** 2
        correction = square * (kurtosis - 1) - mixed + across
        square += float(correction) / batch
    return Behind(variance / (variance + eps), max(square, 0.0) / (variance + eps))


def _normal_nodes(kinks: Sequence[float]) -> tuple[Array, Array]:
    """Nodes and weights for N(0, 1), split where the integrand has kinks."""
    inside = sorted(kink for kink in kinks if abs(kink) < _REACH)
    edges = np.array(sorted([-_REACH, 0.0, _REACH, *inside]))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    x_N = (middle[:, None] + half[:, None] * _NODE).ravel()
    mass_N = (half[:, None] * _WEIGHT).ravel() * np.exp(-0.5 * x_N**2)
    return x_N, mass_N / mass_N.sum()


def _cross(activation: Activation, batch: int, y_N: Array, weight_N: Array) -> tuple[float, float]:
    r"""$E[\phi(y_1) \phi(y_2)]$ and $E[d_1 d_2 (1 + y_1 y_2)]$."""
    correlation = -1.0 / (batch - 1)
    centre_N = correlation * y_N
    radius_N = np.sqrt((1 - correlation**2) * np.maximum(batch - 1 - y_N**2, 0.0))
    values, slopes = np.zeros_like(y_N), np.zeros_like(y_N)
    for n, (centre, radius) in enumerate(zip(centre_N, radius_N, strict=True)):
        kinks = [(kink - centre) for kink in activation.kinks]
        x_M, weight_M = _coordinate(batch - 2, float(radius), kinks)
        y_M = centre + x_M
        values[n] = weight_M @ activation.value(y_M)
        slopes[n] = weight_M @ (activation.slope(y_M) * (1 + y_N[n] * y_M))
    value = weight_N @ (activation.value(y_N) * values)
    slope = weight_N @ (activation.slope(y_N) * slopes)
    return float(value), float(slope)


def _coordinate(dimension: int, radius: float, kinks: Sequence[float]) -> tuple[Array, Array]:
    """Nodes and weights for a coordinate of a uniform point on a sphere, split where the integrand has kinks."""
    # With y = radius sin(a), the density of a is cos(a)^(dimension - 2).
    reach = min(math.pi / 2, _REACH / math.sqrt(dimension))
    inside = [math.asin(kink / radius) for kink in kinks if abs(kink) < radius * math.sin(reach)]
    edges = np.array([-reach, *sorted(inside), reach])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    angle = (middle[:, None] + half[:, None] * _NODE).ravel()
    mass = (half[:, None] * _WEIGHT).ravel() * np.cos(angle) ** (dimension - 2)
    return radius * np.sin(angle), mass / mass.sum()
