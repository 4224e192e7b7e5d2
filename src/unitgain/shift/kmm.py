r"""Kernel mean matching, solved in the dual: weights of 0 to B whose kernel mean is the target's.

Shapes: N source rows, M target rows, R rows of either kind, D features, C centres, P dual variables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.shift._rows import chunks, folds, gaussian, median_distance, shuffled, without
from unitgain.shift.kernels import check_kernels
from unitgain.shift.ratio import RatioFunction, ScaledEstimator

_NEWTON_STEPS = 50


@final
@dataclass(frozen=True)
class KernelMap:
    """Nystroem features of a Gaussian kernel, and a one: exact where the centres are all rows."""

    centres_CD: Tensor
    width: float
    root_CP: Tensor

    @classmethod
    def of(cls, centres_CD: Tensor, width: float) -> "KernelMap":
        """The map whose products are the kernel between centres."""
        value_C, vector_CC = torch.linalg.eigh(gaussian(centres_CD, centres_CD, width))
        kept_C = value_C > 1e-10 * value_C[-1]
        return cls(centres_CD, width, vector_CC[:, kept_C] / value_C[kept_C].sqrt())

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """Features (R, P), the last of them one."""
        features_RP = gaussian(rows_RD, self.centres_CD, self.width) @ self.root_CP
        return torch.cat([features_RP, features_RP.new_ones(len(rows_RD), 1)], 1)


@final
@dataclass(frozen=True)
class ClippedRatio:
    """A linear function of kernel features, clipped to [0, bound]."""

    features: KernelMap
    theta_P: Tensor
    bound: float

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """The ratios of scaled rows (R,)."""
        return (1 + self.features(rows_RD) @ self.theta_P).clamp(0, self.bound)


@final
@dataclass(frozen=True)
class KMM(ScaledEstimator):
    r"""Kernel mean matching with a ridge.

    The weights of source rows minimise

    .. math:: \tfrac12 \Big| \tfrac1N \sum_n w_n \varphi(x_n) - \mu \Big|^2 + \tfrac{\lambda}{2 N} \sum_n (w_n - 1)^2

    under :math:`0 \le w_n \le B` and :math:`\frac1N \sum_n w_n = 1`, with :math:`\mu` the target's mean of the kernel
    features :math:`\varphi`. At the optimum :math:`w_n = clip(1 + \theta \cdot \varphi(x_n) + b, 0, B)`: weights of new
    rows come with it, and the search is over as many numbers as there are features, by Newton steps on the dual

    .. math:: \tfrac1N \sum_n h(\theta \cdot \varphi(x_n) + b) - \theta \cdot \mu - b + \tfrac\lambda2 |\theta|^2,
        \quad h' = clip(1 + s, 0, B).

    Width and ridge are those with the least :math:`\frac12 E_{source} w^2 - E_{target} w` over left-out folds.

    Args:
        centres: of the Nystroem features, half of each part; with as many rows or fewer they are exact.
        bound: the largest weight B, above 1.
        widths: to choose from, in median distances of the pool.
        ridges: values of lambda to choose from.
        folds: of cross-validation.
        most: rows a part that cross-validation looks at.

    Raises:
        ConfigError: nothing to choose from, or numbers out of range.

    Example:
        >>> rows = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
        >>> ratio = KMM().fit(rows, rows + 0.5, torch.Generator().manual_seed(0))
        >>> round(float(ratio(rows).mean()), 6)
        1.0

    Reference:
        Huang, Smola, Gretton, Borgwardt and Schoelkopf (2007), NeurIPS 19, equation 12.
    """

    centres: int = 200
    bound: float = 1000.0
    widths: Sequence[float] = (0.25, 0.5, 1.0, 2.0)
    ridges: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1)
    folds: int = 5
    most: int = 5_000

    def __post_init__(self) -> None:
        check_kernels(self.centres, widths=self.widths, ridges=self.ridges)
        if not self.bound > 1:
            raise ConfigError(f"bound: must be above 1, got {self.bound:g}; 1000 is usual")

    def _scaled_ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        half = -(-self.centres // 2)
        centres_CD = torch.cat([shuffled(r, generator)[:half] for r in (source_ND, target_MD)])
        unit = median_distance(source_ND, target_MD, generator)
        source, target = folds(source_ND, target_MD, self.folds, self.most, generator)
        best, width, ridge = math.inf, unit, max(self.ridges)
        for candidate in (unit * w for w in self.widths):
            features = KernelMap.of(centres_CD, candidate)
            mapped = [[features(fold) for fold in part] for part in (source, target)]
            path = sorted(self.ridges, reverse=True)
            for r, score in _left_out_scores(mapped[0], mapped[1], path, self.bound):
                if score < best:
                    best, width, ridge = score, candidate, r
        features = KernelMap.of(centres_CD, width)
        start_P = features.root_CP.new_zeros(features.root_CP.shape[1] + 1)
        mean_P = torch.stack([features(c).sum(0) for c in chunks(target_MD)]).sum(0) / len(
            target_MD
        )
        rows = [features(chunk) for chunk in chunks(source_ND)]
        theta_P = _dual(rows, mean_P, ridge, self.bound, start_P)
        details = {"width": width, "ridge": ridge, "score": best, "centres": float(len(centres_CD))}
        return ClippedRatio(features, theta_P, self.bound), details


def _left_out_scores(
    source: list[Tensor], target: list[Tensor], path: Sequence[float], bound: float
) -> list[tuple[float, float]]:
    """For each ridge the mean over folds of the criterion there, fitted to the others."""
    scores = dict.fromkeys(path, 0.0)
    for i in range(len(source)):
        mean_P = without(target, i).mean(0)
        theta_P = torch.zeros_like(mean_P)
        kept = [without(source, i)]
        for ridge in path:
            theta_P = _dual(kept, mean_P, ridge, bound, theta_P)
            on_source, on_target = (
                (1 + part[i] @ theta_P).clamp(0, bound) for part in (source, target)
            )
            score = 0.5 * on_source.square().mean() - on_target.mean()
            scores[ridge] += float(score) / len(source)
    return list(scores.items()) if source else []


def _dual(
    source: list[Tensor], mean_P: Tensor, ridge: float, bound: float, start_P: Tensor
) -> Tensor:
    """The dual optimum by Newton steps that are halved until they descend."""
    count = sum(map(len, source))
    penalty_P = torch.full_like(mean_P, ridge)
    penalty_P[-1] = 0.0

    def value(theta_P: Tensor) -> float:
        total = sum(float(_primitive(rows_RP @ theta_P, bound).sum()) for rows_RP in source)
        return total / count - float(theta_P @ mean_P - 0.5 * penalty_P @ theta_P.square())

    theta_P, now = start_P, value(start_P)
    for _ in range(_NEWTON_STEPS):
        slope_P, curvature_PP = penalty_P * theta_P - mean_P, torch.diag(penalty_P)
        for rows_RP in source:
            weight_R = 1 + rows_RP @ theta_P
            free_RP = rows_RP[(weight_R > 0) & (weight_R < bound)]
            slope_P = slope_P + weight_R.clamp(0, bound) @ rows_RP / count
            curvature_PP.addmm_(free_RP.T, free_RP, alpha=1 / count)
        steepest = float(slope_P.abs().max())
        if steepest < 1e-9:
            break
        # Where nearly all weights are clipped there is no curvature: without a part of the slope, steps are endless.
        curvature_PP.diagonal().add_(1e-3 * steepest)
        step_P = torch.linalg.solve(curvature_PP, slope_P)
        length, expected = 1.0, float(slope_P @ step_P)
        while (new := value(theta_P - length * step_P)) > now - 1e-4 * length * expected:
            length /= 2
            if length < 1e-12:
                return theta_P
        theta_P, now = theta_P - length * step_P, new
    return theta_P


def _primitive(sum_R: Tensor, bound: float) -> Tensor:
    """The function h whose slope is 1 + s, clipped to [0, bound]."""
    weight_R = (1 + sum_R).clamp(0, bound)
    return weight_R * sum_R - 0.5 * (weight_R - 1).square()
