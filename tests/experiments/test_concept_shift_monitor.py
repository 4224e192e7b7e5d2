"""What the study of monitors expects of delays is what bets and errors do."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import entropy

from unitgain.shift import SequentialTest


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parents[2] / "experiments" / "concept_shift_monitor" / "plot.py"
    spec = spec_from_file_location("concept_shift_monitor_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.1), (0.1, 0.3), (0.2, 0.7)])
def test_the_growth_is_the_integral_over_p_values(study, before, after):
    density = (after / before, (1 - after) / (1 - before))
    parts = ((0, before), (before, 1))
    bets = sum(
        d * quad(lambda p: np.log(1.5 - p), *ends)[0]
        for d, ends in zip(density, parts, strict=True)
    )
    assert study.growth(before, after) == pytest.approx(bets + np.log(1 - 0.01 * 2 / 3), rel=1e-9)


def test_the_divergence_is_that_of_two_coins(study):
    expected = entropy([0.4, 0.6], [0.1, 0.9])
    assert study.divergence(0.1, 0.4) == pytest.approx(expected, rel=1e-12)


def test_the_evidence_of_a_long_stream_grows_as_expected(study):
    """Against the test itself, with a reference so long that the stream's own rows don't count."""
    rng = np.random.default_rng(0)
    before, after, rows = 0.1, 0.5, 400
    test = SequentialTest((rng.random((40_000, 1)) < before).astype(float), rng)
    log = test.update((rng.random((rows, 1)) < after).astype(float))
    slope = (log[-1] - log[49]) / (rows - 50)
    # A row's log has a standard deviation below 0.4.
    assert study.growth(before, after) == pytest.approx(slope, abs=3 * 0.4 / np.sqrt(rows - 50))
