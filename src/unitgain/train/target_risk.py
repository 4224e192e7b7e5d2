"""The target's loss without its labels: for each exponent of the weights, and whether to correct.

Shapes: N source rows (training and validation) that were left out once, M target rows, E exponents.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unitgain.data import Prepared
from unitgain.runs import RunDirectory, read_metrics
from unitgain.shift import (
    Gate,
    TargetRisk,
    doubly_robust_risk,
    predict_losses,
    should_correct,
)
from unitgain.spec import RunSpec
from unitgain.train.cross_fit import EXPONENTS, CrossFit, cross_fit
from unitgain.train.exponent import least, risks_of

MEMORISED = 0.1
"""A training loss below this share of the loss on left-out rows: the network has all but memorised its rows."""

RISE = 1.2
"""A validation loss that ends so many times above its least: the run went on where it fitted noise."""


@final
@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What left-out source rows say of the target's loss.

    Attributes:
        fitted: losses of left-out source rows for each exponent.
        risks: the target risk under each of these exponents, by importance weighting.
        exponent: of the run.
        robust_risk: the target risk of the corrected run by the doubly robust estimator.
        gate: should the run correct?
        over_trained: a sentence that says so, where the run is; weights hardly move a network that fits every row
            (Byrd and Lipton 2019, arXiv 1812.03372). None where it isn't.
    """

    fitted: CrossFit
    risks: tuple[TargetRisk, ...]
    exponent: float
    robust_risk: TargetRisk
    gate: Gate
    over_trained: str | None

    @property
    def weighted_risk(self) -> TargetRisk:
        """The target risk of the corrected run by importance weighting."""
        return self.risks[self.fitted.exponents.index(self.exponent)]

    @property
    def best_exponent(self) -> float:
        """The exponent with the least estimated target risk: importance-weighted cross-validation."""
        return least(self.fitted.exponents, self.risks)

    @property
    def answer(self) -> str:
        """The gate's answer in words; it names the over-trained case."""
        return f"{self.gate.text} {self.over_trained}" if self.over_trained else self.gate.text

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types, without the rows."""
        return {
            "cross_validation": {
                "exponents": list(self.fitted.exponents),
                "risks": [asdict(risk.interval) for risk in self.risks],
                "best": self.best_exponent,
            },
            "gate": {
                "answer": self.gate.answer,
                "text": self.answer,
                "difference": asdict(self.gate.difference),
                "ess": self.gate.ess,
                "pareto_k": self.gate.pareto_k,
                "over_trained": self.over_trained,
            },
            "target_risk": {
                "importance_weighted": asdict(self.weighted_risk.interval),
                "doubly_robust": asdict(self.robust_risk.interval),
            },
        }


def cross_validate(
    directory: Path,
    spec: RunSpec,
    table: Prepared,
    *,
    folds: int,
    device: torch.device,
    generator: torch.Generator,
) -> CrossValidation:
    """Train without each fold of the source for each exponent, and estimate the target's loss.

    Args:
        directory: of the run, whose course is read.
        spec: of a run that corrects.
        table: of that run.
        folds: of the cross-fit.
        device: where to train.
        generator: draws the folds and centres of the doubly robust estimate.

    Raises:
        ConfigError: folds don't fit the rows, or can't be trained.
    """
    assert table.importance is not None
    full_N, exponent = table.importance.full_N, spec.weighting.power
    fitted = cross_fit(
        spec, table, full_N, sorted({*EXPONENTS, exponent}), folds=folds, device=device
    )
    weight_N = torch.from_numpy(full_N[fitted.rows])
    plain_N, own_N = fitted.loss_of(0.0), fitted.loss_of(exponent)
    source_ND, target_MD = (torch.from_numpy(table.x[r]) for r in (fitted.rows, table.split.test))
    predicted = predict_losses(source_ND, own_N, target_MD, generator)
    return CrossValidation(
        fitted=fitted,
        risks=risks_of(fitted, weight_N),
        exponent=exponent,
        robust_risk=doubly_robust_risk(own_N, weight_N, *predicted),
        gate=should_correct(plain_N, own_N, weight_N),
        over_trained=_over_trained(directory, fitted.train_loss_E[0], plain_N),
    )


def _over_trained(directory: Path, train_loss: float, left_out_N: Tensor) -> str | None:
    """What says that a run is over-trained: its losses on rows that it has seen, or its course."""
    advice = "weights don't mend that: stop earlier or regularise first."
    held_loss = float(left_out_N.mean())
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
