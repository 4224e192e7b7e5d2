"""Every option of every group in conf/ composes and trains two steps; a new file is covered by being there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sklearn.utils import Bunch

from unitgain.errors import ConfigError
from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train import fit

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
TWO_STEPS = {
    "debug": "fast_dev_run",
    "model.depth": 2,
    "model.width": 8,
    "data": "iris",
    "data.batch_size": 16,
    "trainer": "cpu",
    "trainer.progress": "false",
    "probe.every": 1,
}
CSV = {
    "data": "csv",
    "data.path": "table.csv",
    "data.target_column": "y",
    "data.task": "regression",
    "data.drop_columns": "[group,when]",
}
SPECIAL = {
    # What an option needs beside itself, or instead of what all others get.
    ("init", "scaled_residual"): {"model.residual": "true"},
    ("loss", "mse"): {"data": "diabetes"},
    ("loss", "mae"): {"data": "diabetes"},
    ("loss", "huber"): {"data": "diabetes"},
    ("loss", "binary_cross_entropy"): {"data": "breast_cancer"},
    ("metrics", "regression"): {"data": "diabetes"},
    ("split", "group"): {
        **CSV,
        "data.group_column": "group",
        "data.drop_columns": "[when]",
    },
    ("split", "time"): {
        **CSV,
        "data.time_column": "when",
        "data.drop_columns": "[group]",
    },
    ("shift", "domain"): {
        **CSV,
        "data.group_column": "group",
        "data.drop_columns": "[when]",
    },
    ("shift", "given"): {"data": "sinc_shift"},
    ("shift", "missing_values"): {"data.impute": "median"},
    ("data", "csv"): CSV,
    ("data", "parquet"): {**CSV, "data": "parquet", "data.path": "table.parquet"},
    ("data", "openml"): {"data.data_id": 31, "data.task": "classification"},
    ("data", "linnerud"): {"data.batch_size": 4},
    ("data", "mnist1d"): {"data.n": 100},
    ("debug", "overfit"): {"trainer.max_epochs": 2},
    ("debug", "profiler"): {"trainer.max_epochs": 1, "data.batch_size": 45},
    ("logger", "wandb"): {"logger.wandb.mode": "offline"},
    ("probe", "off"): {"probe.every": "null"},
    ("experiment", "deep_relu_he"): {"model.depth": 30, "model.width": 64},
    ("experiment", "deep_sigmoid"): {"model.depth": 20, "model.width": 64},
    ("experiment", "exploding_tanh"): {"model.depth": 30, "model.width": 64},
    # A GPU may be there, and is an error where it isn't: see below.
    ("trainer", "default"): {"trainer.accelerator": "auto"},
}


@pytest.fixture(autouse=True)
def tables(tmp_path, monkeypatch):
    """A table in two formats in the working directory, and downloads that need no network."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((120, 3)), columns=["a", "b", "y"])
    frame["group"] = np.repeat([f"g{i}" for i in range(12)], 10)
    frame["when"] = rng.permutation(120)
    frame.to_csv("table.csv", index=False)
    frame.to_parquet("table.parquet")
    x, y = rng.standard_normal((120, 4)), rng.integers(0, 3, 120)
    wide = pd.DataFrame(x, columns=list("abcd")).assign(y=pd.Categorical(y.astype(str)))
    fetched = {
        "california_housing": Bunch(
            data=x, target=x.sum(1), feature_names=list("abcd"), target_names=["value"]
        ),
        "covtype": Bunch(data=x, target=y + 1, feature_names=list("abcd")),
        "openml": Bunch(frame=wide, target_names=["y"]),
    }
    for name, bunch in fetched.items():
        monkeypatch.setattr(f"sklearn.datasets.fetch_{name}", lambda bunch=bunch, **_: bunch)


def composed(overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides)
    return parse(OmegaConf.to_container(config, resolve=True))


def overrides_of(group, option):
    changes = {**TWO_STEPS, group: option, **SPECIAL.get((group, option), {})}
    if group == "logger":
        changes[group] = f"[{option}]"
    return [f"{key}={value}" for key, value in changes.items()]


def two_steps(spec, path):
    """Train, and check that two steps were taken and measured."""
    [result] = fit([spec], [path / "run"])
    summary = RunDirectory(result.directory).read_summary()
    assert (result.status, summary["step"]) == ("finished", 2)
    assert np.isfinite(result.monitor)
    first = torch.load(result.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(t.isfinite().all() for t in first["state_dict"].values())
    return result


def test_all_groups_are_covered():
    assert len(OPTIONS) > 80
    groups = {group for group, _ in OPTIONS}
    assert groups == {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    unknown = set(SPECIAL) - set(OPTIONS)
    assert not unknown, "these options are gone"


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda name: name)
def test_option_trains_two_steps(group, option, tmp_path):
    overrides = overrides_of(group, option)
    if (group, option) == ("trainer", "gpu") and not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"gpu needs a CUDA device, .* use trainer=cpu"):
            fit([composed(overrides)], [tmp_path / "run"])
        return
    spec = composed(overrides)
    result = two_steps(spec, tmp_path)
    measured = spec.probe.every is not None
    assert (result.directory / "gradients.parquet").exists() == measured
    if (group, option) == ("debug", "profiler"):
        assert "training_step" in (result.directory / "fit-profile.txt").read_text()


@pytest.mark.parametrize("place", ["first_init", "output_init"])
@pytest.mark.parametrize("option", [o for g, o in OPTIONS if g == "init"])
def test_initializer_of_the_first_and_the_output_layer(place, option, tmp_path):
    needed = [f"{key}={value}" for key, value in SPECIAL.get(("init", option), {}).items()]
    spec = composed([*overrides_of("init", "he"), *needed, f"init@{place}={option}"])
    assert getattr(spec, place).target.startswith("unitgain.nn.init.")
    two_steps(spec, tmp_path)


def test_loggers_together(tmp_path):
    changes = {**TWO_STEPS, "logger": "[csv,wandb,tensorboard]", "logger.wandb.mode": "offline"}
    result = two_steps(composed([f"{k}={v}" for k, v in changes.items()]), tmp_path)
    assert (result.directory / "wandb.json").is_file()
    assert (result.directory / "tensorboard").is_dir()


def test_no_logger(tmp_path):
    spec = composed([f"{k}={v}" for k, v in {**TWO_STEPS, "logger": "[]"}.items()])
    assert spec.logger == {}
    two_steps(spec, tmp_path)


def test_default_job_is_what_the_schema_defaults_to():
    assert composed([]) == parse({})


def test_fast_dev_run_takes_two_batches_and_overfit_one_again_and_again(tmp_path):
    base = ["data=iris", "data.batch_size=16", "trainer=cpu", "trainer.progress=false"]
    spec = composed([*base, "debug=overfit", "trainer.max_epochs=150", "optimizer.lr=0.01"])
    [result] = fit([spec], [tmp_path / "overfit"])
    summary = RunDirectory(result.directory).read_summary()
    assert summary["steps_per_epoch"] == 1
    assert summary["rows"]["train"] == summary["rows"]["val"] == 16
    assert result.metrics["train/accuracy"] == 1.0, "it must be able to learn one batch by heart"
    assert result.metrics["train/loss"] < 0.01
    # What it validates on is what it trains on.
    assert result.metrics["val/loss"] == result.metrics["train/loss"]
