"""The backward pass that is written out, against autograd over the forward pass of the MLP."""

import itertools

import pytest
import torch
from torch import nn

from unitgain.nn import MLP, AlphaDropout, BatchNorm, Dropout, LayerNorm, RMSNorm, Shape
from unitgain.nn.activations import Elementwise, Erf
from unitgain.nn.mlp import Trace
from unitgain.nn.propagate import Propagation
from unitgain.nn.slopes import slope_of

ACTIVATIONS = [
    nn.Identity(),
    nn.ReLU(),
    nn.LeakyReLU(0.1),
    nn.LeakyReLU(0.0),
    nn.LeakyReLU(-0.2),
    nn.ELU(0.7),
    nn.ELU(-0.5),
    nn.SELU(),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.Softplus(2.0),
    Erf(),
    Elementwise(torch.sin),
]
NORMS = [None, BatchNorm(), LayerNorm(), RMSNorm(affine=False)]


def network(
    activation, norm=None, *, first=True, residual=False, scales=None, dropout=None, bias=True
):
    shape = Shape(5, 3, (7, 7, 9, 7), bias=bias, residual=residual, norm_first=first)
    drops = None if dropout is None else [dropout(0.3), dropout(0.0)]
    mlp = MLP(
        shape,
        activation=activation,
        norm=norm,
        dropouts=drops,
        branch_scales=scales,
        seeds=(3, 4),
        dtype=torch.float64,
    )
    with torch.no_grad():
        for slot in mlp.layout.slots:
            part = mlp.theta[:, slot.offset : slot.offset + slot.size]
            part.add_(torch.randn(part.shape, generator=torch.Generator().manual_seed(slot.offset)))
            part.mul_(0.4)
    return mlp


def check(mlp, batch=11, rows=None, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, batch, 5, generator=draw, dtype=torch.float64)
    slope = torch.randn(2, batch, 3, generator=draw, dtype=torch.float64)
    if rows is not None:
        slope[:, rows:] = 0.0
    keys = mlp.mask_keys(0, 1)
    key = None if keys is None else keys[0]
    before = {name: value.clone() for name, value in mlp.block_state().items()}
    trace = Trace()
    expected = mlp(x, keys_LK=key, rows=rows, trace=trace)
    wanted = torch.autograd.grad(expected, [mlp.theta, *trace.preactivations], slope)
    after = {name: value.clone() for name, value in mlp.block_state().items()}
    mlp.load_block_state(before)
    both = Propagation(mlp)
    for keep, instead in ((False, False), (True, True), (True, False)):
        mlp.load_block_state(before)
        close(both.forward(x, key, rows), expected)
        both.backward(slope.clone(), keep, instead=instead)
        close(both.gradient, wanted[0])
        for name, value in mlp.block_state().items():
            close(value, after[name])
        of_layer = {
            i: part
            for layers, block in both.preactivation_gradients
            for i, part in zip(layers, block.unbind(0), strict=True)
        }
        assert sorted(of_layer) == (list(range(5)) if keep else [])
        for i, gradient in of_layer.items():
            close(gradient, wanted[1 + i])
    for layers, block in both.activations:
        for i, part in zip(layers, block.unbind(0), strict=True):
            close(part, trace.activations[i])
    return both, x


def close(found, expected):
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_gradients_are_those_of_autograd(activation, norm):
    for first in (True, False):
        check(network(activation, norm, first=first))


@pytest.mark.parametrize(
    ("norm", "first", "residual", "dropout", "bias"),
    list(
        itertools.product(
            NORMS[:3], (True, False), (True, False), (None, Dropout, AlphaDropout), (True, False)
        )
    ),
)
def test_skips_dropout_and_biases_are_passed_back_through(norm, first, residual, dropout, bias):
    for activation in (nn.Tanh(), nn.GELU(), nn.Identity()):
        mlp = network(activation, norm, first=first, residual=residual, dropout=dropout, bias=bias)
        check(mlp)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_scaled_branches_are_passed_back_through(activation):
    for norm, first, dropout in (
        (None, True, None),
        (BatchNorm(), True, Dropout),
        (LayerNorm(), False, None),
        (None, True, AlphaDropout),
    ):
        mlp = network(
            activation, norm, first=first, residual=True, scales=(0.3, 1.0), dropout=dropout
        )
        check(mlp)


def test_residual_layers_take_no_new_memory_at_a_step():
    mlp = network(nn.ReLU(), residual=True, scales=(0.3, 2.0))
    both, x = check(mlp)
    places = []
    for _ in range(2):
        both.forward(x, None, None)
        places.append([h.data_ptr() for _, h in both.inputs[1:]])
    assert places[0] == places[1]


@pytest.mark.parametrize("norm", NORMS, ids=lambda n: type(n).__name__)
def test_padding_gives_no_gradient(norm):
    check(network(nn.ReLU(), norm), batch=16, rows=10)


def test_a_smaller_batch_takes_its_memory_from_a_larger_one():
    mlp = network(nn.Tanh())
    both, x = check(mlp)
    first = both.forward(x, None, None).clone()
    few = both.forward(x[:, :4].contiguous(), None, None).clone()
    close(few, first[:, :4])
    close(both.forward(x, None, None), first)
    assert len({block.untyped_storage().data_ptr() for _, block in both.activations}) == 2


@pytest.mark.parametrize("norm", NORMS, ids=lambda n: type(n).__name__)
def test_evaluation_is_the_network_s_own(norm):
    mlp = network(nn.ReLU(), norm, dropout=Dropout)
    both, x = check(mlp)
    expected = mlp.eval()(x)
    before = {name: value.clone() for name, value in mlp.block_state().items()}
    close(both.forward(x, None, None, training=False), expected)
    assert all(torch.equal(v, before[n]) for n, v in mlp.block_state().items())


def test_products_in_bfloat16_are_those_of_rounded_factors():
    mlp = network(nn.ReLU())
    mlp.theta.data = mlp.theta.data.float()
    both = Propagation(mlp, torch.bfloat16)
    exact = Propagation(mlp)
    x = torch.randn(2, 16, 5, generator=torch.Generator().manual_seed(0))
    slope = torch.ones(2, 16, 3)
    rounded, full = both.forward(x, None, None), exact.forward(x, None, None)
    both.backward(slope)
    exact.backward(slope)
    for found, expected in ((rounded, full), (both.gradient, exact.gradient)):
        assert found.dtype == torch.float32
        error = (found - expected).norm() / expected.norm()
        assert 1e-4 < error < 2e-2
    layer = mlp.layers[0]
    z = torch.bmm(x.bfloat16(), mlp.layout.views(mlp.theta.detach())[layer.weight].bfloat16())
    b = mlp.layout.views(mlp.theta.detach())[layer.bias]
    assert torch.equal(both.activations[0][1][0], (z.float() + b).relu())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slopes_are_those_of_autograd(activation, dtype):
    z = torch.cat([torch.linspace(-6, 6, 97), torch.tensor([0.0, -30.0, 30.0])]).to(dtype)
    leaf = z.clone().requires_grad_()
    expected = activation(leaf)
    (slope,) = torch.autograd.grad(expected, leaf, torch.full_like(z, 1.5))
    rule = slope_of(activation)
    a = z.clone() if rule.in_place else torch.empty_like(z)
    saved = rule.forward(a if rule.in_place else z, a)
    assert torch.equal(a, expected.detach())
    found = rule.backward(torch.full_like(z, 1.5), saved, torch.empty_like(z))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(found, slope, rtol=tolerance, atol=tolerance)
