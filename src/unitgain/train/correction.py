"""Should a run correct for the shift between its source and its target? All that is known without target labels, and
what the test labels then say.

Shapes: N source rows (training and validation), M target rows, D features, E exponents.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared, Table, open_data
from unitgain.runs import RunDirectory, read_metrics
from unitgain.shift import (
    Balance,
    Diagnostics,
    Gate,
    Portfolio,
    PortfolioResult,
    TargetRisk,
    balance,
    diagnose,
    doubly_robust_risk,
    importance_weighted_risk,
    predict_losses,
    should_correct,
)
from unitgain.spec import RunSpec, parse
from unitgain.train.cross_fit import CrossFit, cross_fit, train_unrecorded
from unitgain.train.evaluate import evaluate
from unitgain.train.fit import accelerator
from unitgain.train.scores import Scores

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""That importance-weighted cross-validation compares, besides the run's own."""

MEMORISED = 0.1
"""A training loss below this share of the loss on left-out rows: the network has all but memorised its rows."""

RISE = 1.2
"""A validation loss that ends so many times above its least: the run went on where it fitted noise."""

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Correction:
    """What correcting a run for its shift does.

    Attributes:
        spec: of the corrected run.
        table: of the corrected run, with its weights.
        weights: diagnostics of the full weights of the training rows.
        truth: those of the true weights; None where these aren't known.
        weight_error: the relative error |w - w*| / |w*| over the training rows; None without the truth.
        balance: source means against target means, before and after weighting.
        detection: tests of the inputs of validation rows against target rows.
        fitted: losses of left-out source rows for each exponent.
        risks: the target risk under each of these exponents, by importance weighting.
        gate: should the run correct?
        over_trained: a sentence that says so, where the run is; weights hardly move a network that fits every row
            (Byrd and Lipton 2019, arXiv 1812.03372). None where it isn't.
        robust_risk: the target risk of the corrected run by the doubly robust estimator.
        plain: metrics of the run without correction, by part.
        corrected: metrics with it.
    """

    spec: RunSpec
    table: Prepared
    weights: Diagnostics
    truth: Diagnostics | None
    weight_error: float | None
    balance: Balance
    detection: PortfolioResult
    fitted: CrossFit
    risks: tuple[TargetRisk, ...]
    gate: Gate
    over_trained: str | None
    robust_risk: TargetRisk
    plain: Mapping[str, float]
    corrected: Mapping[str, float]

    @property
    def full_weight(self) -> Floats:
        """The estimated weight (N,) of every row of the table."""
        assert self.table.importance is not None
        return self.table.importance.full_N

    @property
    def weighted_risk(self) -> TargetRisk:
        """The target risk of the corrected run by importance weighting."""
        return self.risks[self.fitted.exponents.index(self.spec.weighting.exponent)]

    @property
    def best_exponent(self) -> float:
        """The exponent with the least estimated target risk: importance-weighted cross-validation."""
        values = [risk.interval.value for risk in self.risks]
        return self.fitted.exponents[values.index(min(values))]

    def answer(self) -> str:
        """The gate's answer in words; it names the over-trained case."""
        return f"{self.gate.text} {self.over_trained}" if self.over_trained else self.gate.text

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types, without the rows."""
        names = self.table.feature_names
        columns = {name: getattr(self.balance, name).tolist() for name in ("before_D", "after_D")}
        return {
            "weighting": self.spec.weighting.model_dump(mode="json", by_alias=True),
            "shift": {
                **self.spec.shift.model_dump(mode="json", by_alias=True),
                "kind": self.table.shifted.kind,
                "bound": self.table.shifted.bound,
                "ess_share": self.table.shifted.ess_share,
            },
            "rows": {
                part: len(rows)
                for part, rows in zip(
                    ("train", "val", "test"), self.table.split.parts(), strict=True
                )
            },
            "weights": asdict(self.weights),
            "truth": None if self.truth is None else asdict(self.truth),
            "weight_error": self.weight_error,
            "balance": {
                name: {"before": before, "after": after}
                for name, before, after in zip(
                    names, columns["before_D"], columns["after_D"], strict=True
                )
            },
            "detection": {
                "p_value": self.detection.p_value,
                "tests": {
                    found.name: {
                        "p_value": found.p_value,
                        "adjusted": adjusted,
                        "effect": found.effect,
                    }
                    for found, adjusted in zip(
                        self.detection.detections, self.detection.adjusted, strict=True
                    )
                },
            },
            "cross_validation": {
                "exponents": list(self.fitted.exponents),
                "risks": [asdict(risk.interval) for risk in self.risks],
                "best": self.best_exponent,
            },
            "gate": {
                "answer": self.gate.answer,
                "text": self.answer(),
                "difference": asdict(self.gate.difference),
                "ess": self.gate.ess,
                "pareto_k": self.gate.pareto_k,
                "over_trained": self.over_trained,
            },
            "target_risk": {
                "importance_weighted": asdict(self.weighted_risk),
                "doubly_robust": asdict(self.robust_risk),
            },
            "plain": dict(self.plain),
            "corrected": dict(self.corrected),
        }


def correction_of(directory: Path, *, folds: int = 5) -> Correction:
    """Compare a run with its twin that corrects, or doesn't.

    A run without weighting is compared with one that takes the default classifier's weights. Nothing is written.

    Args:
        directory: of a finished run.
        folds: of the cross-fit.

    Raises:
        ConfigError: the run can't be trained with weights, or was on a GPU that isn't there.
        CheckpointError: its best checkpoint is missing, damaged or another configuration's.
        DataError: the data can't be read again, or weights can't be estimated.
    """
    given = parse(RunDirectory(Path(directory)).read_config())
    spec = given if given.weighting.corrects else _with(given, "unitgain.shift.Classifier")
    plain_spec = _with(given, "unitgain.shift.Uniform") if given.weighting.corrects else given
    device = torch.device("cuda" if accelerator(spec) == "gpu" else "cpu")
    loaded: dict[str, Table] = {}
    table = open_data(spec, loaded)
    assert table.importance is not None
    full_N, exponent = table.importance.full_N, spec.weighting.exponent
    exponents = sorted({*EXPONENTS, exponent})
    fitted = cross_fit(spec, table, full_N, exponents, folds=folds, device=device)
    weight_N = torch.from_numpy(full_N[fitted.rows])
    gate = should_correct(fitted.loss_of(0.0), fitted.loss_of(exponent), weight_N)
    own = fitted.loss_of(exponent)
    held = importance_weighted_risk(fitted.loss_of(0.0), torch.ones_like(weight_N)).interval.value
    other, others = (
        (plain_spec, open_data(plain_spec, loaded)) if given.weighting.corrects else (spec, table)
    )
    twin = Scores(other).of_parts(train_unrecorded(other, [others], device))
    recorded = evaluate(directory)
    source_ND, target_MD = (torch.from_numpy(table.x[r]) for r in (fitted.rows, table.split.test))
    train, generator = table.split.train, torch.Generator().manual_seed(spec.weighting.seed)
    truth = table.shifted.ratio
    full = torch.from_numpy(full_N[train])
    return Correction(
        spec=spec,
        table=table,
        weights=diagnose(full),
        truth=None if truth is None else diagnose(torch.from_numpy(truth[train])),
        weight_error=None if truth is None else _error(full, torch.from_numpy(truth[train])),
        balance=balance(torch.from_numpy(table.x[train]), target_MD, full),
        detection=Portfolio()(torch.from_numpy(table.x[table.split.val]), target_MD, generator),
        fitted=fitted,
        risks=tuple(importance_weighted_risk(loss_N, weight_N) for loss_N in fitted.loss_EN),
        gate=gate,
        over_trained=_over_trained(directory, fitted.train_loss_E[0], held),
        robust_risk=doubly_robust_risk(
            own, weight_N, *predict_losses(source_ND, own, target_MD, generator)
        ),
        plain=twin if given.weighting.corrects else recorded,
        corrected=recorded if given.weighting.corrects else twin,
    )


def _with(spec: RunSpec, estimator: str) -> RunSpec:
    """The same run with another weighting, its exponent and bound kept."""
    common = {name: getattr(spec.weighting, name) for name in ("exponent", "largest", "seed")}
    return parse(spec.resolved() | {"weighting": {"_target_": estimator, **common}})


def _over_trained(directory: Path, train_loss: float, held_loss: float) -> str | None:
    """What says that a run is over-trained: its losses on rows that it has seen, or its course."""
    advice = "weights don't mend that: stop earlier or regularise first."
    if train_loss < MEMORISED * held_loss:
        return (
            f"The network is over-trained, with a loss of {train_loss:.2g} on its own rows and {held_loss:.2g} on "
            f"others; {advice}"
        )
    loss_E = np.asarray(read_metrics(RunDirectory(directory).metrics)["val/loss"])
    best = int(np.nanargmin(loss_E))
    if not loss_E[-1] > RISE * loss_E[best]:
        return None
    return (
        f"The run is over-trained: its validation loss rose from {loss_E[best]:.3g} at epoch {best + 1} to "
        f"{loss_E[-1]:.3g} at its end. The best epoch is what is compared here; behind it, {advice}"
    )


def _error(weight_N: Tensor, truth_N: Tensor) -> float:
    truth_N = truth_N / truth_N.mean()
    return float((weight_N / weight_N.mean() - truth_N).norm() / truth_N.norm())
