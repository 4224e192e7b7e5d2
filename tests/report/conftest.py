"""Folders of runs that nothing trained: real configurations, made-up numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from unitgain.runs import GradientsWriter, MetricsWriter, RunDirectory
from unitgain.spec import parse

HE = {"_target_": "unitgain.nn.init.he"}
XAVIER = {"_target_": "unitgain.nn.init.xavier"}
LAYERS = 5


@pytest.fixture
def made():
    """What these folders are made with."""
    return SimpleNamespace(he=HE, xavier=XAVIER, layers=LAYERS, value_of=value_of, write=write_run)


def value_of(init, depth, seed):
    """A made-up accuracy: He's is .2 better, and .1 more so at depth 8; a seed adds a hundredth."""
    return 0.5 + 0.2 * (init is HE) + 0.1 * (init is HE and depth == 8) + 0.01 * seed


def write_run(path, init=HE, depth=2, seed=0, epochs=4, status="finished", **config):
    """A run whose accuracy climbs to `value_of`, and whose gradients shrink by .1 decades a layer."""
    run = RunDirectory(path, durable=False).create()
    model = {"_target_": "unitgain.nn.MLP", "depth": depth, "width": 8}
    run.write_config(parse({"init": init, "model": model, "seed": seed} | config).resolved())
    run.write_overrides([f"model.depth={depth}", f"seed={seed}"])
    value = value_of(init, depth, seed)
    if status is None:
        return run
    with MetricsWriter(run.metrics, durable=False) as metrics:
        for epoch in range(epochs):
            part = value * (epoch + 1) / epochs
            metrics.append(epoch, 10 * (epoch + 1), {"val/accuracy": part, "val/loss": 1 - part})
    gradients = GradientsWriter(run.gradients, durable=False)
    layer_L = np.arange(1, LAYERS + 1)
    for step in (0, 30):
        gradients.append(
            step,
            {
                "grad_preactivation": 10.0 ** (0.1 * (layer_L - LAYERS) - step / 30),
                "activation_second_moment": np.full(LAYERS, 0.5),
            },
        )
    gradients.flush()
    diverged = {"step": 7, "layer": 2, "where": "loss"} if status == "diverged" else None
    best = {"monitor": "val/accuracy", "value": value, "epoch": epochs - 1}
    scores = {"val/accuracy": value, "val/loss": 1 - value, "test/accuracy": value}
    run.write_summary(
        {
            "status": status,
            "epoch": epochs,
            "metrics": dict.fromkeys(scores, np.nan) if status == "diverged" else scores,
            "best": best,
            "verdict": {"label": "vanishing", "text": "gradients shrink.", "slope": 0.1},
            "forecast": {"slope": 0.09, "log10_gradient_L": (0.1 * layer_L).tolist()},
            "diverged": diverged,
        }
    )
    return run


@pytest.fixture
def ablation(tmp_path):
    """2 initializers x 2 depths x 3 seeds."""
    folder = tmp_path / "ablation"
    for i, init in enumerate((HE, XAVIER)):
        for depth in (2, 8):
            for seed in range(3):
                write_run(folder / f"run{i}{depth}{seed}", init, depth, seed)
    return folder
