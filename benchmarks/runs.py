"""Reading ten thousand run directories into one table, against parsing each of their files alone."""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import interleaved, stopwatch

TITLE = "Seconds that unitgain.runs.read_runs takes for 10,000 run directories"
RUNS = 10_000
SAMPLE = 500
ROUNDS = 3


def made(folder: Path, runs: int) -> None:
    """Directories as a sweep leaves them: configurations of many rates and seeds, and a summary each.

    One run is trained; the others have its files with other keys and other numbers.
    """
    from unitgain.runs import RunDirectory
    from unitgain.spec import parse
    from unitgain.train import fit

    target = {"_target_": "unitgain.data.sources.iris", "task": "classification"}
    config = {"data": target, "trainer": {"max_epochs": 2, "progress": False}}
    fit([parse(config)], [folder / "first"])
    summary = RunDirectory(folder / "first").read_summary() or {}
    del summary["files"]  # these directories have neither metrics.csv nor checkpoints
    environment = (folder / "first" / "environment.json").read_bytes()
    optimizer = {"_target_": "unitgain.pack.optim.Adam"}
    for i in range(1, runs):
        run = RunDirectory(folder / f"sweep_{i % 10}" / f"{i:012x}", durable=False)
        run.path.mkdir(parents=True)
        varied = {"seed": i % 50, "optimizer": optimizer | {"lr": 1e-5 * (1 + i // 50)}}
        run.write_config(parse(config | varied).resolved())
        run.environment.write_bytes(environment)
        metrics = {name: value + i * 1e-9 for name, value in summary["metrics"].items()}
        run.write_summary(summary | {"metrics": metrics, "seconds": i * 0.01})


def alone(paths: list[Path]) -> None:
    """Parse configuration and summary of each run as files of their own."""
    import yaml

    for path in paths:
        yaml.load((path / "config.yaml").read_bytes(), Loader=yaml.CSafeLoader)
        json.loads((path / "summary.json").read_bytes())


def run() -> dict[str, Any]:
    from unitgain.runs import read_runs
    from unitgain.runs._read import _ENTRIES, find_runs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder, RUNS)
        sample = find_runs([folder])[:SAMPLE]

        def table() -> None:
            _ENTRIES.clear()  # as in a new process
            assert len(read_runs([folder])) == RUNS

        seconds = interleaved(
            {"table": lambda: stopwatch(table), "alone": lambda: stopwatch(lambda: alone(sample))},
            ROUNDS,
        )
    each = statistics.median(seconds["alone"]) / SAMPLE
    return {
        "bar": "under 10 s",
        "runs": RUNS,
        "seconds": round(statistics.median(seconds["table"]), 2),
        "range": [round(min(seconds["table"]), 2), round(max(seconds["table"]), 2)],
        "estimated_seconds_file_by_file": round(each * RUNS, 1),
    }
