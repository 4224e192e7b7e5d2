r"""What weights leave of a sample: effective size, tail, largest share, balance of means.

Shapes: N source rows, M target rows, D features.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.errors import DataError
from unitgain.shift._rows import check_parts, check_vector
from unitgain.stats.pareto import tail_index


@final
@dataclass(frozen=True)
class Diagnostics:
    """How far weights can be trusted.

    Attributes:
        rows: the number N of weights.
        ess: the effective sample size, between 1 and N.
        ess_share: the same over N.
        pareto_k: the tail index; NaN where there are too few rows.
        max_share: the share of the largest weight in the sum of all.
    """

    rows: int
    ess: float
    ess_share: float
    pareto_k: float
    max_share: float

    @property
    def tail(self) -> str:
        """The tail index in words: equal weights have none, and few rows don't show theirs."""
        if self.pareto_k == -math.inf:
            return "none"
        return "unknown" if math.isnan(self.pareto_k) else f"{self.pareto_k:.2f}"


def diagnose(weight_N: Tensor) -> Diagnostics:
    """All diagnostics of weights.

    Raises:
        DataError: weights aren't a finite vector of numbers of 0 or above with a positive sum.

    Example:
        >>> diagnose(torch.tensor([1.0, 1.0, 2.0, 0.0])).max_share
        0.5
    """
    ess = effective_sample_size(weight_N)
    weight = check_weights(weight_N)
    share = float(weight.max() / weight.sum())
    return Diagnostics(len(weight), ess, ess / len(weight), pareto_k(weight), share)


def effective_sample_size(weight_N: Tensor) -> float:
    r"""Kish's effective sample size :math:`(\sum_n w_n)^2 / \sum_n w_n^2`.

    Its share of N tends to :math:`1 / E[w^2]`; for a Gaussian mean shift that is :math:`e^{-|\mu|^2}`.

    Args:
        weight_N: weights of 0 or above, up to a common factor.

    Raises:
        DataError: weights aren't a finite vector of numbers of 0 or above with a positive sum.

    Example:
        >>> effective_sample_size(torch.tensor([1.0, 1.0, 0.0, 0.0]))
        2.0

    Reference:
        Kong (1992), A note on importance sampling using standardized weights; Owen (2013), section 9.3.
    """
    weight = check_weights(weight_N)
    weight = weight / weight.max()
    return float(weight.sum().square() / weight.square().sum())


def pareto_k(weight_N: Tensor) -> float:
    r"""The shape of the generalised Pareto distribution that fits the largest weights.

    The largest :math:`\min(N / 5, 3 \sqrt N)` are taken, as in Pareto-smoothed importance sampling. Moments of order
    1/k and above are infinite: beyond 0.5 the variance is, and beyond 0.7 averages can't be trusted, however large the
    effective sample size of the sample looks.

    Args:
        weight_N: weights of 0 or above, up to a common factor.

    Returns:
        The shape k; NaN with fewer than 25 weights, minus infinity where the largest are all equal.

    Raises:
        DataError: weights aren't a finite vector of numbers of 0 or above with a positive sum.

    Example:
        >>> u = (torch.arange(5000) + 0.5) / 5000
        >>> round(pareto_k(u ** -0.5), 1)  # P(w > x) = x^-2
        0.5

    Reference:
        Vehtari, Simpson, Gelman, Yao and Gabry (2015), arXiv 1507.02646, section 3.
    """
    weight = check_weights(weight_N)
    return tail_index((weight / weight.max()).cpu().numpy())


def relative_error(weight_N: Tensor, truth_N: Tensor) -> float:
    r"""How far estimated weights are from the true ones: :math:`|w - w^*| / |w^*|`, each with mean one.

    Equal weights are at :math:`\sqrt{1 - ESS / N}` of the true ones' effective sample size: an estimate beyond that is
    worse than none.

    Args:
        weight_N: weights of 0 or above, up to a common factor.
        truth_N: the true weights of the same rows, up to another one.

    Raises:
        DataError: either isn't a finite vector of numbers of 0 or above with a positive sum, or their lengths differ.

    Example:
        >>> truth = torch.tensor([1.0, 1.0, 2.0, 0.0])
        >>> relative_error(2 * truth, truth), round(relative_error(torch.ones(4), truth), 4)
        (0.0, 0.5774)
    """
    weight_N, truth_N = check_weights(weight_N), check_weights(truth_N)
    if len(weight_N) != len(truth_N):
        raise DataError(
            f"relative_error: weights and truth must be of the same rows, got {len(weight_N)} "
            f"and {len(truth_N)}"
        )
    truth_N = truth_N / truth_N.mean()
    return float((weight_N / weight_N.mean() - truth_N).norm() / truth_N.norm())


@final
@dataclass(frozen=True)
class Balance:
    """Weighted source means against target means, feature by feature, float64.

    Attributes:
        source_D: means of the source, unweighted.
        weighted_D: weighted means of the source.
        target_D: means of the target.
        before_D: the standardised difference of target and source: over the root of the mean of their variances.
        after_D: the same after weighting, in the same units.
    """

    source_D: Tensor
    weighted_D: Tensor
    target_D: Tensor
    before_D: Tensor
    after_D: Tensor


def balance(source_ND: Tensor, target_MD: Tensor, weight_N: Tensor) -> Balance:
    r"""Whether weights bring the source's means to the target's.

    The standardised difference is :math:`(m_t - m_s) / \sqrt{(v_s + v_t) / 2}`, with the weighted mean for m_s after
    weighting and the unweighted variances in both; 0 where a feature is constant and equal in both parts. Beyond 0.1 in
    size is commonly called unbalanced.

    Args:
        source_ND: rows of the source.
        target_MD: rows of the target.
        weight_N: weights of the source's rows.

    Raises:
        DataError: rows or weights can't be used.

    Example:
        >>> source, target = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]])
        >>> table = balance(source, target, torch.tensor([0.0, 1.0]))
        >>> table.before_D, table.after_D
        (tensor([1.], dtype=torch.float64), tensor([0.], dtype=torch.float64))

    Reference:
        Austin and Stuart (2015), doi 10.1002/sim.6607, section 4.1.
    """
    source, target = check_parts(source_ND, target_MD)
    weight = check_weights(weight_N, len(source))
    share_N = weight / weight.sum()
    source_D, target_D, weighted_D = source.mean(0), target.mean(0), share_N @ source
    variances = [rows.var(0, correction=0) for rows in (source, target)]
    unit_D = ((variances[0] + variances[1]) / 2).sqrt()

    def standardised(difference_D: Tensor) -> Tensor:
        return torch.where(difference_D == 0, difference_D, difference_D / unit_D)

    return Balance(
        source_D,
        weighted_D,
        target_D,
        standardised(target_D - source_D),
        standardised(target_D - weighted_D),
    )


def check_weights(weight_N: Tensor, rows: int | None = None) -> Tensor:
    """The weights in float64.

    Args:
        weight_N: the weights.
        rows: how many there must be.

    Raises:
        DataError: not a vector, empty, of another length, not finite, below 0, or all 0.
    """
    weight = check_vector("weights", weight_N, rows)
    if bool((weight < 0).any()):
        raise DataError(
            f"weights: must be 0 or above, the least is {float(weight.min()):g}; clip them"
        )
    if not bool((weight > 0).any()):
        raise DataError("weights: must have a positive sum, all are 0; see how they were estimated")
    return weight
