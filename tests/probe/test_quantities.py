"""Each quantity against plain autograd, and norms where float32's squares are of no use."""

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from unitgain.probe import QUANTITIES, Recorder, measure
from unitgain.spec._run import Quantity


def network(*sizes, activation=nn.Tanh, bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias), activation()]
    return nn.Sequential(*layers[:-1]).to(dtype)


def recorded(net, x, loss_of, lr=0.1, **arguments):
    """What one step of gradient descent leaves, and the step's own tensors."""
    optimizer = torch.optim.SGD(net.parameters(), lr)
    with Recorder(net) as recorder:
        loss_of(net(x)).backward()
        optimizer.step()
    return recorder.tensors(**arguments)


def by_hand(net, x, loss_of):
    """Linear layers, activations and the gradients of pre-activations, layer by layer."""
    linears = [m for m in net if isinstance(m, nn.Linear)]
    z, h = [], [x]
    for linear in linears:
        z.append(linear(h[-1]))
        h.append(torch.tanh(z[-1]))
    gradients = torch.autograd.grad(loss_of(z[-1]), z)
    return linears, [a.detach() for a in h[1:-1]], gradients


def squares(output):
    return output.square().sum(1).mean()


def test_the_configuration_knows_every_quantity():
    assert set(QUANTITIES) == set(get_args(Quantity))


def cosines_of_pairs(h):
    """The mean cosine of two different rows, pair by pair."""
    pairs = itertools.combinations(h, 2)
    return torch.stack([torch.cosine_similarity(a, b, dim=0) for a, b in pairs]).mean()


def gradients_of_examples(net, x, loss_of):
    """One row an example and layer: the gradient of its own loss with respect to weights and biases (torch.func)."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(values, row):
        return loss_of(torch.func.functional_call(net, values, row[None]))

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    names = dict.fromkeys(name.partition(".")[0] for name in parameters)
    return [
        torch.cat([g.flatten(1) for n, g in each.items() if n.startswith(f"{i}.")], 1)
        for i in names
    ]


def noise_of(gradient_BN):
    """The trace of the covariance of examples' gradients and the squared norm of their mean, both unbiased."""
    trace = gradient_BN.var(0, correction=1).sum()
    return trace, gradient_BN.mean(0).square().sum() - trace / len(gradient_BN)


@pytest.mark.parametrize("sizes", [(3, 5, 5, 2), (4, 7, 3, 6, 1), (5, 5, 5, 5, 5)])
def test_against_autograd(sizes):
    net = network(*sizes, dtype=torch.float64)
    x = torch.randn(6, sizes[0], dtype=torch.float64)
    linears, hidden, gradients = by_hand(net, x, squares)
    before = [m.weight.detach().clone() for m in linears]
    noise = [noise_of(g) for g in gradients_of_examples(net, x, squares)]
    tensors = recorded(net, x, squares)
    nan = float("nan")
    after = [m.weight.detach() for m in linears]
    expected = {
        # The RMS over examples of the gradient of one example's own loss, which is B times that of the mean.
        "grad_preactivation": [(6 * g).square().sum(1).mean().sqrt() for g in gradients],
        "grad_weight": [m.weight.grad.norm() for m in linears],
        "grad_bias": [m.bias.grad.norm() for m in linears],
        "weight_norm": [w.norm() for w in after],
        "update_ratio": [(w - b).norm() / w.norm() for w, b in zip(after, before, strict=True)],
        "activation_mean": [*(h.mean() for h in hidden), nan],
        "activation_variance": [*(h.var(correction=0) for h in hidden), nan],
        "activation_second_moment": [*(h.square().mean() for h in hidden), nan],
        "activation_correlation": [*(cosines_of_pairs(h) for h in hidden), nan],
        "silent_fraction": [*(0.0 for _ in hidden), nan],
        "dead_fraction": [nan for _ in linears],
        "gradient_noise_scale": [t / g if g > 0 else float("inf") for t, g in noise],
        "gradient_snr": [6 * max(g, 0.0) / t for t, g in noise],
        "gradient_cosine": [nan for _ in linears],
        "saturated_fraction": [*(0.0 for _ in hidden), nan],
    }
    for name, quantity in QUANTITIES.items():
        values = quantity(tensors)
        assert values.shape == (1, len(linears)), name
        np.testing.assert_allclose(
            values[0].numpy(), [float(v) for v in expected[name]], rtol=1e-11, err_msg=name
        )
    table = measure(tensors, QUANTITIES)
    assert table.shape == (len(QUANTITIES), 1, len(linears))
    for row, quantity in zip(table, QUANTITIES.values(), strict=True):
        torch.testing.assert_close(row, quantity(tensors), equal_nan=True)


@pytest.mark.parametrize("factor", [1e-30, 1e-25, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e25, 1e30])
def test_norms_where_squares_under_and_overflow(factor):
    """Float32 holds 1e-38 to 1e38, but squares of what is below 1e-23 or above 1e19 are lost."""
    x = torch.randn(6, 4)
    names = ("grad_preactivation", "grad_weight", "grad_bias")
    wide = recorded(network(4, 5, 3, 2, dtype=torch.float64), x.double(), squares, lr=0.0)
    net = network(4, 5, 3, 2)
    narrow = recorded(net, x, lambda output: squares(output) * factor, lr=0.0)
    for name in names:
        expected = QUANTITIES[name](wide) * factor
        values = QUANTITIES[name](narrow)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=0.0)


def test_layers_of_very_different_size_at_once():
    """A gradient that vanishes in the first layer is right beside one that doesn't in the last."""
    wide, net = network(4, 5, 3, dtype=torch.float64), network(4, 5, 3)
    for each in (wide, net):
        each[2].weight.data.mul_(1e-28)
    x = torch.randn(6, 4)
    loss = lambda output: output.sum(1).mean()
    expected = QUANTITIES["grad_preactivation"](recorded(wide, x.double(), loss, lr=0.0))
    values = QUANTITIES["grad_preactivation"](recorded(net, x, loss, lr=0.0))
    assert expected[0, 0] < 1e-26
    assert expected[0, 1] > 1
    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=0.0)


def test_zero_gradients_have_norm_zero():
    tensors = recorded(network(4, 5, 3, 2), torch.randn(6, 4), lambda o: (o * 0.0).sum())
    for name in ("grad_preactivation", "grad_weight", "grad_bias", "update_ratio"):
        assert QUANTITIES[name](tensors).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_stay_so(bad):
    tensors = recorded(network(4, 5, 3), torch.randn(6, 4), lambda o: (o * bad).sum())
    assert not QUANTITIES["grad_preactivation"](tensors).isfinite().any()
    assert not QUANTITIES["grad_weight"](tensors).isfinite().any()


def test_layers_without_biases():
    tensors = recorded(network(4, 5, 3, bias=False), torch.randn(6, 4), squares)
    assert QUANTITIES["grad_bias"](tensors).isnan().all()
    assert measure(tensors, QUANTITIES).shape == (len(QUANTITIES), 1, 2)


def test_measuring_stays_on_the_device_of_the_data():
    """A quantity that no layer has must not pull the table to the host: torch's meta device stands for any other."""
    net = network(4, 5, 3, bias=False).to("meta")
    tensors = recorded(net, torch.empty(6, 4, device="meta"), squares, lr=0.0)
    wanted = {name: QUANTITIES[name] for name in ("grad_bias", "activation_mean")}
    assert measure(tensors, wanted).device.type == "meta"


def test_silent_units_are_zero_on_every_example():
    net = network(3, 4, 2, activation=nn.ReLU)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]))
        net[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0, 1.0]))
    # The first unit is on for one example, the second for none, the third never, the fourth always.
    x = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -2.0, 0.0]])
    tensors = recorded(net, x, squares)
    values = QUANTITIES["silent_fraction"](tensors)
    assert values[0, 0] == 0.5
    assert values[0, 1].isnan()


def test_units_whose_mean_is_zero_are_not_silent():
    net = network(1, 2, 1, activation=nn.Tanh, bias=False)
    tensors = recorded(net, torch.tensor([[1.0], [-1.0]]), squares)
    assert QUANTITIES["activation_mean"](tensors)[0, 0].abs() < 1e-7
    assert QUANTITIES["silent_fraction"](tensors)[0, 0] == 0.0


def test_saturated_share_is_what_it_is_told():
    net = network(1, 1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
    x = torch.tensor([[0.1], [5.0], [-5.0], [0.5], [9.0]], dtype=torch.float64)
    tensors = recorded(net, x, squares, saturated=lambda h: (h.abs() > 0.95).double().mean((2, 3)))
    assert QUANTITIES["saturated_fraction"](tensors)[0, 0] == pytest.approx(3 / 5)


def test_variance_of_numbers_far_from_zero():
    """Two passes: the difference of squares would lose all its digits."""
    net = network(1, 4, 1, activation=nn.Identity)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.fill_(1000.0)
    tensors = recorded(net, torch.tensor([[0.5], [-0.5]]), lambda o: o.mean(), lr=0.0)
    assert QUANTITIES["activation_variance"](tensors)[0, 0] == pytest.approx(0.25, rel=1e-3)
