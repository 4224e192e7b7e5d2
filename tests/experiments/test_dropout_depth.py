"""The depths of the study of dropout are where accuracy crosses half way, and theory's."""

import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parents[2] / "experiments" / "dropout_depth" / "plot.py"
    spec = spec_from_file_location("dropout_depth_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_accuracy_on_a_line_in_log_depth_crosses_where_the_line_does(study):
    depth_D = np.array([5.0, 10.0, 20.0, 40.0, 80.0])
    slope, height = np.polyfit(np.log([10.0, 40.0]), [0.9, 0.3], 1)
    accuracy_D = np.clip(slope * np.log(depth_D) + height, 0.1, 1.0)
    wanted = math.exp((study.HALF_WAY - height) / slope)
    assert study.crossing(depth_D, accuracy_D) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("accuracy", "wanted"), [(1.0, math.inf), (0.1, 0.0)])
def test_where_all_or_none_of_the_depths_train_there_is_no_crossing(study, accuracy, wanted):
    assert study.crossing(np.array([5.0, 10.0]), np.full(2, accuracy)) == wanted


def test_the_depth_is_that_of_masks_of_their_own(study):
    """Schoenholz et al. 2017: the maps with dropout, by Gauss-Hermite quadrature on a grid of two variables."""
    sigma_w, keep = 1.327, 0.8
    z, mass = np.polynomial.hermite_e.hermegauss(80)
    mass = mass / mass.sum()

    def length(q):
        return sigma_w**2 / keep * mass @ np.tanh(np.sqrt(q) * z) ** 2 + study.SIGMA_B**2

    def covariance(c, q, function):
        second = c * z[:, None] + math.sqrt(1 - c * c) * z
        pair = function(math.sqrt(q) * z)[:, None] * function(math.sqrt(q) * second)
        return sigma_w**2 * mass @ pair @ mass

    q = brentq(lambda q: length(q) - q, 0.05, 5.0)
    c = brentq(lambda c: (covariance(c, q, np.tanh) + study.SIGMA_B**2) / q - c, 0.0, 0.99)
    chi = covariance(c, q, lambda x: 1 / np.cosh(x) ** 2)
    assert study.trainable_depth(sigma_w, 1 - keep) == pytest.approx(-6 / math.log(chi), rel=1e-6)
