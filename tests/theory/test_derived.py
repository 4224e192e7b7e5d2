"""Initializers that follow from the network, in theory alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

from unitgain.errors import ConfigError
from unitgain.theory import activations, derived
from unitgain.theory.criticality import critical, double_critical
from unitgain.theory.derived import Facts, critical_point
from unitgain.theory.gaussian import moments
from unitgain.theory.network import Dropout, Layer, Network, Norm, propagate

SHIPPED = {
    name: getattr(activations, name)()
    for name in (
        *("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "erf"),
        *("identity", "softplus"),
    )
}
SINE = activations.from_callable(np.sin, np.cos, kinks=(), name="sin")
STABLE = {n: a for n, a in SHIPPED.items() if n not in ("gelu", "silu", "sigmoid", "softplus")}
DROPOUTS = [Dropout(), Dropout(0.1), Dropout(0.5), Dropout(0.2, alpha=True)]


def layers_of(facts, depth, spread_of=derived.critical, residual=False):
    """The linear maps of a network of equal widths as an initializer gives them."""
    roles = ["first", *["hidden"] * (depth - 1), "output"]
    found = []
    for role in roles:
        own = replace(facts, role=role, residual=residual and role == "hidden")
        spread = spread_of(own)
        found.append(Layer(spread.sigma_w(50, 50), spread.bias(50), residual=own.residual))
    return tuple(found)


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("q", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_where_lengths_come_back_the_critical_point_is_the_one_asked_for(name, q, keep):
    point, expected = (
        critical_point(STABLE[name], q, dropout=Dropout(1 - keep)),
        critical(STABLE[name], q, keep),
    )
    assert (point.q, point.exact) == (q, True)
    assert point.sigma_w == pytest.approx(expected.sigma_w, rel=1e-9)
    assert point.sigma_b == pytest.approx(expected.sigma_b, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_lengths_that_would_run_away_raise_q_to_the_half_stable_point(name):
    point, expected = critical_point(SHIPPED[name]), double_critical(SHIPPED[name])
    assert point.sigma_w == pytest.approx(expected.sigma_w, rel=1e-4)
    assert point.sigma_b == pytest.approx(expected.sigma_b, rel=1e-3)
    assert point.q > 1.0
    assert critical_point(SHIPPED[name], 50.0).q == 50.0


def test_published_points():
    half = critical_point(activations.gelu())
    assert (half.sigma_w**2, half.sigma_b**2) == pytest.approx((1.98306, 0.17292), abs=2e-5)
    leaky = critical_point(activations.leaky_relu(0.3))
    assert (leaky.sigma_w**2, leaky.sigma_b) == (pytest.approx(2 / 1.09, rel=1e-9), 0.0)
    # Schoenholz et al. 2017: sigma_w^2 = 1.76 goes with sigma_b^2 = 0.05.
    tanh = critical_point(activations.tanh(), 0.5700478816407628)
    assert (tanh.sigma_w**2, tanh.sigma_b**2) == pytest.approx((1.76095, 0.05), abs=2e-5)


def test_an_activation_far_from_zero_mean_takes_a_q_that_has_a_critical_point():
    point = critical_point(activations.sigmoid())
    assert point.exact
    assert point.sigma_b == pytest.approx(0.0, abs=1e-3)
    m = moments(activations.sigmoid(), point.q)
    assert point.sigma_w**2 * m.second == pytest.approx(point.q, rel=1e-6)


def test_softplus_has_none_and_gets_that_of_its_limit():
    point = critical_point(activations.softplus())
    assert not point.exact
    assert (point.sigma_w**2, point.sigma_b) == (pytest.approx(2.0, abs=2e-3), 0.0)


CASES = [
    *((n, d) for n in (*SHIPPED, "sin") for d in DROPOUTS[:3] if n != "softplus"),
    # What alpha dropout puts in the place of what it drops outgrows any length of the others.
    *((n, DROPOUTS[3]) for n in ("selu", "tanh", "erf", "sigmoid")),
]


@pytest.mark.parametrize(("name", "dropout"), CASES, ids=str)
def test_gradients_and_lengths_stay_through_fifty_layers(name, dropout):
    activation = SHIPPED.get(name, SINE)
    facts = Facts(activation, "hidden", 50, 50, (50,) * 50, dropout=dropout)
    point = critical_point(activation, dropout=dropout)
    signal = propagate(Network(activation, layers_of(facts, 50), dropout=dropout))
    assert signal.q[:-1] == pytest.approx(np.full(50, point.q), rel=0.02)
    assert abs(signal.slope) < 1e-4


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "selu", "silu"])
def test_behind_and_before_norms_too(name, first, kind):
    norm = Norm(kind, first, eps=0.0)
    facts = Facts(SHIPPED[name], "hidden", 50, 50, (50,) * 50, norm=norm)
    signal = propagate(Network(SHIPPED[name], layers_of(facts, 50), norm=norm))
    assert signal.q[:-1] == pytest.approx(np.ones(50), rel=1e-6)
    assert abs(signal.slope) < 1e-6


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_where_a_norm_leaves_no_choice_weights_keep_the_variance(kind):
    point = critical_point(activations.softplus(), 1.7, norm=Norm(kind))
    second = moments(activations.softplus(), 1.0).second
    assert (point.sigma_w**2 * second, point.sigma_b) == (pytest.approx(1.7), 0.0)


@pytest.mark.parametrize(
    ("name", "sigma_w2"), [("tanh", 1.0), ("gelu", 2.0), ("relu", 2.0), ("silu", 2.0)]
)
def test_without_biases_it_is_the_stable_limit(name, sigma_w2):
    point = critical_point(SHIPPED[name], bias=False)
    assert (point.sigma_w**2, point.sigma_b) == (pytest.approx(sigma_w2, rel=5e-3), 0.0)


# Residual branches


def grown(activation, branches, scale=1.0, dropout=derived.NO_DROPOUT):
    """By how much theory has squared gradients and lengths grow through a residual network."""
    widths = (50,) * (branches + 1)
    facts = Facts(
        activation, "hidden", 20, 50, widths, dropout=dropout, branches=branches, branch_scale=scale
    )
    layers = layers_of(facts, branches + 1, derived.scaled_residual, residual=True)
    network = Network(activation, layers, dropout=dropout, branch_scale=scale)
    signal = propagate(network)
    # q is what the map before it makes of the stream: the output layer's, per sigma_w^2 = 1, is its length.
    start = float(moments(activation, 1.0).second) / (1 - dropout.p)
    return float(signal.q[-1]) / start, layers


@pytest.mark.parametrize("branches", [1, 10, 100, 400])
def test_a_linear_network_grows_as_in_closed_form(branches):
    length, layers = grown(activations.identity(), branches)
    assert layers[1].sigma_w ** 2 == pytest.approx(1 / branches, rel=1e-9)
    assert length == pytest.approx((1 + 1 / branches) ** branches, rel=1e-9)


@pytest.mark.parametrize("dropout", [Dropout(), Dropout(0.3)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "erf"]
)
def test_lengths_and_gradients_are_bounded_at_any_depth(name, scale, dropout):
    for branches in (10, 100, 1000):
        facts = Facts(
            SHIPPED[name],
            "hidden",
            20,
            50,
            (50,) * (branches + 1),
            dropout=dropout,
            residual=True,
            branches=branches,
            branch_scale=scale,
        )
        sigma_w = derived.scaled_residual(facts).sigma_w(50, 50)
        start = moments(SHIPPED[name], 1.0).second / (1 - dropout.p)
        m = moments(SHIPPED[name], sigma_w**2 * start)
        branch = (scale * sigma_w) ** 2 * float(m.slope_second) * dropout.gain
        assert (1 + branch) ** branches < math.e
        if branches <= 100:
            length, _ = grown(SHIPPED[name], branches, scale, dropout)
            assert 1 <= length < 2 * math.e


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("tanh", -0.5),
        ("erf", -0.5),
        ("gelu", -0.5),
        ("silu", -0.5),
        ("relu", -1),
        ("leaky_relu", -1),
    ],
)
def test_the_exponent_of_the_depth(name, power):
    """Branches add up their variances, which takes -1/2, or their means, which takes -1."""
    sigma_w = [
        derived.scaled_residual(
            Facts(SHIPPED[name], "hidden", 9, 9, (9,) * (n + 1), residual=True, branches=n)
        ).sigma_w(9, 9)
        for n in (200, 2000)
    ]
    assert math.log10(sigma_w[1] / sigma_w[0]) == pytest.approx(power, abs=0.03)


def test_a_branch_that_the_scale_makes_small_enough_is_critical():
    facts = Facts(
        activations.tanh(),
        "hidden",
        9,
        9,
        (9,) * 101,
        residual=True,
        branches=100,
        branch_scale=1e-3,
    )
    sigma_w = derived.scaled_residual(facts).sigma_w(9, 9)
    assert sigma_w == critical_point(activations.tanh(), bias=False).sigma_w


def test_critical_branches_are_scaled_ones_unless_a_norm_undoes_it():
    facts = Facts(activations.tanh(), "hidden", 9, 9, (9,) * 9, residual=True, branches=8)
    assert derived.critical(facts).sigma_w(9, 9) == derived.scaled_residual(facts).sigma_w(9, 9)
    normed = replace(facts, norm=Norm("layer"))
    alone = replace(normed, residual=False, branches=0)
    assert derived.critical(normed).sigma_w(9, 9) == derived.critical(alone).sigma_w(9, 9)


def test_what_can_not_be_scaled_is_refused():
    plain = Facts(activations.tanh(), "hidden", 9, 9, (9,) * 16)
    with pytest.raises(ConfigError, match="needs residual layers, but there are none"):
        derived.scaled_residual(plain)
    normed = replace(plain, residual=True, branches=16, norm=Norm("batch"))
    with pytest.raises(ConfigError, match=r"undoes that; set model.branch_scale=0.25"):
        derived.scaled_residual(normed)


# Widths

TABLE = {
    # Yang et al. 2022, table 3, for a network 4 times as wide: first, hidden and output weights, biases.
    "sgd": ((4.0, 1.0, 0.25), 4.0),
    "adam": ((1.0, 0.25, 0.25), 1.0),
}


@pytest.mark.parametrize("rule", TABLE)
def test_rates_follow_the_table(rule):
    fans = {"first": (20, 256), "hidden": (256, 256), "output": (256, 10)}
    weights, vector = TABLE[rule]
    for (role, of_layer), expected in zip(fans.items(), weights, strict=True):
        assert derived.rate_factor(role, rule, "weight", *of_layer, 64) == expected
        wanted = 1.0 if role == "output" else vector
        assert derived.rate_factor(role, rule, "vector", *of_layer, 64) == wanted
        base = [64 if fan == 256 else fan for fan in of_layer]
        for kind in ("weight", "vector"):
            assert derived.rate_factor(role, rule, kind, *base, 64) == 1.0


@pytest.mark.parametrize(
    "base", ["he", "lecun", "xavier", "orthogonal", "torch_default", "critical"]
)
def test_variances_follow_the_table(base):
    at = {
        width: {
            role: derived.spectral(Facts(activations.tanh(), role, 20, 10, (width,) * 3), base)
            for role in ("first", "hidden", "output")
        }
        for width in (64, 256)
    }
    fans = {"first": (20, "w"), "hidden": ("w", "w"), "output": ("w", 10)}
    for (role, of_layer), factor in zip(fans.items(), (1.0, 0.5, 0.25), strict=True):
        small, large = (
            at[width][role].weight(*(width if fan == "w" else fan for fan in of_layer))
            for width in (64, 256)
        )
        assert large / small == pytest.approx(factor, rel=1e-12)
        fan_in = of_layer[0]
        assert at[64][role].bias(64 if fan_in == "w" else 20) == at[256][role].bias(
            256 if fan_in == "w" else 20
        )


def test_other_words_are_refused():
    facts = Facts(activations.tanh(), "hidden", 9, 9, (9,) * 16)
    with pytest.raises(ConfigError, match=r"init.base: one of he, .* is needed, but it is 'lsuv'"):
        derived.spectral(facts, "lsuv")
    for option in (derived.critical, derived.scaled_residual):
        with pytest.raises(ConfigError, match=r"init.distribution: one of normal, orthogonal"):
            option(facts, distribution="uniform")
