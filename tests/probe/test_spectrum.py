"""Singular values against torch's of an explicit Jacobian, and against theory."""

import itertools
import math

import pytest
import torch
from torch import nn

from unitgain.nn import MLP, Shape
from unitgain.probe.spectrum import Jacobian, between, singular_values, spectral_density

SEED = 3


def network(*widths, activation=nn.Tanh, dtype=torch.float64):
    torch.manual_seed(0)
    pairs = itertools.pairwise(widths)
    layers = [m for i, o in pairs for m in (nn.Linear(i, o), activation())]
    return nn.Sequential(*layers[:-1]).to(dtype)


def explicit(net, x):
    """One Jacobian an example, by torch.func on that example alone."""
    return torch.stack([torch.func.jacrev(lambda row: net(row[None])[0])(row) for row in x])


@pytest.mark.parametrize("widths", [(5, 8, 3), (3, 8, 5), (4, 6, 6, 4)])
def test_jacobian_and_its_products(widths):
    net, x = network(*widths), torch.randn(7, widths[0], dtype=torch.float64)
    expected = explicit(net, x)
    jacobian = Jacobian(net, x)
    torch.testing.assert_close(jacobian.dense(), expected)
    v = torch.randn(7, widths[0], 2, dtype=torch.float64)
    u = torch.randn(7, widths[-1], 3, dtype=torch.float64)
    torch.testing.assert_close(jacobian.product(v), expected @ v)
    torch.testing.assert_close(jacobian.transposed_product(u), expected.mT @ u)


@pytest.mark.parametrize("bottom", [False, True])
@pytest.mark.parametrize("steps", [None, 6])
def test_singular_values(bottom, steps):
    net, x = network(6, 9, 6), torch.randn(4, 6, dtype=torch.float64)
    expected = torch.linalg.svdvals(explicit(net, x))
    expected = expected.flip(1)[:, :3] if bottom else expected[:, :3]
    generator = torch.Generator().manual_seed(SEED)
    found = singular_values(net, x, 3, bottom=bottom, steps=steps, generator=generator)
    torch.testing.assert_close(found.values, expected)
    assert found.steps == (steps or 0)
    assert found.residuals.max() < 1e-10


def test_top_of_a_large_jacobian_from_a_few_products():
    net, x = network(300, 300, 300), torch.randn(3, 300, dtype=torch.float64)
    expected = torch.linalg.svdvals(explicit(net, x))[:, :3]
    generator = torch.Generator().manual_seed(SEED)
    found = singular_values(net, x, 3, steps=60, generator=generator)
    assert bool((found.values <= expected * (1 + 1e-9)).all())
    # Some singular value lies within the residual of each found one.
    assert bool(((found.values - expected).abs() <= found.residuals + 1e-9).all())
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=0)


def test_images_and_convolutions():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64)
    jacobian = explicit(net, x).flatten(2)
    torch.testing.assert_close(singular_values(net, x).values, torch.linalg.svdvals(jacobian))


def test_every_member_of_a_pack_has_its_own():
    torch.manual_seed(0)
    pack = MLP(Shape(4, 3, (6, 6)), activation=nn.Tanh(), seeds=(0, 1), dtype=torch.float64)
    with torch.no_grad():
        pack.theta.normal_(0, 0.4)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    together = singular_values(pack, x, examples_dim=1).values
    iterated = singular_values(pack, x, 2, examples_dim=1, steps=3).values
    assert together.shape == (2, 5, 3)
    torch.testing.assert_close(iterated, together[..., :2])
    for k in range(2):
        alone = singular_values(pack.unpack(k).double(), x[k]).values
        torch.testing.assert_close(together[k], alone)


def test_the_part_between_two_layers():
    net, x = network(4, 6, 5, 3), torch.randn(2, 4, dtype=torch.float64)
    part = between(net, 1, 2)
    h = net[:2](x)
    expected = torch.linalg.svdvals(explicit(part, h))
    torch.testing.assert_close(singular_values(part, h).values, expected)
    whole = explicit(between(net, 2), net[:4](x)) @ explicit(part, h) @ explicit(net[:2], x)
    torch.testing.assert_close(Jacobian(net, x).dense(), whole)


@pytest.mark.parametrize("steps", [None, 3])
def test_orthogonal_linear_networks_are_isometric(steps):
    layers = [nn.Linear(12, 12, bias=False) for _ in range(20)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    net = nn.Sequential(*layers).double()
    x = torch.randn(2, 12, dtype=torch.float64)
    for bottom in (False, True):
        found = singular_values(net, x, 3, bottom=bottom, steps=steps)
        # The weights are orthogonal to float32's rounding: 20 layers of some 1e-7.
        torch.testing.assert_close(found.values, torch.ones_like(found.values), rtol=1e-5, atol=0)
    density = spectral_density(net, x, steps=steps)
    assert float(density.relative_variance().abs()) < 1e-5


@pytest.mark.parametrize("steps", [None, 12])
def test_variance_of_deep_gaussian_linear_networks(steps):
    """L (mu_2 / mu_1^2 - 1 - s_1) = L for a linear network with Gaussian weights."""
    depth, width, draws = 6, 120, 12
    torch.manual_seed(0)
    found = []
    for _ in range(draws):
        factors = torch.randn(depth, width, width, dtype=torch.float64) / math.sqrt(width)
        product = torch.linalg.multi_dot(list(factors))
        density = spectral_density(
            lambda x, product=product: x @ product.mT,
            torch.zeros(1, width, dtype=torch.float64),
            steps=steps,
            probes=16,
        )
        found.append(float(density.relative_variance()))
    values = torch.tensor(found)
    # Finite width adds terms of order depth^2 / width^2 to the wide limit, 6.
    error = float(values.std()) / math.sqrt(draws)
    assert abs(float(values.mean()) - depth) < 4 * error + depth**3 / width**2
    assert error < 0.5


def test_density_has_the_moments_of_the_matrix():
    net, x = network(40, 60, 40), torch.randn(6, 40, dtype=torch.float64)
    squares = torch.linalg.svdvals(explicit(net, x)).square()
    exact = spectral_density(net, x)
    generator = torch.Generator().manual_seed(SEED)
    sampled = spectral_density(net, x, steps=20, probes=200, generator=generator)
    for order in (1, 2, 3):
        moments = squares.pow(order).mean(1)
        torch.testing.assert_close(exact.moment(order), moments)
        # The mean over probes has a relative error of sqrt(2 m_2k / (I m_k^2 probes)).
        ratio = squares.pow(2 * order).mean(1) / moments**2
        error = (2 * ratio / (40 * 200)).sqrt()
        assert bool(((sampled.moment(order) / moments - 1).abs() < 4 * error).all())
    at = squares.flatten().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    torch.testing.assert_close(
        sampled.below(at), torch.tensor([0.25, 0.5, 0.75]).double(), rtol=0, atol=0.06
    )


def test_more_inputs_than_outputs_are_zeros_of_the_density():
    net, x = network(10, 8, 4), torch.randn(3, 10, dtype=torch.float64)
    squares = torch.linalg.svdvals(explicit(net, x)).square()
    exact = spectral_density(net, x)
    torch.testing.assert_close(exact.moment(1), squares.sum(1) / 10)
    at = torch.tensor([1e-12], dtype=torch.float64)
    torch.testing.assert_close(exact.below(at), torch.tensor([0.6]).double())
    generator = torch.Generator().manual_seed(SEED)
    sampled = spectral_density(net, x, steps=10, probes=400, generator=generator)
    # Of a squared length in six of ten dimensions: variance 2 * 6 * 4 / (10^2 * 12).
    assert abs(float(sampled.below(at)) - 0.6) < 4 * math.sqrt(0.04 / 1200) + 0.01
