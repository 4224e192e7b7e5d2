"""Hydra's launchers that start a process for each job: run directories, failures and the summary are as everywhere."""

import pytest

from unitgain.cli import main
from unitgain.cli._elsewhere import Records, gathered
from unitgain.cli._job import Outcome, Task, worst
from unitgain.runs import RunDirectory
from unitgain.sweep.job import Ending

QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
    "hydra.sweep.dir=s",
]
JOBS = ["data.drop_last=true", "data.batch_size=16,1000"]


@pytest.mark.parametrize(
    "launcher", [["joblib", "hydra.launcher.n_jobs=2"], ["submitit_local"]], ids=lambda w: w[0]
)
def test_a_job_that_fails_ends_no_other(launcher, tmp_path, capfd):
    name, *options = launcher
    words = [f"hydra/launcher={name}", *options, *QUICK, *JOBS]
    assert main(["train", "-m", *words]) == 2
    out = capfd.readouterr().out
    assert "1 of 2 jobs finished, 1 failed" in out
    assert "job 2 (data.batch_size=1000) failed: iris: training needs at least one full" in out
    [config] = tmp_path.glob("s/*/config.yaml")
    assert RunDirectory(config.parent).status == "finished"
    assert len(config.parent.name) == 12
    assert not (tmp_path / "s" / ".jobs").exists()


def test_a_job_that_is_lost_is_told_beside_the_others(tmp_path, desk):
    task = Task(total=2, records=Records.of(tmp_path))
    spec = desk.spec()
    done = Outcome(0, ("seed=0",), Ending("finished", 0.5), spec, tmp_path / "run")
    with gathered(task, [["seed=0"], ["seed=1"]]):
        task.records.keep(done)
        raise RuntimeError("Job 7 was killed\nmore")
    assert task.outcomes[0] == done
    ending = task.outcomes[1].ending
    assert ending.status == "interrupted"
    assert "left no word (RuntimeError: Job 7 was killed)" in ending.cause
    assert worst(task.outcomes) == 130
    assert list(tmp_path.iterdir()) == []


def test_in_this_process_nothing_is_swallowed():
    with pytest.raises(RuntimeError, match="mine"), gathered(Task(), []):
        raise RuntimeError("mine")
