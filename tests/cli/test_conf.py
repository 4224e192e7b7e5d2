import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import unitgain
from unitgain.cli import main
from unitgain.cli._conf import compose, conf_dir, hydra_session, plain
from unitgain.cli._train import arguments_of
from unitgain.spec import RunSpec, parse

CONF = conf_dir()
NEEDS = {
    "init=scaled_residual": ["model.residual=true"],
    "data=csv": ["data.path=x.csv", "data.target_column=y", "data.task=regression"],
    "data=parquet": ["data.path=x.parquet", "data.target_column=y", "data.task=regression"],
    "data=openml": ["data.data_id=61", "data.task=classification"],
    "metrics=regression": ["data=diabetes"],
    "loss=mse": ["data=diabetes"],
    "loss=mae": ["data=diabetes"],
    "loss=huber": ["data=diabetes"],
    "shift=missing_values": ["data.impute=median"],
}
OPTIONS = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml"))]


@pytest.fixture(scope="module")
def composed():
    with hydra_session(arguments_of([])) as hydra:
        yield lambda *overrides: plain(compose(hydra, "train", list(overrides)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_parses(option, composed):
    assert isinstance(parse(composed(option, *NEEDS.get(option, []))), RunSpec)


@pytest.mark.parametrize("layer", ["first_init", "output_init"])
def test_a_layer_is_initialized_apart(layer, composed):
    spec = parse(composed(f"init@{layer}=orthogonal", f"{layer}.gain=2"))
    assert getattr(spec, layer).arguments() == {"gain": 2.0}
    assert spec.init.target == "unitgain.nn.init.he"


def test_the_composed_default_is_the_default_of_the_schema(composed):
    assert parse(composed()) == RunSpec()


def test_several_loggers_or_none(composed):
    assert list(parse(composed("logger=[wandb,tensorboard]")).logger) == ["wandb", "tensorboard"]
    assert parse(composed("logger=[]")).logger == {}


def test_the_command_line_wins_over_an_experiment(composed):
    assert parse(composed("experiment=deep_sigmoid")).model.depth == 20
    assert parse(composed("experiment=deep_sigmoid", "model.depth=3")).model.depth == 3


@pytest.mark.parametrize(
    "override", ["experiment=null", "debug=null", "bias_init=null", "init@first_init=null"]
)
def test_a_group_that_may_be_left_out_may_be_null(override, capsys):
    assert main(["train", "--cfg", "job"]) == 0
    default = capsys.readouterr().out
    assert main(["train", "--cfg", "job", override]) == 0
    assert capsys.readouterr().out == default


def test_conf_is_found_from_anywhere(capsys, tmp_path):
    assert list(tmp_path.iterdir()) == []
    assert main(["train", "--cfg", "job", "-p", "model"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# @package model\n")
    assert yaml.safe_load(text)["depth"] == 6


def test_conf_is_found_inside_an_installed_package(tmp_path):
    package = Path(unitgain.__file__).parent
    for part in ("__init__.py", "__main__.py", "errors.py"):
        (tmp_path / "site" / "unitgain").mkdir(parents=True, exist_ok=True)
        shutil.copy(package / part, tmp_path / "site" / "unitgain" / part)
    for part in ("cli", "spec", "runs"):
        shutil.copytree(package / part, tmp_path / "site" / "unitgain" / part)
    shutil.copytree(CONF, tmp_path / "site" / "unitgain" / "conf")
    (tmp_path / "site" / "unitgain" / "conf" / "init" / "only_here.yaml").write_text("a: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "unitgain", "train", "init=only_here", "--cfg", "job", "-p", "init"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.stdout == "# @package init\na: 1\n"


def test_the_script_is_the_same_command(tmp_path):
    source = Path(unitgain.__file__).parents[1]
    script = source.parent / "scripts" / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), "model.depth=0"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.depth: must be at least 1")


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_shows_groups_configuration_and_flags(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["train", "optimizer=sgd", "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  optimizer +adam adamw rmsprop \*sgd$", text, re.M)
    assert re.search(r"^  logger +\*csv tensorboard wandb$", text, re.M)
    assert "    _target_: unitgain.pack.optim.SGD" in text
    for word in ("--multirun", "--cfg job", "-sc install=bash", "init@first_init"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= int(columns)


def test_hydra_shows_its_own(capsys):
    assert main(["train", "--info", "searchpath"]) == 0
    assert "file://" in capsys.readouterr().out
    assert main(["train", "--hydra-help"]) == 0
    assert "Hydra" in capsys.readouterr().out
    assert main(["train", "--cfg", "hydra", "-p", "hydra.run", "--resolve"]) == 0
    assert re.search(r"dir: runs/.*-[0-9a-f]{12}$", capsys.readouterr().out, re.M)
