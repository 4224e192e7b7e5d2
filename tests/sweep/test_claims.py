"""Sweeps that are started at once, or after one that was killed, on one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import unitgain
from unitgain.runs import RunDirectory, holder_of, read_standing
from unitgain.spec import parse
from unitgain.train import fit

OWN = """
import os
import lightning.pytorch as pl

class Log(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 0:
            with open(os.environ["TRAININGS"], "a") as file:
                for spec in pl_module.specs:
                    file.write(f"{spec.seed} {os.getpid()}\\n")
"""
QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "trainer.max_epochs=30",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
    "+callbacks.extra.log._target_=logpart.Log",
    "hydra.sweep.dir=s",
]
HOW = {
    "basic": ["hydra/launcher=basic"],
    "packed": ["hydra/launcher=packed", "hydra.launcher.workers=1"],
}


@pytest.fixture
def start(tmp_path):
    """Starts a sweep in a process group of its own; ends them all."""
    (tmp_path / "logpart.py").write_text(OWN)
    (tmp_path / "trainings").touch()
    places = [str(Path(unitgain.__file__).parents[1]), str(tmp_path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(places),
        "UNITGAIN_ALLOW": "logpart",
        "UNITGAIN_LEASE_S": "2",
        "TRAININGS": str(tmp_path / "trainings"),
        "OMP_NUM_THREADS": "1",
    }
    begun = []

    def start(how, *words):
        process = subprocess.Popen(
            [sys.executable, "-m", "unitgain", "train", "-m", *HOW[how], *QUICK, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _trainings(tmp_path):
    return [line.split() for line in (tmp_path / "trainings").read_text().splitlines()]


@pytest.mark.parametrize("pair", [("packed", "packed"), ("basic", "packed")])
def test_two_sweeps_started_at_once_train_each_run_once(tmp_path, start, pair):
    words = ["seed=range(0,6)", "hydra.launcher.max_members=2"]
    processes = [start(how, *words[: 1 if how == "basic" else 2]) for how in pair]
    for process in processes:
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, out
        assert "6 of 6 jobs finished" in out
    trained = _trainings(tmp_path)
    assert Counter(seed for seed, _ in trained) == Counter(map(str, range(6)))
    found = read_standing(tmp_path / "s")
    assert found.counts == {"finished": 6}
    assert not list((tmp_path / "s").glob("*/claim-*"))


@pytest.mark.parametrize("how", ["packed", "basic"])
def test_a_sweep_that_was_killed_elsewhere_is_taken_over_once_its_lease_is_over(
    tmp_path, start, desk, how
):
    words = ["trainer.max_epochs=60", "seed=1,2"]
    first = start(how, *words, "callbacks.checkpoint.every_s=0")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("s/*/checkpoints/last.ckpt")):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    claims = list(tmp_path.glob("s/*/claim-0.json"))
    assert claims
    for path in claims:
        # The worker that holds it has been killed too, but need not be gone yet.
        while RunDirectory(path.parent).status != "stale":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # As a machine leaves it whose clock is an hour ahead.
        path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": "other"}))
        os.utime(path, (time.time() + 3600,) * 2)
        assert RunDirectory(path.parent).status == "running"
    again = start(how, *words)
    out, _ = again.communicate(timeout=240)
    assert again.returncode == 0, out
    assert "2 of 2 jobs finished" in out
    assert ("trains runs of this sweep, too" if how == "packed" else "looked at again") in out
    for path in tmp_path.glob("s/*/config.yaml"):
        run = RunDirectory(path.parent)
        assert holder_of(run.path) is None
        node = run.read_config()
        del node["callbacks"]["extra"]["log"]
        alone = tmp_path / "alone" / run.path.name
        fit([parse(node)], [alone])
        assert alone.joinpath("metrics.csv").read_bytes() == run.metrics.read_bytes()
