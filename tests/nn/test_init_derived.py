"""Initializers that follow from the network, in networks."""

import math
import pickle

import pytest
import torch
from torch import nn

from unitgain.errors import ConfigError
from unitgain.nn import (
    MLP,
    AlphaDropout,
    BatchNorm,
    Dropout,
    LayerNorm,
    MemberInit,
    RMSNorm,
    Shape,
    init,
    initialize,
)
from unitgain.nn.activations import Elementwise, Erf
from unitgain.nn.facts import facts_of, theory_of
from unitgain.nn.initialize import layer_initializers, rate_factors
from unitgain.nn.propagate import Propagation
from unitgain.theory import activations
from unitgain.theory.derived import critical_point
from unitgain.theory.gaussian import moments

pytestmark = pytest.mark.usefixtures("one_thread")
CRITICAL = MemberInit(init.critical())


def network(inits, shape, activation=None, dtype=torch.float64, **options):
    mlp = MLP(
        shape, activation=activation or nn.Tanh(), seeds=range(len(inits)), dtype=dtype, **options
    )
    initialize(mlp, inits)
    return mlp


def weights_of(mlp, k, i):
    return mlp.layout.views(mlp.theta.detach())[mlp.layers[i].weight][k]


def measured(mlp):
    """Mean squares of pre-activations and of gradients at them, a layer of each member: (K, L), (K, L)."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(mlp.members, 16, mlp.shape.inputs, generator=draw, dtype=torch.float64)
    both = Propagation(mlp)
    keys = mlp.mask_keys(0, 1)
    output = both.forward(x, None if keys is None else keys[0], None)
    z = [h.square().mean((1, 2)) for _, block in both.inputs for h in block]
    both.backward(torch.randn(output.shape, generator=draw, dtype=torch.float64), keep=True)
    deltas = [d.square().sum(2).mean(1) for _, block in both.preactivation_gradients for d in block]
    return torch.stack(z, 1), torch.stack(deltas, 1)


# Critical


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
@pytest.mark.parametrize("dropout", [None, Dropout(0.3)], ids=["none", "dropout"])
@pytest.mark.parametrize(
    "activation",
    [nn.Tanh(), nn.ReLU(), nn.GELU(), nn.SELU(), nn.Sigmoid(), Elementwise(torch.sin)],
    ids=repr,
)
def test_gradients_keep_their_size_in_a_deep_network(activation, dropout, distribution):
    depth, width, members = 20, 150, 4
    mlp = network(
        [MemberInit(init.critical(distribution=distribution))] * members,
        Shape(30, 30, (width,) * depth),
        activation,
        dropouts=dropout and [dropout] * members,
    )
    _, gradient_KL = measured(mlp)
    log_L = gradient_KL[:, :-1].log10().mean(0).numpy() / 2
    slope = -torch.tensor(log_L).diff().mean()
    # Log norms of a network of n units vary by about sqrt(5 depth / n) / 2 (Hanin and Rolnick 2018), a member's own.
    spread = math.sqrt(5 * depth / width / members) / 2 / math.log(10) / (depth - 1)
    # and their mean falls by about half their variance.
    assert abs(slope) < 4 * spread + 5 / (4 * width) / math.log(10) * (2 if dropout else 1) * 1.5


def test_the_first_layer_makes_the_fixed_point_of_standardized_inputs():
    mlp = network([CRITICAL], Shape(400, 10, (2000, 50)), nn.Tanh())
    x = torch.randn(1, 64, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = x[0] @ weights_of(mlp, 0, 0) + mlp.layout.views(mlp.theta.detach())[mlp.layers[0].bias][0]
    assert float(z.square().mean()) == pytest.approx(1.0, abs=0.02)


def test_the_output_layer_has_the_usual_variance_and_no_biases():
    mlp = network([CRITICAL], Shape(5, 300, (400,)), nn.Tanh())
    weight = weights_of(mlp, 0, 1)
    assert float(weight.square().mean()) == pytest.approx(1 / 400, rel=0.02)
    state = mlp.member_state(0)
    assert not state["2.bias"].any()
    assert state["0.bias"].any()


@pytest.mark.parametrize(("fan_in", "fan_out"), [(300, 200), (200, 300), (250, 250)])
def test_orthogonal_matrices_have_the_critical_gain(fan_in, fan_out):
    mlp = network(
        [MemberInit(init.critical(distribution="orthogonal"))],
        Shape(9, 2, (fan_in, fan_out)),
        nn.Tanh(),
    )
    weight = weights_of(mlp, 0, 1)
    sigma_w = critical_point(activations.tanh()).sigma_w
    singular = torch.linalg.svdvals(weight)
    assert float(singular.max() - singular.min()) < 1e-12
    assert float(weight.square().mean()) == pytest.approx(sigma_w**2 / fan_in, rel=1e-12)


def test_bias_init_has_the_last_word():
    derived = init.with_bias(init.critical(), init.bias_constant(0.25))
    mlp = network([MemberInit(derived)], Shape(5, 2, (6, 6)), nn.Tanh())
    state = mlp.member_state(0)
    assert all(bool((state[f"{i}.bias"] == 0.25).all()) for i in (0, 2, 4))


def test_relu_s_critical_point_is_he_s_but_for_the_ends():
    he, critical = (
        network([MemberInit(each)], Shape(5, 2, (6, 6, 6)), nn.ReLU())
        for each in (init.he(), init.critical())
    )
    for i in (1, 2):
        torch.testing.assert_close(weights_of(he, 0, i), weights_of(critical, 0, i))


# Residual branches


def stream(mlp):
    """Mean squares of what each linear map is given, and of the gradient there, relative to the first and last."""
    length_KL, _ = measured(mlp)
    return (length_KL[:, -1] / length_KL[:, 1]).mean()


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_a_linear_residual_network_grows_as_in_closed_form(distribution):
    branches, members = 100, 16
    mlp = network(
        [MemberInit(init.scaled_residual(distribution=distribution))] * members,
        Shape(20, 40, (64,) * (branches + 1), residual=True),
        nn.Identity(),
    )
    expected = (1 + 1 / branches) ** branches
    assert float(stream(mlp)) == pytest.approx(expected, rel=0.05)
    _, gradient_KL = measured(mlp)
    # The gradient at z of a branch is the stream's times its constant slope.
    grown = (gradient_KL[:, 1] / gradient_KL[:, branches]).mean()
    assert float(grown) == pytest.approx((1 + 1 / branches) ** (branches - 1), rel=0.08)


@pytest.mark.parametrize("scale", [1.0, 0.2])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.GELU()], ids=repr)
def test_signals_and_gradients_stay_bounded_at_depth_100(activation, scale):
    branches, members = 100, 3
    mlp = network(
        [MemberInit(init.scaled_residual())] * members,
        Shape(20, 40, (64,) * (branches + 1), residual=True),
        activation,
        branch_scales=(scale,) * members,
    )
    _, gradient_KL = measured(mlp)
    assert 1 <= float(stream(mlp)) < 2.5 * math.e
    assert 0.3 < float((gradient_KL[:, 1] / gradient_KL[:, branches]).mean()) < 1.5 * math.e


def test_relu_s_branches_add_up_their_means_as_in_closed_form():
    branches, members = 100, 8
    mlp = network(
        [MemberInit(init.scaled_residual())] * members,
        Shape(20, 40, (96,) * (branches + 1), residual=True),
        nn.ReLU(),
    )
    # With sigma_w^2 = 2 a^2: M' = M + a sqrt(q / pi) and q - M^2 stays, so M = sqrt(q - M^2) sinh(u + a / sqrt(pi)).
    a = float(weights_of(mlp, 0, 1).square().mean() * 96 / 2) ** 0.5
    kept = 1 - 1 / math.pi
    u = math.asinh(1 / math.sqrt(math.pi) / math.sqrt(kept)) + branches * a / math.sqrt(math.pi)
    assert float(stream(mlp)) == pytest.approx(kept * math.cosh(u) ** 2, rel=0.05)


# Widths


@pytest.mark.parametrize(
    "base", ["he", "lecun", "xavier", "orthogonal", "torch_default", "critical"]
)
def test_at_the_base_width_it_is_the_base_to_the_bit(base):
    shape = Shape(20, 3, (33, 33, 33))
    plain = network([MemberInit(getattr(init, base)())], shape, nn.GELU())
    carried = [MemberInit(init.spectral(base, base_width=33))]
    mlp = network(carried, shape, nn.GELU())
    assert torch.equal(plain.theta, mlp.theta)
    for rule in ("sgd", "adam"):
        assert rate_factors(mlp, carried, rule) is None


@pytest.mark.parametrize("base", ["he", "xavier", "torch_default"])
def test_entries_have_the_stated_spread(base):
    mlp = network([MemberInit(init.spectral(base, 50))], Shape(200, 100, (400, 400)), nn.ReLU())
    [initializers] = layer_initializers(mlp, [MemberInit(init.spectral(base, 50))])
    for i, initializer in enumerate(initializers):
        weight = weights_of(mlp, 0, i)
        assert float(weight.square().mean().sqrt()) == pytest.approx(
            initializer.weight_std(*weight.shape), rel=0.02
        )
    assert initializers[2].weight_std(400, 100) == pytest.approx(
        getattr(init, base)().weight_std(50, 100) / 8, rel=1e-12
    )


def test_spectral_norms_follow_the_spectral_condition():
    # Yang, Simon and Bernstein 2023: ||W|| in proportion to sqrt(fan_out / fan_in), so that each is a constant.
    ratios = []
    for width in (64, 512):
        mlp = network([MemberInit(init.spectral())], Shape(20, 10, (width,) * 3), nn.ReLU())
        hidden, output = weights_of(mlp, 0, 1), weights_of(mlp, 0, 3)
        ratios.append(
            (
                float(torch.linalg.matrix_norm(hidden, 2)),
                float(torch.linalg.matrix_norm(output, 2)) * math.sqrt(width / 10),
            )
        )
    assert ratios[1][0] == pytest.approx(ratios[0][0], rel=0.1)
    # Its Gaussian norm, sigma (sqrt(fan_in) + sqrt(fan_out)), is sqrt(10 / 64) from its limit at width 64.
    assert ratios[1][1] == pytest.approx(ratios[0][1], rel=0.3)


def test_factors_lie_on_the_parameters_that_they_are_for():
    inits = [MemberInit(init.spectral(base_width=8)), MemberInit(init.he())]
    mlp = network(inits, Shape(5, 3, (32, 32)), nn.ReLU(), norm=LayerNorm())
    sgd, adam = (rate_factors(mlp, inits, rule) for rule in ("sgd", "adam"))
    assert bool((sgd[1] == 1).all())
    assert bool((adam[1] == 1).all())
    seen = {}
    for slot in mlp.layout.slots:
        part = slice(slot.offset, slot.offset + slot.size)
        [found] = {(float(a), float(b)) for a, b in zip(sgd[0, part], adam[0, part], strict=True)}
        seen[slot.layer, slot.kind] = found
    assert seen == {
        **{(0, kind): (4.0, 1.0) for kind in ("weight", "bias", "norm.weight", "norm.bias")},
        (1, "weight"): (1.0, 0.25),
        **{(1, kind): (4.0, 1.0) for kind in ("bias", "norm.weight", "norm.bias")},
        (2, "weight"): (0.25, 0.25),
        (2, "bias"): (1.0, 1.0),
    }


def test_a_first_and_an_output_layer_of_their_own_keep_the_rates():
    spectral = init.spectral(base_width=8)
    apart = [MemberInit(spectral, first=init.he(), output=init.zeros())]
    mlp = network(apart, Shape(5, 3, (32, 32)), nn.ReLU())
    assert not weights_of(mlp, 0, 2).any()
    for rule in ("sgd", "adam"):
        expected = rate_factors(mlp, [MemberInit(spectral)], rule)
        assert torch.equal(rate_factors(mlp, apart, rule), expected)


def test_an_optimizer_without_a_rule_is_refused():
    inits = [MemberInit(init.spectral())]
    mlp = network(inits, Shape(5, 3, (32, 32)), nn.ReLU())
    with pytest.raises(ConfigError, match="rates that differ between layers need an optimizer"):
        rate_factors(mlp, inits, None)


# Facts


def test_an_own_one_gets_the_facts_of_each_kind_of_layer():
    heard = []

    def make(facts):
        heard.append(facts)
        return init.he()

    dropouts = [Dropout(0.1), Dropout(0.4)]
    network(
        [MemberInit(init.Derived(make)), MemberInit(init.he(), output=init.Derived(make))],
        Shape(7, 4, (7, 6, 6, 6), bias=False, residual=True, norm_first=False),
        nn.GELU("tanh"),
        norm=RMSNorm(),
        dropouts=dropouts,
        branch_scales=(0.5, 0.7),
    )
    kinds = [(f.role, f.residual, f.dropout.p, f.branch_scale) for f in heard]
    assert kinds == [
        ("first", True, 0.1, 0.5),
        ("hidden", False, 0.1, 0.5),
        ("hidden", True, 0.1, 0.5),
        ("output", False, 0.1, 0.5),
        ("output", False, 0.4, 0.7),
    ]
    for facts in heard:
        assert (facts.inputs, facts.outputs, facts.widths) == (7, 4, (7, 6, 6, 6))
        assert (facts.bias, facts.branches, facts.depth) == (False, 3, 4)
        assert (facts.norm.kind, facts.norm.first) == ("rms", False)
        assert facts.activation is activations.gelu("tanh")


@pytest.mark.parametrize(
    ("norm", "kind"),
    [(None, "none"), (BatchNorm(), "batch"), (LayerNorm(), "layer"), (RMSNorm(), "rms")],
)
def test_norms_have_their_names(norm, kind):
    mlp = network([CRITICAL], Shape(5, 2, (6,)), norm=norm, dropouts=[AlphaDropout(0.2)])
    facts = facts_of(mlp, 0, 0, theory_of(mlp.activation))
    assert (facts.norm.kind, facts.dropout.alpha) == (kind, True)
    assert facts.bias == (kind != "batch")


@pytest.mark.parametrize(
    "module",
    [
        *(nn.Identity(), nn.ReLU(), nn.LeakyReLU(0.3), nn.ELU(0.7), nn.SELU(), nn.GELU()),
        *(nn.GELU("tanh"), nn.SiLU(), nn.Softplus(2.0), nn.Sigmoid(), nn.Tanh(), Erf()),
        *(Elementwise(torch.sin), nn.Hardtanh(-0.5, 0.7)),
    ],
    ids=repr,
)
def test_theory_s_activation_is_the_module_s(module):
    activation = theory_of(module)
    z = torch.linspace(-4, 4, 402, dtype=torch.float64, requires_grad=True)
    a = module(z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    for found, expected in ((activation.value, a), (activation.slope, slope)):
        torch.testing.assert_close(
            torch.from_numpy(found(z.detach().numpy())), expected.detach(), rtol=1e-9, atol=1e-12
        )
    drawn = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    second = module(drawn).square()
    error = 5 * float(second.std()) / math.sqrt(drawn.numel())
    assert abs(float(moments(activation, 1.0).second) - float(second.mean())) < error


def test_derived_initializers_may_differ_within_a_pack_and_equal_themselves_alone():
    inits = [
        CRITICAL,
        MemberInit(init.spectral("critical", 16)),
        MemberInit(init.he(), output=init.critical(2.0)),
        MemberInit(init.orthogonal()),
    ]
    shape = Shape(5, 2, (9, 9))
    packed = network(inits, shape, nn.GELU())
    for k, each in enumerate(inits):
        alone = MLP(shape, activation=nn.GELU(), seeds=(k,), dtype=torch.float64)
        initialize(alone, [each])
        assert torch.equal(alone.theta[0], packed.theta[k])


def test_they_are_no_initializers_of_biases():
    with pytest.raises(ConfigError, match="bias_init: an initializer of biases is needed"):
        init.as_bias_initializer(init.critical())
    assert init.as_initializer(init.critical()) is not None
    pickle.dumps([init.critical(), init.scaled_residual(), init.spectral()])


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match=r"init.base_width: must be at least 1, got 0"):
        init.spectral(base_width=0)
    with pytest.raises(ConfigError, match=r"init.base: one of"):
        init.spectral("zeros")
    for option in (init.critical, init.scaled_residual):
        with pytest.raises(ConfigError, match=r"init.distribution: one of"):
            option(distribution="uniform")
