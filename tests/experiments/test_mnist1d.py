"""How the study of MNIST-1D chooses: by validation rows of half of the seeds, reported on the other half."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "experiments" / "mnist1d" / "plot.py"


@pytest.fixture(scope="module")
def study():
    spec = spec_from_file_location("mnist1d_plot", PATH)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_neither_other_seeds_nor_test_rows_choose(study):
    rng = np.random.default_rng(0)
    settings = [study.Setting("ReLU", 0.01, p) for p in (0.0, 0.1, 0.2)]
    found = {s: study.Accuracies(*rng.uniform(0.5, 0.7, size=(2, 10))) for s in settings}
    wanted = max(settings, key=lambda s: found[s].val_S[:5].sum())
    for accuracies in found.values():
        accuracies.test_S[:] = rng.uniform(size=10)
        accuracies.val_S[5:] = rng.uniform(size=5)
    assert study.chosen(found) == wanted


def test_layers_without_an_activation_are_not_chosen(study):
    low, high = np.full(4, 0.3), np.full(4, 0.9)
    network = study.Setting("ReLU", 0.01, 0.0)
    linear = network._replace(activation=study.LINEAR)
    found = {linear: study.Accuracies(high, high), network: study.Accuracies(low, low)}
    assert study.chosen(found) == network


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_each_seed_chooses_or_reports(study, seeds):
    values = np.arange(seeds)
    parts = [*study.choosing(values), *study.fresh(values)]
    assert parts == list(values)
