"""A sweep of 1000 runs from the shell, against the usual template's multirun and against one process a run."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import interleaved, judged, ratio

TITLE = "1000 runs of MLP 64-64 on digits, batch 64, 5 epochs, from the shell: template / unitgain"
ROUNDS = 3
SEEDS = 50
RATES = [f"{lr:.6g}" for lr in np.geomspace(1e-4, 1e-2, 20)]
RUNS = SEEDS * len(RATES)
FEW, MANY = 10, 60
"""Jobs of the two multiruns of the template whose difference is the time of a job."""
PROCESSES = 3
"""Single jobs of the template, a process each, of which the median counts."""

ROOT = Path(__file__).parent.parent
UNITGAIN = ["unitgain", "train", "-m", "hydra/launcher=packed", "model.depth=2", "model.width=64"]
UNITGAIN += ["data.batch_size=64", "trainer.max_epochs=5", f"seed=range({SEEDS})"]
UNITGAIN += [f"optimizer.lr={','.join(RATES)}"]


def shell(arguments: Sequence[str], folder: str) -> float:
    """Wall-clock seconds of a Python module run as a command in a folder of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # One thread a process: more make such small steps many times slower.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def packed() -> float:
    """The whole sweep."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = shell(UNITGAIN, folder)
        finished = sum(
            '"status": "finished"' in summary.read_text()
            for summary in Path(folder).glob("sweeps/*/*/summary.json")
        )
    if finished != RUNS:
        raise RuntimeError(f"{RUNS} runs must finish, {finished} did")
    return seconds


def multirun(jobs: int) -> float:
    """A basic multirun of the template."""
    with tempfile.TemporaryDirectory() as folder:
        return shell(["benchmarks.template.train", "-m", f"seed=range({jobs})"], folder)


def process() -> float:
    """A job of the template in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return statistics.median(
            shell(["benchmarks.template.train"], folder) for _ in range(PROCESSES)
        )


def estimated() -> float:
    """The whole sweep as a multirun of the template: its start once, and each job's share."""
    few, many = multirun(FEW), multirun(MANY)
    return few + (RUNS - FEW) * (many - few) / (MANY - FEW)


def run() -> dict[str, Any]:
    timed = {"packed": packed, "multirun": estimated, "processes": lambda: RUNS * process()}
    seconds = interleaved(timed, ROUNDS)
    return {
        "bar": "at least 40 times a multirun, 100 times one process a run; under 60 s on 2 cores",
        "runs": RUNS,
        "multirun/packed": judged(ratio(seconds["multirun"], seconds["packed"]), 40),
        "processes/packed": judged(ratio(seconds["processes"], seconds["packed"]), 100),
        "seconds": {name: round(statistics.median(s), 2) for name, s in seconds.items()},
    }
