r"""Weighted metrics in two steps: sums over rows, which add up over batches and processes, and what is made of them.

`unitgain.pack.weighted_metrics` takes the sums of all rows at once, `unitgain.pack.weighted` adds those of batches.
Sums run in float64, within a member. Predictions that aren't numbers make a member's sums NaN.
Shapes: K members, N rows, C classes, T targets, B bins.
"""

import torch
from torch import Tensor

from unitgain.pack.metrics import BINS, confidence_bins

Sums = dict[str, Tensor]
"""Sufficient statistics by name, (K, ...) each."""


def right(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    """Whether the most probable class is right (K, N): 1 or 0."""
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    return (predicted_KN == target_KN).double() + 0 * confidence_KN


def negative_log(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    """The negative logarithm of the target's probability (K, N), kept off 0 and 1 by the type's epsilon."""
    epsilon = torch.finfo(probabilities_KNC.dtype).eps
    own_KN = probabilities_KNC.gather(-1, target_KN.unsqueeze(-1)).squeeze(-1)
    return -own_KN.clamp(epsilon, 1 - epsilon).log().double()


def square_distance(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    r"""Brier's score of each row (K, N): :math:`\sum_c (p_c - [y = c])^2`, from 0 to 2."""
    own_KNC = torch.zeros_like(probabilities_KNC, dtype=torch.float64)
    own_KNC.scatter_(-1, target_KN.unsqueeze(-1), 1.0)
    return (probabilities_KNC.double() - own_KNC).square().sum(-1)


def absolute_error(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    """The absolute error of each row (K, N), averaged over targets."""
    return (prediction_KNT - target_KNT).double().abs().mean(-1)


def square_error(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    """The squared error of each row (K, N), averaged over targets."""
    return (prediction_KNT - target_KNT).double().square().mean(-1)


def mean_sums(value_KN: Tensor, weight_KN: Tensor) -> Sums:
    """What a weighted mean of rows is made of."""
    weight_KN = weight_KN.double()
    return {"total": (weight_KN * value_KN.double()).sum(-1), "weight": weight_KN.sum(-1)}


def mean(sums: Sums) -> Tensor:
    """The weighted mean (K,)."""
    return sums["total"] / sums["weight"]


def class_sums(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Sums:
    """The weights (K, C) of each class: of rows that have it and are said to, that have it, that are said to."""
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    weight_KN = weight_KN.double()
    hit_KN = weight_KN * (predicted_KN == target_KN) + 0 * confidence_KN
    zero_KC = hit_KN.new_zeros(len(target_KN), probabilities_KNC.shape[-1])
    return {
        "hit": zero_KC.scatter_add(1, target_KN, hit_KN),
        "actual": zero_KC.scatter_add(1, target_KN, weight_KN),
        "said": zero_KC.scatter_add(1, predicted_KN, weight_KN),
        "weight": weight_KN.sum(-1),
    }


def f1_macro(sums: Sums) -> Tensor:
    """The F1 score averaged over classes with weight among targets or predictions, (K,)."""
    return _mean_share(2 * sums["hit"], sums["actual"] + sums["said"])


def recall_macro(sums: Sums) -> Tensor:
    """The recall averaged over classes with weight among targets, (K,): the balanced accuracy."""
    return _mean_share(sums["hit"], sums["actual"])


def _mean_share(part_KC: Tensor, whole_KC: Tensor) -> Tensor:
    """The shares averaged over classes whose whole is above 0."""
    present_KC = whole_KC > 0
    share_KC = torch.where(present_KC, part_KC / whole_KC.where(present_KC, 1.0), 0.0)
    return share_KC.sum(-1) / present_KC.sum(-1)


def bin_sums(probabilities_KNC: Tensor, target_KN: Tensor, weight_KN: Tensor) -> Sums:
    """The weighted sum (K, B) of confidence less accuracy in each bin, the last for a confidence of exactly 1."""
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    weight_KN = weight_KN.double()
    gap_KN = weight_KN * (confidence_KN.double() - (predicted_KN == target_KN).double())
    zero_KB = gap_KN.new_zeros(len(gap_KN), BINS + 1)
    gap_KB = zero_KB.scatter_add_(1, confidence_bins(confidence_KN), gap_KN)
    return {"gap": gap_KB, "weight": weight_KN.sum(-1)}


def calibration_error(sums: Sums) -> Tensor:
    """The expected calibration error (K,)."""
    return sums["gap"].abs().sum(-1) / sums["weight"]


def moment_sums(prediction_KNT: Tensor, target_KNT: Tensor, weight_KN: Tensor) -> Sums:
    """Squared errors (K, T), and the weight, mean and sum of squares about it (K, 3, T) of targets with their range."""
    target, weight_KN1 = target_KNT.double(), weight_KN.double().unsqueeze(-1)
    total_K1T = weight_KN1.sum(1, keepdim=True).expand(-1, -1, target.shape[-1])
    mean_K1T = _over((weight_KN1 * target).sum(1, keepdim=True), total_K1T)
    spread_K1T = (weight_KN1 * (target - mean_K1T).square()).sum(1, keepdim=True)
    counts_KN1 = weight_KN1 > 0
    return {
        "residual": (weight_KN1 * (prediction_KNT.double() - target).square()).sum(1),
        "moments": torch.cat([total_K1T, mean_K1T, spread_K1T], 1),
        "low": target.masked_fill(~counts_KN1, torch.inf).amin(1),
        "high": target.masked_fill(~counts_KN1, -torch.inf).amax(1),
    }


def merged_moments(moments_S3T: Tensor) -> Tensor:
    r"""The weight, mean and sum of squares (..., 3, T) of several sets of rows together.

    :math:`M = \sum_s M_s + \sum_s W_s (m_s - m)^2`: no difference of large sums, whatever the mean is.

    Args:
        moments_S3T: those of each set, the sets first.

    Reference:
        Chan, Golub and LeVeque (1983), doi 10.1080/00031305.1983.10483115.
    """
    total, mean_S, spread = moments_S3T.unbind(-2)
    whole = total.sum(0)
    mean = _over((total * mean_S).sum(0), whole)
    spread = spread.sum(0) + (total * (mean_S - mean).square()).sum(0)
    return torch.stack([whole, mean, spread], -2)


def determination(sums: Sums) -> Tensor:
    """The coefficient of determination, averaged over targets, (K,)."""
    residual_KT, spread_KT = sums["residual"], sums["moments"][..., 2, :]
    missed_KT = residual_KT.clamp(max=1).ceil()
    constant_KT = sums["low"] == sums["high"]
    return (1 - torch.where(constant_KT, missed_KT, residual_KT / spread_KT)).mean(-1)


def _over(sum_: Tensor, weight: Tensor) -> Tensor:
    """A mean, 0 where nothing has a weight."""
    return torch.where(weight > 0, sum_ / weight.where(weight > 0, 1.0), 0.0)
