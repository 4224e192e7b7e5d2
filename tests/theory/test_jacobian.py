"""Jacobian spectra against closed forms and random matrices."""

import math

import numpy as np
import pytest

from unitgain.errors import ConfigError
from unitgain.theory import Jacobian, product_density
from unitgain.theory import activations as shipped

TANH = (shipped.tanh(), 0.57004504, math.sqrt(1.76095))
RELU = (shipped.relu(), 1.0, math.sqrt(2.0))
HARD = (shipped.from_callable(lambda x: np.clip(x, -1.0, 1.0), name="hard_tanh"), 0.3, 1.1)
LINEAR = (shipped.identity(), 1.0, 1.0)


def singular_values(case, layers, orthogonal, width, draws):
    """Squared singular values of products of random matrices, a row a draw."""
    activation, q, sigma_w = case
    rng = np.random.default_rng(layers + 10 * orthogonal)
    squares = []
    for _ in range(draws):
        product = np.eye(width)
        for _ in range(layers):
            weight = rng.standard_normal((width, width)) / math.sqrt(width)
            if orthogonal:
                factor, triangle = np.linalg.qr(weight)
                weight = factor * np.sign(np.diag(triangle))
            slopes = activation.slope(math.sqrt(q) * rng.standard_normal(width))
            product = slopes[:, None] * sigma_w * (weight @ product)
        squares.append(np.linalg.svd(product, compute_uv=False) ** 2)
    return np.array(squares)


@pytest.mark.parametrize("layers", [1, 2, 5, 50])
def test_linear_gaussian_products_have_fuss_catalan_moments(layers):
    jacobian = Jacobian(*LINEAR, layers)
    numbers = [math.comb(k * (layers + 1), k - 1) / k for k in range(1, 7)]
    np.testing.assert_allclose(jacobian.moments(6), numbers, rtol=1e-9)
    edge = (layers + 1.0) ** (layers + 1) / float(layers) ** layers
    assert jacobian.edge == pytest.approx(edge, rel=1e-6)
    assert jacobian.variance == pytest.approx(layers)


def test_linear_orthogonal_networks_are_isometric():
    jacobian = Jacobian(*LINEAR, 1000, orthogonal=True)
    np.testing.assert_allclose(jacobian.moments(6), 1.0, rtol=1e-9)
    assert jacobian.variance == 0.0


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("case", [TANH, RELU, HARD], ids=["tanh", "relu", "hard_tanh"])
def test_variance_is_that_of_pennington(case, orthogonal):
    """By its published formula, by the S-transform's moments, and by random matrices."""
    layers = 4
    jacobian = Jacobian(*case, layers, orthogonal)
    first, second = jacobian.moments(2)
    assert first == pytest.approx(jacobian.mean)
    assert second / first**2 - 1.0 == pytest.approx(jacobian.variance, rel=1e-9)
    squares = singular_values(case, layers, orthogonal, width=200, draws=12)
    for k, expected in enumerate((first, second), start=1):
        sampled = (squares**k).mean(1)
        error = sampled.std(ddof=1) / math.sqrt(len(sampled))
        # A finite width shifts the moments by a few parts in n.
        assert abs(sampled.mean() - expected) < 4.5 * error + 5.0 / 200 * expected


def test_relu_variances_in_closed_form():
    assert Jacobian(*RELU, 7).variance == pytest.approx(14.0)
    assert Jacobian(*RELU, 7, orthogonal=True).variance == pytest.approx(7.0)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_followed_density_is_the_closed_form(layers):
    jacobian = Jacobian(*LINEAR, layers)
    x = jacobian.edge * np.array([1e-4, 1e-2, 0.1, 0.5, 0.9, 0.99, 1.01])
    closed = product_density(x, layers)
    np.testing.assert_allclose(jacobian.density(x), closed, rtol=1e-5, atol=1e-6)
    assert closed[-1] == 0.0


@pytest.mark.parametrize("layers", [1, 3, 10])
def test_closed_density_has_fuss_catalan_moments(layers):
    edge = (layers + 1.0) ** (layers + 1) / float(layers) ** layers
    nodes, weights = np.polynomial.legendre.leggauss(500)
    share = (0.5 + 0.5 * nodes) ** (3 * layers)
    measure = edge * 0.5 * weights * 3 * layers * (0.5 + 0.5 * nodes) ** (3 * layers - 1)
    density = product_density(edge * share, layers)
    for k in range(4):
        expected = math.comb(k * (layers + 1), k - 1) / k if k else 1.0
        assert (density * (edge * share) ** k) @ measure == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("case", "layers", "orthogonal"),
    [(TANH, 3, True), (RELU, 3, True), (RELU, 2, False), (HARD, 5, False)],
)
def test_density_is_that_of_random_matrices(case, layers, orthogonal):
    """The share of squared singular values in each of eight intervals."""
    jacobian = Jacobian(*case, layers, orthogonal)
    ends = jacobian.edge * np.array([0.002, 0.02, 0.06, 0.12, 0.2, 0.3, 0.45, 0.65, 1.0])
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half = 0.5 * np.diff(ends)[:, None]
    x = 0.5 * (ends[1:] + ends[:-1])[:, None] + half * nodes
    shares = (jacobian.density(x) * half * weights).sum(1)
    squares = singular_values(case, layers, orthogonal, width=200, draws=10)
    counts = np.array([np.histogram(row, ends)[0] for row in squares]) / squares.shape[1]
    error = counts.std(axis=0, ddof=1) / math.sqrt(len(counts))
    assert (np.abs(counts.mean(0) - shares) < 4.5 * error + 1.0 / 200).all()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Jacobian(*RELU, 0), "layers: 1 or more are needed"),
        (lambda: Jacobian(shipped.relu(), 0.0, 1.0, 2), "q: a positive number"),
        (lambda: Jacobian(shipped.relu(), 1.0, math.inf, 2), "sigma_w: a positive number"),
        (lambda: Jacobian(*RELU, 1, orthogonal=True).density(1.0), "layers: 2 or more"),
    ],
)
def test_numbers_outside_their_range(make, line):
    with pytest.raises(ConfigError, match=line):
        make()
