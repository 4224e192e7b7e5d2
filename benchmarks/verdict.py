"""How often the verdict is right, on runs whose truth comes from theory, the outcome of training, or brute force."""

import math
import os
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.labelled import EpochLosses, Pack, packs
from benchmarks.truth import Outcome, outcome
from unitgain.data import open_data
from unitgain.forecast import Forecast, forecast_of
from unitgain.probe import Course, Expected, Record, judge
from unitgain.probe.verdict import SEVERITY
from unitgain.runs import RunDirectory, read_gradients
from unitgain.train import fit

TITLE = "Verdicts on runs whose truth is known"
AT_LEAST = 0.95
"""Share of the clear cases that must be right."""
PROCESSES = 2
NEW_SEEDS = 1000
TRAINED, UNTRAINED = 0.8, 0.5
"""Shares of what the best run of a pack learned, from which a run has learned and below which it hasn't."""


@dataclass(frozen=True)
class Run:
    """One labelled run.

    Args:
        pack: whose it is.
        study: of the pack.
        name: of the run.
        lr: its learning rate.
        decades: of gradient across depth, by theory; above zero they explode.
        outcome: what became of it.
        verdict: as in its summary.json.
        start: the label that it gets from its first measured step alone.
        own: whether it is called out of theory beside its own forecast.
        others: beside the forecasts of other runs of the pack, two decades or more away.
    """

    pack: str
    study: str
    name: str
    lr: float
    decades: float
    outcome: Outcome
    verdict: dict[str, Any]
    start: str
    own: bool
    others: tuple[bool, ...]


def train(pack: Pack) -> list[Run]:
    """Train a pack and look at what became of its runs."""
    torch.set_num_threads(1)
    # A process of the pool has not called `packs`.
    os.environ["UNITGAIN_ALLOW"] = "benchmarks"
    specs = list(pack.specs.values())
    table = open_data(specs[0])
    outputs = table.n_classes if table.task == "classification" else table.n_outputs
    q_0 = float(np.square(table.x[table.split.train]).mean())
    forecasts = [forecast_of(s, inputs=table.n_features, outputs=outputs, q_0=q_0) for s in specs]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        directories = [Path(folder, str(k)) for k in range(len(specs))]
        fit(specs, directories)
        for k, (name, spec) in enumerate(pack.specs.items()):
            summary = RunDirectory(directories[k]).read_summary() or {}
            losses = EpochLosses.latest.get(spec.seed, [])
            start = _start(directories[k])
            runs.append(
                Run(
                    pack.name,
                    pack.study,
                    name,
                    spec.optimizer.arguments()["lr"],
                    forecasts[k].slope * (spec.model.depth - 1),
                    outcome(spec, table, directories[k], summary["status"], losses),
                    summary["verdict"],
                    judge(start).label,
                    _is_out(start, forecasts[k]),
                    tuple(_is_out(start, f) for f in _far(forecasts, k)),
                )
            )
    return runs


def expected_of(forecast: Forecast) -> Expected:
    """What `train` hands to the verdict."""
    layers = max(forecast.hidden - 1, 1)
    spread = forecast.spread / layers * 1.2**0.5
    return Expected(forecast.slope, forecast.name, spread if spread > 0 else None)


def _start(directory: Path) -> Record:
    """The record of the first measured step."""
    gradients = read_gradients(directory / "gradients.parquet")
    course = Course()
    grids = {name: gradients.grid(name) for name in gradients.names}
    step_S, _ = grids["grad_preactivation"]
    course.append([int(step_S[0])], {name: value_SL[:1] for name, (_, value_SL) in grids.items()})
    return course.record()


def _is_out(record: Record, forecast: Forecast) -> bool:
    verdict = judge(record, expected_of(forecast))
    return any(f.label == "out of theory" for f in verdict.findings)


def _far(forecasts: Sequence[Forecast], k: int) -> Iterator[Forecast]:
    """Forecasts of other runs that differ clearly from that of run ``k``."""
    for other in forecasts:
        if abs(other.slope - forecasts[k].slope) * (other.hidden - 1) > 2:
            yield other


def truth(run: Run, best: float, best_lr: float) -> tuple[str, bool]:
    """The gravest thing that is wrong with a run, and whether it is beyond doubt.

    Args:
        run: the run.
        best: the most that a run of its pack learned.
        best_lr: that run's learning rate.
    """
    o, learned = run.outcome, run.outcome.learned / best
    growth = (o.losses_E[-1] if o.losses_E else math.nan) / o.loss_at_start
    cosine_H, dead_H = np.nan_to_num(np.asarray(o.cosine_H)), np.asarray(o.dead_H)
    # Units of collapsed inputs are silent because their inputs are one.
    dead = float(np.where((cosine_H > 0.975) & (dead_H < 1), 0.0, dead_H).max())
    flat, cosine, swing = max(o.flat_H), float(cosine_H[-1]), o.swing
    failed, lost = learned < TRAINED, learned < UNTRAINED
    faster = run.study == "rate" and run.lr > best_lr
    slower = run.study == "rate" and run.lr < best_lr
    # In the order of gravity: whether it is so, and whether that is beyond doubt.
    rules = (
        ("diverged", o.status == "diverged" or not growth < 10, not growth < 100),
        ("update too large", faster and failed, lost),
        ("dead units", dead > 0.6, dead > 0.7 and failed),
        ("exploding", run.decades > 1.3 and failed, run.decades > 3),
        ("vanishing", run.decades < -1.3 and lost, run.decades < -3 and learned < UNTRAINED / 2),
        ("saturated", flat > 0.7 and failed, flat > 0.8),
        ("rank collapse", cosine > 0.975 and failed, cosine > 0.99),
        ("oscillating", swing > 0.2, swing > 0.3),
        ("update too small", slower and lost, learned < UNTRAINED / 2),
        ("not learned", failed, False),
    )
    for label, holds, clear in rules:
        if holds:
            return label, bool(clear)
    near = dead > 0.5 or flat > 0.6 or swing > 0.1 or cosine > 0.95 or abs(run.decades) > 1.0
    return "healthy", learned > 0.9 and not near


def labelled(runs: Sequence[Run]) -> Iterator[tuple[Run, str, bool]]:
    """Each run with its truth, and whether that is clear."""
    for name in dict.fromkeys(run.pack for run in runs):
        pack = [run for run in runs if run.pack == name]
        best = max(pack, key=lambda run: run.outcome.learned)
        for one in pack:
            yield one, *truth(one, best.outcome.learned, best.lr)


def scored(runs: Sequence[Run]) -> dict[str, Any]:
    """Confusion, and the errors of each label."""
    cases = list(labelled(runs))
    known = [c for c in cases if c[1] != "not learned"]
    clear = [c for c in known if c[2]]
    labels = [*SEVERITY[:-1], "healthy"]
    return {
        "runs": len(cases),
        "clear": len(clear),
        "right_of_clear": _right(clear),
        "at_least": AT_LEAST,
        "reached": _right(clear) >= AT_LEAST,
        "right_of_all_with_a_truth": _right(known),
        "labels": {label: _errors(label, known, clear) for label in labels},
        "confusion": _confusion(cases),
        "confusion_of_clear": _confusion(clear),
        "confidence": _calibration(known),
        "theory": _theory(runs),
        "bands": _bands(cases),
        "cases": [
            f"{run.pack} | {run.name} | truth {truth_}{'' if clear_ else ' (unclear)'} | "
            f"{run.verdict['label']} {run.verdict['confidence']:.2f}"
            for run, truth_, clear_ in cases
        ],
    }


Case = tuple[Run, str, bool]


def _right(cases: Sequence[Case]) -> float:
    right = sum(run.verdict["label"] == label for run, label, _ in cases)
    return round(right / max(len(cases), 1), 4)


def _errors(label: str, known: Sequence[Case], clear: Sequence[Case]) -> dict[str, Any]:
    def rates(cases: Sequence[Case]) -> dict[str, Any]:
        true = [run for run, truth_, _ in cases if truth_ == label]
        other = [run for run, truth_, _ in cases if truth_ != label]
        missed = sum(run.verdict["label"] != label for run in true)
        alarms = sum(run.verdict["label"] == label for run in other)
        return {
            "runs": len(true),
            "missed": round(missed / max(len(true), 1), 3),
            "false_alarms": round(alarms / max(len(other), 1), 3),
        }

    return {"clear": rates(clear), "all": rates(known)}


def _confusion(cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    """By truth, how many got which verdict."""
    table: dict[str, Counter[str]] = {}
    for run, label, _ in cases:
        table.setdefault(label, Counter())[run.verdict["label"]] += 1
    return {label: dict(row.most_common()) for label, row in sorted(table.items())}


def _calibration(cases: Sequence[Case]) -> list[dict[str, float]]:
    """Share that is right among verdicts of like confidence."""
    rows = []
    for low, high in ((0.0, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 1.01)):
        bin_ = [c for c in cases if low <= c[0].verdict["confidence"] < high]
        mean = float(np.mean([c[0].verdict["confidence"] for c in bin_])) if bin_ else 0.0
        rows.append({"runs": len(bin_), "confidence": round(mean, 3), "right": _right(bin_)})
    return rows


def _theory(runs: Sequence[Run]) -> dict[str, Any]:
    """Verdicts on the first step alone against theory's decades, and records beside a wrong forecast."""
    plain = [r for r in runs if r.start != "unknown"]
    far = [r for r in plain if abs(r.decades) > 2 or abs(r.decades) < 0.9]
    expected = {1: "exploding", -1: "vanishing"}
    right = [
        r.start == expected[int(np.sign(r.decades))]
        if abs(r.decades) > 2
        else r.start not in expected.values()
        for r in far
    ]
    others = [out for r in plain for out in r.others]
    return {
        "first_step_alone": {"runs": len(far), "right": round(float(np.mean(right)), 4)},
        "own_forecast": {
            "runs": len(plain),
            "out_of_theory": round(float(np.mean([r.own for r in plain])), 4),
        },
        "another_forecast": {
            "pairs": len(others),
            "out_of_theory": round(float(np.mean(others)), 4),
        },
    }


def _bands(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """What runs of the depth study learned, by the decades that theory predicts."""
    packs_ = {run.pack for run, _, _ in cases if run.study == "depth"}
    best = {p: max(r.outcome.learned for r, _, _ in cases if r.pack == p) for p in packs_}
    edges = (-40.0, -6.0, -3.0, -1.3, 0.0, 1.3, 3.0, 6.0, 40.0)
    rows = []
    for low, high in pairwise(edges):
        shares = [
            run.outcome.learned / best[run.pack]
            for run, _, _ in cases
            if run.study == "depth" and low <= run.decades < high
        ]
        rows.append(
            {
                "decades": [low, high],
                "runs": len(shares),
                "learned": round(float(np.mean([s >= TRAINED for s in shares])), 3),
                "not_learned": round(float(np.mean([s < UNTRAINED for s in shares])), 3),
            }
        )
    return rows


def run() -> dict[str, Any]:
    """Train all packs in a process a core, and score the verdicts; then the same with seeds that set no threshold."""
    runs = trained(0)
    other = list(labelled(trained(NEW_SEEDS)))
    known = [c for c in other if c[1] != "not learned"]
    clear = [c for c in known if c[2]]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime),
        "new_seeds": {
            "clear": len(clear),
            "right_of_clear": _right(clear),
            "right_of_all_with_a_truth": _right(known),
        },
        **scored(runs),
    }


def trained(first_seed: int) -> list[Run]:
    """All packs, in a process a core."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        # The deepest first: one that ends last and alone would keep the other core waiting.
        longest = sorted(
            packs(first_seed), key=lambda p: -max(s.model.depth for s in p.specs.values())
        )
        return [run for pack in pool.map(train, longest, chunksize=1) for run in pack]
