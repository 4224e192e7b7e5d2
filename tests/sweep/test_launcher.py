"""The packed launcher leaves what the basic one leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

import unitgain
from unitgain.cli import main
from unitgain.runs import RunDirectory

QUICK = [
    "data=iris",
    "model.width=8",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
]
SWEPT = ["model.depth=1,2", "init=he,xavier", "optimizer.lr=1e-2,1e30", "seed=3,5"]
PACKED = ["hydra/launcher=packed", "hydra.launcher.workers=1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The same sweep by either launcher: exit status and folder of each."""
    folder = tmp_path_factory.mktemp("swept")
    found = {}
    for name, how in (("packed", PACKED), ("basic", [])):
        arguments = ["train", "-m", *how, *QUICK, *SWEPT, f"hydra.sweep.dir={folder / name}"]
        found[name] = main(arguments), folder / name
    return found


def _runs(folder):
    return sorted(path.parent for path in folder.glob("*/config.yaml"))


def test_the_directories_are_those_of_the_basic_launcher(swept, desk):
    (packed_code, packed), (basic_code, basic) = swept["packed"], swept["basic"]
    assert packed_code == basic_code == 3
    assert [run.name for run in _runs(packed)] == [run.name for run in _runs(basic)]
    assert len(_runs(packed)) == 16
    for one, other in zip(_runs(packed), _runs(basic), strict=True):
        desk.same_run(one, other)
    assert (packed / "multirun.yaml").is_file()
    statuses = [RunDirectory(run).status for run in _runs(packed)]
    assert sorted(statuses) == ["diverged"] * 8 + ["finished"] * 8


@pytest.mark.filterwarnings("ignore:no checkpoint was written")
@pytest.mark.parametrize("how", ["packed", "basic"])
def test_a_sweep_started_again_trains_what_is_missing(swept, desk, how, capsys):
    _, folder = swept[how]
    finished = [run for run in _runs(folder) if RunDirectory(run).status == "finished"]
    cut, bare, foreign = finished[:3]
    before = {run: (run / "summary.json").stat().st_mtime_ns for run in finished[3:]}
    (cut / "summary.json").unlink()
    (bare / "summary.json").unlink()
    for path in (bare / "checkpoints").iterdir():
        path.unlink()
    kept = shutil.move(foreign, folder.parent / "kept")
    shutil.copytree(finished[3], foreign)
    launcher = PACKED if how == "packed" else []
    arguments = ["train", "-m", *launcher, *QUICK, *SWEPT, f"hydra.sweep.dir={folder}"]
    assert main(arguments) == 2
    shutil.rmtree(foreign)
    shutil.move(kept, foreign)
    out = capsys.readouterr().out
    assert f"a job must have a directory of its own, but {foreign} holds a run of another" in out
    # Which comes first hangs on the jobs' hashes.
    [counts] = [line for line in out.splitlines() if line.startswith("7 of 16 jobs finished")]
    assert {*counts.split(", ")[1:]} == {"8 diverged", "1 failed"}
    assert {run: (run / "summary.json").stat().st_mtime_ns for run in before} == before
    other = swept["basic" if how == "packed" else "packed"][1]
    for run in (cut, bare):
        assert RunDirectory(run).status == "finished"
        desk.same_run(run, other / run.name)


def test_nothing_to_do_starts_no_worker(swept, capsys, monkeypatch):
    monkeypatch.setattr("unitgain.sweep.pool.Pool.start", None)
    _, folder = swept["packed"]
    assert main(["train", "-m", *PACKED, *QUICK, *SWEPT, f"hydra.sweep.dir={folder}"]) == 3
    assert "8 of 16 jobs finished, 8 diverged" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_plan(swept, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    _, folder = swept["packed"]
    jobs = ["model.depth=1,2,3", *SWEPT[1:3], "seed=range(3,8)"]
    arguments = ["train", "-m", "--cfg", "plan", *PACKED, *QUICK, *jobs]
    assert main([*arguments, f"hydra.sweep.dir={folder}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["pack", "runs", "shape", "memory", "time"]
    assert [line.split()[1:3] for line in lines[1:4]] == [
        ["20", "model.depth=3"],
        ["12", "model.depth=2"],
        ["12", "model.depth=1"],
    ]
    assert "8 of 60 jobs finished before, and are left out" in lines
    assert lines[-1].startswith("44 runs in 3 packs, 1 at a time; about ")
    assert max(len(line) for line in lines[:-1]) <= int(columns)


@pytest.mark.parametrize(
    ("options", "tasks"),
    [([], "6 array tasks"), (["max_tasks=4"], "4 array tasks of up to 2"), (["workers=8"], "one array task")],
)  # fmt: skip
def test_the_plan_of_an_array(tmp_path, capsys, options, tasks):
    """It needs no Slurm."""
    words = ["hydra/launcher=packed_slurm", "hydra.launcher.max_members=2", *QUICK]
    words += [f"hydra.launcher.{option}" for option in options]
    jobs = ["model.depth=1,2", "seed=range(0,6)", f"hydra.sweep.dir={tmp_path}"]
    assert main(["train", "-m", "--cfg", "plan", *words, *jobs]) == 0
    assert f"12 runs in 6 packs, {tasks}; about " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["seed=1"], "--cfg plan: shows how the jobs of a multirun are packed; add -m"),
        (["-m", "seed=1,2"], "--cfg plan: shows how the jobs of a multirun are packed; add hydra/"),
    ],
)
def test_a_plan_needs_packs(arguments, line, capsys):
    assert main(["train", "--cfg", "plan", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("workers=0", "workers: must be a whole number of at least 1, or null, got 0"),
        ("max_members=1.5", "max_members: must be a whole number of at least 1, or null, got 1.5"),
        ("memory=2", "memory: must be above 0 and at most 1, got 2"),
        ("hang_s=0", "hang_s: must be a number of seconds above 0, or null, got 0"),
        ("memory=null", "memory: must be above 0 and at most 1, got None"),
    ],
)
def test_options_of_the_launcher(option, line, capsys, tmp_path):
    assert main(["train", "-m", *PACKED, f"hydra.launcher.{option}", "seed=1,2"]) == 2
    assert capsys.readouterr().err == f"error: hydra.launcher.{line}\n"
    assert list(tmp_path.iterdir()) == []


def test_what_jobs_of_one_process_can_not_have(capsys):
    assert main(["train", "-m", *PACKED, "hydra.job.chdir=true", "seed=1,2"]) == 2
    assert capsys.readouterr().err == (
        "error: hydra.job.chdir: can't be set for jobs that share a process, got True; leave it "
        "out, or choose hydra/launcher=basic\n"
    )


class TwoBatches(Sweeper):
    """Asks for a batch, and for a second one that depends on it; one of its jobs can't be."""

    seen: list = []  # noqa: RUF012

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        first = [[*arguments, f"optimizer.lr={lr}"] for lr in ("1e-3", "1e-2")]
        first.append([*arguments, "optimizer.lr=-1"])
        returned = self.launcher.launch(first, initial_job_idx=0)
        values = [job.return_value for job in returned]
        best = first[0 if values[0] < values[1] else 1]
        returned += self.launcher.launch([[*best, "seed=7"]], initial_job_idx=3)
        self.seen.append([(job.overrides, job.return_value) for job in returned])


TwoBatches.__module__ = "hydra_plugins.two_batches"


def test_a_sweeper_that_decides_as_it_goes(tmp_path, capsys, monkeypatch):
    # A GPU there may be, whatever torch makes of it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    module = ModuleType(TwoBatches.__module__)
    module.TwoBatches = TwoBatches
    monkeypatch.setitem(sys.modules, module.__name__, module)
    Plugins.instance().register(TwoBatches)
    (tmp_path / "mine" / "hydra" / "sweeper").mkdir(parents=True)
    (tmp_path / "mine" / "hydra" / "sweeper" / "two.yaml").write_text(
        "_target_: hydra_plugins.two_batches.TwoBatches\n"
    )
    subdir = "hydra.sweep.subdir=${hydra.job.num}_${hydra.job.override_dirname}"
    words = [
        *PACKED,
        "hydra/sweeper=two",
        subdir,
        "hydra.sweep.dir=s",
        *QUICK,
        "trainer.accelerator=auto",
    ]
    words += [
        "hydra.job.config.override_dirname.exclude_keys=[data,model.width,trainer.max_epochs,"
        "trainer.accelerator,trainer.progress,figures]"
    ]
    assert main(["train", "--config-dir", "mine", "-m", *words]) == 2
    [seen] = TwoBatches.seen
    values = [value for _, value in seen]
    assert values[2] != values[2]
    assert all(value > 0 for value in (values[0], values[1], values[3]))
    best = "1e-3" if values[0] < values[1] else "1e-2"
    assert [run.name for run in _runs(tmp_path / "s")] == [
        "0_optimizer.lr=1e-3",
        "1_optimizer.lr=1e-2",
        f"3_optimizer.lr={best},seed=7",
    ]
    out = capsys.readouterr().out
    assert "failed: optimizer.lr: must be above 0, got -1" in out
    for number in (0, 1, 3):
        [run] = [run for run in _runs(tmp_path / "s") if run.name.startswith(f"{number}_")]
        summary = json.loads((run / "summary.json").read_text())
        assert summary["best"]["value"] == values[number]


def test_ctrl_c_saves_and_the_next_sweep_goes_on(tmp_path, desk):
    words = [*PACKED, *QUICK, "trainer.max_epochs=4000", "callbacks.early_stopping.patience=3000"]
    words += ["seed=1,2", "hydra.sweep.dir=s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unitgain", "train", "-m", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(unitgain.__file__).parents[1])},
    )
    patience = time.monotonic() + 60
    while not list(tmp_path.glob("s/*/metrics.csv")) and time.monotonic() < patience:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; go on by the same command with hydra.sweep.dir=s" in out
    assert "0 of 2 jobs finished, 2 interrupted" in out
    assert err == ""
    runs = [RunDirectory(run) for run in _runs(tmp_path / "s")]
    assert [run.status for run in runs] == ["interrupted", "interrupted"]
    assert all(run.last_checkpoint.exists() for run in runs)
    assert len({run.read_summary()["epoch"] for run in runs}) == 1
    # Its epoch is known without the checkpoint's tensors.
    plan = subprocess.run(
        [sys.executable, "-m", "unitgain", "train", "-m", "--cfg", "plan", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(unitgain.__file__).parents[1])},
    )
    assert "2 runs in one pack" in plan.stdout
