import itertools

import pytest
import torch
from torch import nn

from unitgain.nn.layout import aligned
from unitgain.nn.linear import linear

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS = (1, 2, 3, 7, 10, 16, 33, 64, 100)
PAIRS = list(itertools.product(WIDTHS, repeat=2))


def tensors(members, batch, fan_in, fan_out, dtype):
    """Inputs, a block with aligned weights, biases, and gradients of the outputs."""
    g = torch.Generator().manual_seed(batch * 10_000 + fan_in * 100 + fan_out)
    shapes = (batch, fan_in), (aligned(fan_in * fan_out),), (1, fan_out), (batch, fan_out)
    return [torch.randn(members, *s, generator=g, dtype=dtype) for s in shapes]


def run(h, block, bias, gz, fan_in, fan_out):
    """Outputs and the gradients of inputs, weights and biases."""
    h, block = h.clone().requires_grad_(), block.clone().requires_grad_()
    bias = None if bias is None else bias.clone().requires_grad_()
    weight = block[:, : fan_in * fan_out].view(-1, fan_in, fan_out)
    z = linear(h, weight, bias)
    z.backward(gz)
    weight_gradient = block.grad[:, : fan_in * fan_out].view_as(weight)
    return [z.detach(), h.grad, weight_gradient, *([] if bias is None else [bias.grad])]


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("fan_in", "fan_out"), PAIRS)
def test_outputs_and_gradients_are_those_of_torch_nn(fan_in, fan_out, with_bias):
    h, block, bias, gz = tensors(3, 8, fan_in, fan_out, torch.float64)
    ours = run(h, block, bias if with_bias else None, gz, fan_in, fan_out)
    for k in range(3):
        twin = nn.Linear(fan_in, fan_out, with_bias, dtype=torch.float64)
        weight = block[k, : fan_in * fan_out].view(fan_in, fan_out).T
        x = h[k].clone().requires_grad_()
        with torch.no_grad():
            twin.weight.copy_(weight)
            if with_bias:
                twin.bias.copy_(bias[k, 0])
        z = twin(x)
        z.backward(gz[k])
        expected = [z, x.grad, twin.weight.grad.T]
        expected += [twin.bias.grad[None]] if with_bias else []
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a[k], b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [8, 16, 32, 64])
def test_a_member_s_bits_are_those_of_the_member_alone(batch, dtype):
    wrong = []
    for fan_in, fan_out in PAIRS:
        given = tensors(5, batch, fan_in, fan_out, dtype)
        packed = run(*given, fan_in, fan_out)
        for k in (0, 3, 4):
            alone = run(*(t[k : k + 1] for t in given), fan_in, fan_out)
            if not all(torch.equal(a[k], b[0]) for a, b in zip(packed, alone, strict=True)):
                wrong.append((fan_in, fan_out, k))
    assert wrong == []


@pytest.mark.parametrize(("fan_in", "fan_out"), [(1, 7), (7, 1), (1, 1), (5, 3), (33, 7), (8, 8)])
def test_gradients_agree_with_finite_differences_twice_over(fan_in, fan_out):
    h, block, bias, _ = tensors(2, 4, fan_in, fan_out, torch.float64)
    weight = block[:, : fan_in * fan_out].view(2, fan_in, fan_out)
    arguments = tuple(t.clone().requires_grad_() for t in (h, weight, bias))
    assert torch.autograd.gradcheck(linear, arguments)
    assert torch.autograd.gradgradcheck(lambda *t: linear(*t).sin(), arguments)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(7, 5), (7, 1), (1, 5), (64, 64)])
def test_inputs_without_gradients_get_none(fan_in, fan_out):
    h, block, bias, gz = tensors(2, 8, fan_in, fan_out, torch.float32)
    weight = block[:, : fan_in * fan_out].view(2, fan_in, fan_out).clone().requires_grad_()
    linear(h, weight, bias).backward(gz)
    assert h.grad is None
    expected = h.mT @ gz
    torch.testing.assert_close(weight.grad, expected)
