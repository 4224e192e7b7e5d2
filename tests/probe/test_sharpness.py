"""The largest eigenvalue of a Hessian against torch.func's explicit one."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from unitgain.errors import ConfigError
from unitgain.probe.sharpness import hessian_product, sharpness


def setting(dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    net = net.to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(scale)
    x, y = torch.randn(40, 3, dtype=dtype), torch.randint(0, 2, (40,))
    batches = list(zip(x.split(10), y.split(10), strict=True))

    def loss(batch):
        return nn.functional.cross_entropy(net(batch[0]), batch[1])

    return net, loss, batches, (x, y)


def explicit(net, whole):
    """The Hessian over all rows at once, of the parameters as one vector."""
    names = [name for name, _ in net.named_parameters()]
    shapes = [p.shape for p in net.parameters()]

    def loss(flat):
        pieces = flat.split([math.prod(s) for s in shapes])
        values = {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(net, values, (whole[0],)), whole[1])

    flat = torch.cat([p.detach().flatten() for p in net.parameters()])
    return torch.autograd.functional.hessian(loss, flat)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_largest_eigenvalue(scale):
    net, loss, batches, whole = setting(scale=scale)
    eigenvalues = torch.linalg.eigvalsh(explicit(net, whole))
    found = sharpness(loss, net.parameters(), batches, tolerance=1e-6)
    assert found.converged
    assert found.residual <= 1e-6 * found.eigenvalue
    assert found.eigenvalue == pytest.approx(float(eigenvalues[-1]), rel=1e-6)
    assert eigenvalues[0] - 1e-9 <= found.lowest
    # The Hessian of a network that isn't trained has both signs.
    assert found.lowest < 0
    assert found.iterations < len(eigenvalues)


def test_curvature_that_is_negative_and_larger_is_not_taken_for_the_top():
    w = torch.randn(5, dtype=torch.float64, requires_grad=True)
    diagonal = torch.tensor([-100.0, -3.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    found = sharpness(lambda _: (diagonal * w.square()).sum() / 2, [w], [None], tolerance=1e-9)
    assert found.eigenvalue == pytest.approx(2.0)
    assert found.lowest == pytest.approx(-100.0)
    negative = sharpness(lambda _: -w.square().sum(), [w], [None])
    assert negative.eigenvalue == pytest.approx(-2.0)
    assert negative.iterations == 1


def test_few_iterations_say_so():
    net, loss, batches, _ = setting()
    found = sharpness(loss, net.parameters(), batches, tolerance=1e-12, iterations=3)
    assert found.iterations == 3
    assert not found.converged
    assert found.residual > 1e-12 * found.eigenvalue


def test_weights_of_batches():
    net, loss, _, (x, y) = setting()
    uneven = [(x[:30], y[:30]), (x[30:], y[30:])]
    whole = sharpness(loss, net.parameters(), [(x, y)], tolerance=1e-8)
    weighted = sharpness(loss, net.parameters(), uneven, weights=[30, 10], tolerance=1e-8)
    assert weighted.eigenvalue == pytest.approx(whole.eigenvalue, rel=1e-6)
    equal = sharpness(loss, net.parameters(), uneven, tolerance=1e-8)
    assert equal.eigenvalue != pytest.approx(whole.eigenvalue, rel=1e-3)


def test_frozen_and_unused_parameters_and_losses_without_curvature():
    net, loss, batches, whole = setting()
    net[0].requires_grad_(False)
    unused = torch.randn(3, dtype=torch.float64, requires_grad=True)
    found = sharpness(loss, [*net.parameters(), unused], batches, tolerance=1e-8)
    size = sum(p.numel() for p in net[0].parameters())
    expected = torch.linalg.eigvalsh(explicit(net, whole)[size:, size:])[-1]
    assert found.eigenvalue == pytest.approx(float(expected), rel=1e-6)
    assert sharpness(lambda _: unused.sum(), [unused], [None]).eigenvalue == 0.0


def test_parameters_keep_their_gradients():
    net, loss, batches, _ = setting(torch.float32)
    sharpness(loss, net.parameters(), batches, iterations=2)
    assert all(p.grad is None for p in net.parameters())


def test_product():
    net, loss, _, whole = setting()
    v = torch.randn(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    product = hessian_product(loss, list(net.parameters()), whole, v)
    torch.testing.assert_close(product, explicit(net, whole) @ v)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"parameters": []}, "parameters: must be at least one"),
        ({"batches": []}, "batches: must be at least one"),
        ({"weights": [1.0]}, "weights: must be one a batch, 4, got 1"),
        ({"loss": lambda batch: batch[0].requires_grad_()}, "loss: must be one number"),
    ],
)
def test_arguments_that_make_no_sense(arguments, text):
    net, loss, batches, _ = setting()
    given = {"loss": loss, "parameters": net.parameters(), "batches": batches} | arguments
    with pytest.raises(ConfigError, match=text):
        sharpness(**given)
