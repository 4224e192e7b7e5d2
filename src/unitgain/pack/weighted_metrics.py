r"""The shipped metrics with a weight for each row: those of a population that rows stand for unevenly.

Each is the metric of the same name in `unitgain.pack.metrics` with sums over rows weighted: weights of whole numbers
give what so many copies of each row would, and a common factor cancels. Weights are of 0 or above, with a positive sum
for each member. Sums run in float64.
Shapes: K members, N rows, C classes, T targets.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.pack import metrics
from unitgain.pack.metrics import PackedMetric, as_result

WeightedMetric = Callable[[Tensor, Tensor, Tensor], Tensor]


def accuracy(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted share of rows whose most probable class is right, (K,).

    Example:
        >>> p = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
        >>> accuracy(p, torch.tensor([[0, 0]]), torch.tensor([[3.0, 1.0]]))
        tensor([0.7500])
    """
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    right_KN = (predicted_KN == target_KN).double() + 0 * confidence_KN
    return as_result(_mean(right_KN, weight_KN), probabilities_KNC)


def f1_macro(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The F1 score from weighted counts, averaged over classes with weight among targets or predictions, (K,)."""
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    weight_KN = weight_KN.double()
    hit_KN = weight_KN * (predicted_KN == target_KN)
    zero_KC = hit_KN.new_zeros(len(target_KN), probabilities_KNC.shape[-1])
    true_KC = zero_KC.scatter_add(1, target_KN, hit_KN)
    named_KC = zero_KC.scatter_add(1, target_KN, weight_KN).scatter_add_(1, predicted_KN, weight_KN)
    present_KC = named_KC > 0
    score_KC = torch.where(present_KC, 2 * true_KC / named_KC.where(present_KC, 1.0), 0.0)
    score_K = score_KC.sum(-1) / present_KC.sum(-1)
    return as_result(score_K + 0 * confidence_KN.sum(-1), probabilities_KNC)


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
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    bin_KN = metrics.confidence_bins(confidence_KN)
    weight_KN = weight_KN.double()
    gap_KN = weight_KN * (confidence_KN.double() - (predicted_KN == target_KN).double())
    gap_KB = gap_KN.new_zeros(len(gap_KN), metrics.BINS + 1).scatter_add_(1, bin_KN, gap_KN)
    return as_result(gap_KB.abs().sum(-1) / weight_KN.sum(-1), probabilities_KNC)


def log_loss(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted mean negative logarithm of the target's probability, (K,)."""
    epsilon = torch.finfo(probabilities_KNC.dtype).eps
    own_KN = probabilities_KNC.gather(-1, target_KN.unsqueeze(-1)).squeeze(-1)
    return as_result(
        _mean(-own_KN.clamp(epsilon, 1 - epsilon).log().double(), weight_KN), probabilities_KNC
    )


def mae(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    """The weighted mean absolute error over rows and targets, (K,)."""
    error_KN = (prediction_KNT - target_KNT).double().abs().mean(-1)
    return as_result(_mean(error_KN, weight_KN), prediction_KNT)


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
    target, weight_KN1 = target_KNT.double(), weight_KN.double().unsqueeze(-1)
    counts_KN1 = weight_KN1 > 0
    total_K1 = weight_KN1.sum(1)
    residual_KT = (weight_KN1 * (prediction_KNT.double() - target).square()).sum(1)
    mean_K1T = ((weight_KN1 * target).sum(1) / total_K1).unsqueeze(1)
    spread_KT = (weight_KN1 * (target - mean_K1T).square()).sum(1)
    low_KT = target.masked_fill(~counts_KN1, torch.inf).amin(1)
    high_KT = target.masked_fill(~counts_KN1, -torch.inf).amax(1)
    missed_KT = residual_KT.clamp(max=1).ceil()
    score_KT = 1 - torch.where(low_KT == high_KT, missed_KT, residual_KT / spread_KT)
    return as_result(score_KT.mean(-1), prediction_KNT)


def _mean_square(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Tensor:
    return _mean((prediction_KNT - target_KNT).double().square().mean(-1), weight_KN)


def _mean(value_KN: Tensor, weight_KN: Tensor) -> Tensor:
    weight_KN = weight_KN.double()
    return (weight_KN * value_KN).sum(-1) / weight_KN.sum(-1)


WEIGHTED: dict[PackedMetric, WeightedMetric] = {
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


def as_weighted(name: str, metric: PackedMetric) -> WeightedMetric:
    """The weighted form of a metric: ours, or a function of one's own with a third parameter ``weight_KN``.

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
    if inspect.isfunction(given) and "weight_KN" in inspect.signature(given).parameters:
        return cast(WeightedMetric, metric)
    raise ConfigError(
        f"metrics.{name}: must take weights where weighting corrects, but its function has no third parameter "
        "weight_KN; add one, choose metrics=auto, or set weighting=none"
    )
