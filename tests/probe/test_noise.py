"""Moments of the gradients of examples, against gradients that are known or taken one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from unitgain.probe import QUANTITIES, Layers, Recorder
from unitgain.probe.noise import gradient_moments


def layers(*tensors):
    return Layers.of(list(tensors))


def test_estimates_are_unbiased():
    """Of a linear map's gradients with a known mean and covariance, over many batches of four.

    With h and d independent and normal, E[h d^T] = m n^T and E|h d^T|^2 = E|h|^2 E|d|^2.
    """
    batches, count = 40_000, 4
    generator = torch.Generator().manual_seed(0)
    m, n = torch.tensor([1.0, -0.5, 0.0]).double(), torch.tensor([0.5, 1.0]).double()
    h = m + torch.randn(batches, count, 3, generator=generator, dtype=torch.float64)
    d = n + torch.randn(batches, count, 2, generator=generator, dtype=torch.float64)
    trace, square = gradient_moments(
        layers(d / count), layers(h), layers(torch.zeros(batches, 3, 2)), layers(None)
    )
    mean = m.square().sum() * n.square().sum()
    second = (m.square().sum() + 3) * (n.square().sum() + 2)
    for estimate, exact in ((trace, second - mean), (square, mean)):
        error = estimate.std() / batches**0.5
        assert abs(estimate.mean() - exact) < 4 * error
        assert error < 0.02 * exact


@pytest.mark.parametrize("scale", [1e-36, 1e-25, 1.0, 1e25])
def test_noise_scale_does_not_depend_on_that_of_the_loss(scale):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), torch.randn(9, 5)

    def values(factor):
        with Recorder(net) as recorder:
            ((net(x).sum(1) + 3.0).mean() * factor).backward()
        t = recorder.tensors()
        return torch.stack([QUANTITIES[n](t) for n in ("gradient_noise_scale", "gradient_snr")])

    plain = values(1.0)
    assert plain.dtype == torch.float32
    assert plain.isfinite().all()
    torch.testing.assert_close(values(scale), plain, rtol=1e-4, atol=0)
    np.testing.assert_allclose(plain[1], 9 / plain[0], rtol=1e-5)


def test_examples_that_agree_have_no_noise():
    h, d = torch.ones(1, 6, 4), torch.full((1, 6, 2), 0.5)
    trace, square = gradient_moments(
        layers(d / 6), layers(h), layers(torch.zeros(1, 4, 2)), layers(torch.zeros(1, 2))
    )
    assert trace[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert square[0, 0] == pytest.approx(0.25 * 2 * (4 + 1))


def test_a_batch_that_cannot_tell_its_gradient_from_zero():
    net = nn.Linear(1, 1, bias=False)
    x, sign = torch.ones(4, 1), torch.tensor([1.0, -1.0, 1.0, -1.0])
    with Recorder(net) as recorder:
        (net(x)[:, 0] * sign).mean().backward()
    t = recorder.tensors()
    assert QUANTITIES["gradient_noise_scale"](t)[0, 0] == float("inf")
    assert QUANTITIES["gradient_snr"](t)[0, 0] == 0.0


def test_one_example_says_nothing_of_noise():
    net = nn.Linear(3, 2)
    with Recorder(net) as recorder:
        net(torch.ones(1, 3)).mean().backward()
    assert QUANTITIES["gradient_noise_scale"](recorder.tensors()).isnan().all()


def test_examples_of_several_places():
    """A map that is applied at each place of a sequence: an example's gradient is the sum over its places."""
    torch.manual_seed(0)
    h, d = torch.randn(2, 5, 3, 4).double(), torch.randn(2, 5, 3, 2).double()
    each = torch.cat([torch.einsum("kbti,kbto->kbio", h, 5 * d).flatten(2), 5 * d.sum(2)], 2)
    trace, square = gradient_moments(
        layers(d), layers(h), layers(torch.zeros(2, 4, 2)), layers(torch.zeros(2, 2))
    )
    expected = each.var(1, correction=1).sum(1)
    torch.testing.assert_close(trace[:, 0], expected)
    torch.testing.assert_close(square[:, 0], each.mean(1).square().sum(1) - expected / 5)


def test_layers_that_are_no_linear_maps_get_none():
    trace, square = gradient_moments(
        layers(torch.ones(1, 6, 2), torch.ones(1, 6, 2, 2, 2)),
        layers(torch.ones(1, 6, 4), torch.ones(1, 6, 3, 2, 2)),
        layers(torch.zeros(1, 9), torch.zeros(1, 6)),
        layers(None, None),
    )
    assert trace.isnan().all()
    assert square.isnan().all()


def test_members_do_not_depend_on_each_other(one_thread):
    torch.manual_seed(0)
    for count, inputs, outputs in ((8, 16, 32), (11, 5, 3), (6, 7, 1), (18, 1, 5)):
        h, d = torch.randn(5, count, inputs), torch.randn(5, count, outputs)

        def moments(k, h=h, d=d):
            weights = torch.zeros(len(h[k]), h.shape[2] * d.shape[2])
            biases = torch.zeros(len(h[k]), d.shape[2])
            return gradient_moments(
                layers(d[k].clone()), layers(h[k].clone()), layers(weights), layers(biases)
            )

        together = moments(slice(None))
        for k in range(5):
            for whole, alone in zip(together, moments(slice(k, k + 1)), strict=True):
                assert torch.equal(whole[k], alone[0])
