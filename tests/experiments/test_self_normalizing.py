"""The curves of the study of SELU networks are those of the paper's equations."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erfc

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parents[2] / "experiments" / "self_normalizing" / "plot.py"
    spec = spec_from_file_location("self_normalizing_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mapped(nu):
    """Klambauer et al. 2017, equations 4 and 5 with omega = 0 and tau = 1."""
    root = np.sqrt(nu)
    once = np.exp(nu / 2) * erfc(root / np.sqrt(2))
    twice = np.exp(2 * nu) * erfc(np.sqrt(2) * root)
    mean = LAMBDA / 2 * (ALPHA * once - ALPHA + np.sqrt(2 / np.pi) * root)
    second = LAMBDA**2 / 2 * (nu + ALPHA**2 * (1 - 2 * once + twice))
    return mean, second - mean**2


@pytest.mark.parametrize("start", [0.16, 0.8, 1.5, 4.0])
def test_theory_is_the_papers_map_layer_by_layer(study, start):
    """Random weights don't sum to nothing, so the mean's square counts as variance of what follows."""
    expected, (mean, variance) = [], (0.0, start)
    for _ in range(24):
        mean, variance = mapped(variance + mean**2)
        expected.append((mean, variance))
    found = study.theory(study.SELU, start, 24)
    np.testing.assert_allclose(found.T, expected, atol=1e-7)


def test_plain_dropout_moves_the_fixed_point_and_alpha_dropout_does_not(study):
    q = 1.0
    for _ in range(2000):
        mean, variance = mapped(q)
        q = (variance + mean**2) / 0.9
    found = study.theory(study.PLAIN_DROPOUT, 1.0, 300)[:, -1]
    np.testing.assert_allclose(found, [mean, variance], atol=1e-6)
    assert found[1] == pytest.approx(1.46, abs=0.001)
    np.testing.assert_allclose(study.theory(study.ALPHA_DROPOUT, 4.0, 60)[:, -1], [0, 1], atol=1e-6)


def test_the_slopes_are_the_jacobian_of_equation_6(study):
    """Of the paper's map between two starts, as far apart as the domain is; its curvature is in the tolerance."""
    flows = {}
    for start in study.INSIDE:
        rows, variance = [], start
        for _ in range(24):
            mean, variance = mapped(variance)
            rows.append((mean, variance))
        flows[study.SELU, start] = np.array(rows).T[None]
    mean_slope, variance_slope = study._slopes(flows)
    assert mean_slope == pytest.approx(0.088834, abs=0.001)
    assert variance_slope == pytest.approx(0.782648, abs=0.012)
