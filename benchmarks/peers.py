"""One sweep by each of several libraries, in turn, each in a process that times itself."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import interleaved, ratio
from unitgain.data import open_data
from unitgain.spec import parse

TITLE = "Seconds a run: 64 runs on digits (16 rates, 4 seeds), Adam, 10 epochs, one thread"
ROUNDS = 2
SHAPES = ((2, 64, 64), (4, 64, 32))
"""Depth, width, batch."""
EPOCHS = 10
RUNS = [(float(lr), seed) for lr in np.geomspace(1e-4, 1e-2, 16) for seed in range(4)]
PEERS = ("scikit-learn", "skorch", "keras", "torch.func", "jax")
OURS = ("unitgain", "unitgain, training alone")

ROOT = Path(__file__).parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PACKAGES = ("jax", "keras", "numpy", "scikit-learn", "skorch", "torch")


def write_rows(path: Path) -> None:
    """Keep the prepared digits where every peer finds them."""
    spec = parse({})
    table = open_data(spec)
    parts = {part: getattr(table.split, part) for part in ("train", "val")}
    np.savez(
        path,
        **{f"x_{part}": table.x[rows].astype(np.float32) for part, rows in parts.items()},
        **{f"y_{part}": table.y[rows] for part, rows in parts.items()},
    )


def timed(name: str, work: Path) -> dict[str, Any]:
    """What a peer's process reports. It may use one core."""
    python = sys.executable if name in OURS else str(PEERS_PYTHON)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(
        [python, "-P", str(ROOT / "benchmarks" / "peer.py"), name, str(work)],
        env={**os.environ, **one_thread},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    reported: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return reported


def measured(shape: tuple[int, int, int], folder: Path) -> dict[str, Any]:
    """A row a peer: seconds of a run, and how many times those of unitgain."""
    depth, width, batch = shape
    work = folder / "work.json"
    content = {"depth": depth, "width": width, "batch": batch, "epochs": EPOCHS, "runs": RUNS}
    work.write_text(json.dumps({**content, "rows": str(folder / "rows.npz")}))
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in (*PEERS, *OURS)}

    def seconds(name: str) -> float:
        reports[name].append(timed(name, work))
        return float(reports[name][-1]["seconds"] / reports[name][-1]["runs"])

    each = interleaved({name: lambda name=name: seconds(name) for name in reports}, ROUNDS)
    rows = {}
    for name, values in each.items():
        last = reports[name][-1]
        row: dict[str, Any] = {
            "seconds_a_run": round(statistics.median(values), 5),
            "times_unitgain": ratio(values, each["unitgain"]),
            "runs_timed": last["runs"],
            "val_accuracy": {key: round(value, 3) for key, value in last["val_accuracy"].items()},
        }
        if "K" in last:
            row["K"] = last["K"]
        if "compile_seconds" in last:
            compiling = [report["compile_seconds"] for report in reports[name]]
            row["compile_seconds_left_out"] = round(statistics.median(compiling), 2)
        rows[name] = row
    return rows


def versions() -> dict[str, str]:
    """What the peers' environment holds."""
    code = f"import importlib.metadata as m; print(*map(m.version, {PACKAGES!r}))"
    done = subprocess.run(
        [str(PEERS_PYTHON), "-c", code], stdout=subprocess.PIPE, check=True, text=True
    )
    return dict(zip(PACKAGES, done.stdout.split(), strict=True))


def run() -> dict[str, Any]:
    if not PEERS_PYTHON.exists():
        raise SystemExit("benchmarks: peers need an environment of their own; use make bench-peers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.npz")
        return {
            "bar": "none: a table",
            "peers": versions(),
            "work": {
                f"{depth}x{width}, batch {batch}": measured((depth, width, batch), folder)
                for depth, width, batch in SHAPES
            },
        }
