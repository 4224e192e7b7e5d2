"""What a run directory says to W&B: configuration, a row of history an epoch, summary, figures."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from unitgain.errors import DataError
from unitgain.runs import RunDirectory, option_name, read_gradients, read_metrics

Row = tuple[int, dict[str, float]]


def config_of(run: RunDirectory, config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved configuration, with what was chosen of each group, what was typed and the environment.

    Args:
        run: the directory.
        config: what its config.yaml holds.

    Raises:
        DataError: another file of the run can't be read.
    """
    typed = run.read_overrides() if run.overrides.exists() else []
    content = {**config, "choices": choices(config), "overrides": typed}
    if run.environment.exists():
        content["environment"] = run.read_environment()
    return content


def choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """The option of each group, as one types it; a component of one's own by its dotted path.

    Example:
        >>> choices({"init": {"_target_": "unitgain.nn.init.he", "gain": 1.0}, "metrics": {}, "seed": 0})
        {'init': 'he'}
        >>> choices({"logger": {"csv": {"_target_": "unitgain.train.loggers.csv"}}})
        {'logger': ['csv']}
    """
    found: dict[str, Any] = {}
    for key, node in config.items():
        if not isinstance(node, Mapping):
            continue
        if "_target_" in node:
            found[key] = option_name(key, node["_target_"])
        elif node and all(isinstance(n, Mapping) and "_target_" in n for n in node.values()):
            found[key] = sorted(node)
    return found


@final
@dataclass
class History:
    """The rows of a run's history, one an epoch, at the epoch's last optimizer step.

    The measurements of gradient flow come with the epoch that they fall into, the last one of it. A row
    is complete once a later measurement is on disk, or the run has ended.

    Args:
        run: the directory.
        quantities: of gradient flow.
        config: what the run's config.yaml holds.
    """

    run: RunDirectory
    quantities: Sequence[str]
    config: Mapping[str, Any]

    def rows(self, first: int = 0, *, ended: bool) -> list[Row]:
        """The complete rows.

        Args:
            first: the least step of a row.
            ended: whether no file grows any more.

        Raises:
            DataError: a file is damaged.
        """
        if not self.run.metrics.exists():
            return []
        table = read_metrics(self.run.metrics)
        steps = table.pop("step").tolist()
        measured = self._measured()
        at = sorted(measured)
        until = math.inf if ended or not self._measures() else max(at, default=-1)
        rows = []
        for i, step in enumerate(steps):
            if not first <= step <= until:
                continue
            values = {n: float(v[i]) for n, v in table.items() if math.isfinite(v[i])}
            last = bisect_left(at, step) - 1
            if last >= 0 and at[last] >= (steps[i - 1] if i else 0):
                values |= measured[at[last]]
            rows.append((step, values))
        return rows

    def _measured(self) -> dict[int, dict[str, float]]:
        """Values by step and series; of every step that was measured."""
        if not self.run.gradients.exists():
            return {}
        gradients = read_gradients(self.run.gradients)
        found: dict[int, dict[str, float]] = {step: {} for step in set(gradients.steps.tolist())}
        for name in self.quantities:
            if name not in gradients.names:
                continue
            step_S, value_SL = gradients.grid(name)
            for step, value_L in zip(step_S.tolist(), value_SL.tolist(), strict=True):
                found[step] |= {
                    f"gradients/{name}/layer_{layer:02d}": value
                    for layer, value in enumerate(value_L, start=1)
                    if math.isfinite(value)
                }
        return found

    def _measures(self) -> bool:
        probe = self.config.get("probe") or {}
        return bool(probe.get("every") or probe.get("per_decade") or probe.get("at"))


def summary_of(run: RunDirectory) -> dict[str, Any]:
    """How the run ended, in single values; that of an unfinished run is its status alone.

    Raises:
        DataError: summary.json is damaged.
    """
    summary = run.read_summary()
    if summary is None:
        return {"status": "unfinished"}
    found: dict[str, Any] = {"status": summary["status"]}
    found |= {f"final/{name}": value for name, value in (summary.get("metrics") or {}).items()}
    for name in ("parameters", "seconds", "cause"):
        if summary.get(name) is not None:
            found[name] = summary[name]
    best, verdict = summary.get("best") or {}, summary.get("verdict")
    found |= {f"best/{name}": v for name, v in best.items() if v is not None}
    if verdict is not None:
        found |= {f"verdict/{name}": v for name, v in verdict.items() if _single(v)}
    if summary.get("diverged"):
        found |= {f"diverged/{name}": v for name, v in summary["diverged"].items()}
    return found


def ended_well(run: RunDirectory) -> bool:
    """Whether the run finished: anything else is a failure."""
    try:
        return (run.read_summary() or {}).get("status") == "finished"
    except DataError:
        return False


def figures_of(run: RunDirectory) -> list[Path]:
    """The figures as pictures."""
    return sorted(run.figures_dir.glob("*.png"))


def _single(value: object) -> bool:
    return isinstance(value, str | int | float)
