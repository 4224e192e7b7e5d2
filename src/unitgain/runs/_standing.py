"""How a sweep stands while other processes train it: from its plan and small files of its runs alone."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from unitgain.errors import DataError
from unitgain.runs._atomic import atomic_write
from unitgain.runs._claims import Holder, holder_of
from unitgain.runs._directory import RunDirectory, Status
from unitgain.runs._read import find_runs
from unitgain.runs._record import check_text, seal_text

PLANS = ".plan"
"""The folder of a sweep's plans: a file for each set of runs that was asked for."""
ENDED = frozenset({"finished", "diverged", "failed"})
_TAIL = 4096


def write_plan(sweep: Path, epochs: Mapping[str, int]) -> None:
    """Leave in a sweep's folder which runs it is to have, in one step.

    Each set of runs has a file of its own, named by their names, so that several processes may add theirs; the file's
    time says since when the set is trained, and each run's count of epochs from where.

    Args:
        sweep: its folder, which is made if need be.
        epochs: of each run, by its directory as seen from the sweep's.

    Raises:
        OSError: the folder can't be written.
    """
    folder = sweep / PLANS
    folder.mkdir(parents=True, exist_ok=True)
    there = set(os.listdir(sweep))
    runs = {
        name: [count, _epochs_done(sweep / name)[0] if Path(name).parts[0] in there else 0]
        for name, count in epochs.items()
    }
    names = "\n".join(sorted(epochs)).encode()
    path = folder / f"{hashlib.sha256(names).hexdigest()[:16]}.json"
    text = json.dumps({"format": 1, "runs": runs}, separators=(",", ":"))
    atomic_write(path, seal_text(text))


@final
@dataclass(frozen=True)
class Standing:
    """How one run of a sweep stands.

    Args:
        name: its directory, as seen from the sweep's.
        status: as of `RunDirectory.status`, or missing.
        cause: why it isn't finished.
        epochs: that it is to train; None where no plan says so.
        done: epochs behind it.
        before: those that were, when its sweep was last started.
        steps_per_epoch: None before its first epoch.
        plan: when its sweep was last started, by the files' clock; None without a plan.
        begun: when the run was, since then; None where it wasn't.
        holder: who trains it.
    """

    name: str
    status: Status | Literal["missing"]
    cause: str | None
    epochs: int | None
    done: int
    before: int
    steps_per_epoch: float | None
    plan: float | None
    begun: float | None = None
    holder: Holder | None = None


@final
@dataclass(frozen=True)
class SweepStanding:
    """How a sweep stands.

    Args:
        runs: each run, in the order of the plans.
        planned: whether a plan says which runs there will be.
        now: the time that it is of.
    """

    runs: Sequence[Standing]
    planned: bool
    now: float = field(default_factory=time.time)

    @property
    def counts(self) -> dict[str, int]:
        """How many runs there are of each status."""
        return dict(Counter(run.status for run in self.runs))

    @property
    def ended(self) -> int:
        """How many runs won't be trained on: finished, diverged or failed."""
        return sum(run.status in ENDED for run in self.runs)

    @property
    def steps_left(self) -> float | None:
        """Optimizer steps still to do, if nobody stops early; None where it isn't known."""
        left = [run for run in self.runs if run.status not in ENDED]
        mean = self._mean_steps()
        if any(run.epochs is None for run in left) or (left and mean is None):
            return None
        return sum(
            max(0, (run.epochs or 0) - run.done) * (run.steps_per_epoch or mean or 0.0)
            for run in left
        )

    @property
    def steps_per_second(self) -> float | None:
        """Optimizer steps a second of all runs together, since the first one began; None where nobody is at work."""
        at_work = {run.plan for run in self.runs if run.status == "running" and run.plan}
        if not at_work:
            return None
        mean, rate = self._mean_steps() or 0.0, 0.0
        for plan in at_work:
            runs = [run for run in self.runs if run.plan == plan and run.begun is not None]
            steps = sum(
                max(0, run.done - run.before) * (run.steps_per_epoch or mean) for run in runs
            )
            began = min((run.begun for run in runs if run.begun is not None), default=plan)
            rate += steps / max(self.now - began, 1e-3)
        return rate

    @property
    def seconds_left(self) -> float | None:
        """How long it takes at this rate; None where that isn't known."""
        left, rate = self.steps_left, self.steps_per_second
        return left / rate if left is not None and rate else None

    def _mean_steps(self) -> float | None:
        known = [run.steps_per_epoch for run in self.runs if run.steps_per_epoch]
        return sum(known) / len(known) if known else None


def read_standing(sweep: Path) -> SweepStanding:
    """How a sweep stands now.

    Args:
        sweep: its folder, which other processes may be writing.

    Raises:
        ConfigError: there is no such folder.
        DataError: a plan can't be read.
    """
    planned, newest = _read_plans(sweep)
    for path in find_runs([sweep]):
        planned.setdefault(os.path.relpath(path, sweep), (None, 0, None))
    runs = [_standing(sweep, name, *facts) for name, facts in planned.items() if name != "."]
    touched = [run.holder.touched_ns / 1e9 for run in runs if run.holder]
    # Whoever keeps the files may have a clock that is ahead.
    now = max(time.time(), *touched, newest)
    return SweepStanding(runs, newest > 0, now)


_Facts = tuple[int | None, int, float | None]


def _read_plans(sweep: Path) -> tuple[dict[str, _Facts], float]:
    """Epochs, those before and the start of each run, from the newest plan that names it; and the newest start."""
    plans: list[tuple[float, Mapping[str, Any]]] = []
    for path in sorted((sweep / PLANS).glob("*.json")):
        try:
            data = path.read_bytes()
            content = json.loads(data)
            if not check_text(data) and "sha256" in content:
                raise ValueError("its content doesn't match its checksum")
            plans.append((path.stat().st_mtime, content["runs"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: must be the plan of a sweep, but can't be read ({error}); remove it and "
                "start the sweep again"
            ) from error
    planned: dict[str, _Facts] = {}
    for began, runs in sorted(plans, key=lambda plan: -plan[0]):
        for name, (epochs, before) in runs.items():
            planned.setdefault(name, (epochs, before, began))
    return planned, max((began for began, _ in plans), default=0.0)


def _standing(
    sweep: Path, name: str, epochs: int | None, before: int, plan: float | None
) -> Standing:
    run = RunDirectory(sweep / name)
    status: Status | Literal["missing"]
    status, cause = run.standing()
    holder = holder_of(run.path) if status in ("running", "stale") else None
    if status == "unfinished" and not run.config.exists():
        status, cause = "missing", None
    done, steps = (0, None) if status == "missing" else _epochs_done(run.path)
    begun = _time_of(run.config)
    if plan is None or begun is None or begun < plan:
        begun = None
    return Standing(name, status, cause, epochs, done, before, steps, plan, begun, holder)


def _time_of(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _epochs_done(run: Path) -> tuple[int, float | None]:
    """Epochs behind a run and steps of each, from the last whole line of its metrics."""
    try:
        with open(run / "metrics.csv", "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return 0, None
    cells = lines[-1].split(b",")[:2] if lines else []
    if len(cells) < 2 or not all(cell.isdigit() for cell in cells):
        return 0, None
    epoch, step = map(int, cells)
    return epoch + 1, step / (epoch + 1)
