"""The Slurm launcher, with stand-ins for Slurm's commands; with Slurm itself it is tested in tests/slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import unitgain
from unitgain.cli import main
from unitgain.cli._slurm_options import SlurmOptions
from unitgain.sweep import follow, slurm
from unitgain.sweep.follow import Follow, Follower
from unitgain.sweep.job import Ending
from unitgain.sweep.slurm import Element, Ended, Queued
from unitgain.sweep.tasks import Report, Submission, TaskFolder, TaskOrder

SLURM = ["hydra/launcher=packed_slurm", "hydra.launcher.poll_s=0.1"]
QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
    "hydra.sweep.dir=s",
]
# An array's tasks, one after another and at once; a queue with nothing in it; what became of a task.
COMMANDS = {
    "sbatch": """
for word in "$@"; do case $word in --array=*) tasks=${word#--array=};; esac; done
echo "$@" >>asked; tasks=${tasks%\\%*}
for task in $(seq ${tasks%-*} ${tasks#*-}); do
  SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task bash "${@: -1}" >&2 || true
done
echo 7
""",
    "squeue": "",
    "scontrol": """
if [ "$2" = config ]; then echo "MaxArraySize = 1001"; else echo "JobState=COMPLETED ExitCode=0:0"; fi
""",
}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Slurm's commands, as far as the launcher asks them."""
    for name, text in COMMANDS.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(slurm, "_PATIENCE_S", 250.0)  # this sbatch trains
    monkeypatch.setenv("PYTHONPATH", str(Path(unitgain.__file__).parents[1]))
    return tmp_path


def test_packs_go_to_tasks_and_what_fails_there_is_told(commands, capsys):
    words = ["hydra.launcher.max_members=1", "hydra.launcher.workers=2", "hydra.launcher.mem=8G"]
    words += ["hydra.launcher.max_parallel=3", "hydra.launcher.max_tasks=1", *QUICK, "seed=1,2,3"]
    assert main(["train", "-m", *SLURM, *words]) == 0
    out = capsys.readouterr().out
    assert "array 7: 3 runs in 3 packs, 1 task; logs in s/.slurm/1" in out
    assert "3 of 3 jobs finished" in out
    [asked] = (commands / "asked").read_text().splitlines()
    assert asked == f"--parsable --array=0%3 {commands}/s/.slurm/1/task.sh"
    folder = TaskFolder(commands / "s" / ".slurm" / "1")
    assert [len(pack) for pack in folder.order(0).packs] == [1, 1, 1]
    assert folder.report(0).done
    assert main(["train", "-m", *SLURM, *words]) == 0  # nothing is left to submit
    assert len((commands / "asked").read_text().splitlines()) == 1


def test_a_command_that_does_not_wait(commands, capsys):
    (commands / "bin" / "sbatch").write_text("#!/bin/bash\necho 8\n")
    assert main(["train", "-m", *SLURM, "hydra.launcher.wait=false", *QUICK, "seed=1,2"]) == 0
    assert capsys.readouterr().out.strip().startswith("array 8: 2 runs in 1 pack, 1 task; logs in")
    assert not list(commands.glob("s/*/config.yaml"))


def test_without_slurm(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["train", "-m", *SLURM, *QUICK, "seed=1,2"]) == 2
    assert capsys.readouterr().err == (
        "error: hydra/launcher: packed_slurm must be able to submit tasks, but sbatch isn't on the "
        "PATH; start it on a login node, or choose hydra/launcher=packed\n"
    )


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("gpus=a100", "gpus: must be a number of GPUs, a type and a number as in a100:4, or null, got a100"),
        ("time=soon", "time: must be minutes, HH:MM:SS, D-HH:MM:SS, or null, got soon"),
        ("mem=much", "mem: must be megabytes, a number with a unit as in 32G, or null, got much"),
        ("partition='a b'", "partition: must be one word or null, got 'a b'"),
        ("max_parallel=0", "max_parallel: must be a whole number of at least 1, or null, got 0"),
        ("memory=2", "memory: must be above 0 and at most 1, got 2"),
        ("gpu_memory=-1", "gpu_memory: must be a number of at least 0.1, got -1"),
        ("resubmit=-1", "resubmit: must be a whole number of at least 0, got -1"),
        ("sbatch=[-x]", "sbatch: must list options that begin with --, got -x"),
        ("wait=1", "wait: must be true or false, got 1"),
    ],
)  # fmt: skip
def test_options_of_the_launcher(option, line, capsys):
    assert main(["train", "-m", *SLURM, f"hydra.launcher.{option}", "seed=1,2"]) == 2
    assert capsys.readouterr().err == f"error: hydra.launcher.{line}\n"


def test_a_search_waits(capsys):
    words = ["hydra/sweeper=optuna", "hydra.launcher.wait=false", "model.depth=choice(1,2)"]
    assert main(["train", "-m", *SLURM, *words]) == 2
    assert "hydra.launcher.wait: must be true in a search" in capsys.readouterr().err


def _options(**given):
    content = {
        "requests": {}, "gpus": None, "cpus_per_task": None, "workers": None, "max_parallel": None,
        "max_tasks": None, "max_members": None, "gpu_memory": None, "memory": 0.5, "hang_s": None,
        "save_s": 120, "resubmit": 2, "poll_s": 0.01, "wait": True, "setup": (), "sbatch": (),
    }  # fmt: skip
    return SlurmOptions(**(content | given))


def test_the_script_asks_for_what_the_options_say(tmp_path):
    options = _options(
        requests={"partition": "gpu", "time": "04:00:00", "mem": "32G"},
        gpus="a100:4",
        setup=("module load cuda",),
        sbatch=("--exclude=node7",),
    )
    text = options.script(TaskFolder(tmp_path / "a b" / ".slurm" / "1"), "name", threads=2)
    for line in (
        "--gpus-per-node=a100:4", "--cpus-per-task=8", "--partition=gpu", "--time=04:00:00",
        "--mem=32G", "--exclude=node7", "--requeue", "--signal=B:USR1@120",
        f'--output="{tmp_path}/a b/.slurm/1/task-%a.log"',
    ):  # fmt: skip
        assert f"\n#SBATCH {line}\n" in text
    assert text.endswith(
        f"module load cuda\nexec {sys.executable} -m unitgain worker '{tmp_path}/a b/.slurm/1'\n"
    )
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_what_packs_keep_to_is_the_memory_of_a_task():
    assert _options().limits().pack_bytes == float("inf")
    limits = _options(gpus="4", gpu_memory=80.0, max_parallel=8).limits()
    assert (limits.workers, limits.gpu, limits.pack_bytes) == (32, True, 40e9)
    assert _options(requests={"mem": "8G"}, workers=2).limits().pack_bytes == 2 * 2**30


class _Slurm:
    """A queue whose states are given look by look, and the ends of tasks."""

    def __init__(self, monkeypatch, looks, ends):
        self.looks, self.ends, self.submitted = list(looks), dict(ends), []
        monkeypatch.setattr(slurm, "queue", lambda _names: self.looks.pop(0) if self.looks else {})
        monkeypatch.setattr(slurm, "ended_as", lambda element: self.ends[element])

    def again(self, folder, tasks):
        self.submitted.append(tasks)
        return f"{8 + len(self.submitted)}", "name"


class _Watcher:
    def __init__(self):
        self.endings, self.notes, self.states = {}, [], []

    def ended(self, job, ending):
        assert job.number not in self.endings
        self.endings[job.number] = ending

    def tasks(self, states, reason):
        self.states.append(dict(states))

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def followed(tmp_path, desk):
    """A task with two runs that was submitted as 7_0."""
    folder = TaskFolder.create(tmp_path)
    jobs = desk.jobs(tmp_path, desk.spec(seed=0), desk.spec(seed=1))
    folder.write_order(0, TaskOrder([jobs], 1, 0.5, None))
    folder.add_submission(Submission("7", "name", (0,)))
    named = {job.directory.name: job for job in jobs}
    return lambda tries=2: Follow(folder, 0, Element("7", 0), "name", named, tries)


RUNNING = {Element("7", 0): Queued("RUNNING", "None")}
KILLED = Ended("FAILED", 0, 9)


def test_a_lost_task_is_submitted_again_so_often(monkeypatch, followed):
    one, watcher = followed(), _Watcher()
    one.folder.write_report(0, Report({"run0": Ending("finished", 0.5)}))
    ends = {Element(job, 0): KILLED for job in "789"} | {Element("10", 0): Ended("NODE_FAIL")}
    fake = _Slurm(monkeypatch, [None, RUNNING], ends)
    monkeypatch.setattr(follow, "SETTLES_S", 0.0)
    Follower([one], watcher, 0.01, fake.again).run()
    assert fake.submitted == [[0], [0]]
    assert watcher.endings[0].status == "finished"
    assert watcher.endings[1].status == "interrupted"
    assert watcher.notes[:2] == [
        "Slurm doesn't answer; it is asked again",
        "task 7_0 ended as FAILED with signal 9, 1 of its 2 runs not done; it is submitted again",
    ]
    assert "task 10_0 ended as NODE_FAIL; the same command" in watcher.endings[1].cause


@pytest.mark.parametrize("end", [Ended("CANCELLED", 0, 15), Ended("FAILED", 2, 0)])
def test_what_was_cancelled_or_failed_by_itself_is_left(monkeypatch, followed, end):
    one, watcher = followed(), _Watcher()
    fake = _Slurm(monkeypatch, [RUNNING], {Element("7", 0): end})
    monkeypatch.setattr(follow, "SETTLES_S", 0.0)
    Follower([one], watcher, 0.01, fake.again).run()
    assert fake.submitted == []
    assert {ending.status for ending in watcher.endings.values()} == {"interrupted"}


def test_runs_that_failed_are_told_and_those_that_were_interrupted_may_go_on(monkeypatch, followed):
    one, watcher = followed(), _Watcher()
    failed, interrupted = Ending("failed", cause="no rows"), Ending("interrupted", cause="SIGTERM")
    one.folder.write_report(0, Report({"run0": failed, "run1": interrupted}))
    finished = Ending("finished", 0.25)

    def queue(_names):
        if len(watcher.states) == 2:
            one.folder.write_report(0, Report({"run0": failed, "run1": finished}, done=True))
        return RUNNING

    monkeypatch.setattr(slurm, "queue", queue)
    Follower([one], watcher, 0.01, lambda *_: pytest.fail("submitted again")).run()
    assert (watcher.endings[0].cause, watcher.endings[1]) == ("no rows", finished)


def test_a_worker_that_gets_sigusr1_is_started_again_if_it_came_further(monkeypatch, capsys):
    from unitgain.cli import _worker

    asked = []
    monkeypatch.setattr(slurm, "requeue", lambda element: asked.append(str(element)))
    monkeypatch.delenv(_worker.ARRAY, raising=False)
    _worker._start_again(3, progressed=True)
    monkeypatch.setenv(_worker.ARRAY, "7")
    _worker._start_again(3, progressed=False)
    assert "no epoch was over in the time that it had" in capsys.readouterr().out
    assert asked == []
    _worker._start_again(3, progressed=True)
    assert asked == ["7_3"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "unitgain worker: must be given one folder, got nothing; write FOLDER"),
        (["x"], "--task: must be given where Slurm doesn't set SLURM_ARRAY_TASK_ID, got nothing"),
        (["x", "--task", "0"], "x/task-0.json: must say what a task trains, but can't be read"),
    ],
)
def test_mistakes_with_a_worker(words, line, capsys, monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert main(["worker", *words]) == 2
    assert line in capsys.readouterr().err


def test_ends_as_slurm_tells_them(commands):
    assert slurm.ended_as(Element("7", 0)) == Ended("COMPLETED", 0, 0)
    assert slurm.largest_array() == 1001
    (commands / "bin" / "scontrol").write_text("#!/bin/bash\nexit 1\n")
    (commands / "bin" / "sacct").write_text("#!/bin/bash\necho 'CANCELLED by 0|0:15'\n")
    (commands / "bin" / "sacct").chmod(0o755)
    assert slurm.ended_as(Element("7", 0)) == Ended("CANCELLED", 0, 15)
    (commands / "bin" / "squeue").write_text(
        "#!/bin/bash\nprintf '7|0|RUNNING|None\\n7|1|PENDING|a|b\\n'\n"
    )
    assert slurm.queue(["name"]) == {
        Element("7", 0): Queued("RUNNING", "None"),
        Element("7", 1): Queued("PENDING", "a|b"),
    }
    (commands / "bin" / "squeue").write_text("#!/bin/bash\nexit 1\n")
    assert slurm.queue(["name"]) is None
