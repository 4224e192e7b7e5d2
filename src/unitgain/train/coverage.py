"""How often conformal sets of a run hold the answer on target rows, with weights and without.

Shapes: N validation rows, M target rows, C classes, T targets.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor

from unitgain.data import Prepared
from unitgain.shift import conformal_interval, conformal_sets, weighted_threshold
from unitgain.train.representations import Representations

COVERAGE = 0.9
"""What sets are made for."""


@final
@dataclass(frozen=True)
class Coverage:
    """Conformal sets on target rows, by one way of weighting.

    Attributes:
        weights: what validation rows are weighted by: nothing, inputs, or classes.
        answer: the target that sets are about; "class" in a classification.
        covered: the share of target rows whose answer is in their set.
        size: the mean size of a set: classes, or the width in the target's units of intervals that are bounded.
        unbounded: the share of target rows where nothing can be ruled out.
    """

    weights: str
    answer: str
    covered: float
    size: float
    unbounded: float

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types."""
        return asdict(self)


def input_weights(table: Prepared) -> tuple[Tensor, Tensor]:
    """The full weights of validation rows (N,) and of target rows (M,), by the ratio of a run that corrects.

    Args:
        table: of that run.
    """
    importance = table.importance
    assert importance is not None
    full_N, target_M = importance.full_N[table.split.val], importance.target_M
    return torch.from_numpy(full_N), torch.from_numpy(target_M)


def conformal_coverage(
    table: Prepared,
    source: Representations,
    target: Representations,
    weights: tuple[Tensor, Tensor],
    class_weight_C: Tensor | None,
) -> tuple[Coverage, ...]:
    """Calibrate 90 % sets on validation rows and count answers on target rows, whose labels a benchmark has.

    Args:
        table: of the run.
        source: its validation rows.
        target: its target rows.
        weights: of both, see `input_weights`.
        class_weight_C: weights of classes under label shift; None without.

    Reference:
        Tibshirani, Barber, Candes and Ramdas (2019), arXiv 1904.06019; for classes Podkopaev and Ramdas (2021), arXiv
        2103.03094, section 3.
    """
    ones = (torch.ones_like(weights[0]), torch.ones_like(weights[1]))
    ways = {"nothing": ones}
    # Where validation rows weigh nothing at all, they can't be calibrated on.
    if float(weights[0].sum()) > 0:
        ways["inputs"] = weights
    if table.task == "regression":
        return tuple(
            _of_intervals(name, table, t, source, target, pair)
            for t in range(len(table.target_names))
            for name, pair in ways.items()
        )
    val_N, test_M = (
        torch.from_numpy(table.y[rows]) for rows in (table.split.val, table.split.test)
    )
    said_NC, said_MC = source.said_RT, target.said_RT
    masks = {
        name: conformal_sets(said_NC, val_N, pair[0], said_MC, pair[1], COVERAGE)
        for name, pair in ways.items()
    }
    if class_weight_C is not None:
        masks["classes"] = class_weighted_sets(said_NC, val_N, said_MC, class_weight_C)
    return tuple(_of_sets(name, mask_MC, test_M) for name, mask_MC in masks.items())


def class_weighted_sets(
    said_NC: Tensor, label_N: Tensor, said_MC: Tensor, weight_C: Tensor
) -> Tensor:
    r"""Sets of classes under label shift, as a mask (M, C): a class is tried with its own weight at the target row.

    Args:
        said_NC: posteriors of validation rows.
        label_N: their classes.
        said_MC: posteriors of target rows.
        weight_C: of the classes, some class of a validation row above 0.

    Reference:
        Podkopaev and Ramdas (2021), arXiv 2103.03094, section 3.
    """
    score_N = 1 - said_NC.gather(1, label_N[:, None])[:, 0]
    threshold_C = weighted_threshold(score_N, weight_C[label_N], weight_C, COVERAGE)
    return 1 - said_MC <= threshold_C


def _of_sets(weights: str, mask_MC: Tensor, label_M: Tensor) -> Coverage:
    covered_M = mask_MC.gather(1, label_M[:, None])[:, 0]
    return Coverage(
        weights,
        "class",
        float(covered_M.double().mean()),
        float(mask_MC.sum(1).double().mean()),
        float(mask_MC.all(1).double().mean()),
    )


def _of_intervals(
    weights: str,
    table: Prepared,
    t: int,
    source: Representations,
    target: Representations,
    pair: tuple[Tensor, Tensor],
) -> Coverage:
    """Of one target, in its units."""
    answer_N, answer_M = (
        torch.from_numpy(table.y[rows, t] * table.y_scale[t] + table.y_mean[t])
        for rows in (table.split.val, table.split.test)
    )
    said_N, said_M = source.said_RT[:, t], target.said_RT[:, t]
    low_M, high_M = conformal_interval(said_N, answer_N, pair[0], said_M, pair[1], COVERAGE)
    bounded_M = high_M.isfinite()
    return Coverage(
        weights,
        table.target_names[t],
        float(((low_M <= answer_M) & (answer_M <= high_M)).double().mean()),
        float((high_M - low_M)[bounded_M].mean()) if bool(bounded_M.any()) else math.inf,
        float((~bounded_M).double().mean()),
    )
