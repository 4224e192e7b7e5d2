"""Worker processes: one that dies takes nobody with it but the member that killed it."""

import multiprocessing
import os
import signal
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from unitgain.runs import RunDirectory
from unitgain.sweep.job import Start
from unitgain.sweep.plan import Limits, Tables, plan
from unitgain.sweep.pool import Pool, default_workers, visible_gpus
from unitgain.train import fit

OWN = """
import os
import time
import torch

def endless(weight, generator, number=0):
    while number == 1:
        time.sleep(1)
    torch.nn.init.normal_(weight, 0, 0.5, generator=generator)

def deadly(weight, generator, number=0):
    if number == 1:
        os.write(2, b"about to fall over\\n")
        os._exit(3)
    torch.nn.init.normal_(weight, 0, 0.5, generator=generator)
"""


class Ear:
    """Hears a sweep, and may kill a worker as it begins."""

    def __init__(self, kill=0):
        self.kill, self.endings, self.notes, self.workers = kill, {}, [], set()

    def started(self, pack):
        workers = [p for p in multiprocessing.active_children() if p.name.startswith("unitgain-")]
        self.workers |= {worker.name for worker in workers}
        if self.kill:
            self.kill -= 1
            os.kill(workers[0].pid, signal.SIGKILL)

    def epoch(self, pack, epoch):
        pass

    def ended(self, job, ending):
        assert job.number not in self.endings
        self.endings[job.number] = ending

    def done(self, pack):
        pass

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def pool():
    pool = Pool(1, 1)
    yield pool
    pool.close()
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("unitgain-")]


def _packs(jobs, **limits):
    return plan(jobs, {job.number: Start() for job in jobs}, Limits(1, **limits), Tables()).packs


def test_a_pack_whose_worker_dies_is_halved_until_the_deadly_member_is_alone(
    desk, tmp_path, pool, monkeypatch
):
    (tmp_path / "deadlypart.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("UNITGAIN_ALLOW", "deadlypart")
    specs = [
        desk.spec(
            seed=k,
            init={"_target_": "deadlypart.deadly", "_partial_": True, "number": k},
        )
        for k in range(2)
    ]
    jobs = desk.jobs(tmp_path / "pack", *specs)
    ear = Ear()
    pool.run(_packs(jobs), ear)
    assert [ear.endings[k].status for k in range(2)] == ["finished", "failed"]
    assert ear.endings[1].cause == (
        "a worker must live until its pack is trained, but it ended with status 3 (about to fall "
        "over); if memory ran out, lower hydra.launcher.max_members or hydra.launcher.workers"
    )
    assert len(ear.notes) == 1
    assert "its pack of 2 is tried again in halves" in ear.notes[0]


def test_a_worker_that_hangs_is_ended_and_costs_the_member_at_fault_alone(
    desk, tmp_path, monkeypatch
):
    (tmp_path / "hangingpart.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("UNITGAIN_ALLOW", "hangingpart")
    init = {"_target_": "hangingpart.endless", "_partial_": True}
    specs = [desk.spec(seed=k, init=init | {"number": k}) for k in (1, 0)]
    jobs = desk.jobs(tmp_path / "pack", *specs)
    ear, pool = Ear(), Pool(1, 1, hang_s=5)
    try:
        pool.run(_packs(jobs, max_members=1), ear)
    finally:
        pool.close()
    assert [ear.endings[k].status for k in range(2)] == ["failed", "finished"]
    how = "took no step for 5 s, as hydra.launcher.hang_s allows, and was ended"
    assert f"but it {how}; if memory ran out" in ear.endings[0].cause
    assert ear.notes == []
    assert not list((tmp_path / "pack").glob("*/claim-*"))


class Hook(Ear):
    """Kills the server of forks in the first epoch, and then stops the worker that it has forked."""

    stopped = 0

    def epoch(self, pack, epoch):
        if self.stopped:
            return
        [worker] = [p for p in multiprocessing.active_children() if p.name.startswith("unitgain-")]
        self.stopped = worker.pid
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        os.kill(worker.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 30
        # Who forked it can't say that it lives.
        while worker in multiprocessing.active_children():
            assert time.monotonic() < deadline
        assert Path(f"/proc/{worker.pid}").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_worker_that_hangs_is_ended_also_where_the_server_of_forks_was_killed(desk, tmp_path):
    jobs = desk.jobs(tmp_path / "pack", *(desk.spec(seed=k) for k in range(2)))
    ear, pool = Hook(), Pool(1, 1, hang_s=3)
    try:
        pool.run(_packs(jobs), ear)
    finally:
        pool.close()
    assert [ear.endings[k].status for k in range(2)] == ["finished", "finished"]
    assert "took no step for 3 s" in ear.notes[0]
    assert not Path(f"/proc/{ear.stopped}").exists()


def test_a_worker_that_is_killed_costs_no_run(desk, tmp_path, pool):
    jobs = desk.jobs(tmp_path / "pack", *(desk.spec(seed=k) for k in range(4)))
    ear = Ear(kill=1)
    pool.run(_packs(jobs, max_members=2), ear)
    assert {ending.status for ending in ear.endings.values()} == {"finished"}
    assert len(ear.endings) == 4
    assert "was ended by SIGKILL" in ear.notes[0]
    assert len(ear.workers) == 2
    alone = tmp_path / "alone"
    fit([jobs[0].spec], [alone], overrides=[jobs[0].overrides])
    desk.same_run(jobs[0].directory, alone)
    assert RunDirectory(jobs[3].directory).status == "finished"

    # The workers stay for what comes next.
    more = desk.jobs(tmp_path / "more", desk.spec(seed=9))
    ear.endings.clear()
    pool.run(_packs(more), ear)
    assert ear.endings[0].status == "finished"
    assert len(ear.workers) == 2


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [default_workers(threads) for threads in (1, 3, 16)] == [8, 2, 1]


def test_gpus_are_those_that_the_environment_leaves_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-1a2b")
    assert visible_gpus() == ["2", "GPU-1a2b"]
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert visible_gpus() == []
