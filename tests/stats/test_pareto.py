import math

import numpy as np
import pytest
from scipy.stats import genpareto

from unitgain.stats.pareto import generalised_pareto_shape, tail_index


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.5, 1.0])
def test_shape_of_quantiles_is_recovered(shape):
    rows = 5000
    values = genpareto.ppf((np.arange(rows) + 0.5) / rows, shape, scale=3.0)
    assert generalised_pareto_shape(values) == pytest.approx(shape, abs=0.03)


@pytest.mark.parametrize("shape", [0.3, 0.7])
def test_shape_of_samples_is_unbiased_within_their_error(shape):
    rng = np.random.default_rng(0)
    rows, seeds = 500, 60
    found = [
        generalised_pareto_shape(genpareto.rvs(shape, size=rows, random_state=rng))
        for _ in range(seeds)
    ]
    # The variance of the maximum-likelihood estimate is (1 + k)^2 / n.
    error = (1 + shape) / math.sqrt(rows)
    assert np.mean(found) == pytest.approx(shape, abs=4 * error / math.sqrt(seeds) + 0.01)
    assert np.std(found) == pytest.approx(error, rel=0.4)


def test_tail_index_does_not_depend_on_order_or_unit():
    rng = np.random.default_rng(1)
    values = rng.pareto(2.0, 400)
    assert tail_index(values) == pytest.approx(tail_index(1e6 * values[::-1]), abs=1e-9)


def test_tail_index_knows_what_has_no_tail():
    assert math.isnan(tail_index(np.arange(20.0)))
    assert tail_index(np.ones(1000)) == -math.inf
    assert tail_index(np.repeat([1.0, 2.0], 500)) == -math.inf
    assert tail_index(np.linspace(0, 1, 1000)) < 0
