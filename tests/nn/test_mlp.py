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
    Trace,
    init,
    initialize,
)

pytestmark = pytest.mark.usefixtures("one_thread")
NORMS = {"none": None, "batch": BatchNorm(), "layer": LayerNorm(), "rms": RMSNorm()}


def network(shape=None, members=3, dtype=torch.float64, **options):
    mlp = MLP(
        shape or Shape(5, 2, (7, 7, 4)),
        **{"activation": nn.Tanh(), "seeds": range(members), "dtype": dtype} | options,
    )
    initialize(mlp, [MemberInit(init.torch_default())] * members)
    return mlp


def inputs(mlp, batch=16):
    g = torch.Generator().manual_seed(0)
    return torch.randn(mlp.members, batch, mlp.shape.inputs, generator=g, dtype=mlp.theta.dtype)


def by_hand(mlp, k, x, activation=torch.tanh, scale=1.0):
    """The forward pass of one member without norm or dropout: h <- phi(h W^T + b), or h plus s of it."""
    state, h = mlp.member_state(k), x
    names = [name for name in state if name.endswith("weight")]
    for name in names:
        z = h @ state[name].T
        bias = name.replace("weight", "bias")
        z = z + state[bias] if bias in state else z
        a = z if name == names[-1] else activation(z)
        h = h + scale * a if "branch" in name else a
    return h


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_forward_pass_is_the_textbook_s(bias, residual):
    mlp = network(Shape(5, 2, (7, 7, 4, 4), bias=bias, residual=residual))
    x = inputs(mlp)
    y = mlp(x)
    for k in range(3):
        torch.testing.assert_close(y[k], by_hand(mlp, k, x[k]), rtol=1e-12, atol=1e-12)


def test_members_have_branch_scales_of_their_own():
    scales = (0.3, 1.0, 2.0)
    mlp = network(Shape(5, 2, (7, 7, 4, 4), residual=True), branch_scales=scales)
    x = inputs(mlp)
    y = mlp(x)
    for k, scale in enumerate(scales):
        torch.testing.assert_close(y[k], by_hand(mlp, k, x[k], scale=scale), rtol=1e-12, atol=1e-12)
        blocks = [m for m in mlp.unpack(k) if type(m).__name__ == "Residual"]
        assert [b.scale for b in blocks] == [scale] * 2
        assert ("scale=0.3" in repr(blocks[0])) == (k == 0)


def test_branches_of_scale_one_cost_no_product():
    assert network(Shape(5, 2, (7, 7), residual=True)).branch_scale_K11 is None
    assert network(Shape(5, 2, (7, 7)), branch_scales=(1.0, 2.0, 1.0)).branch_scale_K11 is None


def test_residual_layers_are_those_between_equal_widths():
    mlp = network(Shape(7, 4, (7, 4, 4, 4), residual=True))
    assert [layer.skip for layer in mlp.layers] == [True, False, True, True, False]
    assert not any(layer.skip for layer in network(Shape(7, 4, (7, 4, 4, 4))).layers)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [True, False])
def test_modules_stand_in_their_order(norm, norm_first, residual):
    mlp = network(
        Shape(5, 2, (7, 7), residual=residual, norm_first=norm_first),
        norm=NORMS[norm],
        dropouts=[Dropout(0.1)] * 3,
    )
    norms = [] if NORMS[norm] is None else [type(NORMS[norm].single(7)).__name__]
    middle = [*norms, "Tanh"] if norm_first else ["Tanh", *norms]
    block = ["Linear", *middle, "Dropout"]
    single = mlp.unpack(0)
    names = [type(m).__name__ for m in single]
    assert names == [*block, *(["Residual"] if residual else block), "Linear"]
    if residual:
        assert [type(m).__name__ for m in single[-2].branch] == block


def test_a_trace_holds_each_layer():
    mlp = network()
    x, trace = inputs(mlp), Trace()
    y = mlp(x, trace=trace)
    assert torch.equal(trace.preactivations[-1], y)
    assert [t.shape[-1] for t in trace.preactivations] == [7, 7, 4, 2]
    assert [t.shape[-1] for t in trace.activations] == [7, 7, 4]
    for z, h in zip(trace.preactivations, trace.activations, strict=False):
        assert torch.equal(h, z.tanh())
    first = mlp.member_state(1)
    z = x[1] @ first["0.weight"].T + first["0.bias"]
    torch.testing.assert_close(trace.preactivations[0][1], z)


def test_a_bias_in_front_of_a_norm_that_removes_it_is_left_out():
    def biases(norm, norm_first=True, bias=True):
        mlp = network(Shape(5, 2, (7, 4), bias=bias, norm_first=norm_first), norm=norm)
        return [layer.bias is not None for layer in mlp.layers]

    assert biases(BatchNorm()) == [False, False, True]
    assert biases(BatchNorm(), norm_first=False) == [True] * 3
    assert biases(LayerNorm()) == biases(RMSNorm()) == biases(None) == [True] * 3
    assert biases(LayerNorm(), bias=False) == [False] * 3


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_parameters_per_member_are_those_of_the_module(norm, bias):
    mlp = network(Shape(5, 2, (7, 4), bias=bias), norm=NORMS[norm])
    assert mlp.parameters_per_member == sum(p.numel() for p in mlp.unpack(0).parameters())


def test_affine_parameters_and_statistics_start_as_the_norm_says():
    state = network(norm=BatchNorm()).member_state(2)
    for name, start in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
        assert torch.equal(state[f"1.{name}"], torch.full((7,), start, dtype=torch.float64))


def test_padding_rows_change_no_output():
    for norm in NORMS.values():
        mlp = network(norm=norm)
        x = inputs(mlp, 16)
        padded = torch.cat([x[:, :11], x[:, :1].expand(-1, 5, -1)], 1)
        state = {n: t.clone() for n, t in mlp.block_state().items()}
        y = mlp(padded, rows=11)
        after = {n: t.clone() for n, t in mlp.block_state().items()}
        mlp.load_block_state(state)
        torch.testing.assert_close(y[:, :11], mlp(x[:, :11]), rtol=1e-12, atol=1e-12)
        for name, tensor in mlp.block_state().items():
            torch.testing.assert_close(after[name], tensor, rtol=1e-12, atol=1e-12)


def test_without_keys_nothing_is_dropped():
    mlp = network(dropouts=[Dropout(0.5)] * 3).train()
    x = inputs(mlp)
    assert torch.equal(mlp(x), network()(x))
    keys = mlp.mask_keys(0, 1)[0]
    assert not torch.equal(mlp(x, keys_LK=keys), mlp(x))


def test_a_pack_without_a_rate_above_zero_needs_no_keys():
    assert network(dropouts=[Dropout(0.0)] * 3).mask_keys(0, 4) is None
    assert network().mask_keys(0, 4) is None
    assert network(dropouts=[Dropout(0.0), Dropout(0.1), Dropout(0.0)]).mask_keys(0, 4).shape == (
        4,
        3,
        3,
    )


def test_rates_belong_to_members():
    mlp = network(dropouts=[Dropout(0.0), Dropout(0.9), Dropout(0.5)], activation=nn.Identity())
    x = inputs(mlp)
    y, plain = mlp(x, keys_LK=mlp.mask_keys(0, 1)[0]), mlp(x)
    assert torch.equal(y[0], plain[0])
    assert not torch.equal(y[1], plain[1])
    assert [m.p for m in mlp.unpack(1) if isinstance(m, nn.Dropout)] == [0.9] * 3


def test_member_state_goes_into_another_member_and_back():
    mlp, other = network(norm=BatchNorm()), network(norm=BatchNorm(), members=2)
    mlp.train()(inputs(mlp))
    state = mlp.member_state(2)
    other.load_member_state(1, state)
    assert all(torch.equal(other.member_state(1)[name], state[name]) for name in state)
    x = inputs(mlp)
    torch.testing.assert_close(other.eval()(x[1:])[1], mlp.eval()(x)[2], rtol=0, atol=0)


def test_an_earlier_block_gives_its_members():
    mlp = network()
    block = {name: tensor.clone() for name, tensor in mlp.block_state().items()}
    before = mlp.member_state(1)
    with torch.no_grad():
        mlp.theta.zero_()
    assert all(torch.equal(mlp.member_state(1, block)[n], t) for n, t in before.items())
    assert all(t.abs().max() == 0 for t in mlp.member_state(1).values())


def test_a_function_serves_as_an_activation():
    mlp = network(activation=torch.sin)
    x = inputs(mlp)
    torch.testing.assert_close(mlp(x)[1], by_hand(mlp, 1, x[1], torch.sin))


@pytest.mark.parametrize(
    "sizes", [{"inputs": 0}, {"outputs": 0}, {"widths": (4, 0)}, {"widths": (-1,)}]
)
def test_an_impossible_width_is_refused(sizes):
    with pytest.raises(ConfigError, match=r"^model\.width: every width must be at least 1, got"):
        Shape(**{"inputs": 3, "outputs": 2, "widths": (4,)} | sizes)


def test_two_kinds_of_dropout_in_one_pack_are_refused():
    with pytest.raises(
        ConfigError, match=r"^dropout: members of one pack must have one kind of dropout$"
    ):
        network(members=2, dropouts=[Dropout(0.1), AlphaDropout(0.1)])


def test_an_activation_with_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"^activation: .*PReLU has weight"):
        network(activation=nn.PReLU())
