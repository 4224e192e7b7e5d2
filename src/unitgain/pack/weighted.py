r"""Metrics of torchmetrics with a weight for each row: exact for any batches and any split over processes.

``update(preds, target, weight)`` adds a batch's sums, ``compute()`` gives one number, float64. Weights are of 0 or
above; whole numbers give what so many copies of each row would, and a common factor cancels. Without weights every row
counts once. Classification takes probabilities (N, C) and class numbers (N,), regression predictions and targets (N,)
or (N, T). The arithmetic is that of `unitgain.pack.weighted_metrics`.
Shapes: N rows of a batch, C classes, T targets.

Example:
    >>> metric = WeightedAccuracy()
    >>> p, y = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), torch.tensor([0, 0, 1])
    >>> metric.update(p[:2], y[:2], torch.tensor([3.0, 1.0]))
    >>> metric.update(p[2:], y[2:], torch.tensor([1.0]))
    >>> metric.compute()
    tensor(0.8000, dtype=torch.float64)
"""

import itertools
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from unitgain.errors import DataError
from unitgain.pack import weighted_metrics
from unitgain.pack import weighted_sums as sums
from unitgain.pack._weighted_base import (
    AdditiveMetric,
    RowMean,
    WeightedMetric,
    at_least_two,
    check_total,
    check_width,
    least,
    most,
)
from unitgain.pack.metrics import BINS
from unitgain.pack.weighted_sums import Sums

_SERIAL = itertools.count()
"""Names the states of weighted means apart: two losses may have equal sums."""


@final
class WeightedMean(RowMean):
    r"""The weighted mean of a loss: :math:`\sum_n w_n \ell_n / \sum_n w_n`.

    Args:
        loss: a function of predictions and targets as they are given, to one number a row, (N,): not reduced.
        kwargs: see `WeightedMetric`.

    Example:
        >>> loss = torch.nn.CrossEntropyLoss(reduction="none")
        >>> metric = WeightedMean(loss)
        >>> metric.update(torch.zeros(2, 4), torch.tensor([0, 3]), torch.tensor([1.0, 2.0]))
        >>> round(float(metric.compute()), 4)
        1.3863
    """

    kind = "any"

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], **kwargs: Any) -> None:
        super().__init__(prefix=f"WeightedMean{next(_SERIAL)}", **kwargs)
        self.loss = loss

    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        value_N = self.loss(preds[0], target[0]).detach()
        if value_N.shape != target.shape[1:2]:
            raise DataError(
                f"loss: must give one number a row, ({target.shape[1]},), got {tuple(value_N.shape)}; "
                'leave the reduction out, as reduction="none" does'
            )
        return value_N.unsqueeze(0)


@final
class WeightedAccuracy(RowMean):
    """The weighted share of rows whose most probable class is right."""

    higher_is_better = True

    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        return sums.right(preds, target)


@final
class WeightedLogLoss(RowMean):
    """The weighted mean negative logarithm of the target's probability: the cross-entropy."""

    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        return sums.negative_log(preds, target)


@final
class WeightedBrierScore(RowMean):
    r"""The weighted mean of :math:`\sum_c (p_c - [y = c])^2`, from 0 to 2.

    Reference:
        Brier (1950), doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, equation 2.
    """

    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        return sums.square_distance(preds, target)


@final
class WeightedMeanAbsoluteError(RowMean):
    """The weighted mean absolute error over rows and targets."""

    kind = "regression"

    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        return sums.absolute_error(*_columns(preds, target))


@final
class WeightedMeanSquaredError(RowMean):
    """The weighted mean squared error over rows and targets, or its root.

    Args:
        squared: False for the root.
        kwargs: see `WeightedMetric`.
    """

    kind = "regression"

    def __init__(self, squared: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.squared = squared

    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        return sums.square_error(*_columns(preds, target))

    def _finish(self, found: Sums) -> Tensor:
        value = sums.mean(found)
        return value if self.squared else value.sqrt()


class ClassCounts(AdditiveMetric):
    """A metric of the weights of each class among targets and predictions.

    Args:
        num_classes: C, at least 2.
        kwargs: see `WeightedMetric`.

    Raises:
        ConfigError: fewer than two classes.
    """

    higher_is_better = True

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = at_least_two(num_classes)
        for name in ("hit", "actual", "said"):
            self._state(name, num_classes)
        self._state("weight")

    def _sums(self, preds: Tensor, target: Tensor, weight_KN: Tensor) -> Sums:
        check_width(preds, self.num_classes, "num_classes")
        return sums.class_sums(preds, target, weight_KN)


@final
class WeightedF1Score(ClassCounts):
    """The F1 score from weighted counts, averaged over classes with weight among targets or predictions."""

    def _finish(self, found: Sums) -> Tensor:
        return sums.f1_macro(found)


@final
class WeightedBalancedAccuracy(ClassCounts):
    """The weighted share of right rows in each class, averaged over classes with weight among targets."""

    def _finish(self, found: Sums) -> Tensor:
        return sums.recall_macro(found)


@final
class WeightedCalibrationError(AdditiveMetric):
    """The expected calibration error in 15 even, weighted bins of the largest probability."""

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._state("gap", BINS + 1)
        self._state("weight")

    def _sums(self, preds: Tensor, target: Tensor, weight_KN: Tensor) -> Sums:
        return sums.bin_sums(preds, target, weight_KN)

    def _finish(self, found: Sums) -> Tensor:
        return sums.calibration_error(found)


@final
class WeightedR2Score(AdditiveMetric):
    """The weighted coefficient of determination, averaged over targets.

    Args:
        num_outputs: T, at least 1.
        kwargs: see `WeightedMetric`.
    """

    kind = "regression"
    higher_is_better = True

    def __init__(self, num_outputs: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_outputs = num_outputs
        self._state("residual", num_outputs)
        self._state("moments", 3, num_outputs, merge=sums.merged_moments)
        self._state("low", num_outputs, start=torch.inf, merge=least)
        self._state("high", num_outputs, start=-torch.inf, merge=most)

    def _sums(self, preds: Tensor, target: Tensor, weight_KN: Tensor) -> Sums:
        preds, target = _columns(preds, target)
        check_width(preds, self.num_outputs, "num_outputs")
        return sums.moment_sums(preds, target, weight_KN)

    def _finish(self, found: Sums) -> Tensor:
        return sums.determination(found)

    def _weight(self, found: Sums) -> Tensor:
        return found["moments"][:, 0, 0]


@final
class WeightedAUROC(WeightedMetric):
    """The area under the weighted ROC curve, one class against the rest, averaged over classes.

    Exact: it keeps every row's probabilities, target and weight, 8 (C + 2) bytes a row. Two classes: the area of the
    second.

    Args:
        num_classes: C, at least 2.
        kwargs: see `WeightedMetric`.

    Raises:
        ConfigError: fewer than two classes.
    """

    higher_is_better = True
    rows: list[Tensor] | Tensor

    def __init__(self, num_classes: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = at_least_two(num_classes)
        # Flat and of one type: a process without rows can then join those that have some.
        self.add_state("rows", [], dist_reduce_fx="cat")

    def _add(self, preds: Tensor, target: Tensor, weight_N: Tensor) -> None:
        check_width(preds, self.num_classes, "num_classes")
        columns = [preds.double(), target.double().unsqueeze(1), weight_N.double().unsqueeze(1)]
        assert isinstance(self.rows, list)
        self.rows.append(torch.cat(columns, 1).flatten())

    def compute(self) -> Tensor:
        """The area for all rows so far, of all processes.

        Raises:
            DataError: no row has a weight above 0.
        """
        # One tensor behind a synchronisation of processes, a list before it.
        kept = [self.rows] if isinstance(self.rows, Tensor) else self.rows
        rows = torch.cat(kept or [torch.zeros(0)]).view(-1, self.num_classes + 2)
        p_NC, y_N1, w_N1 = torch.split(rows, [self.num_classes, 1, 1], 1)
        check_total(w_N1.sum(0))
        return weighted_metrics.auroc(p_NC[None], y_N1[None, :, 0].long(), w_N1[None, :, 0])[0]


def _columns(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions and targets (1, N, T)."""
    return preds.reshape(*preds.shape[:2], -1), target.reshape(*target.shape[:2], -1)
