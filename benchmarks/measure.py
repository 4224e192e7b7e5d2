"""Interleaved medians, and how a result is written."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(timed: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let each function time itself once a round, in turn, and once before for warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_ in range(rounds + 1):
        for name, function in timed.items():
            value = function()
            if round_:
                seconds[name].append(value)
    return seconds


def stopwatch(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """The median of the ratios of each round, with their range: a machine's mood cancels within a round."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return {
        "median": round(statistics.median(ratios), 4),
        "least": round(min(ratios), 4),
        "greatest": round(max(ratios), 4),
        "rounds": len(ratios),
    }


def judged(ratios: dict[str, float], at_least: float) -> dict[str, float | bool]:
    """What ``ratio`` gave, beside its bar."""
    return {**ratios, "at_least": at_least, "reached": ratios["median"] >= at_least}


def report(name: str, title: str, result: dict[str, Any]) -> None:
    """Print a result and keep it in benchmarks/results."""
    keep(name, title, result)
    print(f"{title}\n{json.dumps(result, indent=2)}")


def keep(name: str, title: str, result: dict[str, Any]) -> None:
    """Keep a result in benchmarks/results, with the machine that it is of."""
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "torch": version("torch"),
        "lightning": version("lightning"),
    }
    for line in (
        Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ()
    ):
        if line.startswith("model name"):
            machine["cpu"] = line.partition(":")[2].strip()
            break
    content = {
        "title": title,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine,
        **result,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
