"""The command with ``logger=wandb``: one run with its figure, a packed multirun, a server that isn't there."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

JOB = ["data=iris", "trainer.max_epochs=2", "trainer.progress=false", "logger=[csv,wandb]"]


@pytest.fixture
def command(peer, tmp_path, monkeypatch):
    """The command in a process of its own."""
    monkeypatch.delenv("UNITGAIN_UPLOADS", raising=False)

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "unitgain", "train", *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    return run


def test_a_run_is_uploaded_with_its_figure_and_without_the_key(command, peer, tmp_path):
    done = command(*JOB, "hydra.run.dir=run", "seed=3", "name=two words")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    run = peer.run
    assert run.settings["displayName"] == "two words"
    assert "seed=3" in run.values["overrides"]
    assert run.settings.get("groupName") is None
    assert [row["epoch"] for row in run.rows if "epoch" in row] == [0, 1]
    assert run.exit_codes == [0]
    [image] = [row["figures/gradient_flow"] for row in run.rows if "figures/gradient_flow" in row]
    picture = (tmp_path / "run" / "figures" / "gradient_flow.png").read_bytes()
    assert image["sha256"] == hashlib.sha256(picture).hexdigest()
    assert run.files[image["path"]] == picture
    assert json.loads(run.summary)["verdict/text"]
    key = os.environ["WANDB_API_KEY"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (tmp_path / "run" / "environment.json") in files
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert key not in done.stdout + done.stderr


def test_each_job_of_a_packed_multirun_is_a_run_of_its_group(command, peer, tmp_path):
    done = command(*JOB, "-m", "hydra/launcher=packed", "seed=0,1,2", "hydra.sweep.dir=mine")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert sorted(run.values["seed"] for run in peer.runs.values()) == [0, 1, 2]
    assert {run.settings["groupName"] for run in peer.runs.values()} == {"mine"}
    assert all(run.exit_codes == [0] for run in peer.runs.values())
    for directory in (tmp_path / "mine").glob("[!.]*/"):
        assert json.loads((directory / "wandb.json").read_text())["uploaded"]


def test_a_server_that_is_not_there_costs_a_warning(command, peer, tmp_path):
    done = command(
        *JOB,
        "hydra.run.dir=run",
        "figures=false",
        WANDB_BASE_URL="http://127.0.0.1:9",
        UNITGAIN_UPLOAD_TIMEOUT="4",
    )
    assert done.returncode == 0
    [line] = [line for line in done.stderr.splitlines() if line.startswith("warning: W&B: ")]
    assert line.endswith("all numbers are in run, and unitgain sync run uploads them later")
    assert (tmp_path / "run" / "summary.json").exists()
