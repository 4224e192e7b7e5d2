"""A server of W&B's protocol, one uploading process a module, and small runs."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

from unitgain.spec import parse
from unitgain.train import fit
from unitgain.upload import Uploader

WANDB = {"_target_": "unitgain.train.loggers.wandb"}
BASE = {
    "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 8},
    "data": {"_target_": "unitgain.data.sources.iris", "batch_size": 16},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "progress": False},
    "callbacks": {"checkpoint": {"every_s": 0}},
    "probe": {"every": 6},
    "figures": False,
}


def _peer_module():
    path = Path(__file__).with_name("wandb_peer.py")
    spec = importlib.util.spec_from_file_location("wandb_peer", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["wandb_peer"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server():
    """The server of a module."""
    with _peer_module().Peer() as peer:
        yield peer


@pytest.fixture
def peer(server, monkeypatch, tmp_path):
    """A server without any runs, and an environment that is logged in to it."""
    server.reset()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return server


class Following:
    """An uploading process that lives as long as a module."""

    def __init__(self, uploader):
        self.inbox, self.said = uploader.inbox, uploader.inbox / "said.jsonl"

    def wait(self, directory, what="done", count=1):
        """Wait until something has been said of a run so many times."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            messages = map(json.loads, self.said.read_text().splitlines())
            found = [m for m in messages if m["run"] == str(directory) and m["what"] == what]
            if len(found) >= count:
                return found[-1]["text"]
            time.sleep(0.02)
        raise AssertionError(f"{directory} isn't {what}: {self.said.read_text()}")


@pytest.fixture(scope="module")
def process(server):
    """One uploading process for a module's tests."""
    patch = pytest.MonkeyPatch()
    for name, value in server.environment().items():
        patch.setenv(name, value)
    uploader = Uploader()
    patch.undo()
    yield Following(uploader)
    uploader.close()


@pytest.fixture
def following(process, peer, monkeypatch):
    """Runs of the test are followed by the module's process."""
    monkeypatch.setenv("UNITGAIN_UPLOADS", str(process.inbox))
    return process


@pytest.fixture
def spec():
    """The configuration of a small run."""

    def make(logger=None, **changes):
        nodes = {"wandb": WANDB | (logger or {})}
        return parse({**BASE, "logger": nodes, **changes})

    return make


@pytest.fixture
def train(spec, tmp_path):
    """Train a small run."""

    def run(folder="run", *, logger=None, watch=None, resume=False, overrides=None, **changes):
        directory = tmp_path / folder
        typed = None if overrides is None else [overrides]
        [result] = fit(
            [spec(logger, **changes)], [directory], overrides=typed, resume=resume, watch=watch
        )
        return result

    return run


class StopAt:
    """Whoever stops a fit at an optimizer step."""

    def __init__(self, steps):
        self.left = steps

    def stop(self):
        self.left -= 1
        return self.left < 0

    def epoch(self, *_arguments):
        pass

    def ended(self, *_arguments):
        pass


@pytest.fixture
def stop_at():
    """A watch that interrupts a run."""
    return StopAt
