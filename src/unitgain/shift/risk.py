r"""The risk under the target without its labels, and whether weights lower it.

Shapes: N held-out source rows, M target rows, E exponents.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.shift._rows import check_vector
from unitgain.shift.diagnostics import check_weights, diagnose, effective_sample_size
from unitgain.shift.transforms import flatten, normalise
from unitgain.stats.intervals import Interval, normal_interval

LARGEST_PARETO_K = 0.7
"""Above it averages with such weights can't be trusted at any size (Vehtari et al. 2015, arXiv 1507.02646)."""

LEAST_ESS = 30.0
"""Effective rows below which a normal interval isn't one."""


@final
@dataclass(frozen=True)
class TargetRisk:
    """An estimate of the mean loss under the target.

    Attributes:
        interval: the estimate and the ends of its confidence interval.
        ess: the effective sample size of the source rows behind it.
    """

    interval: Interval
    ess: float


def importance_weighted_risk(loss_N: Tensor, weight_N: Tensor, level: float = 0.95) -> TargetRisk:
    r"""The self-normalised weighted mean :math:`\hat R = \sum_n w_n l_n / \sum_n w_n`.

    Its variance is :math:`\sum_n w_n^2 (l_n - \hat R)^2 / (\sum_n w_n)^2`, by the delta method; that of the weights'
    own estimate isn't in it.

    Args:
        loss_N: losses of source rows that weren't trained on.
        weight_N: their weights.
        level: the probability that the interval is to cover.

    Raises:
        ConfigError: the level is outside (0, 1).
        DataError: losses or weights can't be used.

    Example:
        >>> risk = importance_weighted_risk(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
        >>> risk.interval.value, round(risk.ess, 6)
        (0.75, 1.6)

    Reference:
        Shimodaira (2000), doi 10.1016/S0378-3758(00)00115-4; Owen (2013), Monte Carlo theory, equation 9.9.
    """
    _check_level(level)
    loss = check_vector("losses", loss_N)
    weight = check_weights(weight_N, len(loss))
    value, error = _weighted_mean(loss, weight)
    return TargetRisk(normal_interval(value, error, level), effective_sample_size(weight))


def doubly_robust_risk(
    loss_N: Tensor,
    weight_N: Tensor,
    predicted_N: Tensor,
    predicted_M: Tensor,
    level: float = 0.95,
) -> TargetRisk:
    r"""The mean predicted loss of target rows, corrected by the weighted residuals of source rows.

    :math:`\hat R = \frac1M \sum_m g(x_m) + \sum_n w_n (l_n - g(x_n)) / \sum_n w_n`: right if either the weights or the
    predictions of the loss g are, and of less variance than weighting where g explains the loss. The variance is the
    sum of both terms'.

    Args:
        loss_N: losses of source rows that weren't trained on.
        weight_N: their weights.
        predicted_N: predictions of these losses by a model g that wasn't fitted to them: see `predict_losses`.
        predicted_M: its predictions for target rows.
        level: the probability that the interval is to cover.

    Raises:
        ConfigError: the level is outside (0, 1).
        DataError: losses, predictions or weights can't be used.

    Example:
        >>> loss, weight = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0])
        >>> doubly_robust_risk(loss, weight, loss, torch.tensor([0.5, 1.0])).interval.value
        0.75

    Reference:
        Reddi, Poczos and Smola (2015), AAAI, equation 4; Chernozhukov et al. (2018), arXiv 1608.00060,
        for cross-fitting.
    """
    _check_level(level)
    loss = check_vector("losses", loss_N)
    weight = check_weights(weight_N, len(loss))
    predicted = check_vector("predicted losses of the source", predicted_N, len(loss))
    on_target = check_vector("predicted losses of the target", predicted_M)
    residual, error = _weighted_mean(loss - predicted, weight)
    spread = float(on_target.var(correction=0)) / len(on_target)
    interval = normal_interval(
        float(on_target.mean()) + residual, math.sqrt(error**2 + spread), level
    )
    return TargetRisk(interval, effective_sample_size(weight))


def _weighted_mean(value_N: Tensor, weight_N: Tensor) -> tuple[float, float]:
    """The self-normalised mean and its standard error."""
    share_N = normalise(weight_N) / len(weight_N)
    mean = float(share_N @ value_N)
    return mean, float((share_N * (value_N - mean)).square().sum().sqrt())


@final
@dataclass(frozen=True)
class Selection:
    """What importance-weighted cross-validation found.

    Attributes:
        exponent: that with the least estimated target risk.
        exponents: all of them.
        risks: the estimated target risk of each.
        loss_EN: the losses of left-out rows under each, their mean over repeats.
    """

    exponent: float
    exponents: tuple[float, ...]
    risks: tuple[TargetRisk, ...]
    loss_EN: Tensor


TrainAndScore = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Row numbers to train on, their weights, and row numbers to score, to the losses of the latter."""


def select_exponent(
    train_and_score: TrainAndScore,
    weight_N: Tensor,
    generator: torch.Generator,
    *,
    exponents: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    folds: int = 5,
    repeats: int = 1,
) -> Selection:
    r"""Importance-weighted cross-validation of the exponent :math:`\lambda` of flattened weights.

    For each exponent a model is trained on all folds but one with :math:`w^\lambda`, normalised over them, and its
    losses on the left-out fold are averaged with the full weights: the estimate of the target risk is
    unbiased whatever the exponent. Heavy rows that fall into one fold move it; a row's mean loss over
    several draws of the folds moves less.

    Args:
        train_and_score: trains on rows with weights, and gives the losses of other rows.
        weight_N: the weights of all rows.
        generator: draws the folds.
        exponents: to choose from.
        folds: how many, at most one a row.
        repeats: how often folds are drawn.

    Raises:
        ConfigError: no exponents, one outside [0, 1], fewer than two folds, or no repeats.
        DataError: weights or losses can't be used.

    Example:
        >>> y = torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> def mean_of(rows, weight, scored):
        ...     return (y[scored] - (weight @ y[rows].double()) / weight.sum()) ** 2
        >>> weight = torch.tensor([0.1, 0.1, 1.9, 1.9])
        >>> select_exponent(mean_of, weight, torch.Generator().manual_seed(0), folds=4).exponent
        1.0

    Reference:
        Sugiyama, Krauledat and Mueller (2007), JMLR 8, section 4.
    """
    weight = check_weights(weight_N)
    if not exponents or folds < 2 or repeats < 1:
        raise ConfigError(
            "cross-validation: must have exponents, at least 2 folds and at least 1 repeat, "
            f"got {len(exponents)}, {folds} and {repeats}; leave the defaults"
        )
    loss_EN = weight.new_zeros(len(exponents), len(weight))
    for _ in range(repeats):
        drawn = torch.randperm(len(weight), generator=generator, device=generator.device)
        parts = drawn.to(weight.device).tensor_split(min(folds, len(weight)))
        for loss_N, exponent in zip(loss_EN, exponents, strict=True):
            for i, part in enumerate(parts):
                kept = torch.cat([other for j, other in enumerate(parts) if j != i])
                loss = train_and_score(kept, flatten(weight[kept], exponent), part)
                loss_N[part] += check_vector("losses", loss, len(part)) / repeats
    risks = tuple(importance_weighted_risk(loss_N, weight) for loss_N in loss_EN)
    values = [risk.interval.value for risk in risks]
    best = values.index(min(values))
    return Selection(exponents[best], tuple(exponents), risks, loss_EN)


@final
@dataclass(frozen=True)
class Gate:
    """Whether to correct.

    Attributes:
        answer: ``yes``: the corrected model is better under the target; ``no``: the rows show no gain; ``cannot tell``:
            they show one, but weights like these can't be trusted.
        text: the answer in words, with its numbers.
        difference: the estimated target risk of the corrected model less that of the plain one.
        ess: the effective sample size of the rows behind it.
        pareto_k: the tail index of their weights.
    """

    answer: Literal["yes", "no", "cannot tell"]
    text: str
    difference: Interval
    ess: float
    pareto_k: float


def should_correct(
    plain_N: Tensor, corrected_N: Tensor, weight_N: Tensor, level: float = 0.95
) -> Gate:
    r"""Does correction lower the target risk? By the paired difference of losses of held-out source rows.

    The difference is :math:`\sum_n w_n (l'_n - l_n) / \sum_n w_n`: what both models find hard on a row cancels. Who
    corrects needs a reason to: the answer is yes where the whole interval is below zero, no where it isn't. Where the
    effective sample size is below 30 or the tail index above 0.7, the interval means little: the answer is no if the
    estimate isn't below zero either, and cannot tell otherwise.

    Args:
        plain_N: losses of the model trained without weights, on rows that neither model was trained on.
        corrected_N: losses of the corrected one on the same rows.
        weight_N: full weights of these rows, not flattened.
        level: of the interval.

    Raises:
        ConfigError: the level is outside (0, 1).
        DataError: losses or weights can't be used.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> plain = torch.rand(100, generator=g)
        >>> should_correct(plain, 0.5 * plain, torch.ones(100)).answer
        'yes'
    """
    plain = check_vector("losses of the plain model", plain_N)
    corrected = check_vector("losses of the corrected model", corrected_N, len(plain))
    risk = importance_weighted_risk(corrected - plain, weight_N, level)
    found, weights = risk.interval, diagnose(weight_N)
    k = weights.pareto_k
    numbers = (
        f"estimated target risk changes by {found.value:+.3g} ({level:.0%} interval {found.low:+.3g} to "
        f"{found.high:+.3g}); {risk.ess:.0f} effective rows of {len(plain)}, tail index {weights.tail}"
    )
    if found.value < 0 and (risk.ess < LEAST_ESS or k > LARGEST_PARETO_K):
        why = "too few effective rows" if risk.ess < LEAST_ESS else "the weights' tail is too heavy"
        return Gate("cannot tell", f"cannot tell, {why}: {numbers}.", found, risk.ess, k)
    if found.high < 0:
        return Gate("yes", f"correct: {numbers}.", found, risk.ess, k)
    return Gate("no", f"do not correct: {numbers}.", found, risk.ess, k)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level: must be within (0, 1), got {level:g}; 0.95 is usual")
