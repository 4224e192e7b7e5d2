"""Two run directories beside each other: what differs, and what differs first."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from unitgain.errors import DataError
from unitgain.runs._directory import RunDirectory
from unitgain.runs._environment import NUMERIC
from unitgain.runs._gradients import read_gradients
from unitgain.runs._metrics import read_metrics
from unitgain.runs._options import Scalar, flat
from unitgain.runs._read import read_rows

Same = Callable[[str, float, float], bool]
"""Whether two values of a metric count as the same."""

_NUMERIC_FACTS = ("device", "threads", "isa", "gpu", *(f"versions/{name}" for name in NUMERIC))
_OF_THE_MOMENT = ("environment/date", "seconds", "pack/", "run", "name", "cause")
"""What differs between any two runs and says nothing."""


@final
@dataclass(frozen=True)
class Differences:
    """What two runs don't share.

    Args:
        config: keys of the configuration with both values, None where a run lacks one.
        environment: versions, machine and the like, in the same way.
        results: status, metrics, verdict and other facts of summary.json.
        data: both fingerprints of the data.
        numerics: both numerics fingerprints: where they are equal, equal bits can be expected.
        history: the first difference between the two metrics.csv, as a line.
    """

    config: Mapping[str, tuple[Scalar, Scalar]]
    environment: Mapping[str, tuple[Scalar, Scalar]]
    results: Mapping[str, tuple[Scalar, Scalar]]
    data: tuple[Scalar, Scalar]
    numerics: tuple[Scalar, Scalar]
    history: str | None

    @property
    def any(self) -> bool:
        """Whether there is a difference at all."""
        parts = (self.config, self.environment, self.results, self.history)
        return any(parts) or self.data[0] != self.data[1] or self.numerics[0] != self.numerics[1]


def compare_runs(a: Path, b: Path) -> Differences:
    """What differs between two runs: configuration, environment, data, results.

    When they ran, how long that took and where they lie aren't differences.

    Raises:
        DataError: a file of a run is damaged.
    """
    rows = read_rows([a, b], environment=True)
    for row in rows:
        if row["status"] == "damaged":
            raise DataError(str(row["cause"]))
    one, other = rows
    keys = list(dict.fromkeys([*one, *other]))
    found: dict[str, dict[str, tuple[Scalar, Scalar]]] = {"c": {}, "e": {}, "r": {}}
    config = {key for key, _ in _config_keys(a)} | {key for key, _ in _config_keys(b)}
    for key in keys:
        pair = one.get(key), other.get(key)
        if key.startswith(_OF_THE_MOMENT) or _equal(*pair) or "fingerprint" in key:
            continue
        if key.startswith("environment/"):
            found["e"][key.removeprefix("environment/")] = pair
        else:
            found["c" if key in config else "r"][key] = pair

    def both(key: str) -> tuple[Scalar, Scalar]:
        return one.get(f"environment/{key}"), other.get(f"environment/{key}")

    return Differences(
        found["c"],
        found["e"],
        found["r"],
        both("data_fingerprint"),
        both("numerics_fingerprint"),
        history_difference(RunDirectory(a), RunDirectory(b), same_bits),
    )


def numerics_parts(environment: Mapping[str, Any]) -> dict[str, str]:
    """What makes up a numerics fingerprint, by name."""
    versions = environment.get("versions") or {}
    parts = {}
    for name in _NUMERIC_FACTS:
        folder, _, package = name.partition("/")
        value = versions.get(package) if package else environment.get(folder)
        if value is not None:
            parts[package or name] = str(value)
    return parts


def same_bits(_name: str, x: float, y: float) -> bool:
    """Equal, or both NaN."""
    return x == y or (math.isnan(x) and math.isnan(y))


def history_difference(a: RunDirectory, b: RunDirectory, same: Same) -> str | None:
    """The first difference between two metrics.csv as a line: epoch, metric and both values; None without.

    Raises:
        DataError: a file is damaged.
    """
    tables = [read_metrics(run.metrics) if run.metrics.exists() else {} for run in (a, b)]
    one, other = tables
    if list(one) != list(other):
        odd = sorted(set(one) ^ set(other))
        return f"metrics.csv: only one has the column {odd[0]}" if odd else "metrics.csv: order"
    counts = [len(table["epoch"]) if table else 0 for table in tables]
    for i in range(min(counts)):
        for name, column in one.items():
            x, y = float(column[i]), float(other[name][i])
            if not same(name, x, y):
                return f"epoch {int(one['epoch'][i])}, {name}: {x!r} and {y!r}"
    if counts[0] != counts[1]:
        return f"metrics.csv: {counts[0]} and {counts[1]} epochs"
    return None


def gradients_difference(a: RunDirectory, b: RunDirectory) -> str | None:
    """The first difference between two gradients.parquet as a line; None where every bit is equal.

    Raises:
        DataError: a file is damaged.
    """
    import numpy as np

    if a.gradients.exists() != b.gradients.exists():
        return "gradients.parquet: only one run has it"
    if not a.gradients.exists():
        return None
    one, other = read_gradients(a.gradients), read_gradients(b.gradients)
    if one.names != other.names or len(one.steps) != len(other.steps):
        return "gradients.parquet: other quantities or steps"
    differs = (one.steps != other.steps) | (one.layers != other.layers) | (one.codes != other.codes)
    differs |= (one.values != other.values) & ~(np.isnan(one.values) & np.isnan(other.values))
    if not differs.any():
        return None
    i = int(np.argmax(differs))
    return (
        f"step {int(one.steps[i])}, {one.names[int(one.codes[i])]} of layer {int(one.layers[i])}: "
        f"{float(one.values[i])!r} and {float(other.values[i])!r}"
    )


def _config_keys(path: Path) -> Sequence[tuple[str, Scalar]]:
    return list(flat(RunDirectory(path).read_config()))


def _equal(x: Scalar, y: Scalar) -> bool:
    both_nan = isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y)
    return both_nan or (x == y and isinstance(x, bool) == isinstance(y, bool))
