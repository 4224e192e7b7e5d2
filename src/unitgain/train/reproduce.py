"""Training a run again, and whether it comes out the same."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from unitgain.data import Table, Task, open_data
from unitgain.errors import ConfigError, DataError
from unitgain.runs import (
    RunDirectory,
    Same,
    gradients_difference,
    history_difference,
    numerics_parts,
    same_bits,
)
from unitgain.spec import RunSpec, parse
from unitgain.train.checkpoint import read_checkpoint
from unitgain.train.fit import fit

_RELATIVE = {"64": 1e-6, "32": 1e-3}
"""How far losses may be from those of another machine, relative to their size; training magnifies rounding."""
_RELATIVE_MIXED = 1e-2
_ROWS = 2
"""How many rows of a part may fall into another class there."""
_RESULTS = ("status", "epoch", "step", "best", "verdict", "diverged", "parameters", "rows")


@final
@dataclass(frozen=True)
class Reproduction:
    """A run that was trained again, beside the recorded one.

    Args:
        directory: of the new run.
        numerics: what differs in what decides on bits, recorded and now; empty where equal bits are expected.
        fingerprints: of the data and of the numerics, as now.
        commits: the recorded and the present state of the code, as git has it.
        compared: what was compared.
        missing: what the recorded run doesn't have any more.
        tolerance: of losses, relative; 0 where bits were compared.
        difference: the first one, as a line: recorded and now; None where there is none.
    """

    directory: Path
    numerics: Mapping[str, tuple[str, str]]
    fingerprints: tuple[str, str]
    commits: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
    compared: tuple[str, ...]
    missing: tuple[str, ...]
    tolerance: float
    difference: str | None


def reproduce(directory: Path, into: Path) -> Reproduction:
    """Train a run again from its configuration, and compare all it left, which isn't touched.

    Where the numerics fingerprint is the recorded one, every bit is compared: the history, gradient flow, the weights
    of both checkpoints and the summary. Elsewhere losses and metrics are compared within tolerances.

    Args:
        directory: of the run.
        into: a folder for the new run, without one.

    Raises:
        ConfigError: the run didn't come to its end, or ``into`` is of no use.
        DataError: the data are no longer the same, or a file of the run is damaged.
        CheckpointError: a checkpoint is damaged.
        KeyboardInterrupt: training was interrupted.
    """
    run = RunDirectory(Path(directory))
    summary = run.read_summary()
    if summary is None or summary["status"] not in ("finished", "diverged"):
        raise ConfigError(
            f"{directory}: must be a run that came to its end, but is {run.status}; "
            f"go on with it by unitgain resume {directory}"
        )
    if Path(into).resolve().is_relative_to(run.path.resolve()):
        raise ConfigError(f"{into}: must be a folder outside the run, which isn't touched")
    recorded = run.read_environment()
    spec = _as_recorded(parse(run.read_config()), recorded)
    loaded: dict[str, Table] = {}
    table = open_data(spec, loaded)
    _check_data(str(recorded.get("data_fingerprint")), table.fingerprint)
    overrides = run.read_overrides() if run.overrides.exists() else []
    [result] = fit([spec], [Path(into)], overrides=[overrides], loaded=loaded)
    if result.status == "interrupted":
        raise KeyboardInterrupt
    again = RunDirectory(Path(into))
    now = again.read_environment()
    exact = recorded.get("numerics_fingerprint") == now["numerics_fingerprint"]
    compared, missing, difference = _compare(run, again, spec, table.task, exact)
    return Reproduction(
        directory=again.path,
        numerics={} if exact else _numerics(recorded, now),
        fingerprints=(now["data_fingerprint"], now["numerics_fingerprint"]),
        commits=(recorded.get("git"), now.get("git")),
        compared=compared,
        missing=missing,
        tolerance=0.0 if exact else _relative(spec),
        difference=difference,
    )


def _as_recorded(spec: RunSpec, recorded: Mapping[str, Any]) -> RunSpec:
    """The same run with the device and the threads it had, where there are such, and without loggers."""
    device = str(recorded.get("device", "cpu"))
    gpu = device != "cpu" and torch.cuda.is_available()
    changes = {
        "accelerator": "gpu" if gpu else "cpu",
        "threads": int(recorded.get("threads", spec.trainer.threads)),
        "progress": False,
    }
    trainer = spec.trainer.model_copy(update=changes)
    return spec.model_copy(update={"trainer": trainer, "logger": {}})


def _check_data(recorded: str, now: str) -> None:
    if recorded != now:
        raise DataError(
            f"data: must be the table that the run was trained on (fingerprint {recorded[:12]}), "
            f"but it has changed since ({now[:12]}); restore it"
        )


def _numerics(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The parts of the numerics fingerprint that differ; the machine where no other does."""
    old, new = numerics_parts(recorded), numerics_parts(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    found = {name: (old.get(name, "none"), new.get(name, "none")) for name in names}
    return found or {"platform": (str(recorded.get("platform")), str(now["platform"]))}


def _compare(
    run: RunDirectory, again: RunDirectory, spec: RunSpec, task: Task, exact: bool
) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """What was compared, what couldn't be, and the first difference: by epoch, then by what came of it."""
    if (changed := _start_difference(run, again)) is not None:
        return (), (), changed
    same = same_bits if exact else _within(spec, task, again)
    parts: dict[Path, Callable[[], str | None]] = {
        run.metrics: lambda: history_difference(run, again, same)
    }
    if exact:
        parts[run.gradients] = lambda: gradients_difference(run, again)
        parts[run.best_checkpoint] = lambda: _weights_difference(
            run.best_checkpoint, again.best_checkpoint
        )
        parts[run.last_checkpoint] = lambda: _weights_difference(
            run.last_checkpoint, again.last_checkpoint
        )
    parts[run.summary] = lambda: _summary_difference(run, again, same, exact)
    compared, missing = [], []
    for path, difference in parts.items():
        there = path.exists()
        if not there and not (again.path / path.relative_to(run.path)).exists():
            continue
        if not there:
            missing.append(path.name)
            continue
        compared.append(path.name)
        if (found := difference()) is not None:
            return tuple(compared), tuple(missing), found
    return tuple(compared), tuple(missing), None


def _start_difference(run: RunDirectory, again: RunDirectory) -> str | None:
    """Whether the earlier run of ``warm_start`` has other weights by now."""
    recorded, now = ((each.read_summary() or {}).get("warm_start") for each in (run, again))
    if not recorded or not now or recorded["sha256"] == now["sha256"]:
        return None
    return f"best.ckpt of warm_start={recorded['run']}: {recorded['sha256'][:12]} and {now['sha256'][:12]}"


def _relative(spec: RunSpec) -> float:
    return _RELATIVE.get(spec.trainer.precision, _RELATIVE_MIXED)


def _within(spec: RunSpec, task: Task, again: RunDirectory) -> Same:
    """Whether two values are the same but for rounding and what training makes of it."""
    relative = _relative(spec)
    rows = (again.read_summary() or {})["rows"]

    def same(name: str, x: float, y: float) -> bool:
        if not (math.isfinite(x) and math.isfinite(y)):
            return same_bits(name, x, y)
        slack = relative * max(abs(x), abs(y))
        part, _, metric = name.partition("/")
        if task == "classification" and not metric.endswith("loss") and part in rows:
            slack = max(slack, _ROWS / rows[part])
        return abs(x - y) <= slack

    return same


def _weights_difference(recorded: Path, now: Path) -> str | None:
    """The first tensor of two checkpoints that differs in a bit."""
    one, other = read_checkpoint(recorded), read_checkpoint(now)
    for part in ("state_dict", "optimizer"):
        tensors, others = dict(_tensors(one[part])), dict(_tensors(other[part]))
        if list(tensors) != list(others):
            return f"{recorded.name}: other tensors in {part}"
        for name, tensor in tensors.items():
            if not _same_tensor(tensor, others[name]):
                gap = (tensor.double() - others[name].double()).abs().max().item()
                return f"{recorded.name}, {part} {name}: up to {gap:.3g} apart"
    return None


def _tensors(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for name, value in content.items():
        if isinstance(value, Tensor):
            found.append((f"{prefix}{name}", value))
        elif isinstance(value, Mapping):
            found += _tensors(value, f"{prefix}{name}.")
    return found


def _same_tensor(x: Tensor, y: Tensor) -> bool:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    equal = x == y
    return bool((equal | (x.isnan() & y.isnan()) if x.is_floating_point() else equal).all())


def _summary_difference(
    run: RunDirectory, again: RunDirectory, same: Same, exact: bool
) -> str | None:
    """The first metric or other result of summary.json that differs."""
    one, other = run.read_summary() or {}, again.read_summary() or {}
    if one["status"] != other["status"]:
        return f"summary.json, status: {one['status']} and {other['status']}"
    if list(one["metrics"]) != list(other["metrics"]):
        return "summary.json, metrics: other names"
    for name, value in one["metrics"].items():
        if not same(name, value, other["metrics"][name]):
            return f"summary.json, {name}: {value!r} and {other['metrics'][name]!r}"
    for name in _RESULTS if exact else ():
        if repr(one.get(name)) != repr(other.get(name)):
            return f"summary.json, {name}: {one.get(name)} and {other.get(name)}"
    return None
