"""Expectations of a product of two functions of correlated Gaussians, by quadrature.

Legend: P panel, N node, M node of all outer panels, E edge.
"""

import math

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._grid import REACH, Grid, edges_of, grid_of, octaves_of
from unitgain.theory._panels import NODES_N, WEIGHTS_N, nodes_of
from unitgain.theory.activations import Activation

Array = NDArray[np.float64]

_SMALLEST = 1e-200
# Ends of panels of the inner Gaussian, in its standard deviations.
_WINDOW = np.array([-REACH, -5.0, -2.0, 2.0, 5.0, REACH])
_WIDE = (
    0.4  # of a standard deviation: what the panels of one Gaussian resolve of the other, given it
)
_BLOCK = 1 << 20  # numbers at once
_MOST_PRODUCTS = 1 << 26
_LAYER = 3.0  # narrowest outer panel beside a kink, in widths of the layer that the inner Gaussian makes of it


def pair_quadrature(
    activation: Activation, q_a: float, q_b: float, correlation: float
) -> tuple[float, float]:
    r"""E[phi(u_1) phi(u_2)] and E[phi'(u_1) phi'(u_2)], any activation.

    $$\int \phi(x) \, E[\phi(u_2) | u_1 = x] \, N(x; 0, q_a) dx, \quad
    u_2 | x \sim N(c x \sqrt{q_b / q_a}, (1 - c^2) q_b)$$

    The inner expectation smooths a kink of phi into a layer of width sqrt((1 - c^2) q_b), around which the outer
    panels narrow.

    Example:
        >>> from unitgain.theory.activations import relu
        >>> round(pair_quadrature(relu(), 1.0, 1.0, 0.0)[0] * 2.0 * math.pi, 10)
        1.0
    """
    s_a, s_b = math.sqrt(max(q_a, _SMALLEST)), math.sqrt(max(q_b, _SMALLEST))
    rest = s_b * math.sqrt((1.0 - correlation) * (1.0 + correlation))
    lead = correlation * s_b / s_a
    if rest >= _WIDE * s_b:
        a = _near(grid_of(activation, *octaves_of(s_a, s_a)), s_a)
        b = a if q_a == q_b else _near(grid_of(activation, *octaves_of(s_b, s_b)), s_b)
        if a.x_M.size * b.x_M.size <= _MOST_PRODUCTS:
            return _product(a, b, s_a, lead, rest)
    edges = _outer_edges(activation, s_a, lead, rest)
    x_PN, weights_PN = nodes_of(edges[:-1], edges[1:])
    x_M = x_PN.ravel()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        p_M = weights_PN.ravel() * np.exp(-0.5 * np.square(x_M / s_a))
        p_M /= s_a * math.sqrt(2.0 * math.pi)
        if rest == 0.0:
            value_M, slope_M = activation.value(lead * x_M), activation.slope(lead * x_M)
        else:
            rows = max(1, _BLOCK // edges.size)
            parts = [
                _inner(activation, lead * x_M[i : i + rows], rest, s_b)
                for i in range(0, x_M.size, rows)
            ]
            value_M, slope_M = np.concatenate(parts, axis=1)
        value = (p_M * activation.value(x_M)) @ value_M
        slope = (p_M * activation.slope(x_M)) @ slope_M
    return float(value), float(slope)


def _near(grid: Grid, sd: float) -> Grid:
    """The nodes that a Gaussian reaches."""
    near = np.abs(grid.x_M) <= REACH * sd
    return Grid(*(field[near] for field in (grid.x_M, grid.weights_M, grid.value_M, grid.slope_M)))


def _product(a: Grid, b: Grid, s_a: float, lead: float, rest: float) -> tuple[float, float]:
    """Both expectations on the product of two grids, if the correlation is so low that their panels do."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        p_M = a.weights_M * np.exp(-0.5 * np.square(a.x_M / s_a))
        left_2M = np.stack([p_M * a.value_M, p_M * a.slope_M])
        inner_2M = np.zeros((2, b.x_M.size))
        rows = max(1, _BLOCK // b.x_M.size)
        for i in range(0, a.x_M.size, rows):
            distance_MM = b.x_M - lead * a.x_M[i : i + rows, None]
            density_MM = np.exp(np.square(distance_MM) * (-0.5 / rest**2))
            inner_2M += left_2M[:, i : i + rows] @ density_MM
        right_2M = np.stack([b.weights_M * b.value_M, b.weights_M * b.slope_M])
        value, slope = (inner_2M * right_2M).sum(1) / (2.0 * math.pi * s_a * rest)
    return float(value), float(slope)


def _outer_edges(activation: Activation, s_a: float, lead: float, rest: float) -> Array:
    """The ends of the panels of u_1."""
    octaves = octaves_of(s_a, s_a)
    radius = 2.0 ** octaves[1]
    own = edges_of(activation, *octaves)
    parts = [own]
    if lead != 0.0 and not lead >= 0.9:
        mapped = edges_of(activation, *octaves_of(abs(lead) * s_a, abs(lead) * s_a)) / lead
        parts.append(mapped)
    if lead != 0.0:
        layer = _LAYER * rest / abs(lead)
        for kink in activation.kinks:
            place = kink / lead
            if abs(place) > radius:
                continue
            parts.append(np.array([place]))
            if 0.0 < layer < radius:
                count = math.ceil(math.log2(radius / layer))
                arms = layer * 2.0 ** np.arange(count)
                parts.append(np.concatenate([place - arms, place + arms]))
    edges = np.unique(np.concatenate(parts))
    return edges[np.abs(edges) <= radius]


def _inner(activation: Activation, mean_M: Array, width: float, s_b: float) -> tuple[Array, Array]:
    """E[phi(u)] and E[phi'(u)] for u ~ N(mean, width^2), one for each mean."""
    reach = float(np.abs(mean_M).max()) + REACH * width
    features_E = edges_of(activation, *octaves_of(s_b, reach / REACH))
    window_ME = mean_M[:, None] + width * _WINDOW
    features_ME = np.clip(features_E, window_ME[:, :1], window_ME[:, -1:])
    edges_ME = np.sort(np.concatenate([window_ME, features_ME], axis=1), axis=1)
    low_ME, high_ME = edges_ME[:, :-1], edges_ME[:, 1:]
    row_P, column_P = np.nonzero(high_ME > low_ME)
    low_P, high_P = low_ME[row_P, column_P], high_ME[row_P, column_P]
    half_P = 0.5 * (high_P - low_P)
    t_PN = (0.5 * (low_P + high_P) - mean_M[row_P])[:, None] + half_P[:, None] * NODES_N
    weights_PN = half_P[:, None] * WEIGHTS_N * np.exp(-0.5 * np.square(t_PN / width))
    x_PN = t_PN + mean_M[row_P][:, None]
    value_P = (weights_PN * activation.value(x_PN)).sum(1)
    slope_P = (weights_PN * activation.slope(x_PN)).sum(1)
    scale = 1.0 / (width * math.sqrt(2.0 * math.pi))
    values_2M = [
        np.asarray(np.bincount(row_P, sums_P, mean_M.size) * scale, dtype=np.float64)
        for sums_P in (value_P, slope_P)
    ]
    return values_2M[0], values_2M[1]
