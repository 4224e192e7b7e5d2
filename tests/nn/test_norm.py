import pytest
import torch
from torch import nn

from unitgain.nn import BatchNorm, LayerNorm, RMSNorm

pytestmark = pytest.mark.usefixtures("one_thread")
NORMS = {
    "batch": BatchNorm(),
    "batch eps momentum": BatchNorm(eps=1e-3, momentum=0.3),
    "batch plain": BatchNorm(affine=False),
    "layer": LayerNorm(),
    "layer eps": LayerNorm(eps=0.1),
    "layer plain": LayerNorm(affine=False),
    "rms": RMSNorm(),
    "rms eps": RMSNorm(eps=0.1),
    "rms plain": RMSNorm(affine=False),
}


def made(norm, members, width, dtype=torch.float64, seed=0):
    """Affine parameters (K, 1, D) and statistics (K, D) of random numbers."""
    g = torch.Generator().manual_seed(seed)
    parameters = {
        n: torch.randn(members, 1, width, generator=g, dtype=dtype) for n in norm.parameters()
    }
    buffers = {
        n: torch.rand(members, width, generator=g, dtype=dtype) + 0.5 for n in norm.buffers()
    }
    return parameters, buffers


def twin(norm, parameters, buffers, k, width):
    single = norm.single(width).double()
    state = {n: t[k, 0] for n, t in parameters.items()} | {n: t[k] for n, t in buffers.items()}
    single.load_state_dict(state)
    return single


def inputs(members=3, batch=12, width=7, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    return 2.0 + 3.0 * torch.randn(members, batch, width, generator=g, dtype=dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("width", [1, 7, 32])
@pytest.mark.parametrize("name", NORMS)
def test_outputs_gradients_and_statistics_are_those_of_torch_nn(name, width, training):
    norm, x = NORMS[name], inputs(width=width).requires_grad_()
    parameters, buffers = made(norm, 3, width)
    start = {n: t.clone() for n, t in buffers.items()}
    parameters = {n: t.requires_grad_() for n, t in parameters.items()}
    y = norm(x, parameters, buffers, training=training, rows=None)
    y.cos().sum().backward()
    for k in range(3):
        single = twin(norm, parameters, start, k, width).train(training)
        x_k = x[k].detach().clone().requires_grad_()
        y_k = single(x_k)
        y_k.cos().sum().backward()
        torch.testing.assert_close(y[k], y_k, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(x.grad[k], x_k.grad, rtol=1e-10, atol=1e-12)
        for n, parameter in single.named_parameters():
            torch.testing.assert_close(parameters[n].grad[k, 0], parameter.grad)
        for n, buffer in buffers.items():
            torch.testing.assert_close(buffer[k], getattr(single, n), rtol=1e-13, atol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_padding_doesn_t_count(name, training):
    norm, x = NORMS[name], inputs()
    parameters, buffers = made(norm, 3, 7)
    other = {n: t.clone() for n, t in buffers.items()}
    padded = torch.cat([x, 1e6 * torch.ones(3, 4, 7, dtype=torch.float64)], 1)
    y = norm(padded, parameters, buffers, training=training, rows=12)
    expected = norm(x, parameters, other, training=training, rows=None)
    assert y.shape == padded.shape
    assert y.isfinite().all()
    torch.testing.assert_close(y[:, :12], expected, rtol=1e-13, atol=1e-13)
    for n in buffers:
        torch.testing.assert_close(buffers[n], other[n], rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "width"), [(64, 64), (32, 33), (32, 7), (32, 1), (16, 10)])
@pytest.mark.parametrize("name", NORMS)
def test_a_member_s_bits_are_those_of_the_member_alone(name, batch, width, dtype):
    norm, x = NORMS[name], inputs(4, batch, width, dtype)
    parameters, buffers = made(norm, 4, width, dtype)

    def run(k):
        own = {n: t[k].clone().requires_grad_() for n, t in parameters.items()}
        statistics = {n: t[k].clone() for n, t in buffers.items()}
        x_k = x[k].clone().requires_grad_()
        y = norm(x_k, own, statistics, training=True, rows=batch - 3)
        y[:, : batch - 3].square().sum().backward()
        return [y.detach(), x_k.grad, *statistics.values(), *(p.grad for p in own.values())]

    packed = run(slice(0, 4))
    for k in range(4):
        for a, b in zip(packed, run(slice(k, k + 1)), strict=True):
            assert torch.equal(a[k], b[0])


def test_evaluation_leaves_statistics_alone():
    norm = BatchNorm()
    parameters, buffers = made(norm, 3, 7)
    before = {n: t.clone() for n, t in buffers.items()}
    norm(inputs(), parameters, buffers, training=False, rows=None)
    assert all(torch.equal(buffers[n], before[n]) for n in before)


@pytest.mark.parametrize("name", NORMS)
def test_names_are_those_of_the_torch_module(name):
    norm = NORMS[name]
    single = norm.single(4)
    names = {n for n in single.state_dict() if n != "num_batches_tracked"}
    assert names == norm.parameters().keys() | norm.buffers().keys()
    for n, start in (norm.parameters() | norm.buffers()).items():
        assert torch.equal(single.state_dict()[n], torch.full((4,), start))


@pytest.mark.parametrize("name", NORMS)
def test_centres_says_whether_an_offset_of_a_unit_is_lost(name):
    norm, x = NORMS[name], inputs()
    parameters, buffers = made(norm, 3, 7)
    offset = torch.linspace(-1, 1, 7, dtype=torch.float64)
    y, moved = (norm(v, parameters, buffers, training=True, rows=None) for v in (x, x + offset))
    assert torch.allclose(y, moved, atol=1e-9) == norm.centres


def test_single_types():
    kinds = [type(n.single(3)) for n in (BatchNorm(), LayerNorm(), RMSNorm())]
    assert kinds == [nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm]
