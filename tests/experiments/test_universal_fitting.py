"""The study of universal fitting: its levels, and that its two code blocks are the network that it trains."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import halfnorm

from unitgain.cli._conf import compose, hydra_session, plain
from unitgain.cli._train import arguments_of
from unitgain.data import open_data
from unitgain.report.study import Study
from unitgain.spec import parse

FOLDER = Path(__file__).parents[2] / "experiments" / "universal_fitting"
README = (FOLDER / "README.md").read_text()
CELL = ["data=friedman1", "data.noise=0.25", "model.depth=2", "model.width=64", "seed=0"]


@pytest.fixture(scope="module")
def study():
    spec = spec_from_file_location("universal_fitting_plot", FOLDER / "plot.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def keras_config(tmp_path_factory):
    """What the README's file makes of a run, and what the study makes of the same cell."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "experiment").mkdir()
    (folder / "experiment" / "keras.yaml").write_text(block("yaml"))
    overrides = list(Study.read(FOLDER).overrides)
    silent = [o for o in overrides if o.startswith(("trainer=", "callbacks", "probe", "figures"))]
    with hydra_session(arguments_of(["--config-dir", str(folder)])) as hydra:
        mine = plain(compose(hydra, "train", ["experiment=keras", *silent]))
        cell = plain(compose(hydra, "train", [*overrides, *CELL]))
    return parse(mine), parse(cell)


def block(language):
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


def test_the_configuration_is_a_cell_of_the_study(keras_config):
    mine, cell = keras_config
    assert mine.resolved() == cell.resolved()


def test_keras_gets_the_same_rows_and_the_same_network(keras_config):
    prepared, names = open_data(keras_config[0]), {}
    code = block("python").replace("import keras\n", "").partition("keras.utils")[0]
    exec(compile(code, "README.md", "exec"), names)
    for part in ("train", "val", "test"):
        rows = np.sort(names[part])
        np.testing.assert_array_equal(rows, getattr(prepared.split, part))
    np.testing.assert_allclose(names["x"], prepared.x, atol=1e-12)
    np.testing.assert_allclose(names["y"], prepared.y[:, 0], atol=1e-12)
    assert block("python").count('Dense(64, activation="relu")') == 2
    steps = keras_config[0].trainer.max_epochs * -(-len(names["train"]) // 32)
    assert f"CosineDecay(0.01, decay_steps={steps // 32} * 32)" in block("python")


def test_the_level_to_beat_is_the_least_absolute_deviation(study):
    """Against the linear program: minimise the sum of u with -u <= y - x w <= u."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.standard_t(2, size=30)
    design = np.column_stack([x, np.ones(30)])
    both = np.block([[design, -np.eye(30)], [-design, -np.eye(30)]])
    bounds = [(None, None)] * 3 + [(0, None)] * 30
    solved = linprog(np.r_[np.zeros(3), np.ones(30)], both, np.r_[y, -y], bounds=bounds)
    assert study.least_linear(x, y) == pytest.approx(solved.fun / 30, rel=1e-6)


def test_the_floor_is_the_mean_of_absolute_noise(study):
    assert study.floor(0.25) == pytest.approx(halfnorm.mean(scale=0.25), rel=1e-12)
