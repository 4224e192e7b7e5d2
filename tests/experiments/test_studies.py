"""The studies' folders are whole, and what their figures compute by hand is right."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from unitgain.report.study import study_folders
from unitgain.theory.finite_width import log_norm

ROOT = Path(__file__).parents[2]
FOLDERS = study_folders(ROOT / "experiments")
PARTS = ("Claim", "Command", "Setting", "Cost", "Expected and measured", "Verdict")


def plot_of(name):
    path = ROOT / "experiments" / name / "plot.py"
    spec = spec_from_file_location(f"{name}_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_study_says_what_it_claims_and_what_came_out(folder):
    text = (folder / "README.md").read_text()
    for part in PARTS:
        assert f"**{part}.**" in text
    assert f"unitgain study experiments/{folder.name}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    numbers = json.loads((folder / "expected.json").read_text())["numbers"]
    assert len(rows) == len(numbers) + 2


def test_each_study_is_in_the_gallery_once():
    page = (ROOT / "docs" / "studies.md").read_text()
    linked = re.findall(r"^- \[.*\]\(\.\./experiments/(\w+)/README\.md\)$", page, re.MULTILINE)
    assert sorted(linked) == [folder.name for folder in FOLDERS]


@pytest.mark.parametrize(
    ("name", "function"),
    [("Tanh", torch.nn.Tanh()), ("ReLU", torch.nn.ReLU()), ("Sigmoid", torch.nn.Sigmoid())],
)
def test_the_chain_rule_by_hand_is_the_gradient(name, function):
    study = plot_of("forward_backward_by_hand")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 7), function, torch.nn.Linear(7, 6), function]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(6, 3)).double()
    x_BD, y_B = torch.randn(11, 5, dtype=torch.float64), torch.randint(3, (11,))
    torch.nn.functional.cross_entropy(network(x_BD), y_B).backward()
    state = [parameter.detach().numpy() for parameter in network.parameters()]
    found = study.by_hand(x_BD.numpy(), y_B.numpy(), state[::2], state[1::2], *study.PHI[name])
    slopes = [parameter.grad.norm().item() for parameter in network.parameters()]
    np.testing.assert_allclose(found["weight"], slopes[::2], rtol=1e-12)
    np.testing.assert_allclose(found["bias"], slopes[1::2], rtol=1e-12)
    assert study.stored_bytes(network, x_BD) == 8 * 11 * (5 + 7 + 6)


def test_the_floor_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    x_ND, y_NT = rng.normal(size=(50, 2)), rng.normal(size=(50, 1))
    table = SimpleNamespace(x=x_ND, y=y_NT, split=SimpleNamespace(train=np.arange(40)))
    fitted = LinearRegression().fit(x_ND[:40], y_NT[:40]).predict(x_ND[:40])
    expected = ((y_NT[:40] - fitted) ** 2).mean()
    assert plot_of("linear_stays_linear").floor(table) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("width", [10, 20, 40])
def test_the_finite_width_is_that_of_random_networks(width):
    """Against gradients through random layers, drawn here; four standard errors of those that live."""
    rng, seeds, layers = np.random.default_rng(width), 4000, 3
    delta = rng.normal(size=(seeds, width))
    start = (delta**2).sum(axis=1)
    for _ in range(layers):
        weight = rng.normal(size=(seeds, width, width)) * np.sqrt(2 / width)
        delta = np.einsum("sij,sj->si", weight, delta) * (rng.random((seeds, width)) < 0.5)
    end = (delta**2).sum(axis=1)
    log = np.log(end[end > 0] / start[end > 0])
    found = plot_of("reciprocal_widths").exact((width,) * (layers + 1))
    assert found.mean == pytest.approx(log.mean(), abs=4 * log.std() / np.sqrt(seeds))
    spread = np.sqrt(((log - log.mean()) ** 4).mean() / seeds)
    assert found.variance == pytest.approx(log.var(), abs=4 * spread)


def test_the_finite_width_has_the_first_order_as_its_limit():
    widths = (4000,) * 11
    found, first = plot_of("reciprocal_widths").exact(widths), log_norm(widths[:-1])
    assert found.variance == pytest.approx(first.variance, rel=0.01)
    assert found.mean == pytest.approx(first.mean, rel=0.01)
