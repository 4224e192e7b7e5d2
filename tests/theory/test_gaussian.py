"""Gaussian expectations against closed forms, adaptive quadrature, sampling and identities."""

import math
import time
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from unitgain.errors import ConfigError
from unitgain.theory import activations as shipped
from unitgain.theory import arc_cosine, moments, nodes, pair_expectation
from unitgain.theory._pair import pair_quadrature

ALL = [
    shipped.identity(),
    shipped.relu(),
    shipped.leaky_relu(0.2),
    shipped.elu(),
    shipped.selu(),
    shipped.gelu(),
    shipped.gelu("tanh"),
    shipped.silu(),
    shipped.softplus(),
    shipped.softplus(5.0, 3.0),
    shipped.sigmoid(),
    shipped.tanh(),
    shipped.erf(),
]
CLOSED = [a for a in ALL if a.kernel]
HARD_TANH = shipped.from_callable(lambda x: np.clip(x, -1.0, 1.0), name="hard_tanh")
STEP = shipped.from_callable(lambda x: np.where(x > 0.3, 1.0, 0.0), name="step")
SINE = shipped.from_callable(np.sin, np.cos, (), name="sine")
TINY_TO_LARGE = [1e-12, 1e-4, 0.3, 1.0, 50.0, 1e6]


def label(activation):
    return activation.name


def by_quad(function, q, kinks=()):
    """E f(z), z ~ N(0, q), by QUADPACK between splits at the kinks, at zero and at powers of two."""
    sd = math.sqrt(q)
    powers = 2.0 ** np.arange(-7, math.ceil(math.log2(13.0 * max(sd, 1e-3))) + 1)
    scaled = sd * np.array([0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 10.0, 13.0])
    splits = np.concatenate([-powers, powers, -scaled, scaled, [0.0], kinks])
    splits = np.unique(splits[np.abs(splits) <= 13.0 * sd])

    def integrand(x):
        return float(function(np.array([x]))[0]) * math.exp(-0.5 * (x / sd) ** 2)

    parts = [
        quad(integrand, a, b, epsabs=0.0, epsrel=1e-11, limit=200)[0] for a, b in pairwise(splits)
    ]
    return math.fsum(parts) / (sd * math.sqrt(2.0 * math.pi))


@pytest.mark.parametrize("q", TINY_TO_LARGE)
@pytest.mark.parametrize("a", [0.0, 0.2, 1.0, -0.5])
def test_rectifiers_in_closed_form(q, a):
    m = moments(shipped.leaky_relu(a), q)
    root = math.sqrt(q / (2.0 * math.pi))
    closed = [(1 - a) * root, q * (1 + a * a) / 2, (1 + a) / 2, (1 + a * a) / 2, (1 + a * a) / 2]
    found = [m.mean, m.second, m.slope, m.slope_second, m.growth]
    np.testing.assert_allclose(found, closed, rtol=1e-12, atol=1e-15 * root)


@pytest.mark.parametrize("q", TINY_TO_LARGE)
def test_erf_gelu_and_sine_in_closed_form(q):
    erf, gelu, sine = (moments(a, q) for a in (shipped.erf(), shipped.gelu(), SINE))
    second = 2.0 / math.pi * math.atan(2.0 * q / math.sqrt(1.0 + 4.0 * q))
    np.testing.assert_allclose(erf.second, second, rtol=1e-10)
    np.testing.assert_allclose(erf.slope, 2.0 / math.sqrt(math.pi * (1.0 + 2.0 * q)), rtol=1e-10)
    np.testing.assert_allclose(
        erf.slope_second, 4.0 / math.pi / math.sqrt(1.0 + 4.0 * q), rtol=1e-10
    )
    np.testing.assert_allclose(gelu.mean, q / math.sqrt(2.0 * math.pi * (1.0 + q)), rtol=1e-10)
    np.testing.assert_allclose(gelu.slope, 0.5, rtol=1e-10)
    np.testing.assert_allclose(sine.second, -0.5 * math.expm1(-2.0 * q), rtol=1e-10)
    np.testing.assert_allclose(sine.slope_second, 0.5 + 0.5 * math.exp(-2.0 * q), rtol=1e-10)


@pytest.mark.parametrize("q", TINY_TO_LARGE)
def test_steps_in_closed_form(q):
    above = 0.5 * math.erfc(0.3 / math.sqrt(2.0 * q))
    np.testing.assert_allclose(moments(STEP, q).second, above, rtol=1e-9, atol=1e-30)
    assert float(moments(STEP, q).slope_second) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("activation", ALL, ids=label)
def test_every_activation_against_adaptive_quadrature(activation):
    for q in TINY_TO_LARGE:
        m = moments(activation, q)
        kinks = activation.kinks
        expected = [
            by_quad(lambda x: activation.value(x) ** 2, q, kinks),
            by_quad(lambda x: activation.slope(x) ** 2, q, kinks),
            by_quad(lambda x: activation.value(x) * activation.slope(x) * x, q, kinks) / q,
        ]
        # At tiny q the last one is what is left of terms of the size of 1 / sqrt(q).
        slack = 1e-15 * abs(float(activation.value(np.zeros(1))[0])) / math.sqrt(q)
        np.testing.assert_allclose(
            [m.second, m.slope_second, m.growth], expected, rtol=1e-10, atol=slack
        )


@pytest.mark.parametrize("activation", [a for a in ALL if a.kinks != ()] + [HARD_TANH], ids=label)
def test_kinks_and_slopes_that_are_found_cost_no_digits(activation):
    found = shipped.from_callable(activation.value)
    for q in (1e-2, 1.0, 100.0):
        given, blind = moments(activation, q), moments(found, q)
        np.testing.assert_allclose(blind.second, given.second, rtol=1e-8)
        np.testing.assert_allclose(blind.slope_second, given.slope_second, rtol=1e-8)


def test_many_variances_at_once_are_those_alone():
    q = np.logspace(-12, 6, 12).reshape(3, 4)
    together = moments(shipped.gelu(), q)
    assert together.second.shape == (3, 4)
    for i in np.ndindex(q.shape):
        alone = moments(shipped.gelu(), q[i])
        np.testing.assert_allclose(together.second[i], alone.second, rtol=1e-12)
        np.testing.assert_allclose(together.slope_second[i], alone.slope_second, rtol=1e-12)


def test_zero_variance_is_the_value_at_zero_and_the_mean_of_a_kink_s_slopes():
    m = moments(shipped.sigmoid(), 0.0)
    assert (m.mean, m.second, float(m.slope_second)) == (0.5, 0.25, pytest.approx(1 / 16))
    assert float(moments(shipped.relu(), 0.0).slope_second) == pytest.approx(0.5)


@pytest.mark.parametrize("q", [-1.0, math.nan, math.inf, []])
def test_variances_that_are_none(q):
    with pytest.raises(ConfigError, match="finite variances of 0 or larger"):
        moments(shipped.tanh(), q)


def test_correlations_outside_their_range():
    with pytest.raises(ConfigError, match="correlations from -1 to 1"):
        pair_expectation(shipped.tanh(), 1.0, 1.0, 1.1)


@pytest.mark.parametrize(
    "lengths", [(1.0, 1.0), (1e6, 1e6), (1e-12, 1e-12), (1.0, 3.0), (1e6, 2.0)]
)
@pytest.mark.parametrize("activation", CLOSED, ids=label)
def test_pairs_by_quadrature_are_the_kernels(activation, lengths):
    a, b = (moments(activation, q) for q in lengths)
    for c in (0.0, 0.3, -0.5, 0.9, 0.93, 0.999, 1 - 1e-6, 1 - 1e-12, 1.0, -1.0, -0.99999):
        value, slope = pair_quadrature(activation, *lengths, c)
        expected_value, expected_slope = activation.kernel(*lengths, c)
        assert abs(value - expected_value) < 1e-10 * math.sqrt(a.second * b.second)
        assert abs(slope - expected_slope) < 1e-10 * math.sqrt(a.slope_second * b.slope_second)


@lru_cache
def legendre():
    return np.polynomial.legendre.leggauss(12)


@pytest.mark.parametrize("activation", [a for a in ALL if not a.kernel] + [HARD_TANH], ids=label)
def test_pairs_between_their_known_ends(activation):
    """At 0 the mean squared, at 1 the second moment, and in between dE/dc = q E[phi' phi']."""
    q = 1.7
    m = moments(activation, q)
    zero = pair_expectation(activation, q, q, 0.0)
    one = pair_expectation(activation, q, q, 1.0)
    np.testing.assert_allclose(zero.value, m.mean**2, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(one.value, m.second, rtol=1e-10)
    np.testing.assert_allclose(one.slope, m.slope_second, rtol=1e-10)
    if activation.name == "softplus" and activation.kinks[0] < 1.0:
        return  # the jump at its threshold adds to dE/dc
    t, weights = legendre()
    for low, high in ((0.0, 0.4), (0.85, 0.95), (0.995, 0.9951)):
        c = 0.5 * (low + high) + 0.5 * (high - low) * t
        rise = 0.5 * (high - low) * q * (weights @ pair_expectation(activation, q, q, c).slope)
        ends = pair_expectation(activation, q, q, [low, high]).value
        assert abs(ends[1] - ends[0] - rise) < 1e-9 * float(m.second)


@pytest.mark.parametrize("activation", [*ALL, HARD_TANH, STEP], ids=label)
def test_pairs_against_sampling(activation):
    rng = np.random.default_rng(0)
    count, q_a, q_b, c = 200_000, 0.8, 2.5, 0.6
    z = rng.standard_normal((2, count))
    u = math.sqrt(q_a) * z[0]
    v = math.sqrt(q_b) * (c * z[0] + math.sqrt(1 - c * c) * z[1])
    pair = pair_expectation(activation, q_a, q_b, c)
    for found, f in ((pair.value, activation.value), (pair.slope, activation.slope)):
        products = f(u) * f(v)
        error = products.std() / math.sqrt(count)
        assert abs(float(found) - products.mean()) < 4.5 * error + 1e-9


def test_kernels_of_cho_and_saul():
    rng = np.random.default_rng(1)
    z = rng.standard_normal((2, 400_000))
    c = -0.35
    u, v = np.maximum(z[0], 0.0), np.maximum(c * z[0] + math.sqrt(1 - c * c) * z[1], 0.0)
    for order in (0, 1, 2):
        products = 2.0 * ((u > 0) * (v > 0) if order == 0 else (u * v) ** order)
        error = products.std() / math.sqrt(products.size)
        assert abs(arc_cosine(order, c) - products.mean()) < 4.5 * error
    with pytest.raises(ValueError, match="0, 1 or 2"):
        arc_cosine(3, c)


def test_nodes_give_expectations_of_any_function():
    at = nodes(shipped.tanh(), 0.7)
    expected = by_quad(lambda x: np.cosh(np.tanh(x)) / np.cosh(x) ** 6, 0.7)
    assert float(at.weights_M @ (np.cosh(at.value_M) * at.slope_M**3)) == pytest.approx(
        expected, rel=1e-10
    )


def test_fifty_variances_take_little():
    q = np.logspace(-2, 2, 50)
    moments(shipped.silu(), q)
    took = []
    for _ in range(5):
        start = time.process_time()
        moments(shipped.silu(), q)
        took.append(time.process_time() - start)
    assert min(took) < 0.02
