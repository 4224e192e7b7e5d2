"""Damage to what a run has left is told of, and a sweep that is started again mends it to the same bits."""

import shutil
import signal

import pytest

from unitgain.errors import UnitgainError
from unitgain.runs import RunDirectory, read_gradients, read_metrics, read_runs
from unitgain.sweep.job import ready, start_of
from unitgain.train import fit

EVERY = {"callbacks": {"checkpoint": {"every_s": 0}, "early_stopping": {"patience": 9}}}
FILES = (
    "summary.json",
    "config.yaml",
    "overrides.yaml",
    "metrics.csv",
    "gradients.parquet",
    "checkpoints/best.ckpt",
)
UNREAD = ("config.yaml", "overrides.yaml", "checkpoints/best.ckpt")
"""Of these a table looks at the sizes alone."""
WAYS = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "flipped": lambda data: data[:170] + bytes([data[170] ^ 4]) + data[171:],
}


class StopsAt:
    """Asks the fit to end as a scheduler does."""

    def __init__(self, epoch):
        self._epoch, self._done = epoch, 0

    def stop(self):
        return signal.SIGTERM if self._done >= self._epoch else 0

    def epoch(self, done, epochs, running, member_steps):
        self._done = done

    def ended(self, k, result):
        pass


@pytest.fixture(scope="module")
def left(tmp_path_factory, desk):
    """A run that finished, and the same one interrupted after four of six epochs."""
    folder = tmp_path_factory.mktemp("left")
    spec = desk.spec(trainer={"max_epochs": 6, "accelerator": "cpu", "progress": False}, **EVERY)
    for name, watch in (("whole", None), ("part", StopsAt(4))):
        fit([spec], [folder / name], overrides=[("seed=0",)], watch=watch)
    assert RunDirectory(folder / "part").status == "interrupted"
    return spec, folder


def _again(spec, directory):
    """What a sweep does with a directory that is there already."""
    start = start_of(spec, directory, thorough=True)
    assert start.ending is None
    start = ready(start, directory)
    fit([spec], [directory], overrides=[("seed=0",)], resume=start.resume)
    return start


def test_a_run_whose_checkpoints_were_all_removed_is_done(left, tmp_path):
    """To save room, as studies do; one that is gone by itself is damage."""
    spec, folder = left
    shutil.copytree(folder / "whole", tmp_path / "run")
    shutil.rmtree(RunDirectory(tmp_path / "run").checkpoints_dir)
    start = start_of(spec, tmp_path / "run", thorough=True)
    assert start.fault is None
    assert start.ending is not None
    RunDirectory(tmp_path / "run").checkpoints_dir.mkdir()
    assert "best.ckpt" in start_of(spec, tmp_path / "run", thorough=True).fault


def _refused(run, name):
    readers = {"metrics.csv": read_metrics, "gradients.parquet": read_gradients}
    [status] = read_runs([run.path]).frame["status"]
    if status == "damaged":
        return True
    if name not in readers:
        return False
    with pytest.raises(UnitgainError, match="must be as the run left it"):
        readers[name](run.path / name)
    return True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_damage_to_a_finished_run_is_told_of_and_mended(tmp_path, left, desk, name, way):
    spec, folder = left
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(folder / "whole", run.path)
    path = run.path / name
    data = path.read_bytes() if name != "overrides.yaml" else path.read_bytes() * 40
    path.write_bytes(WAYS[way](data))
    if way != "flipped" or name not in UNREAD:
        assert _refused(run, name)
    fault = start_of(spec, run.path).fault
    assert fault is not None
    assert str(path) in fault
    _again(spec, run.path)
    desk.same_run(run.path, folder / "whole")


@pytest.mark.filterwarnings("ignore:.*going on from last.prev.ckpt")
@pytest.mark.parametrize(
    ("name", "damage", "epoch"),
    [
        ("checkpoints/last.ckpt", WAYS["cut"], 4),
        ("metrics.csv", lambda data: data.replace(b"\n0,", b"\n0,1", 1), 0),
        ("metrics.csv", lambda data: data[: data.rindex(b"\n3,") + 4], 0),
        ("metrics.csv", None, 0),
        ("gradients.parquet", WAYS["cut"], 0),
        ("gradients.parquet", None, 0),
        ("checkpoints/best.ckpt", WAYS["flipped"], 0),
        ("checkpoints/best.ckpt", None, 0),
        ("config.yaml", WAYS["cut"], 4),
    ],
)
def test_a_run_goes_on_only_from_what_is_whole(tmp_path, left, desk, name, damage, epoch):
    spec, folder = left
    run = tmp_path / "run"
    shutil.copytree(folder / "part", run)
    if damage is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(damage((run / name).read_bytes()))
    start = _again(spec, run)
    assert start.epoch == epoch
    assert start.resume == bool(epoch)
    desk.same_run(run, folder / "whole")
