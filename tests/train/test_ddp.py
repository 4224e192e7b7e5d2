"""Two processes that share a run leave what one does; what can't be is refused, and nobody waits for the dead."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from unitgain.cli import main
from unitgain.cli._processes import check_one_a_job
from unitgain.errors import ConfigError, LostProcessError
from unitgain.runs import RunDirectory, launched, read_gradients, read_metrics
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint

SCRIPT = Path(__file__).with_name("ddp_follower.py")
NOISE = ["gradient_noise_scale", "gradient_snr", "gradient_cosine"]
ALL = [
    "grad_preactivation",
    "grad_weight",
    "grad_bias",
    "update_ratio",
    "activation_mean",
    "activation_variance",
    "activation_correlation",
    "silent_fraction",
    "saturated_fraction",
]
TWO = {"devices": 2, "precision": "64"}


class Follower:
    """The second of two processes, started when it is first needed, and again where it has died."""

    def __init__(self, folder):
        self.folder, self.process, self.pid = folder, None, 0

    def environments(self, by):
        """The variables of both processes."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        if by == "torchrun":
            common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            own = [{"RANK": str(r), "LOCAL_RANK": str(r)} for r in (0, 1)]
        else:
            names = {
                "STEP_NUM_TASKS": "2",
                "STEP_TASKS_PER_NODE": "2",
                "JOB_ID": "77",
                "NTASKS": "2",
            }
            common = {f"SLURM_{name}": value for name, value in names.items()}
            own = [{"SLURM_PROCID": str(r), "SLURM_LOCALID": str(r)} for r in (0, 1)]
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [common | each for each in own]

    def begin(self, environment, argv=None, dies=None):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            self.pid = int(self.process.stdout.readline())
        order = {"environment": environment, "argv": argv, "dies": dies}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """Its exit status, or its error; None if it died."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def close(self):
        if self.process is not None:
            self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def follower(tmp_path_factory):
    second = Follower(tmp_path_factory.mktemp("elsewhere"))
    yield second
    second.close()


@pytest.fixture
def pair(follower, monkeypatch):
    """Call something as the first of two processes, with the other beside it; what both give."""

    def run(call, *, by="torchrun", **order):
        mine, other = follower.environments(by)
        follower.begin(other, **order)
        with monkeypatch.context() as patch:
            for name, value in mine.items():
                patch.setenv(name, value)
            try:
                result = call()
            finally:
                status = follower.answer()
        return result, status

    return run


@pytest.fixture
def both(pair, make_spec, tmp_path):
    """Train one configuration alone and in two processes: the directories of both."""

    def run(by="torchrun", **changes):
        changes = {"trainer": {"precision": "64"}} | changes
        fit([make_spec(**changes)], [tmp_path / "alone"])
        changes["trainer"] = changes["trainer"] | {"devices": 2}
        [result], status = pair(lambda: fit([make_spec(**changes)], [tmp_path / "two"]), by=by)
        assert status == 0
        return tmp_path / "alone", result.directory

    return run


def assert_close(one, other, rtol):
    """Two runs have left the same numbers up to rounding: each epoch, each probed step, weights and final metrics."""
    a, b = RunDirectory(one), RunDirectory(other)
    for name, column in (first := read_metrics(a.metrics)).items():
        np.testing.assert_allclose(read_metrics(b.metrics)[name], column, rtol, rtol, err_msg=name)
    assert len(first["val/loss"]) >= 1
    gradients, others = read_gradients(a.gradients), read_gradients(b.gradients)
    assert gradients.names == others.names
    for name in gradients.names:
        steps, expected = gradients.grid(name)
        np.testing.assert_array_equal(others.grid(name)[0], steps)
        # Cosines and second moments of centred numbers lose some digits.
        np.testing.assert_allclose(others.grid(name)[1], expected, 1e3 * rtol, rtol, err_msg=name)
    for name in ("best_checkpoint", "last_checkpoint"):
        weights = read_checkpoint(getattr(a, name))["state_dict"]
        found = read_checkpoint(getattr(b, name))["state_dict"]
        for key, tensor in weights.items():
            torch.testing.assert_close(found[key], tensor, rtol=100 * rtol, atol=10 * rtol, msg=key)
    mine, its = a.read_summary(), b.read_summary()
    assert its["status"] == mine["status"]
    assert its["rows"] == mine["rows"]
    assert its["parameters"] == mine["parameters"]
    np.testing.assert_allclose(
        [its["metrics"][name] for name in mine["metrics"]],
        list(mine["metrics"].values()),
        1e2 * rtol,
        rtol,
    )


BATCH_NORM = {
    # 90 rows in batches of 16 end with one of 10, of which 5 fill up half a register.
    "norm": {"_target_": "unitgain.nn.BatchNorm"},
    "dropout": {"_target_": "unitgain.nn.Dropout", "p": 0.3},
    "probe": {"every": 3, "quantities": ALL},
}
TINY_LAST = {
    # 90 rows in batches of 89 end with one of 1: the first process has no row of it.
    "data": {"batch_size": 89},
    "norm": {"_target_": "unitgain.nn.LayerNorm"},
    "dropout": {"_target_": "unitgain.nn.AlphaDropout", "p": 0.2},
    "l2_penalty": 0.01,
    "optimizer": {"_target_": "unitgain.pack.optim.SGD", "lr": 0.1, "momentum": 0.9},
    "trainer": {"precision": "64", "gradient_clip_norm": 0.5},
    "probe": {"every": 1, "quantities": ["grad_weight", *NOISE]},
}
WEIGHTED = {
    "data": {"_target_": "unitgain.data.sources.diabetes", "task": "regression", "batch_size": 50},
    "shift": {"_target_": "unitgain.data.shifts.PCATilt"},
    "weighting": {"_target_": "unitgain.shift.KMM", "exponent": 0.5},
    "model": {"residual": True, "depth": 3},
    "init": {"_target_": "unitgain.nn.init.lsuv"},
    "monitor": "val/rmse",
}


@pytest.mark.parametrize(
    ("by", "changes"),
    [("torchrun", BATCH_NORM), ("srun", TINY_LAST), ("torchrun", WEIGHTED)],
    ids=["batch norm", "tiny last batch", "weighted regression"],
)
def test_two_processes_leave_what_one_does(both, by, changes):
    alone, two = both(by, **changes)
    assert_close(alone, two, rtol=1e-10)
    assert RunDirectory(two).read_environment()["processes"] == 2
    assert "processes" not in RunDirectory(alone).read_environment()


def test_float32_agrees_up_to_its_rounding_and_a_repetition_to_the_bit(
    both, pair, make_spec, tmp_path, assert_same_run
):
    changes = {"trainer": {"precision": "32"}, "norm": BATCH_NORM["norm"]}
    alone, two = both(**changes)
    assert_close(alone, two, rtol=2e-5)
    spec = make_spec(**changes | {"trainer": {"devices": 2}})
    pair(lambda: fit([spec], [tmp_path / "again"]))
    assert_same_run(two, tmp_path / "again")


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_in_another_number_of_processes(
    pair, make_spec, tmp_path, interrupt_at, first
):
    changes = {"dropout": BATCH_NORM["dropout"], "norm": BATCH_NORM["norm"]}
    one, two = (make_spec(**changes, trainer=TWO | {"devices": d}) for d in (1, 2))
    fit([one], [tmp_path / "whole"])

    def begin():
        with interrupt_at(8):
            return fit([one if first == 1 else two], [tmp_path / "parts"])

    def end():
        return fit([two if first == 1 else one], [tmp_path / "parts"], resume=True)

    # Ctrl-C in the first process is told to the second.
    [begun], status = (begin(), 0) if first == 1 else pair(begin)
    assert (begun.status, begun.signal) == ("interrupted", signal.SIGINT)
    assert status == (0 if first == 1 else signal.SIGINT)
    [ended], status = pair(end) if first == 1 else (end(), 0)
    assert (ended.status, status) == ("finished", 0)
    assert_close(tmp_path / "whole", tmp_path / "parts", rtol=1e-10)


def test_a_signal_to_any_process_saves_the_run(pair, follower, make_spec, tmp_path):
    class Preempting:
        sent = False

        def stop(self):
            return 0

        def epoch(self, done, epochs, running, member_steps):
            if not self.sent:
                os.kill(follower.pid, signal.SIGTERM)
                self.sent = True

        def ended(self, k, result):
            pass

    spec = make_spec(trainer=TWO | {"max_epochs": 10**5}, probe={"every": None})
    [result], status = pair(lambda: fit([spec], [tmp_path / "run"], watch=Preempting()))
    assert (result.status, result.signal, status) == ("interrupted", signal.SIGTERM, signal.SIGTERM)
    assert read_checkpoint(result.directory / "checkpoints/last.ckpt")["epoch"] >= 1


def test_a_run_that_diverges_does_so_at_the_same_step(both):
    alone, two = both(optimizer={"_target_": "unitgain.pack.optim.SGD", "lr": 1e200})
    found = [RunDirectory(folder).read_summary() for folder in (alone, two)]
    assert found[0]["status"] == found[1]["status"] == "diverged"
    assert found[0]["diverged"] == found[1]["diverged"]


def test_what_is_wrong_in_another_process_alone_the_first_one_tells(
    pair, make_spec, tmp_path, monkeypatch
):
    rows = "".join(f"{i},{i % 7},{i % 2}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text("a,b,y\n" + rows)
    monkeypatch.chdir(tmp_path)
    data = {"_target_": "unitgain.data.sources.csv", "path": "rows.csv", "target_column": "y"}
    spec = make_spec(trainer=TWO, data=data | {"task": "classification", "batch_size": 9})
    with pytest.raises(ConfigError, match=r"^process 1 of 2: .*rows\.csv"):
        pair(lambda: fit([spec], [tmp_path / "run"]))
    assert not (tmp_path / "run").exists()


def test_the_command_in_two_processes_makes_one_directory(
    pair, follower, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    options = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1", "data=iris"]
    argv = ["train", *options, "figures=false", "hydra.run.dir=run"]
    assert pair(lambda: main(argv), argv=argv) == (0, 0)
    assert RunDirectory(tmp_path / "run").status == "finished"
    assert list(follower.folder.iterdir()) == []
    assert "accuracy" in capsys.readouterr().out


def test_the_command_starts_the_other_process_by_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data=iris"]
    argv = ["train", *options, "trainer.max_epochs=1", "figures=false", "hydra.run.dir=run"]
    assert main(argv) == 0
    assert capsys.readouterr().err == ""
    run = RunDirectory(tmp_path / "run")
    assert run.status == "finished"
    assert run.read_environment()["processes"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "how", [["trainer=ddp", "seed=1,2"], ["trainer=default,ddp", "hydra/launcher=packed"]]
)
def test_a_local_multirun_is_refused(tmp_path, monkeypatch, capsys, how):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", *how]) == 2
    line = capsys.readouterr().err
    assert line.startswith(
        "error: trainer.devices: must be 1 in a multirun on one machine, got auto"
    )
    assert "leave -m out" in line
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_slurm_may_give_each_job_a_machine_of_its_own():
    slurm = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
    check_one_a_job("auto", slurm | {"tasks_per_node": 1, "nodes": 1, "gpus_per_node": 4})
    with pytest.raises(
        ConfigError, match=r"^hydra\.launcher\.tasks_per_node: must be 1 .* 8 tasks"
    ):
        check_one_a_job("auto", slurm | {"tasks_per_node": 4, "nodes": 2})
    for name in ("LocalLauncher", "PackedSlurmLauncher"):
        with pytest.raises(ConfigError, match=r"^trainer\.devices: must be 1 in a multirun"):
            check_one_a_job(4, {"_target_": f"somewhere.{name}"})


def test_packs_and_wrong_numbers_are_refused(make_spec, tmp_path, monkeypatch):
    spec = make_spec(trainer={"devices": 2})
    with pytest.raises(
        ConfigError, match=r"^trainer\.devices: must be 1 where runs train as a pack"
    ):
        fit([spec, make_spec(seed=1, trainer={"devices": 2})], [tmp_path / "a", tmp_path / "b"])
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"as many as torchrun started on a machine, 3, got 2; "):
        fit([spec], [tmp_path / "a"])
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match=r"fit: must be called by the first process"):
        fit([make_spec(trainer={"devices": "auto"})], [tmp_path / "a"])
    assert list(tmp_path.iterdir()) == []


def test_tasks_are_counted_by_their_step():
    step = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "4", "SLURM_LOCALID": "0"}
    task = launched(step | {"SLURM_STEP_TASKS_PER_NODE": "2(x3)"})
    assert (task.by, task.rank, task.size, task.local_rank, task.local_size) == ("srun", 4, 6, 0, 2)
    assert launched(step | {"SLURM_STEP_TASKS_PER_NODE": "4,2"}).local_size is None
    assert launched(step | {"SLURM_STEP_NUM_TASKS": "1"}) is None


def test_nobody_waits_for_a_process_that_died(pair, make_spec, tmp_path):
    spec = make_spec(trainer=TWO)
    with pytest.raises(LostProcessError, match=r"^one of the 2 processes ended before the run did"):
        pair(lambda: fit([spec], [tmp_path / "run"]), dies=3)
    assert RunDirectory(tmp_path / "run").status == "unfinished"
