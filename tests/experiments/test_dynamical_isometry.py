"""What the study of dynamical isometry draws and times by itself."""

import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from unitgain.theory import product_density


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parents[2] / "experiments" / "dynamical_isometry" / "plot.py"
    spec = spec_from_file_location("dynamical_isometry_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_loss_that_decays_evenly_is_learned_on_time(study):
    rate = 0.3
    loss_E = 2.3 * np.exp(-rate * np.arange(1, 21))
    assert study.time_to(loss_E) == pytest.approx(math.log(2.3 / study.LEARNED) / rate, rel=1e-12)
    assert study.time_to(np.full(5, 2.3)) == math.inf
    assert study.time_to(np.array([0.2, 0.1])) == 1.0


def test_the_variance_is_that_of_the_squares(study):
    square_NM = np.random.default_rng(0).exponential(3.0, size=(200, 500))
    # An exponential variable has a variance of its squared mean; its kurtosis is 9.
    assert study.relative_variance(square_NM) == pytest.approx(1.0, abs=4 * math.sqrt(8 / 1e5))


def test_the_shares_are_those_of_marchenko_and_pastur(study):
    angle = np.linspace(0.02, math.pi / 2 - 1e-6, 20_000)
    share = study.cumulative(4 * np.sin(angle) ** 2, product_density(4 * np.sin(angle) ** 2, 1))
    # The singular values of one Gaussian matrix lie on a quarter of a circle of radius 2.
    wanted = (2 * angle + np.sin(2 * angle)) / math.pi
    np.testing.assert_allclose(share, wanted, atol=1e-5)
