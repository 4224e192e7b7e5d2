"""A job of Slurm for each run, by submitit; and the array of equal tasks that the page on clusters shows."""

import re
from pathlib import Path

from unitgain.runs import read_standing

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
]


def test_submitit_keeps_the_results_of_the_jobs_beside_one_that_fails(run, tmp_path):
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=urgent", *QUICK]
    jobs = ["data.batch_size=16,1000", "data.drop_last=true", "hydra.sweep.dir=sweep"]
    status, text = run("unitgain", "train", "-m", *words, *jobs)
    assert status == 2, text
    assert "1 of 2 jobs finished, 1 failed" in text
    assert "job 2 (data.batch_size=1000) failed: iris: training needs at least one full" in text
    [path] = tmp_path.glob("sweep/*/summary.json")
    assert re.fullmatch(r"[0-9a-f]{12}", path.parent.name)
    assert list(tmp_path.glob("sweep/.submitit/*_0_result.pkl")) or list(
        tmp_path.glob("sweep/.submitit/*/*_result.pkl")
    )


def test_the_script_of_the_page_trains_the_sweep(run, until, tmp_path):
    [script] = re.findall(r"^```text\n(#!/bin/bash\n.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert "range(0,64)" in script
    assert "/shared/sweeps/wide" in script
    script = script.replace("range(0,64)", "range(0,1)").replace("/shared/sweeps/wide", "wide")
    (tmp_path / "sweep.sh").write_text(script)
    options = ["--array=0-1", "--cpus-per-task=2", "--partition=urgent", "--wait"]
    status, text = run("sbatch", *options, "sweep.sh", *QUICK)
    logs = "".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))
    assert status == 0, text + logs
    assert logs.count("8 of 8 jobs finished") == 2
    assert read_standing(tmp_path / "wide").counts == {"finished": 8}
