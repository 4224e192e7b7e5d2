import json
import time

import numpy as np
import pytest
import wandb

from unitgain.runs import read_gradients, read_metrics
from unitgain.train import fit

WANDB = {"_target_": "unitgain.train.loggers.wandb"}
DIVERGING = {"_target_": "unitgain.pack.optim.SGD", "lr": 1e9}


class FakeRun:
    """What a wandb run is told."""

    def __init__(self, arguments):
        self.arguments, self.logged, self.exit_codes = arguments, [], []
        self.config = FakeConfig(arguments["config"])
        self.step = 0

    def log(self, data, step=None):
        self.logged.append(data)

    def define_metric(self, *arguments, **keywords):
        pass

    def watch(self, *arguments, **keywords):
        pass

    def finish(self, exit_code=None):
        self.exit_codes.append(exit_code)


class FakeConfig(dict):
    def update(self, values, allow_val_change=None):
        super().update(values)


@pytest.fixture
def fake_wandb(monkeypatch):
    """The runs that were opened, none of them anywhere."""
    runs = []

    def init(**arguments):
        runs.append(FakeRun(arguments))
        return runs[-1]

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb.Run", FakeRun, raising=False)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return runs


def flat(run):
    return {key: value for data in run.logged for key, value in data.items()}


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


def test_wandb_is_told_what_the_run_is(make_spec, tmp_path, fake_wandb):
    node = WANDB | {"project": "p", "entity": "e", "group": "g", "job_type": "j", "mode": "offline"}
    spec = make_spec(logger={"wandb": node}, name="people", tags=["a", "b"])
    typed = ["data=iris", "optimizer.lr=1e-3"]
    fit([spec], [tmp_path / "run"], overrides=[typed])
    [run] = fake_wandb
    given = run.arguments
    assert [given[k] for k in ("project", "entity", "group", "job_type")] == ["p", "e", "g", "j"]
    assert (given["name"], given["tags"], given["mode"]) == ("people", ["a", "b"], "offline")
    assert given["dir"] == tmp_path / "run"
    assert given["config"]["overrides"] == typed
    # Resolved: what nobody typed is there too.
    assert given["config"]["optimizer"]["betas"] == [0.9, 0.999]
    assert given["config"]["data"]["batch_size"] == 16


def test_wandb_gets_the_numbers(make_spec, tmp_path, fake_wandb):
    [result] = fit([make_spec(logger={"wandb": WANDB}, probe={"every": 6})], [tmp_path / "run"])
    [run] = fake_wandb
    losses = [data["val/loss"] for data in run.logged if "val/loss" in data]
    assert losses == read_metrics(tmp_path / "run" / "metrics.csv")["val/loss"].tolist()
    assert flat(run)["final/test/accuracy"] == result.metrics["test/accuracy"]
    flow = [data for data in run.logged if "gradient_flow/grad_weight/layer_01" in data]
    steps, values = read_gradients(tmp_path / "run" / "gradients.parquet").grid("grad_weight")
    assert [data["gradient_flow/grad_weight/layer_01"] for data in flow] == values[:, 0].tolist()
    assert len(flow) == len(steps) == 3
    assert all(np.isfinite(value) for data in run.logged for value in data.values())


@pytest.mark.parametrize("diverges", [False, True])
def test_wandb_ends_with_the_runs_status(make_spec, tmp_path, fake_wandb, diabetes, diverges):
    changes = {"data": diabetes, "optimizer": DIVERGING} if diverges else {}
    [result] = fit([make_spec(logger={"wandb": WANDB}, **changes)], [tmp_path / "run"])
    assert result.status == ("diverged" if diverges else "finished")
    assert fake_wandb[0].exit_codes == [1 if diverges else 0]


def test_wandb_of_an_interrupted_run_is_a_failure(train, fake_wandb, interrupt_at):
    with interrupt_at(8):
        assert train(logger={"wandb": WANDB}).status == "interrupted"
    assert fake_wandb[0].exit_codes == [1]


def test_wandb_of_a_run_that_an_error_broke_off_is_a_failure(train, fake_wandb, monkeypatch):
    from unitgain.pack.engine import Pack

    def failing(self, *arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Pack, "train_epoch", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(logger={"wandb": WANDB})
    assert fake_wandb[0].exit_codes == [1]


def test_wandb_of_members(make_spec, tmp_path, fake_wandb, diabetes):
    tame = {"_target_": "unitgain.pack.optim.SGD", "lr": 0.01}
    specs = [
        make_spec(seed=k, data=diabetes, optimizer=node, logger={"wandb": WANDB})
        for k, node in enumerate((tame, DIVERGING))
    ]
    fit(specs, [tmp_path / "0", tmp_path / "1"])
    assert [run.arguments["config"]["seed"] for run in fake_wandb] == [0, 1]
    assert [run.exit_codes for run in fake_wandb] == [[0], [1]]
    # Runs side by side in one process.
    assert all(run.arguments["reinit"] == "create_new" for run in fake_wandb)


def test_resumed_run_keeps_its_overrides(make_spec, tmp_path, fake_wandb, interrupt_at):
    spec = make_spec(logger={"wandb": WANDB})
    with interrupt_at(8):
        fit([spec], [tmp_path / "run"], overrides=[["data=iris"]])
    fit([spec], [tmp_path / "run"], resume=True)
    assert [run.arguments["config"]["overrides"] for run in fake_wandb] == [["data=iris"]] * 2


@pytest.mark.parametrize(
    ("mode", "variable", "key", "expected"),
    [
        ("auto", None, None, "offline"),
        ("auto", None, "k" * 40, "online"),
        ("auto", "disabled", "k" * 40, "disabled"),
        ("offline", "online", "k" * 40, "offline"),
        ("online", None, None, "online"),
    ],
)
def test_wandb_mode(train, fake_wandb, monkeypatch, mode, variable, key, expected):
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    train(logger={"wandb": WANDB | {"mode": mode}}, trainer={"max_epochs": 1})
    assert fake_wandb[0].arguments["mode"] == expected


def test_wandb_is_online_with_a_key_in_netrc_for_its_own_host(
    train, fake_wandb, monkeypatch, tmp_path
):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for host, expected in (("other.example", "offline"), ("wandb.example", "online")):
        (tmp_path / "netrc").write_text(f"machine {host} login user password {'k' * 40}\n")
        (tmp_path / "netrc").chmod(0o600)
        train(host, logger={"wandb": WANDB | {"mode": "auto"}}, trainer={"max_epochs": 1})
        assert fake_wandb[-1].arguments["mode"] == expected


def test_wandb_offline_writes_into_the_run_directory(train):
    result = train(logger={"wandb": WANDB | {"mode": "offline"}}, trainer={"max_epochs": 1})
    [offline] = (result.directory / "wandb").glob("offline-run-*")
    [log] = offline.glob("run-*.wandb")
    wanted = (b"val/loss", b"final/test/accuracy", b"batch_size")
    # A process of wandb's own writes the file, at times behind the end of the run.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not all(text in log.read_bytes() for text in wanted):
        time.sleep(0.1)
    for text in wanted:
        assert text in log.read_bytes()
    assert json.loads((result.directory / "summary.json").read_text())["status"] == "finished"


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
