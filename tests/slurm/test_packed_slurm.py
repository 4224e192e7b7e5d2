"""A packed sweep as tasks of an array: what ends them changes no bit of the results."""

import os
import re
import signal
from pathlib import Path

import torch

from unitgain.runs import RunDirectory

QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "dropout=dropout",
    "callbacks.early_stopping.patience=100000",
    "callbacks.checkpoint.every_s=1",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
]
SWEEP = [*QUICK, "seed=range(0,8)", "trainer.max_epochs=2500", "hydra.sweep.dir=sweep"]
SLURM = ["hydra/launcher=packed_slurm", "hydra.launcher.poll_s=0.5"]
FOUR = [*SLURM, "hydra.launcher.max_members=2", "hydra.launcher.max_parallel=4"]
TRAIN = ["unitgain", "train", "-m"]


def _left(directory):
    """What a run leaves, but for times."""
    run = RunDirectory(directory)
    summary = run.read_summary()
    checkpoint = torch.load(run.last_checkpoint, weights_only=True)
    return {
        "config": run.config.read_bytes(),
        "metrics": run.metrics.read_bytes(),
        "gradients": run.gradients.read_bytes(),
        "summary": repr((summary["status"], summary["best"], summary["metrics"])),
        "checkpoint": {
            k: v.tolist() if isinstance(v, torch.Tensor) else repr(v) for k, v in checkpoint.items()
        },
    }


def _epochs(folder, runs=()):
    """Epochs behind each run, or those that are named."""
    files = [folder / run / "metrics.csv" for run in runs] or folder.glob("*/metrics.csv")
    return [len(path.read_bytes().splitlines()) for path in files if path.exists()]


def _process_of(task):
    """The process that Slurm started as a task."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worker" in words and f"SLURM_ARRAY_TASK_ID={task}".encode() in variables:
            return int(path.name)
    return None


def test_preempted_requeued_killed_and_started_again_it_ends_with_the_same_bits(
    start, run, until, tmp_path
):
    status, text = run(*TRAIN, "hydra/launcher=packed", *SWEEP[:-1], "hydra.sweep.dir=alone")
    assert status == 0, text
    sweep, output = tmp_path / "sweep", tmp_path / "output.txt"

    def restarts(task):
        facts = run("scontrol", "--oneliner", "show", "job", f"{array}_{task}")[1]
        return int(re.search(r"Restarts=(\d+)", facts)[1])

    def trains_on(task):
        """It has been started, and its runs have come further than they had."""
        runs = [path.name for path in _runs_of(sweep, task)]
        before = sum(_epochs(sweep, runs))
        return until(lambda: sum(_epochs(sweep, runs)) > before, f"task {task} trains")

    first = start(*TRAIN, *FOUR, *SWEEP)
    said = r"array (\d+): 8 runs in 4 packs, 4 tasks; logs in sweep/.slurm/1"
    array = until(lambda: re.search(said, output.read_text()), "it is submitted")[1]
    until(lambda: len(_epochs(sweep)) == 8 and min(_epochs(sweep)) > 20, "all tasks train")

    # A job of a higher partition takes the whole machine.
    assert run("sbatch", "--partition=urgent", "--cpus-per-task=4", "--wrap=sleep 2")[0] == 0
    until(lambda: all(restarts(task) == 1 for task in range(4)), "all tasks are preempted")
    # The command goes; the tasks don't.
    os.kill(first.pid, signal.SIGINT)
    assert first.wait(60) == 130
    assert "the tasks go on without this command" in output.read_text()
    second = start(*TRAIN, *FOUR, "hydra.launcher.resubmit=0", *SWEEP, output="second.txt")
    trains_on(1)
    assert run("scontrol", "requeue", f"{array}_1")[0] == 0
    # As Slurm does it when the time is nearly over; a task that has come no further isn't started again.
    trains_on(3)
    assert run("scancel", "--signal=USR1", "--batch", f"{array}_3")[0] == 0
    trains_on(2)
    os.kill(_process_of(2), signal.SIGKILL)
    assert second.wait(900) == 130
    text = (tmp_path / "second.txt").read_text()
    assert f"4 tasks of array {array} are at it already" in text
    assert f"task {array}_2 ended as FAILED with signal 9, 2 of its 2 runs not done" in text
    assert "6 of 8 jobs finished, 2 interrupted" in text
    assert restarts(1) == 2
    assert restarts(3) == 2
    assert "started again by Slurm" in (sweep / ".slurm" / "1" / "task-3.log").read_text()

    status, text = run(*TRAIN, *FOUR, *SWEEP)
    assert status == 0, text
    assert re.search(r"array \d+: 2 runs in 1 pack, 1 task; logs in sweep/.slurm/2", text)
    assert "8 of 8 jobs finished" in text
    runs = sorted(path.parent.name for path in tmp_path.glob("alone/*/config.yaml"))
    assert len(runs) == 8
    for name in runs:
        assert _left(sweep / name) == _left(tmp_path / "alone" / name)


def _runs_of(sweep, task):
    import json

    packs = json.loads((sweep / ".slurm" / "1" / f"task-{task}.json").read_text())["packs"]
    return [sweep / each["run"] for pack in packs for each in pack]


def test_several_gpus_of_a_task_train_a_pack_each(run, tmp_path):
    options = ["hydra.launcher.gpus=2", "hydra.launcher.max_members=2", "hydra.launcher.resubmit=0"]
    more = ["hydra.launcher.sbatch=['--comment=mine']", "hydra.launcher.setup=['echo begins']"]
    words = [*QUICK, "seed=range(0,6)", "trainer.max_epochs=3", "hydra.sweep.dir=sweep"]
    status, text = run(*TRAIN, *SLURM, *options, *more, "hydra.launcher.partition=urgent", *words)
    assert status == 0, text
    found = re.search(r"array (\d+): 6 runs in 3 packs, 2 tasks", text)
    facts = run("scontrol", "--oneliner", "show", "job", f"{found[1]}_0")[1]
    assert re.search(r"TresPerNode=gres[:/]gpu[:=]2\b", facts)
    assert "Partition=urgent" in facts
    assert "Comment=mine" in facts
    assert "CPUs/Task=2" in facts
    assert "6 of 6 jobs finished" in text
    log = (tmp_path / "sweep" / ".slurm" / "1" / "task-0.log").read_text()
    assert log.startswith("begins\n")
    assert "pack 2/2: 2 finished" in log


def test_what_slurm_refuses_is_told_in_a_line(run):
    words = ["hydra.launcher.partition=nowhere", *QUICK, "seed=1,2", "hydra.sweep.dir=sweep"]
    status, text = run(*TRAIN, *SLURM, *words)
    assert status == 2
    assert "error: hydra/launcher: packed_slurm must be able to submit" in text
    assert "but sbatch refuses it: invalid partition specified: nowhere" in text
