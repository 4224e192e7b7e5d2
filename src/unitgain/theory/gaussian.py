"""Expectations of an activation under Gaussian inputs.

Legend: Q variance, M node.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unitgain.errors import ConfigError
from unitgain.theory._grid import Grid, grid_of, octaves_of
from unitgain.theory._pair import pair_quadrature
from unitgain.theory.activations import Activation

Array = NDArray[np.float64]

_MOST_EXPONENTIALS = 1 << 21
_SMALLEST = 1e-200  # stands for zero, where the slope of a kink is the mean of both sides


@final
@dataclass(frozen=True)
class Moments:
    r"""Expectations over z ~ N(0, q), each of the shape of q.

    Attributes:
        mean: E[phi(z)].
        second: E[phi(z)^2].
        slope: E[phi'(z)].
        slope_second: E[phi'(z)^2].
        growth: dE[phi(z)^2] / dq = E[z phi(z) phi'(z)] / q; a jump of phi adds nothing to it.
    """

    mean: Array
    second: Array
    slope: Array
    slope_second: Array
    growth: Array

    @property
    def variance(self) -> Array:
        """Var[phi(z)]."""
        return np.maximum(self.second - self.mean**2, 0.0)


def moments(activation: Activation, q: ArrayLike) -> Moments:
    r"""Expectations of an activation over z ~ N(0, q), for one variance or many at once.

    $$E f(z) = \int f(x) \, e^{-x^2 / 2 q} / \sqrt{2 \pi q} \, dx$$

    by Gauss-Legendre quadrature on panels that end at the kinks and double in width away from zero. What is known
    of an activation is kept: another variance costs the exponentials alone.

    Shape:
        - q: any
        - return: the same, each

    Args:
        activation: phi.
        q: Variances, 0 or larger.

    Raises:
        ConfigError: A variance is negative or not finite.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> moments(relu(), [1.0, 4.0]).second.round(12)
        array([0.5, 2. ])

    Reference:
        Poole et al. 2016, arXiv 1606.05340, equation 3.
    """
    q = np.asarray(q, dtype=np.float64)
    flat_Q = q.ravel()
    if flat_Q.size == 0 or not (np.isfinite(flat_Q).all() and (flat_Q >= 0.0).all()):
        raise ConfigError(
            f"q: finite variances of 0 or larger are needed, but this is {flat_Q}; "
            "give a number or an array of them"
        )
    wide_Q = np.maximum(flat_Q, _SMALLEST)
    grid = grid_of(activation, *octaves_of(float(wide_Q.min()) ** 0.5, float(wide_Q.max()) ** 0.5))
    x, phi, slope = grid.x_M, grid.value_M, grid.slope_M
    with np.errstate(over="ignore", invalid="ignore"):
        integrands_M5 = np.stack([phi, phi * phi, slope, slope * slope, x * phi * slope], axis=1)
    rows = max(1, _MOST_EXPONENTIALS // x.size)
    parts = [
        _integrals(grid, integrands_M5, wide_Q[i : i + rows]) for i in range(0, wide_Q.size, rows)
    ]
    result = np.concatenate(parts).T
    result[4] /= wide_Q
    zero = flat_Q == 0.0
    if zero.any():
        result[0, zero] = activation.value(np.zeros(1))[0]
        result[1, zero] = result[0, zero] ** 2
    return Moments(*(row.reshape(q.shape) for row in result))


class Nodes(NamedTuple):
    """A Gaussian as a discrete distribution that gives the same expectations.

    Attributes:
        weights_M: The nodes' probabilities.
        x_M: The nodes.
        value_M: phi at the nodes.
        slope_M: phi' at the nodes.
    """

    weights_M: Array
    x_M: Array
    value_M: Array
    slope_M: Array


def nodes(activation: Activation, q: float) -> Nodes:
    """An activation and its slope over z ~ N(0, q), for expectations of any function of the two.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> at = nodes(relu(), 1.0)
        >>> round(float(at.weights_M @ at.value_M**4), 12)
        1.5
    """
    sd = math.sqrt(max(q, _SMALLEST))
    grid = grid_of(activation, *octaves_of(sd, sd))
    weights_M = grid.weights_M * np.exp(-0.5 * np.square(grid.x_M / sd))
    weights_M /= sd * math.sqrt(2.0 * math.pi)
    return Nodes(weights_M, grid.x_M, grid.value_M, grid.slope_M)


def _integrals(grid: Grid, integrands_M5: Array, q_Q: Array) -> Array:
    """The integrals of functions at the nodes against Gaussians, a row a variance."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        p_QM = np.exp(np.square(grid.x_M) * (-0.5 / q_Q[:, None])) * grid.weights_M
        p_QM /= np.sqrt(2.0 * math.pi * q_Q)[:, None]
        return np.asarray(p_QM @ integrands_M5)


class PairMoments(NamedTuple):
    """Expectations over a pair (u_1, u_2) of Gaussians, each of the shape of what was given.

    Attributes:
        value: E[phi(u_1) phi(u_2)].
        slope: E[phi'(u_1) phi'(u_2)].
    """

    value: Array
    slope: Array


def pair_expectation(
    activation: Activation, q_a: ArrayLike, q_b: ArrayLike, correlation: ArrayLike
) -> PairMoments:
    r"""E[phi(u_1) phi(u_2)] and E[phi'(u_1) phi'(u_2)] for Gaussians of two variances and a correlation.

    In closed form where the activation has one, else by quadrature over u_1 and, given it, u_2; near correlation one
    the panels follow the width that is left to u_2.

    Shape:
        - q_a, q_b, correlation: any that broadcast
        - return: the broadcast shape, each

    Args:
        activation: phi.
        q_a: Variances of u_1.
        q_b: Variances of u_2.
        correlation: Their correlation, from -1 to 1.

    Raises:
        ConfigError: A variance is negative or not finite, or a correlation outside -1 to 1.

    Example:
        >>> from unitgain.theory.activations import erf
        >>> pair = pair_expectation(erf(), 0.5, 0.5, [0.0, 1.0])
        >>> (3.0 * pair.value).round(12)
        array([0., 1.])

    Reference:
        Poole et al. 2016, arXiv 1606.05340, equation 5.
    """
    q_A, q_B, c = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (q_a, q_b, correlation))
    )
    variances = np.concatenate([q_A.ravel(), q_B.ravel()])
    if not (np.isfinite(variances).all() and (variances >= 0.0).all() and (np.abs(c) <= 1.0).all()):
        raise ConfigError(
            "q: variances of 0 or larger and correlations from -1 to 1 are needed, but these are "
            f"{q_A}, {q_B} and {c}; clip them"
        )
    pairs = [
        _pair(activation, float(a), float(b), float(k))
        for a, b, k in zip(q_A.ravel(), q_B.ravel(), c.ravel(), strict=True)
    ]
    value, slope = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return PairMoments(value.reshape(c.shape), slope.reshape(c.shape))


def _pair(activation: Activation, q_a: float, q_b: float, c: float) -> tuple[float, float]:
    if activation.kernel is not None:
        return activation.kernel(q_a, q_b, c)
    return pair_quadrature(activation, q_a, q_b, c)
