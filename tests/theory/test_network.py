import math

import numpy as np
import pytest

from unitgain.theory import activations
from unitgain.theory._branch import _pair
from unitgain.theory.batch_norm import batch_moments, batch_norm_behind
from unitgain.theory.criticality import critical_line
from unitgain.theory.gaussian import moments, pair_expectation
from unitgain.theory.gradient_spread import log_gradient_variance
from unitgain.theory.network import Dropout, Layer, Moments, Network, Norm, propagate
from unitgain.theory.plane import plane

RELU, TANH = activations.relu(), activations.tanh()


def network(activation, sigma_w2, sigma_b2=0.0, depth=50, **parts):
    layer = Layer(math.sqrt(sigma_w2), math.sqrt(sigma_b2))
    return Network(activation, (layer,) * (depth + 1), **parts)


@pytest.mark.parametrize(
    ("case", "slope"),
    [
        (network(RELU, 2.0), 0.0),
        (network(RELU, 1.0), -0.1505),
        (network(RELU, 2.0, dropout=Dropout(0.5)), 0.1505),
        (network(RELU, 1.0, dropout=Dropout(0.5)), 0.0),
        (network(RELU, 1 / 3), -0.389),
        (network(RELU, 2.0, norm=Norm("batch")), 0.5 * math.log10(math.pi / (math.pi - 1))),
        (network(TANH, 1.0, norm=Norm("layer")), 0.0355),
        (network(TANH, 2.5, 0.05), 0.0272),
        (network(TANH, 1.0, 0.05), -0.0599),
        (network(TANH, 1 / 3), -0.239),
    ],
)
def test_published_and_measured_slopes(case, slope):
    # Those of deep layers: the first few are on their way to the fixed point.
    deep = propagate(case).log10_gradient[10:-1]
    assert -np.polyfit(np.arange(deep.size), deep, 1)[0] == pytest.approx(slope, abs=6e-4)


@pytest.mark.parametrize(("batch", "measured"), [(64, 0.0860), (16, 0.1006)])
def test_batch_norm_of_a_finite_batch(batch, measured):
    signal = propagate(network(RELU, 2.0, norm=Norm("batch", batch=batch)))
    assert signal.slope == pytest.approx(measured, abs=2e-3)


def drawn_network(case, width, inputs, rng):
    """The same network in numpy, one draw: mean squares, and squared gradients by layer of a batch."""
    h, skips = inputs, []
    caches = []
    for layer in case.layers[:-1]:
        w = rng.normal(0, layer.sigma_w / math.sqrt(h.shape[1]), (h.shape[1], width))
        z = h @ w + rng.normal(layer.bias_mean, layer.sigma_b, width)
        a = case.activation.value(z)
        caches.append((w, z))
        skips.append(layer.residual)
        h = h + case.branch_scale * a if layer.residual else a
    w = rng.normal(0, case.layers[-1].sigma_w / math.sqrt(width), (width, 10))
    g = rng.normal(size=(len(inputs), 10)) @ w.T
    squares = []
    for (w, z), skip in zip(caches[::-1], skips[::-1], strict=True):
        scale = case.branch_scale if skip else 1.0
        delta = scale * case.activation.slope(z) * g
        squares.append((delta**2).sum(1).mean())
        g = (g if skip else 0.0) + delta @ w.T
    return [(z**2).mean() for _, z in caches], squares[::-1], [z for _, z in caches]


def residual(activation, sigma_w2, width, depth=12, scale=1.0):
    layer = Layer(math.sqrt(sigma_w2), residual=True, width=width)
    return Network(activation, (layer,) * depth + (Layer(1.0),), branch_scale=scale)


WIDTH = 128


@pytest.mark.parametrize(
    "case",
    [
        network(TANH, 2.0, 0.1, depth=10),
        network(activations.gelu(), 1.5, 0.3, depth=10),
        Network(TANH, (Layer(1.5, 0.2, bias_mean=0.4),) * 11),
        Network(RELU, (Layer(0.7), *(Layer(1.4, 0.1),) * 9, Layer(1.0))),
        residual(TANH, 1.0, WIDTH),
        residual(RELU, 1.0, WIDTH),
        residual(activations.sigmoid(), 2.0, WIDTH, scale=0.5),
    ],
    ids=[
        "tanh",
        "gelu",
        "constant bias",
        "first layer",
        "residual tanh",
        "residual relu",
        "scaled",
    ],
)
def test_lengths_correlations_and_gradients_of_drawn_networks(case):
    rng = np.random.default_rng(0)
    draws, length, squares, shared = 40, 0.0, 0.0, 0.0
    for _ in range(draws):
        x = rng.normal(size=(12, WIDTH))
        # Exactly of mean square one, and orthogonal: what theory starts from.
        x = np.linalg.qr(x.T)[0].T * math.sqrt(WIDTH)
        q, gradient, z = drawn_network(case, WIDTH, x, rng)
        length, squares = length + np.array(q), squares + np.array(gradient)
        shared = shared + np.array(
            [((each.sum(0) ** 2 - (each**2).sum(0)) / 132).mean() for each in z]
        )
    signal = propagate(case)
    # Relative errors of a few / sqrt(width draws), and 1 / width corrections that add up over the layers.
    np.testing.assert_allclose(length / draws, signal.q[:-1], rtol=0.1)
    np.testing.assert_allclose(shared / length, signal.correlation[:-1], atol=0.06)
    slope = np.polyfit(np.arange(len(squares)), 0.5 * np.log10(squares), 1)[0]
    assert -slope == pytest.approx(signal.slope, abs=4e-3)


def test_batch_norm_by_monte_carlo():
    rng = np.random.default_rng(1)
    batch, draws = 12, 40_000
    z = rng.normal(size=(draws, batch))
    centred = z - z.mean(1, keepdims=True)
    std = centred.std(1, keepdims=True)
    y = centred / std
    for activation in (RELU, TANH):
        m = batch_moments(activation, batch)
        phi, d = activation.value(y), activation.slope(y)
        cross = (phi.sum(1) ** 2 - (phi**2).sum(1)).mean() / (batch * (batch - 1))
        # Back: a centred gradient of random directions through the activation and the norm.
        g = rng.normal(size=z.shape)
        g = d * (g - g.mean(1, keepdims=True))
        back = (g - g.mean(1, keepdims=True) - y * (g * y).mean(1, keepdims=True)) / std
        error = 6 / math.sqrt(draws)
        assert m.mean == pytest.approx(phi.mean(), abs=error)
        assert m.second == pytest.approx((phi**2).mean(), abs=error)
        assert m.pair == pytest.approx(cross, abs=error)
        gained = (back**2).sum(1).mean() / (batch - 1)
        assert m.own_gain + m.cross_gain == pytest.approx(gained, rel=0.03)


def test_batch_norm_behind_units_with_means_of_their_own():
    rng = np.random.default_rng(2)
    variance, shared = 1.5, 0.6
    means = math.sqrt(shared) * rng.normal(size=400)
    z = means[:, None] + math.sqrt(variance - shared) * rng.normal(size=(400, 4000))
    ratio = (TANH.slope(z) ** 2).mean(1) / TANH.value(z).var(1)
    behind = batch_norm_behind(TANH, variance, shared, 1e-5, None)
    assert behind.gain == pytest.approx(ratio.mean(), rel=4 * ratio.std() / ratio.mean() / 20)


@pytest.mark.parametrize("dropout", [Dropout(0.3), Dropout(0.3, alpha=True)])
def test_dropout_by_monte_carlo(dropout):
    rng = np.random.default_rng(3)
    x = 0.4 + rng.normal(size=1_000_000)
    other = 0.5 * x + rng.normal(size=x.size)
    keep, alpha = 0.7, -1.7580993408473766

    def dropped(values):
        mask = rng.random(x.size) < keep
        if not dropout.alpha:
            return mask * values / keep
        a = (keep * (1 + 0.3 * alpha**2)) ** -0.5
        return a * np.where(mask, values, alpha) - a * 0.3 * alpha

    h, g = dropped(x), dropped(other)
    expected = dropout.applied(Moments(x.mean(), (x**2).mean(), (x * other).mean()))
    assert expected.mean == pytest.approx(h.mean(), abs=0.01)
    assert expected.second == pytest.approx((h**2).mean(), abs=0.02)
    assert expected.pair == pytest.approx((h * g).mean(), abs=0.02)


def test_lsuv_brings_each_layer_to_its_target_and_dropout_on_top():
    layers = (Layer(1.0, target=1.5),) * 6
    assert propagate(Network(TANH, layers)).q == pytest.approx([2.25] * 6)
    dropped = propagate(Network(TANH, layers, dropout=Dropout(0.5)))
    assert dropped.q[0] == pytest.approx(2.25)
    assert (dropped.q[1:] > 2.25).all()
    assert dropped.sigma_w == pytest.approx(propagate(Network(TANH, layers)).sigma_w)


def test_zero_weights_pass_nothing_on_and_huge_lengths_do_not_stop_it():
    silent = propagate(network(RELU, 0.0, depth=3))
    assert np.isneginf(silent.log10_gradient[:-1]).all()
    assert math.isnan(silent.slope)
    endless = propagate(network(RELU, 20.0, depth=600))
    assert endless.slope == pytest.approx(0.5, abs=1e-6)
    assert np.isinf(endless.q[-1])


@pytest.mark.parametrize("name", ["tanh", "selu", "gelu", "softplus", "sigmoid"])
def test_pairs_by_hermite_coefficients(name):
    phi = getattr(activations, name)()
    for q in (0.1, 1.0, 5.0):
        second = float(moments(phi, q).second)
        for c in (-0.5, 0.0, 0.6, 0.99, 1.0):
            exact = float(pair_expectation(phi, q, q, c).value)
            assert _pair(phi, q, second, c) == pytest.approx(exact, abs=2e-4 * second)


def test_the_spread_of_gradients_of_drawn_networks():
    # Hanin: 5 / n a layer for ReLU.
    case = network(RELU, 2.0, depth=11)
    variance = log_gradient_variance(case, propagate(case), (100,) * 11)
    assert variance == pytest.approx(10 * 5 / 100, rel=1e-6)
    rng = np.random.default_rng(4)
    case = network(TANH, 2.0, 0.1, depth=9)
    expected = log_gradient_variance(case, propagate(case), (48,) * 9)
    logs = []
    for _ in range(400):
        _, squares, _ = drawn_network(case, 48, rng.normal(size=(1, 48)), rng)
        logs.append(math.log(squares[0] / squares[-1]))
    # The error of a variance of 400 draws is 7 %; correlations of neighbouring lengths are left out.
    assert np.var(logs) == pytest.approx(expected, rel=0.3)


def test_the_plane_has_its_zero_on_the_critical_line():
    of_plane = plane(TANH, 1.0, (3.0, 1.0))
    q = np.array([0.3, 0.6, 1.0, 2.0])
    sigma_w, sigma_b = critical_line(TANH, q)
    for w, b in zip(sigma_w, sigma_b, strict=True):
        row = int(np.abs(of_plane.sigma_b_S - b).argmin())
        crossing = np.interp(0.0, of_plane.slope_SW[row], of_plane.sigma_w_W)
        assert crossing == pytest.approx(w, abs=0.03)
