"""Small runs, what compares two of them, and ways to break one off."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from unitgain.pack.optim import Optimizer
from unitgain.runs import RunDirectory
from unitgain.spec import RunSpec, parse
from unitgain.train import RunResult, fit
from unitgain.train.checkpoint import read_checkpoint

IRIS = {"_target_": "unitgain.data.sources.iris", "task": "classification", "batch_size": 16}
DIABETES = {"_target_": "unitgain.data.sources.diabetes", "task": "regression", "batch_size": 64}
BASE = {
    "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 8},
    "data": IRIS,
    "optimizer": {"_target_": "unitgain.pack.optim.Adam"},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "progress": False},
    "callbacks": {"checkpoint": {"every_s": 0}},
    "figures": False,
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, key by key; a node with a target of its own replaces the old one."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        merge = isinstance(old, Mapping) and isinstance(value, Mapping) and "_target_" not in value
        result[key] = merged(old, value) if merge else value
    return result


@pytest.fixture
def make_spec() -> Callable[..., RunSpec]:
    """A small run on iris, with changes by top-level key."""
    return lambda **changes: parse(merged(BASE, changes))


@pytest.fixture
def diabetes() -> dict[str, Any]:
    """A regression's data node."""
    return dict(DIABETES)


@pytest.fixture
def train(make_spec, tmp_path) -> Callable[..., RunResult]:
    """Train one run; its folder is the first argument."""

    def run(folder: str = "run", *, resume: bool = False, **changes: Any) -> RunResult:
        [result] = fit([make_spec(**changes)], [tmp_path / folder], resume=resume)
        return result

    return run


@contextmanager
def _interrupt_at(step: int):
    """Press Ctrl-C while an optimizer step is under way."""
    patch = pytest.MonkeyPatch()
    original = Optimizer.step

    def interrupted(self, gradient, at):
        original(self, gradient, at)
        if at == step:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(Optimizer, "step", interrupted)
    try:
        yield
    finally:
        patch.undo()


@pytest.fixture
def interrupt_at():
    """A context in which a run is interrupted at a step."""
    return _interrupt_at


def _same(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            _same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def _summary(run: RunDirectory) -> dict[str, Any]:
    summary = run.read_summary()
    assert summary is not None
    # Of the files it records, config.yaml has the names and tags, too, and is compared by itself.
    summary["files"].pop("config.yaml", None)
    return {key: value for key, value in summary.items() if key not in ("seconds", "pack")}


def _files(run: RunDirectory) -> list[str]:
    return sorted(str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file())


@pytest.fixture
def assert_same_run():
    """Two run directories hold the same bits, times apart."""

    def check(one: Path, other: Path) -> None:
        a, b = RunDirectory(one), RunDirectory(other)
        assert _files(a) == _files(b)
        assert a.metrics.read_bytes() == b.metrics.read_bytes()
        if a.gradients.exists():
            assert a.gradients.read_bytes() == b.gradients.read_bytes()
        for name in ("best_checkpoint", "last_checkpoint"):
            _same(read_checkpoint(getattr(a, name)), read_checkpoint(getattr(b, name)), name)
        _same(_summary(a), _summary(b), "summary")

    return check


@pytest.fixture
def python():
    """Start a Python program in a process of its own."""
    started = []

    def start(code: str, *arguments: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
