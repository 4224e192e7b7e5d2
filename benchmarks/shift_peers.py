"""The same shifted rows by skada, densratio, QuaPy, alibi-detect and ours, each in a process that times itself."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.shift_peer import MMDS, RATIOS, SHARES
from benchmarks.shift_problems import Problem, gaussian, sinc

TITLE = "Distribution shift by peers: errors of weights and shares, CPU seconds, memory; one thread"
ROOT = Path(__file__).parent.parent
PYTHONS = {"alibi-detect": ROOT / ".venv-alibi", "unitgain": Path(sys.prefix)}
"""Where a library is installed; alibi-detect wants another numpy than all others."""

PEERS = ROOT / ".venv-shift-peers"
PACKAGES = {
    PEERS: ("skada", "densratio", "QuaPy", "numpy"),
    PYTHONS["alibi-detect"]: ("alibi-detect", "numpy", "torch"),
}
SEEDS = {"ratios": 5, "shares": 10}
MMD_ROWS = {"alibi-detect, MMD": (1_000, 5_000), "unitgain, MMD": (1_000, 5_000, 20_000)}
PERMUTATIONS = 100


def python_of(name: str) -> Path:
    return PYTHONS.get(name.partition(",")[0], PEERS) / "bin" / "python"


def reported(name: str, paths: list[Path]) -> dict[str, Any]:
    """What a library's process says of these works, or in one line why it can't."""
    one_thread = {f"{x}_NUM_THREADS": "1" for x in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    done = subprocess.run(
        [python_of(name), "-P", ROOT / "benchmarks" / "shift_peer.py", name, *paths],
        env={**os.environ, **one_thread},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        return {"fails": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cost(found: dict[str, Any], skip: int = 1) -> dict[str, float]:
    """CPU seconds of a work, the first left out as it pays for imports, and the process's peak memory."""
    seconds = [each["cpu_seconds"] for each in found["results"][skip:]]
    gigabytes = round(found["peak_gigabytes"], 2)
    return {"cpu_seconds": round(median(seconds), 3), "peak_gigabytes": gigabytes}


def excess(problem: Problem, weight: Any) -> float:
    """The target risk of a line fitted with weights, over the best line's."""
    grid = np.random.default_rng(10**6).normal(2, 0.25, 100_000)
    design, truth = np.stack([grid, np.ones_like(grid)], 1), np.sinc(grid)
    floor = np.linalg.lstsq(design, truth, rcond=None)[1][0] / len(grid)
    root, x = np.sqrt(weight), problem.source_x[:, 0]
    line = np.stack([x, np.ones_like(x)], 1) * root[:, None]
    solution = np.linalg.lstsq(line, problem.source_y * root, rcond=None)[0]
    return float(np.mean((design @ solution - truth) ** 2) - floor)


def ratios(folder: Path) -> dict[str, Any]:
    """Median relative L2 error of weights (n = 1000, d = 10, mean shift 1), median excess risk on sinc."""
    seeds = SEEDS["ratios"]
    truths, lines = [], [sinc(seed) for seed in range(seeds)]
    works: list[Path] = []
    for seed in range(seeds):
        source, target, truth = (part.numpy() for part in gaussian(1_000, 10, 1.0, seed))
        truths.append(truth / truth.mean())
        works.append(folder / f"gaussian{seed}.npz")
        np.savez(works[-1], source=source, target=target, seed=seed)
    for seed, problem in enumerate(lines):
        works.append(folder / f"sinc{seed}.npz")
        np.savez(works[-1], source=problem.source_x, target=problem.target_x, seed=seed)
    rows: dict[str, Any] = {}
    for name in RATIOS:
        found = reported(name, works)
        if "fails" in found:
            rows[name] = found
            continue
        weights = [np.clip(each["answer"], 0, None) for each in found["results"]]
        weights = [w / w.mean() for w in weights]
        pairs = zip(weights[:seeds], truths, strict=True)
        errors = [float(np.linalg.norm(w - t) / np.linalg.norm(t)) for w, t in pairs]
        risks = [excess(p, w) for p, w in zip(lines, weights[seeds:], strict=True)]
        values = {"weight_error": median(errors), "sinc_excess": median(risks)}
        gaussian_only = {**found, "results": found["results"][:seeds]}
        rows[name] = {k: round(v, 4) for k, v in values.items()} | cost(gaussian_only)
    return rows


def shares(folder: Path) -> dict[str, Any]:
    """Digits, one class at .9: mean absolute error of its shares, median over seeds."""
    x, y = load_digits(return_X_y=True)
    works, truths = [], []
    for seed in range(SEEDS["shares"]):
        rng = np.random.default_rng(seed)
        train, source, rest = np.array_split(rng.permutation(len(y)), [600, 1200])
        own, others = rest[y[rest] == seed % 10], rest[y[rest] != seed % 10]
        target = np.concatenate([rng.choice(own, 540), rng.choice(others, 60)])
        truths.append(np.bincount(y[target], minlength=10) / len(target))
        works.append(folder / f"shares{seed}.npz")
        parts = {"x": x[train], "y": y[train], "source": x[source], "label": y[source]}
        np.savez(works[-1], target=x[target], **parts)
    rows: dict[str, Any] = {}
    for name in SHARES:
        found = reported(name, works)
        if "fails" not in found:
            pairs = zip(found["results"], truths, strict=True)
            errors = [float(np.abs(np.array(each["answer"]) - t).mean()) for each, t in pairs]
            found = {"absolute_error": round(median(errors), 5)} | cost(found)
        rows[name] = found
    return rows


def mmds(folder: Path) -> dict[str, Any]:
    """CPU seconds and memory of the MMD with permutations, d = 10, behind a small one for the imports."""
    rng, rows = np.random.default_rng(0), {}
    for name in MMDS:
        rows[name] = {}
        for n in MMD_ROWS[name]:
            works = []
            for count in (50, n):
                source, target = rng.normal(size=(2, count, 10))
                works.append(folder / f"mmd{count}.npz")
                np.savez(works[-1], source=source, target=target, permutations=PERMUTATIONS)
            found = reported(name, works)
            rows[name][str(n)] = found if "fails" in found else cost(found)
    return rows


def versions() -> dict[str, str]:
    """What the peers' environments hold."""
    found = {}
    for folder, names in PACKAGES.items():
        code = f"import importlib.metadata as m; print(*map(m.version, {names!r}))"
        python = folder / "bin" / "python"
        done = subprocess.run([python, "-c", code], capture_output=True, check=True, text=True)
        where = "with alibi-detect" if folder == PYTHONS["alibi-detect"] else "with the others"
        pairs = zip(names, done.stdout.split(), strict=True)
        found |= {f"{n} {where}" if n == "numpy" else n: v for n, v in pairs}
    return found


def run() -> dict[str, Any]:
    if not all((folder / "bin" / "python").exists() for folder in PACKAGES):
        raise SystemExit(
            "benchmarks: peers need environments of their own; use make bench-shift-peers"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "bar": "MMD at 5000 a side 10 times as quick as alibi-detect's",
            "peers": versions(),
            "seeds": SEEDS,
            "ratios": ratios(folder),
            "shares": shares(folder),
            "mmd": mmds(folder),
        }
