"""Planning a sweep of a million runs, and reading a hundred thousand run directories: each in a process of its own."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TITLE = (
    "Seconds and memory for a plan of 1,000,000 runs, and for a table of 100,000 run directories"
)
RUNS = 1_000_000
DIRECTORIES = 100_000
SHAPES = ["model.depth=2,4", "model.width=32,64", "init=xavier,he,lecun,orthogonal"]
RATES = 25
READ = "import sys; from pathlib import Path; from unitgain.runs import read_runs; "
READ += "table = read_runs([Path(sys.argv[1])]); print(len(table), table.frame['status'].unique())"


def planned(runs: int, folder: Path) -> dict[str, Any]:
    """What a user types to see how a sweep would be laid out: overrides, specs, hashes, packs, tasks."""
    rates = ",".join(f"{1e-4 * (1 + i):.4f}" for i in range(RATES))
    words = [*SHAPES, f"optimizer.lr={rates}", f"seed=range(0,{runs // (16 * RATES)})"]
    command = ["-m", "unitgain", "train", "-m", "--cfg", "plan", "hydra/launcher=packed_slurm"]
    found, out = measured([*command, *words, f"hydra.sweep.dir={folder / 'sweep'}"])
    match = re.search(rf"{runs} runs in (\d+) packs, (\d+) array tasks", out)
    assert match is not None, out[-2000:]
    return {"runs": runs, "packs": int(match[1]), "tasks": int(match[2]), **found}


def read(directories: int, folder: Path) -> dict[str, Any]:
    """``read_runs`` of directories as a sweep leaves them."""
    made(folder / "runs", directories)
    found, out = measured(["-c", READ, str(folder / "runs")])
    assert out.split()[0] == str(directories), out
    assert "damaged" not in out, out
    return {"directories": directories, **found}


def made(folder: Path, directories: int) -> None:
    """One run that was trained, and copies with seeds, rates and scores of their own."""
    from unitgain.runs import RunDirectory, record_of
    from unitgain.spec import parse
    from unitgain.train import fit

    target = {"_target_": "unitgain.data.sources.iris", "task": "classification"}
    config = {"data": target, "trainer": {"max_epochs": 2, "progress": False}, "figures": False}
    first = RunDirectory(folder / "first")
    fit([parse(config)], [first.path])
    summary, text = first.read_summary() or {}, first.config.read_bytes()
    names = ("overrides.yaml", "metrics.csv", "gradients.parquet", "checkpoints/best.ckpt")
    kept: dict[int, Path] = {}
    for i in range(1, directories):
        run = RunDirectory(folder / f"sweep_{i % 100}" / f"{i:012x}", durable=False)
        run.checkpoints_dir.mkdir(parents=True)
        # A file may have some ten thousand names, so each sweep has files of its own.
        source = kept.setdefault(i % 100, run.path)
        for name in names:
            if source == run.path:
                shutil.copyfile(first.path / name, run.path / name)
            else:
                os.link(source / name, run.path / name)
        seeds = re.sub(rb"(?m)^seed: 0$", b"seed: %d" % (i % 500), text)
        mine = re.sub(rb"(?m)^  lr: .*$", b"  lr: %.6f" % (1e-5 * (1 + i // 500)), seeds)
        run.config.write_bytes(mine)
        files = summary["files"] | {"config.yaml": record_of(mine)}
        metrics = {name: value + i * 1e-9 for name, value in summary["metrics"].items()}
        run.write_summary(summary | {"metrics": metrics, "seconds": i * 0.01, "files": files})


def measured(arguments: list[str]) -> tuple[dict[str, float], str]:
    """Wall-clock seconds, those of the processor, and the peak memory of a Python process; what it prints."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        out.seek(0)
        text = out.read()
    assert process.returncode == 0, text[-2000:]
    found = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
    }
    return found, text


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        plan, table = planned(RUNS, Path(name)), read(DIRECTORIES, Path(name))
    return {"bar": "plan: under 60 s and 2 GB", "plan": plan, "read": table}
