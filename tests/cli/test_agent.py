"""Arguments as W&B's own agent writes them."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from unitgain.cli import main
from unitgain.cli._agent import from_agent
from unitgain.runs import RunDirectory

ROOT = Path(__file__).parents[2]


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """What the agent does with a sweep's choice of parameters: a file, and arguments."""

    def choose(values):
        chosen = {key: {"value": value} for key, value in values.items()}
        path = tmp_path / "config-run1.yaml"
        path.write_text(yaml.safe_dump({"wandb_version": 1, **chosen}))
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(path))
        return create_sweep_command_args({"args": chosen})["args_no_hyphens"]

    return choose


VALUES = [
    "two words",
    "a,b",
    "it's",
    "back\\slash",
    "ends in \\",
    "quoted \\' before",
    'say "x"',
    "a=b: {c} [d] (e)",
    "True",
    "null",
    "1e-3",
    "",
    "he",
    None,
    True,
    3,
    1e-05,
    [32, 16],
    ["a b", "c,d", None],
    {"max_epochs": 3, "name": "x y"},
]


@pytest.mark.parametrize("value", VALUES, ids=map(repr, VALUES))
def test_hydra_reads_what_the_sweep_chose(agent, value):
    [argument] = from_agent(agent({"key": value}))
    [override] = OverridesParser.create().parse_overrides([argument])
    assert not override.is_sweep_override()
    assert override.value() == value
    assert type(override.value()) is type(value) or isinstance(value, str)


def test_other_arguments_stay_as_they_are(agent):
    given = [*agent({"name": "a,b"}), "logger=[csv,wandb]", "model.depth=1,2", "-m"]
    assert from_agent(given) == ["name='a,b'", *given[1:]]


def test_the_script_trains_what_the_agent_asks_for(agent, tmp_path):
    arguments = agent(
        {
            "name": "two words, and a comma",
            "tags": ["x y", "z"],
            "model.depth": 2,
            "model.width": [16, 8],
            "init": "orthogonal",
            "optimizer.lr": 1e-05,
            "probe.every": None,
            "figures": False,
        }
    )
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    more = ["data=iris", "trainer.max_epochs=1", "hydra.run.dir=run", "logger=[csv]"]
    subprocess.run([*command, *more], cwd=tmp_path, check=True, timeout=120)
    config = RunDirectory(tmp_path / "run").read_config()
    assert config["name"] == "two words, and a comma"
    assert config["tags"] == ["x y", "z"]
    assert config["model"]["width"] == [16, 8]
    assert config["init"]["_target_"] == "unitgain.nn.init.orthogonal"
    assert config["optimizer"]["lr"] == 1e-05
    assert config["probe"]["every"] is None
    assert config["figures"] is False


def test_the_example_is_a_sweep_that_composes(agent):
    sweep = yaml.safe_load((ROOT / "scripts" / "wandb_sweep.yaml").read_text())
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["command"][:4] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    first = {
        name: node["value"] if "value" in node else node.get("values", [node.get("min")])[0]
        for name, node in sweep["parameters"].items()
    }
    assert main(["train", *agent(first), *sweep["command"][4:], "--cfg", "job"]) == 0


def test_a_file_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "none.yaml"))
    assert main(["train"]) == 2
    assert capsys.readouterr().err.startswith("error: WANDB_SWEEP_PARAM_PATH: must name")
