r"""The shipped metrics with a weight for each row: those of a population that rows stand for unevenly.

Each is the metric of the same name in `unitgain.pack.metrics` with sums over rows weighted: weights of whole numbers
give what so many copies of each row would, and a common factor cancels. Weights are of 0 or above, with a positive sum
for each member. Sums run in float64.
Shapes: K members, N rows, C classes, T targets.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.pack import metrics
from unitgain.pack import weighted_sums as sums
from unitgain.pack.metrics import MemberwiseMetric, PackedMetric, as_result

if TYPE_CHECKING:
    from torchmetrics import Metric

WeightedFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


def accuracy(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted share of rows whose most probable class is right, (K,).

    Example:
        >>> p = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
        >>> accuracy(p, torch.tensor([[0, 0]]), torch.tensor([[3.0, 1.0]]))
        tensor([0.7500])
    """
    right_KN = sums.right(probabilities_KNC, target_KN)
    return as_result(sums.mean(sums.mean_sums(right_KN, weight_KN)), probabilities_KNC)


def f1_macro(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The F1 score from weighted counts, averaged over classes with weight among targets or predictions, (K,)."""
    counts = sums.class_sums(probabilities_KNC, target_KN, weight_KN)
    return as_result(sums.f1_macro(counts), probabilities_KNC)


def auroc(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    r"""The area under the weighted ROC curve, one class against the rest, averaged over classes, (K,).

    :math:`\sum_{n: y_n = c} \sum_{m: y_m \ne c} w_n w_m ([p_n > p_m] + \tfrac12 [p_n = p_m])` over the product of both
    sides' weights. Two classes: the area of the second. A class without weight on one side counts as zero.
    """
    classes = probabilities_KNC.shape[-1]
    first = 1 if classes == 2 else 0
    rows = [
        torch.stack([_area(p_NC[:, c], y_N == c, w_N) for c in range(first, classes)]).mean()
        for p_NC, y_N, w_N in zip(probabilities_KNC, target_KN, weight_KN.double(), strict=True)
    ]
    return as_result(torch.stack(rows) + 0 * probabilities_KNC.sum((1, 2)), probabilities_KNC)


def _area(score_N: Tensor, own_N: Tensor, weight_N: Tensor) -> Tensor:
    """The area of one class of one member."""
    _, place_N = torch.unique(score_N, return_inverse=True)
    zero = weight_N.new_zeros(int(place_N.max()) + 1)
    own_U = zero.scatter_add(0, place_N, weight_N * own_N)
    other_U = zero.scatter_add(0, place_N, weight_N * ~own_N)
    # On the CPU: a GPU has no deterministic cumulative sum.
    below_U = other_U.cpu().cumsum(0).to(other_U)
    wins = (own_U * (below_U - 0.5 * other_U)).sum()
    pairs = own_U.sum() * other_U.sum()
    return torch.where(pairs > 0, wins / pairs.where(pairs > 0, 1.0), 0.0)


def ece(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The expected calibration error with weighted bins, (K,); the bins are those of the unweighted metric."""
    gaps = sums.bin_sums(probabilities_KNC, target_KN, weight_KN)
    return as_result(sums.calibration_error(gaps), probabilities_KNC)


def log_loss(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted mean negative logarithm of the target's probability, (K,)."""
    loss_KN = sums.negative_log(probabilities_KNC, target_KN)
    return as_result(sums.mean(sums.mean_sums(loss_KN, weight_KN)), probabilities_KNC)


def mae(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted mean absolute error over rows and targets, (K,)."""
    error_KN = sums.absolute_error(prediction_KNT, target_KNT)
    return as_result(sums.mean(sums.mean_sums(error_KN, weight_KN)), prediction_KNT)


def mse(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted mean squared error over rows and targets, (K,)."""
    return as_result(_mean_square(prediction_KNT, target_KNT, weight_KN), prediction_KNT)


def rmse(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    """The root of the weighted mean squared error over rows and targets, (K,)."""
    return as_result(_mean_square(prediction_KNT, target_KNT, weight_KN).sqrt(), prediction_KNT)


def r2(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    r"""The weighted coefficient of determination, averaged over targets, (K,).

    :math:`1 - \sum_n w_n (o_n - y_n)^2 / \sum_n w_n (y_n - \bar y)^2` with the weighted mean; a target that is constant
    where weights are above 0 scores as in the unweighted metric.
    """
    moments = sums.moment_sums(prediction_KNT, target_KNT, weight_KN)
    return as_result(sums.determination(moments), prediction_KNT)


def _mean_square(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    error_KN = sums.square_error(prediction_KNT, target_KNT)
    return sums.mean(sums.mean_sums(error_KN, weight_KN))


WEIGHTED: dict[PackedMetric, WeightedFunction] = {
    metrics.accuracy: accuracy,
    metrics.f1_macro: f1_macro,
    metrics.auroc: auroc,
    metrics.ece: ece,
    metrics.log_loss: log_loss,
    metrics.mae: mae,
    metrics.mse: mse,
    metrics.rmse: rmse,
    metrics.r2: r2,
}
"""The weighted form of each shipped metric."""


def as_weighted(name: str, metric: PackedMetric) -> WeightedFunction:
    """The weighted form of a metric.

    Ours; a function of one's own with a third parameter ``weight_KN``; a metric of torchmetrics whose ``update`` takes
    ``weight`` after predictions and targets, as those of `unitgain.pack.weighted` do; or ours for a metric of
    torchmetrics that computes the same.

    Args:
        name: of the metric, for the message.
        metric: takes predictions and targets.

    Raises:
        ConfigError: the metric takes no weights.

    Example:
        >>> as_weighted("accuracy", metrics.accuracy) is accuracy
        True
    """
    given: Any = metric.func if isinstance(metric, partial) else metric
    if given in WEIGHTED:
        return WEIGHTED[given]
    if isinstance(given, MemberwiseMetric):
        twin = given if given.takes_weights else _twin(given.metric)
        if twin is not None:
            return twin
        raise ConfigError(
            f"metrics.{name}: must take weights where weighting corrects, but {type(given.metric).__name__} takes "
            "none; choose a metric of unitgain.pack.weighted or metrics=auto, or set weighting=none"
        )
    if inspect.isfunction(given) and "weight_KN" in inspect.signature(given).parameters:
        return cast(WeightedFunction, metric)
    raise ConfigError(
        f"metrics.{name}: must take weights where weighting corrects, but its function has no third parameter "
        "weight_KN; add one, choose metrics=auto, or set weighting=none"
    )


def _twin(metric: "Metric") -> WeightedFunction | None:
    """Ours that gives what a metric of torchmetrics would for rows that stand as often as they weigh."""
    for cls, settings, function in _twins():
        if type(metric) is cls and all(getattr(metric, k) == v for k, v in settings.items()):
            return function
    return None


def _twins() -> list[tuple[type["Metric"], dict[str, Any], WeightedFunction]]:
    from torchmetrics import classification as c
    from torchmetrics import regression as r

    rows: dict[str, Any] = {"ignore_index": None, "multidim_average": "global"}
    curve: dict[str, Any] = {"ignore_index": None, "thresholds": None}
    bins: dict[str, Any] = {"ignore_index": None, "n_bins": metrics.BINS, "norm": "l1"}
    return [
        (c.BinaryAccuracy, rows | {"threshold": 0.5}, accuracy),
        (c.MulticlassAccuracy, rows | {"average": "micro", "top_k": 1}, accuracy),
        (c.MulticlassF1Score, rows | {"average": "macro", "top_k": 1}, f1_macro),
        (c.BinaryAUROC, curve | {"max_fpr": None}, auroc),
        (c.MulticlassAUROC, curve | {"average": "macro"}, auroc),
        (c.MulticlassCalibrationError, bins, ece),
        (r.MeanAbsoluteError, {"num_outputs": 1}, mae),
        (r.MeanSquaredError, {"num_outputs": 1, "squared": True}, mse),
        (r.MeanSquaredError, {"num_outputs": 1, "squared": False}, rmse),
        (r.R2Score, {"adjusted": 0, "multioutput": "uniform_average"}, r2),
    ]
