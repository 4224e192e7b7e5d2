"""Members of a pack leave what they leave alone: one that stops early or diverges changes no other's bits."""

import json

import pytest
import torch

from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train import RunResult, fit
from unitgain.train.checkpoint import read_checkpoint

EPOCHS = 8


def spec(seed, lr=1e-2, **changes):
    config = {
        "seed": seed,
        "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 20},
        "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": lr},
        "norm": {"_target_": "unitgain.nn.BatchNorm"},
        "dropout": {"_target_": "unitgain.nn.Dropout", "p": 0.1 * (seed % 3)},
        "data": {"_target_": "unitgain.data.sources.wine", "batch_size": 24},
        "split": {"_target_": "unitgain.data.splits.Random", "seed": seed % 2},
        "trainer": {"max_epochs": EPOCHS, "accelerator": "cpu"},
        "probe": {"every": 3},
    }
    return parse(config | changes)


class Follower:
    """Keeps what a watch is told, and stops where it is asked to."""

    def __init__(self, stop_in_epoch=None):
        self.epochs, self.ends = [], {}
        self.stop_in_epoch, self.asked = stop_in_epoch, 0

    def stop(self):
        if self.stop_in_epoch is None or len(self.epochs) < self.stop_in_epoch:
            return False
        self.asked += 1
        return self.asked > 2

    def epoch(self, done, epochs, running, member_steps):
        self.epochs.append((done, epochs, running, member_steps))

    def ended(self, k, result):
        assert k not in self.ends
        assert RunDirectory(result.directory).status == result.status
        self.ends[k] = (len(self.epochs), result)


def train(specs, folder, **options):
    return fit(specs, [folder / str(k) for k in range(len(specs))], **options)


def assert_same(one, other):
    """Two run directories that can't be told apart, but for times and the size of the pack."""
    for name in ("config.yaml", "metrics.csv", "gradients.parquet"):
        paths = [folder / name for folder in (one, other)]
        assert paths[0].exists() == paths[1].exists()
        # A run that diverges in its first epoch has no metrics.
        if paths[0].exists():
            assert paths[0].read_bytes() == paths[1].read_bytes(), name
    for name in ("best", "last"):
        paths = [folder / "checkpoints" / f"{name}.ckpt" for folder in (one, other)]
        assert paths[0].exists() == paths[1].exists()
        if paths[0].exists():
            same_content(*map(read_checkpoint, paths))
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (one, other))
    for summary in (first, second):
        summary.pop("seconds")
        summary.pop("pack")
        summary.pop("sha256")  # of the text, with those two
    assert first == second
    assert sorted(p.name for p in one.rglob("*")) == sorted(p.name for p in other.rglob("*"))


def same_content(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            same_content(value, other[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name], name


@pytest.fixture(scope="module")
def stopping(tmp_path_factory):
    """Members with patience, whose rates make them stop at different epochs, one of which diverges."""
    folder = tmp_path_factory.mktemp("stopping")
    patience = {"early_stopping": {"patience": 1}}
    rates = [1e-2, 0.5, 1e30, 3e-2, 1.0, 1e-3]
    specs = [spec(k, lr, callbacks=patience) for k, lr in enumerate(rates)]
    follower = Follower()
    results = train(specs, folder / "pack", watch=follower)
    for k, each in enumerate(specs):
        fit([each], [folder / "alone" / str(k)])
    return folder, specs, results, follower


def test_members_that_stop_and_diverge_leave_what_they_leave_alone(stopping):
    folder, specs, results, _ = stopping
    assert [r.status for r in results].count("diverged") == 1
    for k in range(len(specs)):
        assert_same(folder / "pack" / str(k), folder / "alone" / str(k))


def test_members_leave_the_pack_when_they_stop(stopping):
    _, specs, results, follower = stopping
    ends = {k: epoch for k, (epoch, _) in follower.ends.items()}
    assert sorted(ends) == list(range(len(specs)))
    assert len(set(ends.values())) > 2
    assert all(follower.ends[k][1] is result for k, result in enumerate(results))
    assert all(isinstance(result, RunResult) for result in results)
    # Each epoch trains those alone who still ran at its start.
    steps = [member_steps for *_, member_steps in follower.epochs]
    running = [len(specs), *(running for _, _, running, _ in follower.epochs)]
    per_member = steps[0] // len(specs)
    assert steps == [per_member * count for count in running[:-1]]


def test_an_interrupted_pack_goes_on_to_the_same_end(tmp_path):
    specs = [spec(k) for k in range(3)]
    follower = Follower(stop_in_epoch=4)
    stopped = train(specs, tmp_path / "pack", watch=follower)
    assert {r.status for r in stopped} == {"interrupted"}
    assert "unitgain resume" in stopped[0].message
    resumed = train(specs, tmp_path / "pack", resume=True)
    assert {r.status for r in resumed} == {"finished"}
    train(specs, tmp_path / "whole")
    for k in range(3):
        assert_same(tmp_path / "pack" / str(k), tmp_path / "whole" / str(k))


def test_half_of_an_interrupted_pack_goes_on_alone(tmp_path):
    specs = [spec(k) for k in range(4)]
    train(specs, tmp_path / "pack", watch=Follower(stop_in_epoch=2))
    folders = [tmp_path / "pack" / str(k) for k in range(4)]
    fit(specs[1:3], folders[1:3], resume=True)
    train(specs, tmp_path / "whole")
    for k in (1, 2):
        assert_same(folders[k], tmp_path / "whole" / str(k))
    assert RunDirectory(folders[0]).status == "interrupted"


def test_many_members_that_diverge_at_once_are_each_blamed_for_their_own_step(tmp_path):
    sgd = {"_target_": "unitgain.pack.optim.SGD"}
    rates = [1e-2, 1e4, 1e12, 1e30]
    specs = [
        spec(k, optimizer=sgd | {"lr": lr}, norm={"_target_": "torch.nn.Identity"})
        for k, lr in enumerate(rates)
    ]
    results = train(specs, tmp_path / "pack")
    assert [r.status for r in results] == ["finished", *["diverged"] * 3]
    for k, each in enumerate(specs):
        fit([each], [tmp_path / "alone" / str(k)])
        assert_same(tmp_path / "pack" / str(k), tmp_path / "alone" / str(k))
    steps = {
        json.loads((r.directory / "summary.json").read_text())["diverged"]["step"]
        for r in results[1:]
    }
    assert len(steps) > 1
