"""The critical line against published points and its own definition."""

import math

import numpy as np
import pytest

from unitgain.errors import ConfigError
from unitgain.theory import (
    MeanField,
    Phase,
    critical,
    critical_line,
    critical_sigma_w,
    double_critical,
)
from unitgain.theory import activations as shipped

ATTRACTING = [
    shipped.identity(),
    shipped.relu(),
    shipped.leaky_relu(0.2),
    shipped.elu(),
    shipped.selu(),
    shipped.tanh(),
    shipped.erf(),
]


@pytest.mark.parametrize("q", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("activation", ATTRACTING, ids=lambda a: a.name)
def test_gradients_and_lengths_stay(activation, q):
    point = critical(activation, q)
    field = MeanField(activation, point.sigma_w, point.sigma_b, q_0=q)
    assert field.q_star == pytest.approx(q, rel=1e-9)
    assert field.chi_1 == pytest.approx(1.0, rel=1e-9)
    assert field.phase is Phase.CRITICAL
    assert point.chi_q == pytest.approx(field.chi_q)
    assert field.slope == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("a", [0.0, 0.01, 0.3, 1.0])
def test_rectifiers_need_two_over_one_plus_a_squared(a):
    point = critical(shipped.leaky_relu(a))
    assert point.sigma_w**2 == pytest.approx(2.0 / (1.0 + a * a), rel=1e-12)
    assert point.sigma_b == 0.0


def test_tanh_with_the_biases_of_schoenholz():
    point = critical_sigma_w(shipped.tanh(), math.sqrt(0.05))
    assert point.sigma_w**2 == pytest.approx(1.76095, abs=5e-6)
    assert point.sigma_b**2 == pytest.approx(0.05, rel=1e-9)


def test_sigma_w_of_rectifiers_without_biases():
    assert critical_sigma_w(shipped.relu(), 0.0).sigma_w ** 2 == pytest.approx(2.0)
    with pytest.raises(ConfigError, match=r"relu has no critical point with sigma_b = 0\.5"):
        critical_sigma_w(shipped.relu(), 0.5)


def test_double_critical_points():
    point = double_critical(shipped.gelu())
    assert point.sigma_w**2 == pytest.approx(1.98306, abs=5e-6)
    assert point.sigma_b**2 == pytest.approx(0.17292, abs=5e-6)
    assert point.chi_q == pytest.approx(1.0, rel=1e-9)
    silu = double_critical(shipped.silu())
    assert silu.chi_q == pytest.approx(1.0, rel=1e-9)
    assert critical(shipped.silu(), 2.0 * silu.q).chi_q < 1.0 < critical(shipped.silu()).chi_q
    for activation in (shipped.relu(), shipped.tanh(), shipped.elu(), shipped.softplus()):
        assert double_critical(activation) is None


@pytest.mark.parametrize("make", [shipped.gelu, shipped.silu])
def test_smooth_activations_that_are_not_odd_say_so(make):
    for point in (critical(make()), double_critical(make())):
        field = MeanField(make(), point.sigma_w, point.sigma_b, q_0=point.q)
        assert field.phase is Phase.HALF_STABLE
    beyond = critical(make(), 40.0)
    assert MeanField(make(), beyond.sigma_w, beyond.sigma_b, q_0=40.0).phase is Phase.CRITICAL


def test_dropout_takes_smaller_weights():
    point = critical(shipped.tanh(), keep=0.8)
    field = MeanField(shipped.tanh(), point.sigma_w, point.sigma_b, keep=0.8)
    assert field.chi_1 == pytest.approx(1.0, rel=1e-9)
    assert field.q_star == pytest.approx(1.0, rel=1e-9)
    assert point.sigma_w == pytest.approx(math.sqrt(0.8) * critical(shipped.tanh()).sigma_w)


def test_a_line_has_gaps_where_biases_would_be_imaginary():
    sigma_w, sigma_b = critical_line(shipped.sigmoid(), [1.0, 100.0])
    assert np.isnan([sigma_w[0], sigma_b[0]]).all()
    point = critical(shipped.sigmoid(), 100.0)
    assert (sigma_w[1], sigma_b[1]) == pytest.approx((point.sigma_w, point.sigma_b))


@pytest.mark.parametrize(
    ("make", "q", "line"),
    [
        (shipped.sigmoid, 1.0, "q = 1 is below 6.54 for sigmoid, but there is one at q = "),
        (shipped.softplus, 1.0, "and so is every other; use a norm"),
        (lambda: shipped.from_callable(np.sign, np.zeros_like, (0.0,)), 1.0, "sign has a slope"),
        (shipped.tanh, 0.0, "a positive variance"),
    ],
)
def test_what_has_no_critical_point(make, q, line):
    with pytest.raises(ConfigError, match=line):
        critical(make(), q)
