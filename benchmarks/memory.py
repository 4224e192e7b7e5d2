"""Memory of a member in training, against the arithmetic of what it can't do without."""

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.work import OFF, Work
from unitgain.train import fit

TITLE = "Peak memory of a member in training / its parameters, optimizer state and activations"
WORKS = (Work(4, 64, 32, "adam"), Work(10, 64, 128, "adam"))
MEMBERS = (8, 16, 32, 64, 128, 256, 512)
EPOCHS = 2
FLOAT = 4
"""Bytes."""


def arithmetic(work: Work) -> int:
    """Bytes of a member: parameters, what the optimizer keeps of each, and a step's activations."""
    return FLOAT * (work.parameters * (1 + work.states) + work.activations)


def status(key: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def growth(function: Callable[[], object]) -> int:
    """How far the function lifts the process's peak above what it holds before."""
    gc.collect()
    # What is freed already goes back to the system, or it would be used again unseen.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Sets the peak back to the present.
    function()
    return status("VmHWM") - before


def train_fit(work: Work, members: int) -> None:
    """A fit with everything at its default."""
    with tempfile.TemporaryDirectory() as folder:
        fit(work.specs(members, EPOCHS), [Path(folder, str(k)) for k in range(members)])


def train_engine(work: Work, members: int) -> None:
    """The pack by itself, without probe, Lightning, validation and files."""
    pack = work.pack(members, torch.device("cpu"), EPOCHS, probe=OFF)
    for epoch in range(EPOCHS):
        pack.train_epoch(epoch)


KINDS: dict[str, Callable[[Work, int], None]] = {"fit": train_fit, "engine": train_engine}


def in_process(kind: str, work: Work, members: int) -> int:
    """Growth in a process of its own."""
    shape = map(str, (work.depth, work.width, work.batch))
    done = subprocess.run(
        [sys.executable, "-m", __name__, kind, *shape, work.optimizer, str(members)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return int(json.loads(done.stdout.splitlines()[-1]))


def measured(kind: str, work: Work) -> dict[str, Any]:
    """Bytes a member at each K, and the line through them."""
    bytes_K = [in_process(kind, work, members) for members in MEMBERS]
    own = arithmetic(work)
    # Relative deviations count alike at every K.
    slope, constant = np.polyfit(MEMBERS, bytes_K, 1, w=1 / np.array(bytes_K))
    line = slope * np.array(MEMBERS) + constant
    return {
        "ratio": {
            "slope": round(slope / own, 3),
            "at_most": 1.3,
            "reached": bool(slope <= 1.3 * own),
        },
        "ratio_at_K": {
            str(members): round(total / members / own, 3)
            for members, total in zip(MEMBERS, bytes_K, strict=True)
        },
        "bytes_a_member": {"slope": round(slope), "arithmetic": own},
        "constant_bytes": round(constant),
        "largest_distance_from_the_line": round(float(np.abs(line / bytes_K - 1).max()), 3),
    }


def run() -> dict[str, Any]:
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("benchmarks: memory needs Linux, whose /proc tells the peak")
    return {
        "bar": "at most 1.3 times the arithmetic, linear in K",
        "work": {work.name: {kind: measured(kind, work) for kind in KINDS} for work in WORKS},
    }


def main() -> None:
    """One measurement: kind, depth, width, batch, optimizer, members."""
    kind, depth, width, batch, optimizer, members = sys.argv[1:]
    work = Work(int(depth), int(width), int(batch), optimizer)
    torch.set_num_threads(1)
    # Imports, and the libraries' own buffers.
    KINDS[kind](work, 2)
    print(json.dumps(growth(partial(KINDS[kind], work, int(members)))))


if __name__ == "__main__":
    main()
