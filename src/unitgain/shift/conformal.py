r"""Split conformal prediction under covariate shift: sets that hold the answer with a given probability.

Shapes: N calibration rows (source, not trained on), M target rows, C classes.
"""

import math

import torch
from torch import Tensor

from unitgain.errors import ConfigError, DataError
from unitgain.shift._rows import check_vector
from unitgain.shift.diagnostics import check_weights
from unitgain.shift.label import check_labels, check_posteriors


def weighted_threshold(
    score_N: Tensor, weight_N: Tensor, weight_M: Tensor, coverage: float
) -> Tensor:
    r"""The score that an answer may have, for each target row (M,); infinite where nothing can be ruled out.

    It is the quantile at the coverage of :math:`\sum_n p_n \delta_{s_n} + p \delta_\infty`, with
    :math:`p_n = w_n / (\sum_j w_j + w(x))` and :math:`p = w(x) / (\sum_j w_j + w(x))`. With exact weights a target
    row's score is below it with at least that probability, for any number of rows.

    Args:
        score_N: how far calibration rows are from what is predicted; the larger the stranger.
        weight_N: their weights.
        weight_M: those of the target rows, by the same ratio.
        coverage: the probability, in (0, 1).

    Raises:
        ConfigError: the coverage is outside (0, 1).
        DataError: scores or weights can't be used.

    Example:
        >>> score, one = torch.arange(9.0), torch.ones(9)
        >>> weighted_threshold(score, one, torch.tensor([1.0, 5.0]), 0.8)
        tensor([7., inf], dtype=torch.float64)

    Reference:
        Tibshirani, Barber, Candes and Ramdas (2019), arXiv 1904.06019, equation 8 and corollary 1.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage: must be within (0, 1), got {coverage:g}; 0.9 is usual")
    score = check_vector("scores", score_N)
    weight = check_weights(weight_N, len(score))
    target = check_vector("weights of the target", weight_M)
    if bool((target < 0).any()):
        raise DataError(
            f"weights of the target: must be 0 or above, the least is {float(target.min()):g}; clip them"
        )
    ordered_N, order = score.sort()
    cumulated_N = weight[order].cumsum(0)
    needed_M = coverage * (cumulated_N[-1] + target)
    # Rounding must not ask for a row more than the definition does.
    index_M = torch.searchsorted(cumulated_N, needed_M * (1 - 1e-12))
    return torch.cat([ordered_N, ordered_N.new_full((1,), math.inf)])[index_M]


def conformal_interval(
    prediction_N: Tensor,
    label_N: Tensor,
    weight_N: Tensor,
    prediction_M: Tensor,
    weight_M: Tensor,
    coverage: float = 0.9,
) -> tuple[Tensor, Tensor]:
    r"""Intervals of a regression for target rows: prediction :math:`\pm` the threshold of absolute residuals.

    Args:
        prediction_N: predictions for calibration rows.
        label_N: their answers.
        weight_N: their weights.
        prediction_M: predictions for target rows.
        weight_M: their weights, by the same ratio.
        coverage: the probability, in (0, 1).

    Returns:
        The lower and the upper ends (M,), infinite where nothing can be ruled out.

    Raises:
        ConfigError: the coverage is outside (0, 1).
        DataError: predictions, answers or weights can't be used.

    Reference:
        Tibshirani, Barber, Candes and Ramdas (2019), arXiv 1904.06019, section 2.2.
    """
    prediction = check_vector("predictions of the source", prediction_N)
    residual_N = (check_vector("answers", label_N, len(prediction)) - prediction).abs()
    at_M = check_vector("predictions of the target", prediction_M, len(weight_M))
    half_M = weighted_threshold(residual_N, weight_N, weight_M, coverage)
    return at_M - half_M, at_M + half_M


def conformal_sets(
    posterior_NC: Tensor,
    label_N: Tensor,
    weight_N: Tensor,
    posterior_MC: Tensor,
    weight_M: Tensor,
    coverage: float = 0.9,
) -> Tensor:
    r"""Sets of classes for target rows, as a mask (M, C): those with :math:`1 - p(y | x)` up to the threshold.

    Args:
        posterior_NC: posteriors of calibration rows.
        label_N: their classes, int64.
        weight_N: their weights.
        posterior_MC: posteriors of target rows.
        weight_M: their weights, by the same ratio.
        coverage: the probability, in (0, 1).

    Raises:
        ConfigError: the coverage is outside (0, 1).
        DataError: posteriors, classes or weights can't be used.

    Reference:
        Sadinle, Lei and Wasserman (2019), arXiv 1609.00451, section 3; Tibshirani et al. (2019), arXiv 1904.06019.
    """
    source = check_posteriors("source", posterior_NC)
    target = check_posteriors("target", posterior_MC)
    labels = check_labels(label_N, len(source), source.shape[1], every=False)
    score_N = 1 - source.gather(1, labels[:, None])[:, 0]
    threshold_M = weighted_threshold(score_N, weight_N, weight_M, coverage)
    if len(threshold_M) != len(target):
        raise DataError(
            f"weights of the target: must hold {len(target)} numbers, holds {len(threshold_M)}; one a row"
        )
    return 1 - target <= threshold_M[:, None]
