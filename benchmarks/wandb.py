"""What Weights & Biases adds to a pack of runs: in training, and until the last of them has been uploaded.

The server is that of the tests, in a process of its own on the loopback: a network's delays are not in it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unitgain.spec import RunSpec, parse
from unitgain.train import fit
from unitgain.train.loggers import RunContext, factories
from unitgain.upload import uploading

TITLE = "milliseconds that Weights & Biases adds a member of a pack"
MEMBERS, ROUNDS, BAR = 32, 5, 30.0
MODES = ("none", "offline", "online")
NAMES = ("training", "until all is uploaded")
PEER = Path(__file__).parents[1] / "tests" / "upload"
SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
from wandb_peer import Peer
with Peer() as peer:
    print(peer.url, peer.environment()["WANDB_API_KEY"], flush=True)
    sys.stdin.read()
"""


@contextmanager
def server() -> Iterator[None]:
    """The tests' server, and an environment that is logged in to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(PEER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    os.environ["WANDB_BASE_URL"], os.environ["WANDB_API_KEY"] = process.stdout.readline().split()
    try:
        yield
    finally:
        process.stdin.close()
        process.wait()


@contextmanager
def inbox(folder: str) -> Iterator[None]:
    """A folder for notes that nobody reads."""
    os.environ["UNITGAIN_UPLOADS"] = folder
    try:
        yield
    finally:
        del os.environ["UNITGAIN_UPLOADS"]


def spec(seed: int, mode: str) -> RunSpec:
    wandb = {"_target_": "unitgain.train.loggers.wandb", "mode": mode}
    csv = {"_target_": "unitgain.train.loggers.csv"}
    return parse(
        {
            "seed": seed,
            "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 32},
            "trainer": {"max_epochs": 10, "accelerator": "cpu", "progress": False},
            "logger": {"csv": csv} if mode == "none" else {"csv": csv, "wandb": wandb},
            "figures": False,
        }
    )


def seconds(members: int, mode: str) -> tuple[float, float]:
    """How long a pack trains, and how long it takes until everything has been uploaded."""
    specs = [spec(seed, mode) for seed in range(members)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with uploading(wanted=mode == "online"):
            fit(specs, [Path(folder) / str(k) for k in range(members)])
            trained = time.perf_counter() - start
        return trained, time.perf_counter() - start


def logger_alone(mode: str) -> float:
    """Seconds a member that the training process spends on the logger itself: it opens it and closes it."""
    with tempfile.TemporaryDirectory() as folder, inbox(folder):
        made = spec(0, mode)
        config, directories = made.resolved(), [Path(folder) / str(k) for k in range(MEMBERS)]
        for directory in directories:
            directory.mkdir()
        start = time.perf_counter()
        for directory in directories:
            context = RunContext(directory, config, (), directory.name, ())
            for factory in factories(made):
                if (logger := factory.open(context)) is not None:
                    factory.close(logger, "finished")
        return (time.perf_counter() - start) / MEMBERS


def run() -> dict[str, Any]:
    # A member's share beyond the first: a pack of many less a pack of one.
    rows: dict[str, dict[str, list[float]]] = {mode: {n: [] for n in NAMES} for mode in MODES}
    with server():
        seconds(1, "none")
        for _ in range(ROUNDS):
            for mode in MODES:
                one, many = seconds(1, mode), seconds(MEMBERS, mode)
                for name, a, b in zip(NAMES, one, many, strict=True):
                    rows[mode][name].append((b - a) / (MEMBERS - 1) * 1e3)
    result: dict[str, Any] = {"members": MEMBERS, "rounds": ROUNDS}
    for mode in MODES[1:]:
        for name, values in rows[mode].items():
            added = [v - w for v, w in zip(values, rows["none"][name], strict=True)]
            median = statistics.median(added)
            row = {
                "milliseconds": round(median, 2),
                "least": round(min(added), 2),
                "greatest": round(max(added), 2),
            }
            if name == "training":
                row |= {"at_most": BAR, "reached": median <= BAR}
            result[f"{mode}, {name}"] = row
        alone = statistics.median(logger_alone(mode) for _ in range(ROUNDS)) * 1e3
        result[f"{mode}, the logger alone"] = {"milliseconds": round(alone, 2)}
    return result
