import inspect
import math
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from scipy import stats
from torch import nn

from unitgain.errors import ConfigError
from unitgain.nn import init
from unitgain.spec import _init as spec

CONF = Path(__file__).parents[2] / "conf"

WEIGHTS = {
    "zeros": init.zeros(),
    "constant": init.constant(0.3),
    "normal": init.normal(0.05),
    "uniform": init.uniform(0.2),
    "xavier normal": init.xavier(gain=1.5),
    "xavier uniform": init.xavier("uniform"),
    "he normal": init.he(),
    "he uniform fan_out": init.he("uniform", "fan_out", negative_slope=0.3),
    "lecun normal": init.lecun(),
    "lecun uniform": init.lecun("uniform"),
    "orthogonal": init.orthogonal(gain=1.3),
    "truncated_normal": init.truncated_normal(std=0.5, cutoff=1.2),
    "truncated_normal narrow": init.truncated_normal(std=0.5, cutoff=0.2),
    "sparse": init.sparse(0.75, std=0.4),
    "identity": init.identity(),
    "mean_field": init.mean_field(1.7, 0.3),
    "torch_default": init.torch_default(),
    "lsuv": init.lsuv(),
}
BIASES = {
    "zeros": init.bias_zeros(),
    "constant": init.bias_constant(0.3),
    "normal": init.bias_normal(0.2),
    "uniform": init.bias_uniform(0.2),
}
SHAPES = [(300, 200), (200, 300), (250, 250)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(initializer, out_features, in_features, seed=0, dtype=torch.float64):
    weight = torch.empty(out_features, in_features, dtype=dtype)
    bias = torch.empty(out_features, dtype=dtype)
    init.fill_member(weight, bias, initializer, generator(seed))
    return weight, bias


def std_error(sample, std):
    """Standard error of the root mean square of a sample whose true one is ``std``.

    Var(mean of x^2) = (E x^4 - std^4) / n and d sqrt(v) = dv / (2 sqrt(v)).
    """
    fourth = float((sample**4).mean())
    return math.sqrt((fourth - std**4) / sample.numel()) / (2 * std)


# What is stated against what is drawn


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [n for n, i in WEIGHTS.items() if i.weight_std is not None])
def test_weights_have_zero_mean_and_the_stated_std(name, shape):
    fan_out, fan_in = shape
    weight, _ = draw(WEIGHTS[name], fan_out, fan_in)
    std = WEIGHTS[name].weight_std(fan_in, fan_out)
    if std == 0:
        assert torch.equal(weight, weight[0, 0].expand_as(weight))
        return
    rms = float((weight**2).mean().sqrt())
    assert abs(rms - std) < 5 * std_error(weight, std)
    assert abs(float(weight.mean())) < 5 * std / math.sqrt(weight.numel())


@pytest.mark.parametrize("name", BIASES)
def test_biases_have_the_stated_std(name):
    bias = torch.empty(50_000, dtype=torch.float64)
    BIASES[name].fill(bias, 64, generator=generator())
    std = BIASES[name].std(64)
    if std == 0:
        assert torch.equal(bias, bias[0].expand_as(bias))
        return
    assert abs(float((bias**2).mean().sqrt()) - std) < 5 * std_error(bias, std)
    assert abs(float(bias.mean())) < 5 * std / math.sqrt(bias.numel())


@pytest.mark.parametrize(
    ("initializer", "std"),
    [(init.mean_field(1.5, 0.4), 0.4), (init.torch_default(), 1 / math.sqrt(3 * 7))],
)
def test_initializers_with_a_word_on_biases_keep_it(initializer, std):
    _, bias = draw(initializer, 50_000, 7)
    assert initializer.bias_std(7) == pytest.approx(std, rel=1e-12)
    assert abs(float((bias**2).mean().sqrt()) - std) < 5 * std_error(bias, std)


@pytest.mark.parametrize("name", sorted(set(WEIGHTS) - {"mean_field", "torch_default"}))
def test_the_others_leave_biases_at_zero(name):
    _, bias = draw(WEIGHTS[name], 20, 30)
    assert WEIGHTS[name].bias is None
    assert torch.equal(bias, torch.zeros_like(bias))


@pytest.mark.parametrize(
    ("initializer", "fan_in", "fan_out", "std"),
    [
        (init.xavier(gain=2.0), 70, 30, 2 * math.sqrt(2 / 100)),
        (init.he(), 32, 8, 0.25),
        (init.he(mode="fan_out"), 8, 32, 0.25),
        (init.he(negative_slope=1.0), 16, 8, 0.25),
        (init.lecun(), 16, 8, 0.25),
        (init.orthogonal(0.5), 16, 4, 0.125),
        (init.orthogonal(0.5), 4, 16, 0.125),
        (init.mean_field(1.5, 0.0), 36, 9, 0.25),
        (init.uniform(3.0), 9, 9, math.sqrt(3)),
        (init.sparse(0.75, std=2.0), 16, 9, 1.0),
        (init.truncated_normal(0.1, cutoff=2.0), 9, 9, 0.1 * stats.truncnorm(-2, 2).std()),
        (init.truncated_normal(0.1, cutoff=0.1), 9, 9, 0.1 * stats.truncnorm(-0.1, 0.1).std()),
    ],
)
def test_stated_std_in_closed_form(initializer, fan_in, fan_out, std):
    assert initializer.weight_std(fan_in, fan_out) == pytest.approx(std, rel=1e-9)


# Shapes of distributions


@pytest.mark.parametrize(
    ("initializer", "law"),
    [
        (init.normal(0.3), stats.norm(scale=0.3)),
        (init.mean_field(2.0), stats.norm(scale=0.2)),
        (init.he(), stats.norm(scale=math.sqrt(0.02))),
        (init.xavier("uniform"), stats.uniform(-math.sqrt(0.04), 2 * math.sqrt(0.04))),
        (init.uniform(0.3), stats.uniform(-0.3, 0.6)),
        (init.torch_default(), stats.uniform(-0.1, 0.2)),
        (init.truncated_normal(0.3, 1.5), stats.truncnorm(-1.5, 1.5, scale=0.3)),
        (init.truncated_normal(0.3, 0.2), stats.truncnorm(-0.2, 0.2, scale=0.3)),
    ],
)
def test_entries_follow_the_stated_law(initializer, law):
    weight, _ = draw(initializer, 50, 100)
    assert stats.kstest(weight.flatten().numpy(), law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7), (1, 6)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    weight, _ = draw(init.orthogonal(gain=1.5), *shape)
    gram = weight @ weight.T if shape[0] <= shape[1] else weight.T @ weight
    assert torch.allclose(gram, 2.25 * torch.eye(min(shape), dtype=torch.float64), atol=1e-12)
    stated = init.orthogonal(gain=1.5).weight_std(shape[1], shape[0])
    assert float((weight**2).mean()) == pytest.approx(stated**2, rel=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_identity_passes_on_what_it_can(shape):
    weight, _ = draw(init.identity(gain=2.0), *shape)
    x = torch.arange(1.0, shape[1] + 1, dtype=torch.float64)
    kept = min(shape)
    expected = torch.zeros(shape[0], dtype=torch.float64)
    expected[:kept] = 2 * x[:kept]
    assert torch.equal(weight @ x, expected)


@pytest.mark.parametrize(
    ("sparsity", "fan_in", "kept"),
    [(0.9, 64, 6), (0.9, 4, 1), (0.55, 100, 45), (0.0, 10, 10), (0.99, 1, 1)],
)
def test_sparse_leaves_each_unit_the_stated_number_of_inputs(sparsity, fan_in, kept):
    weight, _ = draw(init.sparse(sparsity, std=1.0), 200, fan_in)
    assert (weight != 0).sum(dim=1).tolist() == [kept] * 200


def test_sparse_chooses_every_input_alike():
    weight, _ = draw(init.sparse(0.75, std=1.0), 4000, 20)
    heard = (weight != 0).sum(dim=0).numpy()
    assert stats.chisquare(heard).pvalue > 1e-4


# torch's own functions as witnesses


@pytest.mark.parametrize(
    ("initializer", "twin"),
    [
        (init.normal(0.05), partial(nn.init.normal_, std=0.05)),
        (init.uniform(0.2), partial(nn.init.uniform_, a=-0.2, b=0.2)),
        (init.xavier(gain=1.5), partial(nn.init.xavier_normal_, gain=1.5)),
        (init.xavier("uniform"), nn.init.xavier_uniform_),
        (init.he(), partial(nn.init.kaiming_normal_, nonlinearity="relu")),
        (
            init.he("uniform", "fan_out", 0.3),
            partial(nn.init.kaiming_uniform_, a=0.3, mode="fan_out"),
        ),
        (init.lecun(), partial(nn.init.kaiming_normal_, nonlinearity="linear")),
        (init.orthogonal(1.3), partial(nn.init.orthogonal_, gain=1.3)),
        (init.truncated_normal(0.5), partial(nn.init.trunc_normal_, std=0.5, a=-1.0, b=1.0)),
        (init.lsuv(), nn.init.orthogonal_),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_bits_as_torch_from_the_same_generator(initializer, twin, dtype):
    weight, _ = draw(initializer, 33, 17, seed=3, dtype=dtype)
    expected = twin(torch.empty(33, 17, dtype=dtype), generator=generator(3))
    assert torch.equal(weight, expected)


def test_torch_default_is_linear_bit_for_bit():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        linear = nn.Linear(17, 33)
    weight, bias = draw(init.torch_default(), 33, 17, seed=5, dtype=torch.float32)
    assert torch.equal(weight, linear.weight)
    assert torch.equal(bias, linear.bias)


# Where the numbers come from


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_generator_alone_decides(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(WEIGHTS[name], 20, 30, seed=7)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = draw(WEIGHTS[name], 20, 30, seed=7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", sorted(set(WEIGHTS) - {"zeros", "constant", "identity"}))
def test_another_seed_draws_other_numbers(name):
    assert not torch.equal(draw(WEIGHTS[name], 20, 30, 7)[0], draw(WEIGHTS[name], 20, 30, 8)[0])


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_of_a_pack_equals_the_member_alone(name, dtype):
    members, fan_in, fan_out = 3, 13, 7
    block = torch.full((members, fan_in * fan_out + fan_out), torch.nan, dtype=dtype)
    weight_KIO = block[:, : fan_in * fan_out].view(members, fan_in, fan_out)
    bias_KO = block[:, fan_in * fan_out :]
    for k in range(members):
        init.fill_member(weight_KIO[k].T, bias_KO[k], WEIGHTS[name], generator(k))
    for k in range(members):
        weight, bias = draw(WEIGHTS[name], fan_out, fan_in, seed=k, dtype=dtype)
        assert torch.equal(weight_KIO[k], weight.T)
        assert torch.equal(bias_KO[k], bias)


def test_a_layer_without_bias_has_the_same_weight():
    weight = torch.empty(4, 6, dtype=torch.float64)
    init.fill_member(weight, None, init.torch_default(), generator())
    assert torch.equal(weight, draw(init.torch_default(), 4, 6)[0])


@pytest.mark.parametrize("name", WEIGHTS)
def test_initializers_survive_pickling(name):
    again = pickle.loads(pickle.dumps(WEIGHTS[name]))
    assert torch.equal(draw(again, 6, 5)[0], draw(WEIGHTS[name], 6, 5)[0])


def test_parameters_that_require_gradients_are_filled():
    layer = nn.Linear(3, 2)
    init.fill_member(layer.weight, layer.bias, init.constant(0.5), generator())
    assert layer.weight.tolist() == [[0.5] * 3] * 2
    assert layer.bias.tolist() == [0.0, 0.0]
    assert layer.weight.requires_grad


# Biases apart


@pytest.mark.parametrize("name", BIASES)
def test_bias_init_has_the_last_word(name):
    initializer = init.with_bias(init.torch_default(), BIASES[name])
    weight, bias = draw(initializer, 40, 6)
    assert torch.equal(weight, draw(init.torch_default(), 40, 6)[0])
    assert initializer.bias_std(6) == BIASES[name].std(6)
    rest = generator()
    init.torch_default().weight(torch.empty(40, 6, dtype=torch.float64), generator=rest)
    expected = torch.empty(40, dtype=torch.float64)
    BIASES[name].fill(expected, 6, generator=rest)
    assert torch.equal(bias, expected)


def test_without_bias_init_the_initializer_speaks():
    initializer = init.torch_default()
    assert init.with_bias(initializer, init.as_bias_initializer(None)) is initializer


def test_a_user_function_of_biases_may_ask_for_fan_in():
    def scaled(bias, fan_in, generator):
        nn.init.constant_(bias, 1 / fan_in)

    initializer = init.with_bias(init.he(), init.as_bias_initializer(scaled))
    assert draw(initializer, 3, 8)[1].tolist() == [0.125] * 3


def test_a_user_function_of_biases_may_be_torchs():
    initializer = init.with_bias(init.he(), init.as_bias_initializer(nn.init.ones_))
    assert draw(initializer, 3, 8)[1].tolist() == [1.0] * 3


# Users' functions


def two_point(weight, generator):
    """Entries +-1/sqrt(fan_in) with equal chances."""
    signs = torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1
    weight.copy_(signs / math.sqrt(weight.shape[1]))


def test_a_plain_function_is_enough():
    initializer = init.as_initializer(two_point)
    weight, bias = draw(initializer, 30, 16)
    assert set(weight.flatten().tolist()) == {-0.25, 0.25}
    assert torch.equal(bias, torch.zeros(30, dtype=torch.float64))
    assert torch.equal(weight, draw(initializer, 30, 16)[0])
    assert initializer.weight_std is None


def test_a_partial_of_torchs_is_enough():
    initializer = init.as_initializer(partial(nn.init.orthogonal_, gain=2.0))
    assert torch.equal(draw(initializer, 9, 5)[0], draw(init.orthogonal(2.0), 9, 5)[0])


def test_a_function_that_draws_nothing_needs_no_generator():
    initializer = init.as_initializer(partial(nn.init.constant_, val=0.5))
    assert draw(initializer, 2, 2)[0].tolist() == [[0.5, 0.5]] * 2


def test_a_callable_object_or_keywords_are_enough():
    class Fill:
        def __call__(self, weight, **keywords):
            nn.init.normal_(weight, generator=keywords["generator"])

    initializer = init.as_initializer(Fill())
    assert torch.equal(draw(initializer, 4, 4)[0], draw(init.normal(1.0), 4, 4)[0])


def test_an_initializer_stays_itself():
    initializer = init.he()
    assert init.as_initializer(initializer) is initializer
    bias = init.bias_zeros()
    assert init.as_bias_initializer(bias) is bias


def test_drawing_from_the_global_generator_is_refused():
    def forgetful(weight, generator):
        nn.init.normal_(weight)

    before = torch.get_rng_state()
    with pytest.raises(ConfigError, match=r"`generator` alone, but .*forgetful drew from torch's"):
        draw(init.as_initializer(forgetful), 3, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_torchs_sparse_is_refused_for_its_global_draw():
    with pytest.raises(ConfigError, match=r"torch\.nn\.init\.sparse_ drew from torch's global"):
        draw(init.as_initializer(partial(nn.init.sparse_, sparsity=0.5)), 4, 4)


def test_a_function_that_returns_a_new_tensor_is_refused():
    def fresh(weight, generator):
        return torch.zeros(weight.shape)

    with pytest.raises(ConfigError, match=r"fills its weight in place, but .*fresh returned a new"):
        draw(init.as_initializer(fresh), 2, 3)


def test_entries_left_unfilled_are_refused():
    def half(weight, generator):
        weight[0] = 1.0

    with pytest.raises(
        ConfigError, match=r"half left 6 of 9 entries of a weight of shape \(3, 3\)"
    ):
        draw(init.as_initializer(half), 3, 3)


def test_what_a_function_raises_is_one_line_with_its_key():
    def broken(weight, generator):
        raise RuntimeError("no gain\nin line 2")

    expected = (
        r"^first_init: an initializer must fill any weight, but on one of shape \(2, 3\) .*broken "
        r"raised RuntimeError: no gain; mend it \(HYDRA_FULL_ERROR=1 shows where\)$"
    )
    with pytest.raises(ConfigError, match=expected) as caught:
        draw(init.as_initializer(broken, "first_init"), 2, 3)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (0.1, r"^init: .* but this is a float; name a function in _target_"),
        (None, r"^init: .* but this is a NoneType"),
        (nn.ReLU(), r"^init: .* but this is a ReLU"),
        (nn.Linear, r"^init: .* but this is torch\.nn\.modules\.linear\.Linear"),
        (nn.init.constant_, r"^init: .* takes \(tensor.*, val.*\); give its other arguments"),
        (lambda: None, r"^init: a function of this form is needed: fn\(weight, generator\)"),
        (lambda generator: None, r"^init: .*takes \(generator\)"),
        (init.bias_zeros(), r"^init: .* fills biases; move it to bias_init"),
    ],
)
def test_what_is_no_initializer_is_refused(value, match):
    with pytest.raises(ConfigError, match=match):
        init.as_initializer(value)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (0.1, r"^bias_init: .* but this is a float"),
        (init.he(), r"^bias_init: .* fills weights; use one of unitgain\.nn\.init\.bias_zeros"),
        (lambda bias, width: None, r"^bias_init: .*takes \(bias, width\)"),
    ],
)
def test_what_is_no_initializer_of_biases_is_refused(value, match):
    with pytest.raises(ConfigError, match=match):
        init.as_bias_initializer(value)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: init.he("gaussian"), r"init\.distribution: one of normal, uniform .* 'gaussian'"),
        (lambda: init.he(mode="fan"), r"init\.mode: one of fan_in, fan_out .* 'fan'"),
        (lambda: init.xavier("cauchy"), r"init\.distribution: .* 'cauchy'"),
        (lambda: init.lecun("cauchy"), r"init\.distribution: .* 'cauchy'"),
    ],
)
def test_unknown_words_are_refused(call, match):
    with pytest.raises(ConfigError, match=match):
        call()


# LSUV


def test_lsuv_scales_are_target_over_std_a_member():
    h_KBD = (
        torch.randn(4, 50, 8, generator=generator())
        * torch.tensor([0.1, 1.0, 5.0, 1e3])[:, None, None]
    )
    scale_K = init.lsuv_scales(h_KBD, target_std=2.0)
    for k in range(4):
        assert float(scale_K[k]) == pytest.approx(2 / h_KBD[k].double().numpy().std(), rel=1e-12)
        assert torch.equal(scale_K[k : k + 1], init.lsuv_scales(h_KBD[k : k + 1], 2.0))


def test_lsuv_leaves_dead_and_diverged_members_alone():
    h_KBD = torch.ones(4, 3, 2)
    h_KBD[1] = torch.nan
    h_KBD[2] = torch.inf
    h_KBD[3] = torch.tensor([[0.0, 4.0]])
    assert init.lsuv_scales(h_KBD, 1.0).tolist() == [1.0, 1.0, 1.0, 0.5]
    assert init.lsuv_rescale(lambda s_K: h_KBD * s_K[:, None, None], 4, init.LSUV()).tolist() == [
        1.0,
        1.0,
        1.0,
        0.5,
    ]


def test_lsuv_gives_each_layer_of_a_plain_network_unit_variance():
    settings = init.lsuv(target_std=1.5).data_driven
    x_BD = torch.randn(200, 12, generator=generator(), dtype=torch.float64) * 3 + 1
    network = nn.Sequential()
    for depth, (fan_in, fan_out) in enumerate([(12, 30), (30, 20), (20, 5)]):
        layer = nn.Linear(fan_in, fan_out, dtype=torch.float64)
        init.fill_member(layer.weight, layer.bias, init.lsuv(), generator(depth))
        h_BD = network(x_BD)
        drawn = layer.weight.detach().clone()
        scale_K = init.lsuv_rescale(lambda s, h=h_BD, w=drawn: (h @ w.T * s[0])[None], 1, settings)
        with torch.no_grad():
            layer.weight.mul_(scale_K)
        assert float(layer(h_BD).detach().std(correction=0)) == pytest.approx(1.5, rel=1e-9)
        network.append(layer).append(nn.Tanh())


def test_lsuv_iterates_where_biases_join_and_neighbours_dont_matter():
    h_KBD = torch.randn(3, 400, 6, generator=generator(), dtype=torch.float64)
    h_KBD *= torch.tensor([7.0, 1.001 / h_KBD[1].std(), 0.2])[:, None, None]
    bias_D = 0.5 * torch.randn(6, generator=generator(1), dtype=torch.float64)
    bias_KD = torch.stack([bias_D, torch.zeros(6), bias_D])
    settings = init.LSUV(tolerance=0.01, max_iterations=50)
    calls = []

    def packed(scale_K):
        calls.append(scale_K)
        return h_KBD * scale_K[:, None, None] + bias_KD[:, None, :]

    scale_K = init.lsuv_rescale(packed, 3, settings)
    assert len(calls) > 2
    assert float(scale_K[1]) == 1.0
    std_K = packed(scale_K).flatten(1).std(dim=1, correction=0)
    assert ((std_K - 1).abs() <= 0.01 + 1e-12).all()
    for k in range(3):
        alone = init.lsuv_rescale(
            lambda s, k=k: h_KBD[k : k + 1] * s[:, None, None] + bias_KD[k], 1, settings
        )
        assert torch.equal(alone, scale_K[k : k + 1])


def test_lsuv_leaves_a_member_whose_variance_overflows_alone():
    h_KBD = torch.tensor([[[-1e200, 1e200]]], dtype=torch.float64)
    assert init.lsuv_scales(h_KBD, 1.0).tolist() == [1.0]


def test_lsuv_stops_at_its_limit():
    calls = []

    def stubborn(scale_K):
        calls.append(scale_K)
        return torch.tensor([[[0.0, 8.0]]])

    assert init.lsuv_rescale(stubborn, 1, init.LSUV(max_iterations=3)).tolist() == [1 / 64]
    assert len(calls) == 3


# Configuration


def options(group):
    return {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / group).glob("*.yaml")}


@pytest.mark.parametrize(
    ("group", "classes"),
    [("init", spec.INITIALIZERS), ("bias_init", spec.BIAS_INITIALIZERS)],
)
def test_yaml_schema_and_function_agree_on_names_and_defaults(group, classes):
    by_target = {cls.model_fields["target"].annotation.__args__[0]: cls for cls in classes}
    nodes = {name: node for name, node in options(group).items() if node}
    assert {node["_target_"] for node in nodes.values()} == set(by_target)
    for node in nodes.values():
        component = by_target[node["_target_"]].model_validate(node)
        defaults = by_target[node["_target_"]].model_validate({"_target_": node["_target_"]})
        assert component == defaults
        function = getattr(init, node["_target_"].rpartition(".")[2])
        parameters = inspect.signature(function).parameters.values()
        assert {p.name for p in parameters} == set(component.arguments())
        for p in parameters:
            assert p.default in (component.arguments()[p.name], p.empty)
        made = function(**component.arguments())
        assert isinstance(made, init.Initializer | init.Derived | init.BiasInitializer)


def test_every_option_that_is_asked_for_is_there():
    assert set(options("init")) == {
        *("zeros", "constant", "normal", "uniform", "xavier", "he", "kaiming", "lecun"),
        *("orthogonal", "truncated_normal", "sparse", "identity", "mean_field", "torch_default"),
        *("lsuv", "critical", "scaled_residual", "spectral"),
    }
    assert options("init")["kaiming"] == options("init")["he"]
    assert set(options("bias_init")) == {"from_init", "zeros", "constant", "normal", "uniform"}
    assert options("bias_init")["from_init"] == {}


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (spec.Normal, {"std": 0.0}),
        (spec.Normal, {"std": math.nan}),
        (spec.Uniform, {"bound": -1.0}),
        (spec.Constant, {"value": math.inf}),
        (spec.Sparse, {"sparsity": 1.0}),
        (spec.Sparse, {"sparsity": -0.1}),
        (spec.He, {"mode": "fan"}),
        (spec.Xavier, {"distribution": "cauchy"}),
        (spec.TruncatedNormal, {"cutoff": 0.0}),
        (spec.MeanField, {"sigma_b": -0.1}),
        (spec.Lsuv, {"max_iterations": 0}),
        (spec.Orthogonal, {"gian": 1.0}),
        (spec.BiasNormal, {"std": -1.0}),
    ],
)
def test_impossible_arguments_are_refused(cls, arguments):
    target = cls.model_fields["target"].annotation.__args__[0]
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        cls.model_validate({"_target_": target, **arguments})
