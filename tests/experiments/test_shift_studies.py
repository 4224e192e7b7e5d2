"""What the studies of covariate shift compute by themselves is right."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

ROOT = Path(__file__).parents[2]


def plot_of(name):
    path = ROOT / "experiments" / name / "plot.py"
    spec = spec_from_file_location(f"{name}_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ratio(x):
    return norm.pdf(x, 2, 0.25) / norm.pdf(x, 1, 0.5)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_best_weighted_line_solves_the_normal_equations(exponent):
    """By adaptive quadrature over the source's density and the ratio, not over another Gaussian."""

    def average(of):
        return quad(lambda x: norm.pdf(x, 1, 0.5) * ratio(x) ** exponent * of(x), -2, 4, limit=200)[
            0
        ]

    moments = [[average(lambda x, k=i + j: x**k) for i in (0, 1)] for j in (0, 1)]
    right = [average(lambda x, k=i: x**k * np.sinc(x)) for i in (0, 1)]
    line, second = plot_of("covariate_shift_sinc").best_line(exponent)
    np.testing.assert_allclose(second, moments, rtol=1e-6)
    np.testing.assert_allclose(line, np.linalg.solve(moments, right), rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_excess_risk_of_a_weighted_line_is_that_of_drawn_rows(exponent):
    """Four standard errors of 400 draws of 2000 rows; what theory leaves out falls as the square of rows."""
    study, rows, draws = plot_of("covariate_shift_sinc"), 2000, 400
    rng = np.random.default_rng(1)
    floor = study.risk(study.design(study.between(1)[0]) @ study.best_line(1)[0])
    found = []
    for _ in range(draws):
        x = rng.normal(1, 0.5, rows)
        y = np.sinc(x) + rng.normal(0, 0.25, rows)
        line = np.polynomial.polynomial.polyfit(x, y, 1, w=ratio(x) ** (exponent / 2))
        found.append(study.risk(study.design(study.between(1)[0]) @ line) - floor)
    limit, more = study.line_theory(exponent, rows)
    error = np.std(found) / np.sqrt(draws)
    assert limit + more == pytest.approx(np.mean(found), abs=4 * error)
    assert more > 4 * error or exponent == 0


@pytest.mark.parametrize(
    ("name", "function"), [("Identity", torch.nn.Identity), ("ReLU", torch.nn.ReLU)]
)
def test_a_network_is_read_as_it_was_trained(name, function):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 7), function(), torch.nn.Linear(7, 6), function()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(6, 1)).double()
    table = SimpleNamespace(
        x=np.random.default_rng(0).normal(size=(9, 5)), y_scale=[3.0], y_mean=[120.0]
    )
    state = tuple(network.state_dict().values())
    said = plot_of("conformal_airfoil").predicted(state, table, name)
    expected = network(torch.from_numpy(table.x))[:, 0] * 3 + 120
    torch.testing.assert_close(said, expected.detach(), rtol=1e-12, atol=0)
