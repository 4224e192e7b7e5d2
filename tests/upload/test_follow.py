"""Runs that are uploaded while they train, by the real client, to a server on the loopback."""

import hashlib
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from unitgain.errors import UnitgainWarning
from unitgain.pack.engine import Pack
from unitgain.runs import read_gradients, read_metrics
from unitgain.train import fit

DIVERGING = {"_target_": "unitgain.pack.optim.SGD", "lr": 1e9}
DIABETES = {"_target_": "unitgain.data.sources.diabetes", "task": "regression", "batch_size": 64}
CLIENT = ("_step", "_runtime", "_timestamp")


def assert_history(run, directory):
    """The server has each epoch once, as the run's own files do."""
    metrics = read_metrics(directory / "metrics.csv")
    assert [row["epoch"] for row in run.rows] == metrics["epoch"].tolist()
    assert [row["_step"] for row in run.rows] == metrics["step"].tolist()
    for name in set(metrics) - {"epoch", "step"}:
        assert [row[name] for row in run.rows] == metrics[name].tolist()


def test_the_server_has_the_history(train, following, peer):
    result = train()
    url = following.wait(result.directory)
    assert peer.keys == {peer.environment()["WANDB_API_KEY"]}
    assert_history(peer.run, result.directory)
    assert url.endswith(f"/{peer.run.name}")
    gradients = read_gradients(result.directory / "gradients.parquet")
    for name in ("grad_weight", "grad_preactivation"):
        steps, values = gradients.grid(name)
        # Measured at steps 0, 6 and 12: once an epoch of six steps.
        assert steps.tolist() == [0, 6, 12]
        for layer in range(3):
            series = [row[f"gradients/{name}/layer_{layer + 1:02d}"] for row in peer.run.rows]
            np.testing.assert_array_equal(series, values[:, layer])
    known = {"epoch", "lr", "train", "val", "gradients", *CLIENT}
    assert {name.partition("/")[0] for row in peer.run.rows for name in row} == known
    # W&B's own encoding of define_metric: all series have the epoch as their x axis.
    [x, rest] = peer.run.config["_wandb"]["value"]["m"]
    assert (x["1"], rest["2"], rest["5"]) == ("epoch", "*", 1)


def test_the_server_knows_what_the_run_is(train, following, peer):
    typed = ["data=iris", "optimizer.lr=1e-3"]
    logger = {"project": "p", "entity": "team", "group": "g", "job_type": "j"}
    result = train(logger=logger, overrides=typed, name="people", tags=["a", "b"])
    following.wait(result.directory)
    run = peer.run
    assert run.settings["project"] == "p"
    assert run.settings["entity"] == "team"
    assert run.settings["groupName"] == "g"
    assert run.settings["jobType"] == "j"
    assert run.settings["displayName"] == "people"
    assert run.settings["tags"] == ["a", "b"]
    assert run.values["overrides"] == typed
    assert run.values["choices"]["data"] == "iris"
    assert run.values["choices"]["init"] == "he"
    assert run.values["choices"]["activation"] == "relu"
    # Resolved: what nobody typed is there too.
    assert run.values["optimizer"]["betas"] == [0.9, 0.999]
    assert run.values["environment"]["versions"]["torch"]


def test_the_summary_holds_scores_and_the_verdict(train, following, peer):
    result = train()
    following.wait(result.directory)
    summary = json.loads(peer.run.summary)
    for name, value in result.metrics.items():
        assert summary[f"final/{name}"] == value
    assert summary["verdict/text"] == result.verdict
    assert (summary["status"], peer.run.exit_codes) == ("finished", [0])


def test_a_diverged_run_shows_as_failed(train, following, peer):
    result = train(data=DIABETES, optimizer=DIVERGING)
    following.wait(result.directory)
    assert json.loads(peer.run.summary)["status"] == "diverged"
    assert peer.run.exit_codes == [1]


def test_a_run_that_an_error_broke_off_shows_as_failed(
    train, following, peer, monkeypatch, tmp_path
):
    whole = Pack.train_epoch

    def failing(self, epoch, *arguments):
        if epoch == 2:
            raise RuntimeError("out of memory")
        return whole(self, epoch, *arguments)

    monkeypatch.setattr(Pack, "train_epoch", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(probe={"every": None})
    following.wait(tmp_path / "run")
    assert peer.run.exit_codes == [1]
    assert [row["epoch"] for row in peer.run.rows] == [0, 1]


def test_a_resumed_run_goes_on_as_the_same_run(train, following, peer, stop_at):
    interrupted = train(watch=stop_at(14))
    following.wait(interrupted.directory)
    assert interrupted.status == "interrupted"
    assert peer.run.exit_codes == [1]
    assert [row["epoch"] for row in peer.run.rows] == [0, 1]
    resumed = train(resume=True)
    following.wait(resumed.directory, count=2)
    assert resumed.status == "finished"
    assert_history(peer.run, resumed.directory)
    assert peer.run.exit_codes == [1, 0]


def test_members_of_a_pack_are_runs_of_their_own(spec, following, peer, tmp_path):
    tame = {"_target_": "unitgain.pack.optim.SGD", "lr": 0.01}
    nodes = (tame, DIVERGING, tame)
    specs = [spec(seed=k, data=DIABETES, optimizer=node) for k, node in enumerate(nodes)]
    folders = [tmp_path / "sweep" / f"{k:012x}" for k in range(3)]
    fit(specs, folders)
    for folder in folders:
        following.wait(folder)
    runs = sorted(peer.runs.values(), key=lambda run: run.values["seed"])
    assert [run.values["seed"] for run in runs] == [0, 1, 2]
    assert [run.exit_codes for run in runs] == [[0], [1], [0]]
    # Jobs of a multirun lie in its folder, each named by its hash.
    assert {run.settings["groupName"] for run in runs} == {"sweep"}
    for run, folder in zip(runs, folders, strict=True):
        if (folder / "metrics.csv").exists():
            assert_history(run, folder)


def test_figures_are_pictures(train, following, peer, tmp_path):
    (tmp_path / "run" / "figures").mkdir(parents=True)
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.savefig(tmp_path / "run" / "figures" / "gradient_flow.png")
    result = train()
    following.wait(result.directory)
    [row] = [row for row in peer.run.rows if "figures/gradient_flow" in row]
    content = (tmp_path / "run" / "figures" / "gradient_flow.png").read_bytes()
    image = row["figures/gradient_flow"]
    assert image["sha256"] == hashlib.sha256(content).hexdigest()
    assert peer.run.files[image["path"]] == content


def test_the_best_checkpoint_is_an_artifact_where_that_is_asked_for(train, following, peer):
    result = train(logger={"checkpoints": True})
    following.wait(result.directory)
    assert peer.artifact["artifactTypeName"] == "model"
    assert peer.artifact["artifactCollectionName"] == f"checkpoint-{peer.run.name}"
    assert peer.artifact["committed"]
    content = (result.directory / "checkpoints" / "best.ckpt").read_bytes()
    assert peer.artifact_files["best.ckpt"] == content


def test_no_key_is_left_anywhere(train, following, peer, capfd, monkeypatch):
    key = peer.environment()["WANDB_API_KEY"]
    result = train(overrides=["data=iris"])
    following.wait(result.directory)
    files = [p for p in result.directory.rglob("*") if p.is_file()]
    assert len(files) >= 8
    assert not [p for p in files if key.encode() in p.read_bytes()]
    assert key not in "".join(capfd.readouterr())
    assert key.encode() not in following.said.read_bytes()
    everything = json.dumps([peer.run.config, peer.run.history, peer.run.summary, peer.run.events])
    assert key not in everything


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_run_that_is_not_online_asks_nobody(train, peer, mode, monkeypatch):
    monkeypatch.delenv("UNITGAIN_UPLOADS", raising=False)
    result = train(logger={"mode": mode})
    assert result.status == "finished"
    assert not peer.operations
    assert (result.directory / "wandb.json").exists() == (mode == "offline")
    assert not (result.directory / "wandb").exists()


FAULTS = [
    pytest.param(500, "", id="500"),
    pytest.param("drop", "", id="drop"),
    pytest.param("hang", "", id="hang"),
    pytest.param("hang", "file_stream", id="hang-midway"),
    pytest.param(500, "file_stream", id="500-midway"),
]


@pytest.mark.parametrize(("fault", "only"), FAULTS)
def test_a_faulty_server_neither_stalls_nor_loses_a_run(train, peer, monkeypatch, fault, only):
    monkeypatch.delenv("UNITGAIN_UPLOADS", raising=False)
    monkeypatch.setenv("UNITGAIN_UPLOAD_TIMEOUT", "4")
    peer.fault, peer.only = fault, only
    began = time.monotonic()
    with pytest.warns(UnitgainWarning, match="not uploaded in full .* unitgain sync") as caught:
        result = train()
    # Training, the 4 s that a silent server is given, and what starting the client takes; not for ever.
    assert time.monotonic() - began < 90
    assert str(result.directory) in str(caught[0].message)
    assert result.status == "finished"
    names = {path.name for path in result.directory.iterdir()}
    assert {"config.yaml", "metrics.csv", "gradients.parquet", "summary.json"} <= names
    assert len(read_metrics(result.directory / "metrics.csv")["epoch"]) == 3
    assert peer.faults
    assert json.loads((result.directory / "wandb.json").read_text())["uploaded"] is None


def test_whoever_is_tired_of_waiting_presses_ctrl_c(train, peer, monkeypatch):
    from unitgain.upload import _uploader

    monkeypatch.delenv("UNITGAIN_UPLOADS", raising=False)
    peer.fault = "hang"

    def pressed(_seconds):
        raise KeyboardInterrupt

    # Of this module alone: other threads sleep too.
    clock = SimpleNamespace(sleep=pressed, monotonic=time.monotonic, time_ns=time.time_ns)
    monkeypatch.setattr(_uploader, "time", clock)
    with pytest.warns(UnitgainWarning, match=r"not uploaded in full \(interrupted\)"):
        assert train().status == "finished"


def test_a_server_that_is_busy_for_a_while_gets_it_all(train, following, peer):
    peer.fault, peer.most = 429, 2
    result = train()
    following.wait(result.directory)
    assert peer.faults == 2
    assert_history(peer.run, result.directory)


def test_a_killed_run_ends_as_failed_and_leaves_no_process(peer, spec, tmp_path, monkeypatch):
    monkeypatch.delenv("UNITGAIN_UPLOADS", raising=False)
    monkeypatch.setenv("UNITGAIN_UPLOAD_TIMEOUT", "10")
    code = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from unitgain.spec import parse\n"
        "from unitgain.train import fit\n"
        "fit([parse(json.loads(sys.argv[1]))], [Path(sys.argv[2])])\n"
    )
    data = {"_target_": "unitgain.data.sources.digits", "batch_size": 32}
    text = spec(data=data, trainer={"max_epochs": 10**6, "progress": False}).model_dump_json(
        by_alias=True, serialize_as_any=True
    )
    process = subprocess.Popen([sys.executable, "-c", code, text, str(tmp_path / "run")])
    deadline = time.monotonic() + 120
    while not (peer.runs and len(written(tmp_path / "run")) > 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not peer.run.exit_codes
    process.kill()
    process.wait()
    # The process that uploads is nobody's child now, and goes on to the end.
    while not peer.run.exit_codes and time.monotonic() < deadline:
        time.sleep(0.05)
    assert peer.run.exit_codes == [1]
    assert [row["epoch"] for row in peer.run.rows] == written(tmp_path / "run")


def written(directory):
    """The epochs in a run's own file."""
    path = directory / "metrics.csv"
    return read_metrics(path)["epoch"].tolist() if path.exists() else []
