"""The factors of the study of batch norm are the paper's, and what they are measured by."""

import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parents[2] / "experiments" / "batch_norm_explodes" / "plot.py"
    spec = spec_from_file_location("batch_norm_explodes_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("batch", [8, 16, 64, 500])
def test_a_linear_network_has_the_closed_form(study, batch):
    """Yang et al. 2019: (B - 2) / (B - 3), from the mean of 1 / chi^2 with B - 1 degrees of freedom."""
    assert study.growth("Identity", batch) == pytest.approx((batch - 2) / (batch - 3), rel=1e-9)


def test_a_relu_has_the_closed_form_of_large_batches(study):
    assert study.growth("ReLU", 200_000) == pytest.approx(math.pi / (math.pi - 1), rel=1e-4)


@pytest.mark.parametrize(("name", "slope"), [("ReLU", lambda y: y > 0), ("Tanh", None)])
def test_a_small_batch_has_the_factor_of_sampled_batches(study, name, slope):
    """One layer of independent units, sampled; the gradient behind it is drawn apart from it."""
    rng, batch, units = np.random.default_rng(0), 8, 100_000
    phi = {"ReLU": lambda y: np.maximum(y, 0), "Tanh": np.tanh}[name]
    slope = slope or (lambda y: 1 - np.tanh(y) ** 2)

    def normalized(z):
        z = z - z.mean(axis=1, keepdims=True)
        scale = z.std(axis=1, keepdims=True)
        return z / scale, scale

    h = phi(normalized(rng.standard_normal((units, batch)))[0])
    second, total = (h**2).mean(), (h.sum(axis=1) ** 2).mean()
    spread = second - (total / batch - second) / (batch - 1)
    y, scale = normalized(math.sqrt(spread) * rng.standard_normal((units, batch)))
    gradient = rng.standard_normal((units, batch))
    gradient -= gradient.mean(axis=1, keepdims=True)
    behind = gradient * slope(y)
    back = (
        behind - behind.mean(axis=1, keepdims=True) - y * (behind * y).mean(axis=1, keepdims=True)
    )
    ratios = ((back / scale) ** 2).sum(axis=1) / (gradient**2).sum(axis=1).mean()
    error = ratios.std() / math.sqrt(units)
    assert study.growth(name, batch) == pytest.approx(ratios.mean(), abs=5 * error)


def test_a_gradient_that_grows_evenly_has_its_factor(study):
    log_SL = -np.log([[1.5], [1.6]]) * np.arange(12)
    # The head and the data bend the ends, which don't count.
    log_SL[:, 0] += 1.0
    log_SL[:, -1] -= 1.0
    found = study.factor(log_SL)
    assert found.value == pytest.approx(math.sqrt(1.5 * 1.6), rel=1e-12)
    assert found.low < 1.5
    assert found.high > 1.6
