"""What the study of 100 layers computes by itself is what random networks do."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from sklearn.metrics.pairwise import cosine_similarity

from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train.module import PackedDataModule, PackedModule


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).parents[2] / "experiments" / "depth_100" / "plot.py"
    spec = spec_from_file_location("depth_100_plot", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_growth_of_a_residual_relu_layer_is_that_of_random_layers(study):
    rng, width = np.random.default_rng(0), 1000
    h, squares = rng.normal(size=width), []
    for _ in range(25):
        weight = rng.normal(size=(width, width), scale=np.sqrt(2 / width))
        h = h + np.maximum(weight @ h, 0)
        squares.append((h**2).mean())
    grown = (squares[-1] / squares[4]) ** (1 / 20)
    # Of 20 factors, each with a relative deviation near sqrt(5 / width).
    assert study.block_growth() == pytest.approx(grown, rel=3 * np.sqrt(5 / width / 20))


def test_the_growth_follows_from_the_moments_of_a_relu(study):
    density = lambda z: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    mean = np.sqrt(2) * quad(lambda z: z * density(z), 0, np.inf)[0]
    length, stream = 1.0, 0.0
    for _ in range(60):
        grown = 2 * length + 2 * stream * mean * np.sqrt(length)
        stream, ratio, length = stream + mean * np.sqrt(length), grown / length, grown
    assert study.block_growth() == pytest.approx(ratio, rel=1e-9)


def test_a_diverged_run_counts_as_nothing_learned(study):
    accuracy_RS = np.array([[0.9, np.nan, np.nan], [0.5, 0.6, 0.7]])
    assert study._best(accuracy_RS) == 0.6
    assert study._growth(np.array([[2.0**i for i in range(15)]])) == pytest.approx(2.0)


def test_what_is_measured_before_training_is_of_the_runs_own_network(study, tmp_path):
    """Against the unpacked network on the same rows, with scikit-learn's cosines of all pairs."""
    lsuv = {"_target_": "unitgain.nn.init.lsuv"}
    model = {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 16}
    none = {"_target_": "torch.nn.Identity"}
    cpu = {"accelerator": "cpu"}
    spec = parse({"init": lsuv, "model": model, "dropout": none, "seed": 3, "trainer": cpu})
    RunDirectory(tmp_path).write_config(spec.resolved())
    pack = PackedModule([spec], PackedDataModule([spec]).tables).pack
    x_KBD, _ = pack.data.gather(pack.data.epoch(0)[0].index)
    first, phi, second, *_ = pack.mlp.unpack(0)
    with torch.no_grad():
        z_BD = second(phi(first(x_KBD[0]))).double().numpy()
    variance, square, cosine = study._before(tmp_path)
    assert variance[1] == pytest.approx(z_BD.var(), rel=1e-4)
    assert variance[1] == pytest.approx(1, abs=0.0201)
    assert square[1] == pytest.approx((z_BD**2).mean(), rel=1e-4)
    pairs = cosine_similarity(z_BD)[np.triu_indices(len(z_BD), 1)]
    assert cosine[1] == pytest.approx(pairs.mean(), abs=1e-5)
