"""What a worker does with a pack, in this process."""

import pytest
import torch

from unitgain.runs import RunDirectory
from unitgain.sweep.job import start_of
from unitgain.sweep.worker import Ended, Epoch, Order, _Worker
from unitgain.train import fit

OWN = """
import torch

def maybe(weight, generator, number=0):
    if number == 1:
        raise KeyError("gain")
    if number == 2:
        raise torch.OutOfMemoryError("all memory is in use")
    if number == 3:
        raise MemoryError
    torch.nn.init.normal_(weight, 0, 0.5, generator=generator)
"""


class Wire:
    """Takes what a worker says."""

    def __init__(self):
        self.said = []

    def send(self, message):
        self.said.append(message)

    def endings(self):
        found = {m.member: m.ending for m in self.said if isinstance(m, Ended)}
        assert len(found) == sum(isinstance(m, Ended) for m in self.said)
        return found


def _order(jobs):
    return Order(
        tuple(job.spec for job in jobs),
        tuple(job.directory for job in jobs),
        tuple(job.overrides for job in jobs),
    )


def _train(jobs, stop=lambda: False):
    wire = Wire()
    _Worker(wire, stop).train(_order(jobs))
    return wire


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An initializer of the user's own that two members can't take."""
    (tmp_path / "ownpart.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("UNITGAIN_ALLOW", "ownpart")
    return lambda number: {"_target_": "ownpart.maybe", "_partial_": True, "number": number}


def test_members_of_a_pack_are_the_runs_alone(desk, tmp_path):
    jobs = desk.jobs(
        tmp_path / "pack",
        desk.spec(seed=1),
        desk.spec(seed=2, init={"_target_": "unitgain.nn.init.xavier"}),
        desk.spec(seed=3, optimizer={"_target_": "unitgain.pack.optim.Adam", "lr": 1e30}),
        desk.spec(seed=4, split={"_target_": "unitgain.data.splits.Random", "seed": 5}),
    )
    wire = _train(jobs)
    endings = wire.endings()
    assert [endings[k].status for k in range(4)] == ["finished", "finished", "diverged", "finished"]
    assert "lower optimizer.lr" in endings[2].cause
    epochs = [m for m in wire.said if isinstance(m, Epoch)]
    assert [e.done for e in epochs] == [1, 2, 3, 4]
    assert {e.epochs for e in epochs} == {4}
    assert epochs[-1].running == 3
    for job in jobs:
        alone = tmp_path / "alone" / job.directory.name
        fit([job.spec], [alone], overrides=[job.overrides])
        desk.same_run(job.directory, alone)


def test_members_that_break_a_pack_fail_alone(desk, tmp_path, own):
    specs = [desk.spec(seed=k, init=own({2: 1, 3: 3, 5: 2}.get(k, 0))) for k in range(7)]
    jobs = desk.jobs(tmp_path / "pack", *specs)
    endings = _train(jobs).endings()
    assert [endings[k].status for k in range(7)] == [
        "failed" if k in (2, 3, 5) else "finished" for k in range(7)
    ]
    assert "KeyError" in endings[2].cause
    assert "MemoryError" in endings[3].cause
    assert "memory" in endings[5].cause
    for k in (0, 6):
        alone = tmp_path / "alone" / f"run{k}"
        fit([specs[k]], [alone], overrides=[jobs[k].overrides])
        desk.same_run(jobs[k].directory, alone)


def test_a_stopped_pack_goes_on_to_the_same_end(desk, tmp_path):
    specs = [desk.spec(seed=k) for k in range(3)]
    jobs = desk.jobs(tmp_path / "stopped", *specs)
    wire = Wire()
    worker = _Worker(wire, lambda: sum(isinstance(m, Epoch) for m in wire.said) >= 2)
    worker.train(_order(jobs))
    assert {ending.status for ending in wire.endings().values()} == {"interrupted"}
    starts = [start_of(job.spec, job.directory) for job in jobs]
    assert {(s.ending, s.resume, s.epoch) for s in starts} == {(None, True, 2)}

    # One of them has gone further in the meantime: they can't be one pack.
    fit([specs[1]], [jobs[1].directory], resume=True)
    assert start_of(specs[1], jobs[1].directory).ending.status == "finished"
    RunDirectory(jobs[1].directory).summary.unlink()
    assert start_of(specs[1], jobs[1].directory).epoch == 4
    endings = _train(jobs).endings()
    assert {ending.status for ending in endings.values()} == {"finished"}
    for job in jobs:
        alone = tmp_path / "alone" / job.directory.name
        fit([job.spec], [alone], overrides=[job.overrides])
        desk.same_run(job.directory, alone)


def test_nothing_more_is_begun_once_the_worker_is_to_stop(desk, tmp_path):
    jobs = desk.jobs(tmp_path, desk.spec())
    assert _train(jobs, stop=lambda: True).said == []
    assert not jobs[0].directory.exists()


def test_on_a_gpu_a_pack_is_cut_to_what_a_trial_finds(desk, tmp_path, monkeypatch):
    trainer = {"max_epochs": 1, "accelerator": "auto"}
    specs = [desk.spec(seed=k, trainer=trainer) for k in range(5)]
    packs = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("unitgain.train.capacity.members_that_fit", lambda spec, share: 2)
    monkeypatch.setattr(
        _Worker, "_fit", lambda self, part, resume, watch: packs.append(len(part.specs))
    )
    _train(desk.jobs(tmp_path, *specs))
    assert sorted(packs) == [1, 2, 2]

    def broken(spec, share):
        raise ValueError

    packs.clear()
    monkeypatch.setattr("unitgain.train.capacity.members_that_fit", broken)
    _train(desk.jobs(tmp_path, *specs))
    assert packs == [5]
