"""What the study of learning rates computes by hand, on losses whose best rates are known."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress

PATH = Path(__file__).parents[2] / "experiments" / "sgd_and_adam" / "plot.py"
BATCHES = np.array([2.0, 4, 8, 16, 32])
RATES = np.geomspace(3e-4, 3, 12)


@pytest.fixture(scope="module")
def study():
    spec = spec_from_file_location("sgd_and_adam_plot", PATH)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_best_rate_is_the_parabolas_vertex(study):
    log_L = np.log(RATES)
    assert study.best_of(log_L, 2.0 * (log_L + 3.3) ** 2 + 1.0) == pytest.approx(-3.3, abs=1e-9)


@pytest.mark.parametrize("losses", [[1, 2, 3], [3, 2, 1], [2, 1, np.inf]])
def test_the_best_rate_at_an_edge_is_the_cells_own(study, losses):
    log_L = np.array([0.0, 1.0, 2.0])
    assert study.best_of(log_L, np.array(losses, float)) == log_L[np.argmin(losses)]


@pytest.mark.parametrize(("power", "rule"), [(1.0, 1.0), (0.5, 0.5)])
def test_a_noisy_quadratic_has_the_rules_slope(study, power, rule):
    """Steps that shrink the error by 1 - r and leave a noise of r, where r is the rate over the batch's power."""
    examples, noise = 33600, 0.3
    share_BL = RATES / BATCHES[:, None] ** power
    left_BL = np.exp(-2 * share_BL * examples / 1000)
    grid = study.Grid(BATCHES, RATES, (left_BL + noise * share_BL)[None], examples / BATCHES)
    assert grid.is_long.all()
    assert grid.slopes[0] == pytest.approx(rule, abs=0.05)


def test_a_slope_is_that_of_the_regression_line(study):
    x, y = np.random.default_rng(0).normal(size=(2, 8))
    assert study.slope(x, y) == pytest.approx(linregress(x, y).slope, rel=1e-10)
