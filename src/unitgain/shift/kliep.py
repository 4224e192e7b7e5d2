r"""KLIEP: the sum of Gaussian kernels under which the target rows are likeliest.

Shapes: N source rows, M target rows, D features, C centres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.shift._minimise import minimise
from unitgain.shift._rows import chunks, folds, gaussian, median_distance, shuffled, without
from unitgain.shift.kernels import WIDTHS, KernelRatio, check_kernels
from unitgain.shift.ratio import RatioFunction, ScaledEstimator

_LEAST = 1e-300


@final
@dataclass(frozen=True)
class KLIEP(ScaledEstimator):
    r"""The Kullback-Leibler importance estimation procedure.

    :math:`w(x) = \sum_c \alpha_c k(x, c)`, :math:`\alpha \ge 0`, maximises :math:`E_{target} \log w` under
    :math:`E_{source} w = 1`. Both sides scale alike, so this is the minimum of :math:`E_{source} w - E_{target} \log w`
    without a constraint, which L-BFGS finds: no step to choose. The width is that with the largest
    :math:`E_{target} \log w` over left-out folds.

    Args:
        centres: at most that many, among the target rows.
        widths: to choose from, in median distances of the pool.
        folds: of cross-validation.
        most: rows a part that cross-validation looks at.

    Raises:
        ConfigError: nothing to choose from, or numbers that aren't above 0.

    Example:
        >>> rows = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
        >>> ratio = KLIEP().fit(rows, rows + 0.5, torch.Generator().manual_seed(0))
        >>> round(float(ratio(rows).mean()), 6)
        1.0

    Reference:
        Sugiyama et al. (2008), doi 10.1007/s10463-008-0197-x, sections 2 and 3.
    """

    centres: int = 100
    widths: Sequence[float] = WIDTHS
    folds: int = 5
    most: int = 10_000

    def __post_init__(self) -> None:
        check_kernels(self.centres, widths=self.widths)

    def _scaled_ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        centres_CD = shuffled(target_MD, generator)[: self.centres]
        unit = median_distance(source_ND, target_MD, generator)
        source, target = folds(source_ND, target_MD, self.folds, self.most, generator)
        pooled_ND = torch.cat(source) if source else source_ND
        best, chosen = -math.inf, unit * self.widths[0]
        for width in (unit * w for w in self.widths):
            score = _left_out_score(pooled_ND, target, centres_CD, width)
            if score > best:
                best, chosen = score, width
        alpha_C = _fit(source_ND, target_MD, centres_CD, chosen)
        details = {"width": chosen, "score": best, "centres": float(len(centres_CD))}
        return KernelRatio(centres_CD, chosen, alpha_C), details


def _fit(
    source_ND: Tensor, target_MD: Tensor, centres_CD: Tensor, width: float, steps: int = 200
) -> Tensor:
    sums = [gaussian(rows, centres_CD, width).sum(0) for rows in chunks(source_ND)]
    mean_C = torch.stack(sums).sum(0) / len(source_ND)
    kernel_MC = torch.cat([gaussian(rows, centres_CD, width) for rows in chunks(target_MD)])
    # In these units every kernel has mean one under the source, and the optimum is a distribution over centres.
    unit_C = mean_C.clamp(min=_LEAST)
    kernel_MC /= unit_C

    def loss(beta_C: Tensor) -> Tensor:
        return beta_C.sum() - (kernel_MC @ beta_C).clamp(min=_LEAST).log().mean()

    start_C = torch.full_like(unit_C, 1 / len(unit_C))
    return minimise(loss, start_C, positive=True, steps=steps, tolerance=1e-5) / unit_C


def _left_out_score(
    source_ND: Tensor, target: list[Tensor], centres_CD: Tensor, width: float
) -> float:
    """The mean log ratio of target folds, each fitted to the others; minus infinity without folds."""
    scores = []
    for i, fold in enumerate(target):
        alpha_C = _fit(source_ND, without(target, i), centres_CD, width, steps=30)
        ratio_R = KernelRatio(centres_CD, width, alpha_C)(fold)
        scores.append(float(ratio_R.clamp(min=_LEAST).log().mean()))
    return sum(scores) / len(scores) if scores else -math.inf
