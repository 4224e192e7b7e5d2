"""Class shares of target rows without their labels, and posteriors corrected for them.

Shapes: N validation rows, M target rows, S source rows (training and validation), C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unitgain.data import Prepared
from unitgain.errors import DataError
from unitgain.pack import metrics
from unitgain.shift import (
    BBSE,
    MLLS,
    RLLS,
    Calibration,
    LabelEstimator,
    LabelRatio,
    bootstrap_weights,
    correct_posteriors,
)
from unitgain.stats.intervals import permutation_p_value
from unitgain.train.detection import LEVEL, leading, portfolio
from unitgain.train.representations import Representations

OTHERS: Mapping[str, LabelEstimator] = {
    "BBSE": BBSE(),
    "BBSE soft": BBSE(soft=True),
    "RLLS": RLLS(),
}
"""Estimators that stand beside maximum likelihood."""

RESAMPLES = 100
_PERMUTATIONS = 9999
_LEAST_ROWS = 20
"""Fewer source rows than these tell nothing about whether class weights explain a shift."""


@final
@dataclass(frozen=True, eq=False)
class Remainder:
    """What differs between inputs once the source's class shares are the target's: nothing under label shift.

    Attributes:
        rows: source rows that were kept, each with a probability proportional to its class weight.
        p_value: of the two-sample portfolio on their inputs; None with fewer rows than that takes.
    """

    rows: int
    p_value: float | None


@final
@dataclass(frozen=True, eq=False)
class Intervals:
    """Lower and upper ends of 95 % bootstrap intervals.

    Attributes:
        weight_2C: of the weights.
        share_2C: of the target's shares.
    """

    weight_2C: Tensor
    share_2C: Tensor


@final
@dataclass(frozen=True, eq=False)
class LabelShift:
    """Class weights w = q / p, mean one under the source's shares, and what they do to posteriors.

    It's assumed that p(x | y) is unchanged: the shares of the classes alone differ.

    Attributes:
        class_names: C names.
        ratio: by maximum likelihood over bias-corrected posteriors, those of validation rows as the source.
        others: weights (C,) by `OTHERS`; None where one can't tell them from these predictions.
        given: whether the shift is one of labels by construction.
        train_C: shares of the classes in training rows.
        truth_C: the true weights, with mean one under these; None where they aren't known.
        p_value: of the same predicted classes in validation and target rows.
        remainder: the test of the assumption.
        scores: metrics of the target rows by name, for posteriors as they are, calibrated and corrected.
        intervals: of the weights and the target's shares; None where class weights aren't what to use.
    """

    class_names: tuple[str, ...]
    ratio: LabelRatio
    others: Mapping[str, Tensor | None]
    given: bool
    train_C: Tensor
    truth_C: Tensor | None
    p_value: float
    remainder: Remainder
    scores: Mapping[str, Mapping[str, float]]
    intervals: Intervals | None = None

    @property
    def indicated(self) -> bool:
        """Predicted classes have moved, and class weights leave no difference between inputs that is seen."""
        left = self.remainder.p_value
        return self.p_value <= LEVEL and left is not None and left > LEVEL

    @property
    def holds(self) -> bool:
        """Whether class weights are what to use: the shift is one of labels, or looks like one."""
        return self.given or self.indicated

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types."""
        ends = self.intervals
        columns: dict[str, Tensor | None] = {
            "source_share": self.ratio.source_C,
            "target_share": self.ratio.target_C,
            "weight": self.ratio.weight_C,
            "weight_low": None if ends is None else ends.weight_2C[0],
            "weight_high": None if ends is None else ends.weight_2C[1],
            "share_low": None if ends is None else ends.share_2C[0],
            "share_high": None if ends is None else ends.share_2C[1],
            **self.others,
            "true": self.truth_C,
        }
        return {
            "indicated": self.indicated,
            "p_value": self.p_value,
            "remainder": {"rows": self.remainder.rows, "p_value": self.remainder.p_value},
            "smallest_singular_value": self.ratio.smallest_singular_value,
            "classes": {
                name: {
                    key: None if column_C is None else float(column_C[c])
                    for key, column_C in columns.items()
                }
                for c, name in enumerate(self.class_names)
            },
            "test": {name: dict(scores) for name, scores in self.scores.items()},
        }


def label_shift_of(
    table: Prepared,
    source: Representations,
    target: Representations,
    generator: torch.Generator,
    *,
    resamples: int = RESAMPLES,
) -> LabelShift:
    """Estimate class weights from what an uncorrected network says, and correct its posteriors.

    Labels of target rows are read for the scores alone.

    Args:
        table: of the run.
        source: its validation rows.
        target: its target rows.
        generator: draws the bootstrap, permutations and rows.
        resamples: of the bootstrap.

    Raises:
        DataError: the task is regression, or a class has no validation row.

    Reference:
        Saerens, Latinne and Decaestecker (2002), doi 10.1162/089976602753284446; Lipton, Wang and Smola (2018), arXiv
        1802.03916; Alexandari, Kundaje and Shrikumar (2020), arXiv 1901.06852.
    """
    if table.task != "classification":
        raise DataError(
            f"{table.shifted.table.name}: class weights need classes, but the task is regression; "
            "see the weights of inputs"
        )
    source_NC, target_MC = source.said_RT, target.said_RT
    label_N = torch.from_numpy(table.y[table.split.val])
    ratio = MLLS().fit(source_NC, label_N, target_MC)
    found = LabelShift(
        class_names=table.class_names,
        ratio=ratio,
        others={
            name: _weights(estimator, source_NC, label_N, target_MC)
            for name, estimator in OTHERS.items()
        },
        given=table.shifted.kind == "label",
        train_C=torch.from_numpy(table.y[table.split.train]).bincount(minlength=table.n_classes)
        / len(table.split.train),
        truth_C=_truth(table),
        p_value=moved_p_value(source_NC.argmax(1), target_MC.argmax(1), table.n_classes, generator),
        remainder=remainder_of(table, ratio.weight_C, generator),
        scores=_scores(ratio, target_MC, torch.from_numpy(table.y[table.split.test])),
    )
    if not found.holds:
        return found
    ends = bootstrap_weights(
        _WeightsAndShares(), source_NC, label_N, target_MC, generator, resamples=resamples
    )
    return replace(found, intervals=Intervals(*torch.stack(ends).tensor_split(2, 1)))


@final
class _WeightsAndShares(LabelEstimator):
    """Weights by maximum likelihood, and behind them the target's shares: one bootstrap for both."""

    def fit(self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor) -> LabelRatio:
        ratio = MLLS().fit(source_NC, label_N, target_MC)
        return replace(ratio, weight_C=torch.cat([ratio.weight_C, ratio.target_C]))

    def _weights(
        self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor
    ) -> tuple[Tensor, Calibration | None]:
        ratio = MLLS().fit(source_NC, label_N, target_MC)
        return ratio.weight_C, ratio.calibration


def moved_p_value(
    source_N: Tensor, target_M: Tensor, classes: int, generator: torch.Generator
) -> float:
    r"""The permutation p-value of :math:`\chi^2` between the counts of predicted classes in both parts.

    Args:
        source_N: predicted classes of validation rows.
        target_M: those of target rows.
        classes: C.
        generator: seeds the permutations.

    Reference:
        Rabanser, Guennemann and Lipton (2019), arXiv 1810.11953, section 3.2.
    """
    rows = (len(source_N), len(target_M))
    own_C = source_N.bincount(minlength=classes).numpy()
    pool_C = own_C + target_M.bincount(minlength=classes).numpy()
    seed = int(torch.randint(2**62, (), generator=generator))
    # Counts of a part of shuffled rows: no row needs to be shuffled.
    drawn_BC = np.random.default_rng(seed).multivariate_hypergeometric(
        pool_C, rows[0], size=_PERMUTATIONS
    )
    expected_C = pool_C * rows[0] / sum(rows)
    some = expected_C > 0
    factor_C = (1 / expected_C[some]) * (1 + rows[0] / rows[1])
    chi_B = ((drawn_BC[:, some] - expected_C[some]) ** 2 * factor_C).sum(1)
    observed = float(((own_C[some] - expected_C[some]) ** 2 * factor_C).sum())
    return permutation_p_value(observed, chi_B)


def _weights(
    estimator: LabelEstimator, source_NC: Tensor, label_N: Tensor, target_MC: Tensor
) -> Tensor | None:
    try:
        return estimator.fit(source_NC, label_N, target_MC).weight_C
    except DataError:
        return None


def _truth(table: Prepared) -> Tensor | None:
    """The true weight (C,) of each class, from the rows that have it; 0 for a class without rows."""
    if table.shifted.kind != "label" or table.shifted.ratio is None:
        return None
    truth_C = np.zeros(table.n_classes)
    truth_C[table.y] = table.shifted.ratio
    return torch.from_numpy(truth_C)


def remainder_of(table: Prepared, weight_C: Tensor, generator: torch.Generator) -> Remainder:
    """Keep source rows by their class weights, and test their inputs against the target's.

    Args:
        table: of the run.
        weight_C: weights of its classes, up to a common factor.
        generator: keeps rows, and draws what the tests draw.
    """
    source = np.sort(np.concatenate([table.split.train, table.split.val]))
    weight_S = weight_C[torch.from_numpy(table.y[source])]
    chance_S = torch.rand(len(source), dtype=torch.float64, generator=generator)
    kept = source[(chance_S * weight_S.max() < weight_S).numpy()]
    if len(kept) < _LEAST_ROWS or len(table.split.test) < _LEAST_ROWS:
        return Remainder(len(kept), None)
    parts = (torch.from_numpy(table.x[rows]) for rows in (kept, table.split.test))
    found = portfolio(len(kept) + len(table.split.test))(*leading(*parts), generator)
    return Remainder(len(kept), found.p_value)


def _scores(ratio: LabelRatio, target_MC: Tensor, label_M: Tensor) -> dict[str, dict[str, float]]:
    assert ratio.calibration is not None
    calibrated_MC = ratio.calibration(target_MC)
    variants = {
        "as trained": target_MC,
        "calibrated": calibrated_MC,
        "corrected": correct_posteriors(calibrated_MC, ratio.weight_C),
    }
    return {name: posterior_scores(each_MC, label_M) for name, each_MC in variants.items()}


def posterior_scores(posterior_MC: Tensor, label_M: Tensor) -> dict[str, float]:
    r"""Accuracy, log loss, Brier score :math:`\frac1M \sum_{m,c} (p_{mc} - [y_m = c])^2` and calibration error.

    Args:
        posterior_MC: of target rows.
        label_M: their classes.

    Example:
        >>> scores = posterior_scores(torch.tensor([[0.8, 0.2]]), torch.tensor([0]))
        >>> round(scores["brier"], 3)
        0.08
    """
    found = {
        name: float(metric(posterior_MC[None], label_M[None])[0])
        for name, metric in (
            ("accuracy", metrics.accuracy),
            ("log_loss", metrics.log_loss),
            ("ece", metrics.ece),
        )
    }
    truth_MC = torch.nn.functional.one_hot(label_M, posterior_MC.shape[1])
    return found | {"brier": float((posterior_MC - truth_MC).square().sum(1).mean())}
