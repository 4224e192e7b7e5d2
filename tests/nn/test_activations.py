import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn
from torch.nn import functional as F

from unitgain.errors import ConfigError
from unitgain.nn.activations import Elementwise, Erf, as_activation, saturation_bounds

SHIPPED = {
    "identity": nn.Identity(),
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.1),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
    "erf": Erf(),
}


def test_erf_is_the_error_function():
    x = torch.linspace(-3, 3, 41, dtype=torch.float64, requires_grad=True)
    y = Erf()(x)
    assert np.allclose(y.detach().numpy(), special.erf(x.detach().numpy()), rtol=0, atol=1e-14)
    y.sum().backward()
    slope = 2 / math.sqrt(math.pi) * torch.exp(-(x.detach() ** 2))
    assert torch.allclose(x.grad, slope, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_activations_are_taken_as_they_are(name):
    assert as_activation(SHIPPED[name]) is SHIPPED[name]


@pytest.mark.parametrize(
    "function",
    [
        torch.sin,
        F.gelu,
        partial(F.leaky_relu, negative_slope=0.2),
        lambda x: x * torch.sigmoid(1.702 * x),
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: x.clamp(-1, 1),
    ],
)
def test_elementwise_functions_are_wrapped(function):
    module = as_activation(function)
    assert isinstance(module, Elementwise)
    x = torch.randn(3, 4)
    assert torch.equal(module(x), function(x))


def test_wrapped_functions_are_named_and_pickled():
    module = as_activation(torch.sin)
    assert repr(module) == "Elementwise(sin)"
    assert torch.equal(pickle.loads(pickle.dumps(module))(torch.ones(2)), torch.ones(2).sin())


def test_a_sequence_of_activations_is_one():
    module = nn.Sequential(nn.Tanh(), nn.Hardtanh(-0.5, 0.5))
    assert as_activation(module) is module


class WithBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("slope", torch.tensor(0.1))

    def forward(self, x):
        return x * self.slope


class Counting(nn.Module):
    calls = 0.0

    def forward(self, x):
        self.calls += 1.0
        return x * self.calls


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (nn.PReLU(), r"without parameters or buffers is needed, but PReLU has weight; .*LeakyReLU"),
        (WithBuffer(), r"but WithBuffer has slope"),
        (nn.Softmax(dim=-1), r"in its place alone, but Softmax mixes entries"),
        (nn.Softmax(), r"in its place alone, but Softmax mixes entries"),
        (partial(torch.softmax, dim=0), r"in its place alone, but softmax mixes entries"),
        (lambda x: x / x.norm(), r"lambda> mixes entries"),
        (lambda x: x.flip(-1), r"lambda> mixes entries"),
        (lambda x: torch.cumsum(x, -1), r"lambda> mixes entries"),
        (lambda x: x - x.mean(), r"lambda> mixes entries"),
        (nn.RReLU(), r"RReLU is random or has a memory"),
        (nn.Dropout(0.5).eval(), r"Dropout is random or has a memory"),
        (Counting(), r"Counting is random or has a memory"),
        (nn.ReLU(inplace=True), r"ReLU writes to it; leave inplace out"),
        (nn.Flatten(), r"the shape must be kept, but Flatten makes \(2, 15\) of \(2, 3, 5\)"),
        (torch.mean, r"the shape must be kept, but mean makes \(\) of"),
        (lambda x: (x, x), r"the shape must be kept, but .* makes a tuple of"),
        (lambda x: (x > 0).float(), r"the dtype must be kept, but .*lambda> changes it"),
        (lambda x: x.double(), r"the dtype must be kept"),
        (torch.log, r"finite entries must stay finite, but log makes (nan|-inf) of -?\d"),
        (lambda x: x.detach().tanh(), r"gradients must pass, but .*lambda> cuts them off"),
        (nn.GLU(), r"any shape of input must do, but GLU failed on \(2, 3, 5\)"),
        (lambda x: x * torch.ones(64), r"any shape of input must do, but .*lambda> failed"),
        (lambda x: {}["{key}"], r"any shape of input must do, but .* \('{key}'\)"),
        (nn.ReLU, r"but this is torch\.nn\.modules\.activation\.ReLU; name one in _target_"),
        ("relu", r"a function of a tensor is needed, but this is a str"),
        (None, r"but this is a NoneType"),
    ],
)
def test_what_is_no_activation_is_refused(value, match):
    with pytest.raises(ConfigError, match=match) as caught:
        as_activation(value)
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith("activation: ")
    assert "\n" not in caught.value.lines[0]


def test_trying_leaves_mode_and_global_generator_alone():
    module = nn.RReLU().eval()
    before = torch.get_rng_state()
    with pytest.raises(ConfigError, match="RReLU"):
        as_activation(module)
    assert not module.training
    assert torch.equal(before, torch.get_rng_state())


def test_trying_works_without_gradients_on():
    with torch.no_grad():
        assert as_activation(SHIPPED["tanh"]) is SHIPPED["tanh"]


SELU_FLOOR = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
BOUNDS = {
    "identity": (None, None, 0.0),
    "relu": (None, None, 0.0),
    "leaky_relu": (None, None, 0.0),
    "elu": (-1.0, None, 0.0),
    "selu": (SELU_FLOOR, None, 0.0),
    "gelu": (None, None, 0.0),
    "silu": (None, None, 0.0),
    "tanh": (-1.0, 1.0, 0.0),
    "sigmoid": (0.0, 1.0, 0.5),
    "softplus": (0.0, None, math.log(2)),
    "erf": (-1.0, 1.0, 0.0),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_asymptotes_of_shipped_activations(name):
    found = saturation_bounds(SHIPPED[name])
    lower, upper, phi_0 = BOUNDS[name]
    assert found.lower == (None if lower is None else pytest.approx(lower, abs=1e-9))
    assert found.upper == (None if upper is None else pytest.approx(upper, abs=1e-9))
    assert found.phi_0 == pytest.approx(phi_0, abs=1e-12)


@pytest.mark.parametrize(
    ("function", "bounds"),
    [
        (torch.sin, (None, None)),
        (torch.asinh, (None, None)),
        (lambda x: x.abs().log1p().log1p(), (None, None)),
        (torch.atan, (-math.pi / 2, math.pi / 2)),
        (F.softsign, (-1.0, 1.0)),
        (F.relu6, (None, 6.0)),
        (F.hardsigmoid, (0.0, 1.0)),
        (F.logsigmoid, (None, 0.0)),
        (F.mish, (None, None)),
        (F.hardswish, (None, None)),
        (lambda x: -torch.tanh(x), (1.0, -1.0)),
        (lambda x: torch.exp(-(x**2)), (0.0, 0.0)),
        (lambda x: x**40, (None, None)),
    ],
)
def test_asymptotes_of_other_functions(function, bounds):
    found = saturation_bounds(as_activation(function))
    for got, expected in zip((found.lower, found.upper), bounds, strict=True):
        assert got == (None if expected is None else pytest.approx(expected, abs=1e-6))


@pytest.mark.parametrize(
    ("name", "saturated", "free"),
    [
        ("tanh", [-1.0, -0.951, 0.951, 1.0], [-0.949, 0.0, 0.949]),
        ("erf", [-1.0, -0.951, 0.951, 1.0], [-0.949, 0.0, 0.949]),
        ("sigmoid", [0.0, 0.0249, 0.9751, 1.0], [0.0251, 0.5, 0.9749]),
        ("elu", [-1.0, -0.951], [-0.949, 0.0, 1.0, 1e6]),
        ("selu", [SELU_FLOOR, 0.951 * SELU_FLOOR], [0.949 * SELU_FLOOR, 0.0, 1.0507]),
        ("softplus", [0.0, 0.0346], [0.0347, math.log(2), 10.0]),
        ("relu", [], [0.0, 1e-9, 1e9]),
        ("leaky_relu", [], [-1e9, 0.0, 1e9]),
        ("gelu", [], [-0.17, 0.0, 1e9]),
        ("silu", [], [-0.27, 0.0, 1e9]),
        ("identity", [], [-1e9, 0.0, 1e9]),
    ],
)
def test_saturated_entries(name, saturated, free):
    found = saturation_bounds(SHIPPED[name])
    h = torch.tensor([[saturated + free]], dtype=torch.float64)
    assert found.saturated(h).tolist() == [[[True] * len(saturated) + [False] * len(free)]]
    assert not found.saturated(torch.tensor([math.nan])).any()
    # float32 activations of a flat unit reach the asymptote exactly
    flat = SHIPPED[name](torch.tensor([-200.0]))
    assert bool(found.saturated(flat)) == (found.lower is not None)
