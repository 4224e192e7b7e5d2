"""unitgain status: a sweep's folder as other processes leave it at some moment."""

import json
import os
import time

import pytest

from unitgain.cli import main
from unitgain.errors import ConfigError
from unitgain.runs import Claims, MetricsWriter, RunDirectory, read_standing, write_plan


def _run(folder, name, epochs, status=None, **summary):
    """A run of 10 steps an epoch."""
    run = RunDirectory(folder / name).create()
    run.write_config({"seed": 0})
    with MetricsWriter(run.metrics) as metrics:
        for epoch in range(epochs):
            metrics.append(epoch, 10 * (epoch + 1), {"train/loss": 0.5})
    if status:
        run.write_summary({"status": status, "metrics": {}, "epoch": epochs, **summary})
    return run


@pytest.fixture
def sweep(tmp_path):
    """Runs of 20 epochs, as they stand 100 s after the first began as the sweep was started again."""
    folder = tmp_path / "sweep"
    names = ("old", "done", "lost", "wrong", "now", "gone", "killed", "new")
    _run(folder, "old", 20, "finished")
    _run(folder, "now", 5)
    write_plan(folder, dict.fromkeys(names, 20))
    [plan] = (folder / ".plan").iterdir()
    began = time.time() - 100
    os.utime(plan, (began - 30,) * 2)  # half a minute went by before the first one began
    os.utime(folder / "old" / "config.yaml", (began - 500,) * 2)
    _run(folder, "done", 20, "finished")
    os.utime(folder / "done" / "config.yaml", (began,) * 2)
    _run(folder, "lost", 3, "diverged", diverged={"step": 31})
    _run(folder, "wrong", 0, "failed", cause="no memory")
    _run(folder, "now", 15)
    _run(folder, "gone", 8)
    _run(folder, "killed", 8, "interrupted", cause="preempted by SIGTERM")
    claims, dead = Claims(), Claims()
    claims.take(folder / "now")
    dead.take(folder / "gone")
    path = folder / "gone" / "claim-0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"began": "long ago"}))
    yield folder
    claims.close()
    dead.close()


def test_the_arithmetic_of_a_sweep_under_way(sweep):
    found = read_standing(sweep)
    assert found.counts == {
        "finished": 2, "diverged": 1, "failed": 1, "running": 1, "stale": 1, "interrupted": 1,
        "missing": 1,
    }  # fmt: skip
    assert found.ended == 4
    # now: 5 of 20 epochs, gone and killed: 12 each, new: all 20; 10 steps each
    assert found.steps_left == 10 * (5 + 12 + 12 + 20)
    # done: 20 epochs, lost 3, now 10, gone and killed 8 each; old was done before
    assert found.steps_per_second == pytest.approx(10 * (20 + 3 + 10 + 8 + 8) / 100, rel=0.1)
    assert found.seconds_left == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_the_terminal_shows(sweep, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
    assert main(["status", str(sweep)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"4 of 8 runs ended  {sweep}"
    assert lines[1].endswith(" 50%")
    counts = {line.split()[0]: line.split()[1] for line in lines[2:9]}
    assert counts["running"] == counts["stale"] == counts["missing"] == "1"
    assert "running          1  by 1 process on 1 machine" in lines
    assert " steps/s of all runs together; 490 steps left, about 0:01:" in lines[9]
    assert lines[10:12] == [
        "lost diverged: the loss was no longer finite at step 31",
        "wrong failed: no memory",
    ]
    assert lines[12].startswith(f"gone stale: process {os.getpid()} on ")
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before


def test_watch_ends_with_the_sweep(tmp_path, capsys):
    _run(tmp_path / "sweep", "done", 3, "finished")
    assert main(["status", "--watch", "0.1", str(tmp_path / "sweep")]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 runs ended" in out
    assert "no plan in the folder" in out
    assert "rate" not in out


def test_no_epoch_yet(tmp_path, capsys):
    claims = Claims()
    write_plan(tmp_path, {"a": 3, "b": 3})
    claims.take(tmp_path / "a")
    assert main(["status", str(tmp_path)]) == 0
    assert "rate       no epoch is over yet\n" in capsys.readouterr().out
    claims.close()
    assert read_standing(tmp_path).counts == {"missing": 2}


def test_the_newest_plan_of_a_run_counts_and_plans_add_up(tmp_path):
    write_plan(tmp_path, {"a": 3, "b": 3})
    _run(tmp_path, "a", 2)
    write_plan(tmp_path, {"a": 3, "b": 3})
    assert len(list((tmp_path / ".plan").iterdir())) == 1
    write_plan(tmp_path, {"c": 5})
    assert {r.name: (r.epochs, r.before, r.done) for r in read_standing(tmp_path).runs} == {
        "a": (3, 2, 2), "b": (3, 0, 0), "c": (5, 0, 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "unitgain status: must be given one folder, got nothing; write DIR"),
        (["nowhere"], "nowhere: must be a folder with runs, but there is no such folder"),
        (["--watch", "0", "."], "--watch: must be from 0.1 to 86400 seconds, got 0; 5 is usual"),
        (["."], ".: must be the folder of a multirun, but holds neither runs nor a plan"),
    ],
)
def test_mistakes(arguments, line, capsys):
    assert main(["status", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_damaged_plan_is_named(tmp_path, capsys):
    write_plan(tmp_path, {"a": 3})
    [plan] = (tmp_path / ".plan").iterdir()
    plan.write_text("{")
    assert main(["status", str(tmp_path)]) == 2
    assert f"error: {plan}: must be the plan of a sweep" in capsys.readouterr().err


def test_a_lease_must_be_a_number(monkeypatch):
    for text in ("soon", "0.1", "nan", "inf"):
        monkeypatch.setenv("UNITGAIN_LEASE_S", text)
        with pytest.raises(ConfigError, match="UNITGAIN_LEASE_S: must be a number of seconds"):
            Claims()
