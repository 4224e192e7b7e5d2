"""Activations against torch and its automatic differentiation; kinks that are found."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from unitgain import nn as packed
from unitgain.errors import ConfigError
from unitgain.theory import activations as shipped

TWINS = {
    "identity": (shipped.identity, nn.Identity()),
    "relu": (shipped.relu, nn.ReLU()),
    "leaky_relu": (lambda: shipped.leaky_relu(0.2), nn.LeakyReLU(0.2)),
    "elu": (lambda: shipped.elu(0.7), nn.ELU(0.7)),
    "selu": (shipped.selu, nn.SELU()),
    "gelu": (shipped.gelu, nn.GELU()),
    "gelu_tanh": (lambda: shipped.gelu("tanh"), nn.GELU("tanh")),
    "silu": (shipped.silu, nn.SiLU()),
    "softplus": (shipped.softplus, nn.Softplus()),
    "steep softplus": (lambda: shipped.softplus(5.0, 3.0), nn.Softplus(5.0, 3.0)),
    "sigmoid": (shipped.sigmoid, nn.Sigmoid()),
    "tanh": (shipped.tanh, nn.Tanh()),
    "erf": (shipped.erf, packed.Erf()),
}
X = np.concatenate([np.linspace(-30.0, 30.0, 301) + 1e-3, [-1e-9, 1e-9, -800.0, 800.0]])


@pytest.mark.parametrize("name", TWINS)
def test_values_and_slopes_are_torch_s(name):
    make, module = TWINS[name]
    x = torch.tensor(X, requires_grad=True)
    y = module(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    scale = np.maximum(1.0, np.abs(X))
    assert np.abs((make().value(X) - y.detach().numpy()) / scale).max() < 1e-14
    assert np.abs((make().slope(X) - slope.numpy()) / scale).max() < 1e-13


@pytest.mark.parametrize("name", TWINS)
def test_the_same_arguments_give_the_same_object_and_it_travels(name):
    make, _ = TWINS[name]
    assert make() is make()
    other = pickle.loads(pickle.dumps(make()))
    np.testing.assert_array_equal(other.value(X), make().value(X))
    assert other.kinks == make().kinks


@pytest.mark.parametrize(
    ("function", "kinks"),
    [
        (np.tanh, ()),
        (np.sin, ()),
        (lambda x: np.tanh(50.0 * x), ()),
        (lambda x: np.exp(-x * x), ()),
        (lambda x: x**3, ()),
        (lambda x: np.maximum(x, 0.0), (0.0,)),
        (lambda x: np.clip(x, -1.0, 1.0), (-1.0, 1.0)),
        (lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0), (-3.0, 3.0)),
        (lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0.0), (-0.5, 0.5)),
        (lambda x: np.where(x > math.pi, 1.0, 0.0), (math.pi,)),
        (lambda x: np.maximum(x - 700.0, 0.1 * (x - 700.0)), (700.0,)),
        (lambda x: np.square(np.maximum(x, 0.0)), (0.0,)),
        (lambda x: x / (1.0 + np.abs(x)), (0.0,)),
    ],
)
def test_kinks_are_found(function, kinks):
    found = shipped.from_callable(function).kinks
    assert len(found) == len(kinks)
    np.testing.assert_allclose(found, kinks, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_difference_quotients_are_the_slope(name):
    activation = TWINS[name][0]()
    again = shipped.from_callable(activation.value, kinks=activation.kinks)
    x = np.linspace(-8.0, 8.0, 401) + 1e-3
    np.testing.assert_allclose(again.slope(x), activation.slope(x), atol=1e-10)


def test_steps_beyond_count_are_left_out_and_the_nearest_kept():
    kinks = shipped.from_callable(np.round, name="round").kinks
    assert len(kinks) == 64
    np.testing.assert_allclose(kinks, np.arange(-31.5, 32.0), atol=1e-9)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: shipped.from_callable(np.sum), "the shape must be kept, but sum"),
        (
            lambda: shipped.from_callable(lambda x: 1.0 / np.maximum(x, 0.0), name="inverse"),
            "finite entries must stay finite, but inverse",
        ),
        (
            lambda: shipped.from_callable(lambda x: np.tanh(x.astype(np.float32)), name="single"),
            "single is rough",
        ),
        (lambda: shipped.gelu("sigmoid"), "none or tanh is needed, but this is sigmoid"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_errors(make, line):
    with pytest.raises(ConfigError, match=line):
        make()


def test_theory_needs_neither_torch_nor_scipy_until_it_computes():
    code = (
        "import sys, unitgain.theory as t; t.MeanField(t.tanh(), 1.5, 0.2).phase;"
        "print(sorted({'torch', 'scipy', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
