"""How the study of label shift draws rows and scores weights."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unitgain.data.sources import digits
from unitgain.data.splits import Stratified
from unitgain.shift import BBSE, MLLS

PATH = Path(__file__).parents[2] / "experiments" / "label_shift" / "plot.py"


@pytest.fixture(scope="module")
def plot():
    spec = spec_from_file_location("label_shift_plot", PATH)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table():
    raw = digits()
    split = Stratified(fractions=(0.2, 0.3, 0.5))(raw)
    return SimpleNamespace(y=raw.y, split=split, n_classes=10, shifted=SimpleNamespace(table=raw))


def test_perfect_posteriors_leave_no_error_and_no_gain(plot):
    label_N, label_M = torch.arange(3).repeat(4), torch.tensor([0, 0, 0, 1, 2, 2])
    one_hot = torch.eye(3, dtype=torch.float64)
    error, gain = plot.estimates(BBSE(), one_hot[label_N], one_hot[label_M], label_N, label_M)
    assert error == pytest.approx(0, abs=1e-12)
    assert gain == 0


def test_weights_are_one_where_a_class_is_never_predicted(plot):
    label_N, label_M = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    posterior = torch.tensor([[0.8, 0.2]], dtype=torch.float64).repeat(4, 1)
    error, gain = plot.estimates(BBSE(), posterior, posterior, label_N, label_M)
    # Shares of a quarter and three quarters against halves: weights of 0.5 and 1.5.
    assert error == pytest.approx(0.25)
    assert gain == 0


def test_the_gain_is_that_of_the_shares(plot):
    """A row between two classes goes to the one with the larger share: Bayes's rule by hand."""
    posterior = torch.tensor([[0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    label_N = torch.tensor([0] * 6 + [1] * 4 + [0] * 4 + [1] * 6)
    source = posterior[[0] * 10 + [1] * 10]
    # In the target nine of ten rows are of class 1: 0.9 * 0.4 > 0.1 * 0.6, and all go there.
    label_M = torch.tensor([0] * 10 + [1] * 90)
    target = posterior[[0] * 6 + [1] * 4 + [0] * 36 + [1] * 54]
    error, gain = plot.estimates(MLLS(calibration="none"), source, target, label_N, label_M)
    assert error == pytest.approx(0, abs=1e-6)
    assert gain == pytest.approx(0.9 - 0.6)


@pytest.mark.parametrize("q", range(4))
def test_targets_have_the_shares_of_their_shift(plot, table, q):
    rng = np.random.default_rng(q)
    drawn = [plot._target_rows(table, q, 500, rng) for _ in range(20)]
    assert np.isin(np.concatenate(drawn), table.split.test).all()
    largest = [np.bincount(table.y[rows], minlength=10).max() / 500 for rows in drawn]
    if q == 3:
        # Nine rows of ten, give or take four standard errors of a mean of 20 shares.
        assert np.mean(largest) == pytest.approx(0.9, abs=4 * 0.3 / np.sqrt(500 * 20))
    shares = np.random.default_rng(0).dirichlet(np.full(10, (0.1, 1, 10, 1)[q]), 4000).max(axis=1)
    if q < 3:
        # Also the nine classes' rounding to a row, and the noise of 500 rows.
        assert np.mean(largest) == pytest.approx(
            shares.mean(), abs=4 * shares.std() / np.sqrt(20) + 0.03
        )


def test_source_rows_have_every_class(plot, table):
    rng = np.random.default_rng(0)
    for _ in range(50):
        own = plot._source_rows(table, 30, rng)
        assert len(own) == len(set(own)) == 30
        assert set(table.y[table.split.val[own]]) == set(range(10))


def test_the_slope_is_that_of_a_power(plot):
    assert plot._slope(np.log(3 / np.array(plot.SIZES))) == pytest.approx(-1)
