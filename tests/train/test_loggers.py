import json
from pathlib import Path

import numpy as np
import pytest

from unitgain.runs import read_metrics

WANDB = {"_target_": "unitgain.train.loggers.wandb"}


def test_csv_leaves_nothing_but_the_runs_own_files(train):
    result = train(logger={"csv": {"_target_": "unitgain.train.loggers.csv"}})
    names = {path.name for path in result.directory.iterdir()}
    assert names == {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "metrics.csv",
        "gradients.parquet",
        "summary.json",
        "checkpoints",
        "figures",
    }


def test_wandb_and_tensorboard_are_not_imported_for_nothing(make_spec, tmp_path, python):
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from unitgain.spec import parse\n"
        "from unitgain.train import fit\n"
        "fit([parse(json.loads(sys.argv[1]))], [Path(sys.argv[2])])\n"
        "print([m for m in ('wandb', 'tensorboard') if m in sys.modules])\n"
    )
    spec = make_spec(trainer={"max_epochs": 1})
    text = spec.model_dump_json(by_alias=True, serialize_as_any=True)
    output, _ = python(code, text, str(tmp_path / "run")).communicate(timeout=120)
    assert output.splitlines()[-1] == "[]"


@pytest.fixture
def notes(monkeypatch, tmp_path):
    """What an uploading process would be told: the run, and whether it has ended."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    monkeypatch.setenv("UNITGAIN_UPLOADS", str(inbox))

    def read():
        told = [json.loads(path.read_text()) for path in sorted(inbox.glob("*.json"))]
        return [(Path(note["run"]), note["ended"]) for note in told]

    return read


@pytest.mark.parametrize(
    ("mode", "variable", "key", "online"),
    [
        ("auto", None, None, False),
        ("auto", None, "k" * 40, True),
        ("auto", "disabled", "k" * 40, False),
        ("auto", "offline", "k" * 40, False),
        ("auto", "online", None, True),
        ("offline", "online", "k" * 40, False),
        ("online", None, None, True),
    ],
)
def test_wandb_mode(train, notes, monkeypatch, mode, variable, key, online):
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    result = train(logger={"wandb": WANDB | {"mode": mode}}, trainer={"max_epochs": 1})
    told = [(result.directory, False), (result.directory, True)] if online else []
    assert notes() == told


def test_wandb_is_online_with_a_key_in_netrc_for_its_own_host(train, notes, monkeypatch, tmp_path):
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "settings").write_text("[default]\nbase_url = https://wandb.example\n")
    for host, online in (("other.example", False), ("wandb.example", True)):
        (tmp_path / "netrc").write_text(f"machine {host} login user password {'k' * 40}\n")
        (tmp_path / "netrc").chmod(0o600)
        result = train(host, logger={"wandb": WANDB}, trainer={"max_epochs": 1})
        assert ((result.directory, True) in notes()) == online


def test_a_run_keeps_its_name_at_wandb(train, notes, interrupt_at):
    with interrupt_at(8):
        first = train(logger={"wandb": WANDB})
    before = (first.directory / "wandb.json").read_bytes()
    train(logger={"wandb": WANDB}, resume=True)
    assert (first.directory / "wandb.json").read_bytes() == before


def test_a_run_that_wandb_agent_asks_for_is_the_one_it_means(train, notes, monkeypatch):
    for name, value in (("SWEEP_ID", "s1"), ("RUN_ID", "r1"), ("PROJECT", "p1"), ("ENTITY", "e1")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    result = train(logger={"wandb": WANDB}, trainer={"max_epochs": 1})
    said = json.loads((result.directory / "wandb.json").read_text())
    assert [said[key] for key in ("id", "sweep", "project", "entity")] == ["r1", "s1", "p1", "e1"]


def test_tensorboard_holds_the_numbers(train):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    node = {"_target_": "unitgain.train.loggers.tensorboard"}
    result = train(logger={"tensorboard": node})
    events = EventAccumulator(str(result.directory / "tensorboard"))
    events.Reload()
    metrics = read_metrics(result.directory / "metrics.csv")
    for name in ("val/loss", "train/loss", "val/accuracy"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [6, 12, 18]
        np.testing.assert_allclose([s.value for s in scalars], metrics[name], rtol=1e-6)
    assert "gradient_flow/grad_preactivation/layer_02" in events.Tags()["scalars"]


def test_tensorboard_that_is_missing_is_one_line(train, monkeypatch):
    from unitgain.errors import ConfigError

    def missing(*arguments, **keywords):
        raise ModuleNotFoundError("no tensorboard")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger", missing)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard, .* unitgain\[tensorb"):
        train(logger={"tensorboard": {"_target_": "unitgain.train.loggers.tensorboard"}})
