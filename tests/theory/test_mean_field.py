"""Fixed points, phases and depth scales against iteration, published numbers and scaling laws."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from unitgain.errors import ConfigError
from unitgain.theory import MeanField, Phase, moments
from unitgain.theory import activations as shipped

# An activation, sigma_w^2 and sigma_b^2 at which lengths settle within a few hundred layers.
SETTLING = [
    (shipped.identity(), 0.8, 0.3),
    (shipped.relu(), 1.7, 0.1),
    (shipped.leaky_relu(0.2), 1.6, 0.2),
    (shipped.elu(), 1.2, 0.1),
    (shipped.selu(), 1.0, 0.0),
    (shipped.gelu(), 1.5, 0.2),
    (shipped.gelu("tanh"), 1.5, 0.2),
    (shipped.silu(), 1.8, 0.3),
    (shipped.softplus(), 1.0, 0.1),
    (shipped.softplus(5.0, 3.0), 1.5, 0.1),
    (shipped.sigmoid(), 9.0, 1.0),
    (shipped.tanh(), 2.5, 0.05),
    (shipped.tanh(), 1.0, 0.05),
    (shipped.erf(), 3.0, 0.01),
]


def by_quad(activation, function, q):
    """E f(sqrt(q) z) by QUADPACK, split at the kinks."""
    sd = math.sqrt(q)
    splits = np.unique(
        [-12.0, -4.0, -1.0, 0.0, 1.0, 4.0, 12.0, *(k / sd for k in activation.kinks)]
    )
    splits = splits[np.abs(splits) <= 12.0]

    def integrand(z):
        return float(function(np.array([sd * z]))[0]) ** 2 * math.exp(-0.5 * z * z)

    parts = [quad(integrand, a, b, epsabs=0.0, epsrel=1e-10)[0] for a, b in pairwise(splits)]
    return math.fsum(parts) / math.sqrt(2.0 * math.pi)


@pytest.mark.parametrize(("activation", "w", "b"), SETTLING)
def test_fixed_points_are_where_iteration_ends(activation, w, b):
    field = MeanField(activation, math.sqrt(w), math.sqrt(b))
    q = 1.0
    for _ in range(400):
        # Steps of Steffensen's, so that a few dozen quadratures reach the end of the iteration.
        once = w * by_quad(activation, activation.value, q) + b
        if abs(once / q - 1.0) < 1e-9:
            break
        twice = w * by_quad(activation, activation.value, once) + b
        bend = twice - 2.0 * once + q
        q = twice if bend == 0.0 else max(q - (once - q) ** 2 / bend, 0.1 * twice)
    np.testing.assert_allclose(field.q_star, once, rtol=1e-6)
    chi_1 = w * by_quad(activation, activation.slope, once)
    np.testing.assert_allclose(field.chi_1, chi_1, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "w", "b", "keep", "slope", "digit"),
    [
        (shipped.relu, 2.0, 0.0, 0.5, 0.1505, 4),  # dropout
        (shipped.relu, 1.0, 0.0, 0.5, 0.0, 9),
        (shipped.relu, 1 / 3, 0.0, 1.0, -0.389, 3),  # torch's default weights
        (shipped.tanh, 1 / 3, 0.0, 1.0, -0.239, 3),
        (shipped.tanh, 2.5, 0.05, 1.0, 0.0272, 4),
        (shipped.tanh, 1.0, 0.05, 1.0, -0.0599, 4),
        (shipped.relu, 1.0, 0.0, 1.0, -0.150, 2),
    ],
)
def test_slopes_that_wide_networks_showed(make, w, b, keep, slope, digit):
    field = MeanField(make(), math.sqrt(w), math.sqrt(b), keep)
    assert field.slope == pytest.approx(slope, abs=0.6 * 10.0**-digit)


def test_trainable_depth_of_the_ordered_tanh_network():
    field = MeanField(shipped.tanh(), 1.0, math.sqrt(0.05))
    assert field.trainable_depth == pytest.approx(21.8, abs=0.05)
    assert field.xi_c == pytest.approx(-1.0 / math.log(field.chi_1))
    assert field.xi_gradient == field.xi_c


def test_selu_keeps_mean_zero_and_variance_one():
    field = MeanField(shipped.selu(), 1.0)
    assert field.q_star == pytest.approx(1.0, rel=1e-12)
    assert float(moments(shipped.selu(), 1.0).mean) == pytest.approx(0.0, abs=1e-12)
    # The eigenvalue of the variance at the fixed point that Klambauer et al. 2017 publish.
    assert field.chi_q == pytest.approx(0.7826, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "w", "b", "phase"),
    [
        (shipped.tanh, 1.0, 0.05, Phase.ORDERED),
        (shipped.tanh, 1.76095, 0.05, Phase.CRITICAL),
        (shipped.tanh, 1.0, 0.0, Phase.CRITICAL),
        (shipped.tanh, 2.5, 0.05, Phase.CHAOTIC),
        (shipped.relu, 2.0, 0.0, Phase.CRITICAL),
        (shipped.relu, 1.99999, 0.0, Phase.CRITICAL),
        (shipped.relu, 1.999, 0.1, Phase.ORDERED),
        (shipped.relu, 1.0, 0.0, Phase.ORDERED),
        (shipped.relu, 2.1, 0.0, Phase.UNBOUNDED),
        (shipped.relu, 2.0, 0.1, Phase.UNBOUNDED),
        (shipped.elu, 4.0, 0.0, Phase.UNBOUNDED),
        (shipped.gelu, 1.98306, 0.17292, Phase.HALF_STABLE),
        (shipped.gelu, 1 / 0.4558508757, 0.0671922, Phase.HALF_STABLE),
        (shipped.gelu, 2.0, 0.0, Phase.ORDERED),
        (shipped.sigmoid, 1.0, 0.0, Phase.ORDERED),
        (shipped.selu, 1.0, 0.0, Phase.CHAOTIC),
    ],
)
def test_phases(make, w, b, phase):
    assert MeanField(make(), math.sqrt(w), math.sqrt(b)).phase is phase


def test_he_for_gelu_collapses():
    field = MeanField(shipped.gelu(), math.sqrt(2.0))
    assert field.q_star == 0.0
    assert field.chi_1 == pytest.approx(0.5)
    assert field.c_star == 1.0


def test_a_rectifier_past_its_bound():
    field = MeanField(shipped.relu(), 2.0, 0.3)
    assert field.q_star == math.inf
    assert field.chi_1 == pytest.approx(2.0)
    assert field.trainable_depth == pytest.approx(6.0 / math.log(2.0))


@pytest.mark.parametrize("q_0", [1e-6, 1.0, 1e4])
def test_one_attracting_length_is_reached_from_everywhere(q_0):
    field = MeanField(shipped.tanh(), 1.5, 0.3, q_0=q_0)
    assert field.q_star == pytest.approx(MeanField(shipped.tanh(), 1.5, 0.3).q_star, rel=1e-12)


def test_where_lengths_go_is_decided_by_their_start():
    """V(q) / q of silu falls, then rises: from a small start lengths settle, from a large one they grow."""
    low = MeanField(shipped.silu(), math.sqrt(2.2), math.sqrt(0.18), q_0=0.1)
    high = MeanField(shipped.silu(), math.sqrt(2.2), math.sqrt(0.18), q_0=1e5)
    for field in (low, high):
        q = field.q_0
        for _ in range(5000):
            before, q = q, float(field.length_map(q))
            if q > 1e9:
                q = math.inf
            if q == math.inf or abs(q / before - 1.0) < 1e-9:
                break
        assert field.q_star == pytest.approx(q, rel=1e-4)


@pytest.mark.parametrize(("activation", "w", "b"), SETTLING)
@pytest.mark.parametrize("keep", [1.0, 0.9])
def test_correlations_end_where_iteration_ends(activation, w, b, keep):
    field = MeanField(activation, math.sqrt(w), math.sqrt(b), keep)
    steps = [0.0, 0.3]
    # Beyond .99 a step costs more.
    while abs(steps[-1] - steps[-2]) > 1e-8 and steps[-1] < 0.99:
        steps.append(float(field.correlation_map(steps[-1])))
    if steps[-1] >= 0.99:
        assert field.c_star > 0.99
    else:
        # What is left of a geometric tail.
        last, before = steps[-1] - steps[-2], steps[-2] - steps[-3]
        assert field.c_star == pytest.approx(steps[-1] + last**2 / (before - last), abs=1e-7)


def test_correlations_approach_c_star_at_the_rate_of_chi_c():
    """The slope of log |c_l - c*| against depth is log chi at c*, in the chaotic and the ordered phase."""
    for w, c_0 in ((4.0, 0.6), (1.0, 0.2)):
        field = MeanField(shipped.tanh(), math.sqrt(w), math.sqrt(0.05))
        c, distances = c_0, []
        while not distances or distances[-1] > 1e-7:
            c = float(field.correlation_map(c))
            distances.append(abs(c - field.c_star))
        tail = np.log([d for d in distances if d < 1e-3])
        rate = np.polyfit(np.arange(tail.size), tail, 1)[0]
        assert rate == pytest.approx(math.log(field.chi_c), rel=0.01)


def test_lengths_approach_q_star_at_the_rate_of_chi_q():
    field = MeanField(shipped.gelu(), math.sqrt(1.5), math.sqrt(0.2))
    q, distances = field.q_star * 1.5, []
    for _ in range(40):
        q = float(field.length_map(q))
        distances.append(abs(q / field.q_star - 1.0))
    tail = np.log(distances[20:])
    assert np.polyfit(np.arange(tail.size), tail, 1)[0] == pytest.approx(
        math.log(field.chi_q), rel=1e-3
    )


def test_critical_relu_forgets_with_the_square_of_depth():
    """1 - c_l -> 9 pi^2 / (2 l^2): the slope is -2, the factor is reached like 1 / l."""
    field = MeanField(shipped.relu(), math.sqrt(2.0))
    c, layers, rests = 0.0, [], []
    for layer in range(1, 4001):
        c = float(field.correlation_map(c))
        if layer >= 1000:
            layers.append(layer)
            rests.append(1.0 - c)
    slope = np.polyfit(np.log(layers), np.log(rests), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.02)
    assert rests[-1] * 4000**2 == pytest.approx(4.5 * math.pi**2, rel=0.02)


def test_dropout_leaves_a_finite_depth_on_the_critical_line():
    field = MeanField(shipped.relu(), math.sqrt(2.0 * 0.9), keep=0.9)
    assert field.chi_1 == pytest.approx(1.0)
    assert field.c_star < 1.0
    assert 1.0 < field.trainable_depth < 100.0
    assert MeanField(shipped.relu(), math.sqrt(2.0)).trainable_depth == math.inf


def test_maps_of_a_wide_layer():
    """One layer of 2000 units, on two inputs of known length and correlation, over 40 draws."""
    rng = np.random.default_rng(0)
    width, q, c, draws = 2000, 1.3, 0.4, 40
    field = MeanField(shipped.silu(), 1.4, 0.2)
    lengths, products = [], []
    for _ in range(draws):
        z = rng.standard_normal((2, width))
        u = math.sqrt(q) * np.stack([z[0], c * z[0] + math.sqrt(1.0 - c * c) * z[1]])
        h = field.activation.value(u)
        lengths.append(field.sigma_w**2 * (h[0] @ h[0]) / width + field.sigma_b**2)
        products.append(field.sigma_w**2 * (h[0] @ h[1]) / width + field.sigma_b**2)
    for found, expected in (
        (lengths, float(field.length_map(q))),
        (products, float(field.correlation_map(c, q) * field.length_map(q))),
    ):
        error = np.std(found, ddof=1) / math.sqrt(draws)
        assert abs(np.mean(found) - expected) < 4.5 * error


def test_a_step_function_separates_inputs():
    """Its slope is 0 almost everywhere, but nearby inputs part at the jump."""
    sign = shipped.from_callable(np.sign, np.zeros_like, (0.0,), "sign")
    field = MeanField(sign, 1.0)
    assert field.chi_1 == 0.0
    assert field.c_star == pytest.approx(0.0, abs=1e-9)
    assert float(field.correlation_map(0.5)) == pytest.approx(2.0 / math.pi * math.asin(0.5))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"sigma_w": -1.0}, "sigma_w: 0 or more is needed"),
        ({"sigma_w": math.nan}, "sigma_w: 0 or more is needed"),
        ({"sigma_w": 1.0, "sigma_b": -1.0}, "sigma_b: 0 or more is needed"),
        ({"sigma_w": 1.0, "keep": 0.0}, "keep: a share above 0"),
        ({"sigma_w": 1.0, "q_0": 0.0}, "q_0: a positive variance"),
    ],
)
def test_numbers_outside_their_range(arguments, line):
    with pytest.raises(ConfigError, match=line):
        MeanField(shipped.tanh(), **arguments)


@pytest.mark.parametrize(
    ("function", "w", "q_star", "c_star"),
    [
        (np.abs, 1.5, math.inf, 1.0),
        (lambda x: np.sin(30.0 * x), 1.0, 0.51, 1.0 / 51.0),
        (lambda x: np.where(x > 0.1, x, 20.0), 1.0, 401.6, 1.0),
        (np.zeros_like, 1.0, 0.01, 1.0),
    ],
)
def test_rough_functions_of_a_user_s_own(function, w, q_star, c_star):
    field = MeanField(shipped.from_callable(function, name="own"), w, 0.1)
    assert field.q_star == pytest.approx(q_star, rel=1e-3)
    assert field.c_star == pytest.approx(c_star, rel=1e-6)


def test_no_weights_at_all():
    field = MeanField(shipped.tanh(), 0.0, 0.5)
    assert (field.q_star, field.chi_1, field.xi_c) == (0.25, 0.0, 0.0)
    assert field.slope == -math.inf


def test_a_fresh_fixed_point_takes_little():
    took = []
    for shift in range(3):
        fresh = shipped.from_callable(
            lambda x, s=shift: np.tanh(x) + 1e-3 * s, lambda x: 1.0 / np.cosh(x) ** 2, ()
        )
        start = time.process_time()
        field = MeanField(fresh, 1.2, 0.3)
        assert field.phase
        assert field.xi_c > 0.0
        took.append(time.process_time() - start)
    assert min(took) < 0.05
