import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import unitgain

SOURCE = Path(unitgain.__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in an empty working directory, with no settings of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("UNITGAIN_RUNS", "UNITGAIN_SWEEPS", "UNITGAIN_ALLOW", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """The command in a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        paths = [str(SOURCE), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
            [sys.executable, "-m", "unitgain", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        )

    return run


@pytest.fixture
def program(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Python code in a process of its own, with the source and no other variables of the environment."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            env={"PYTHONPATH": str(SOURCE), **environment},
        )

    return run


@pytest.fixture
def train(monkeypatch):
    """A stand-in for training: it records what it was asked for and says how a run ended."""
    module = ModuleType("unitgain.train")
    state = SimpleNamespace(calls=[], ending=lambda spec: {}, evaluated={})

    def fit(specs, directories, *, overrides=None, resume=False, watch=None):
        [spec], [directory] = specs, directories
        state.calls.append(
            SimpleNamespace(spec=spec, directory=directory, overrides=overrides, resume=resume)
        )
        changes = state.ending(spec)
        if isinstance(changes, BaseException):
            raise changes
        (directory / "touched").touch()
        result = {
            "directory": directory,
            "status": "finished",
            "metrics": {"train/loss": 0.25, "val/loss": 0.5, "test/loss": 0.75, "test/r2": -2.0},
            "verdict": "gradients flow",
            "monitor": 0.5,
            "message": None,
            "signal": 0,
        }
        return [SimpleNamespace(**{**result, **changes})]

    module.fit = fit
    module.evaluate = lambda directory: state.evaluated
    monkeypatch.setitem(sys.modules, "unitgain.train", module)
    monkeypatch.setattr(unitgain, "train", module, raising=False)
    return state
