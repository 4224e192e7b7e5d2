r"""Density ratios from counts of neighbours, within balls.

Shapes: N source rows, M target rows, R rows of either kind, D features, J choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.shift._rows import folds, without
from unitgain.shift.ratio import RatioFunction, ScaledEstimator

_CHUNK = 512
_EXACT = "donot_use_mm_for_euclid_dist"
"""Equal rows are at equal distances, to the bit."""


@final
@dataclass(frozen=True)
class NeighbourRatio:
    """Target rows no farther than the k-th nearest source row."""

    source_ND: Tensor
    target_MD: Tensor
    neighbours: int

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """The ratios of scaled rows (R,)."""
        counted = _counted(rows_RD, self.source_ND, self.target_MD, [self.neighbours])
        return counted[:, 0]


@final
@dataclass(frozen=True)
class NearestNeighbour(ScaledEstimator):
    r"""The share of target rows over the share of source rows in a ball around a row.

    :math:`w(x) = \frac{N}{M} \frac{m(x) + M / N}{k + 1}`, with m target rows no farther from x than the k-th nearest
    source row; one expected row more on both sides keeps weights above 0. The number k is that with the least
    :math:`\frac{1}{2} E_{source} w^2 - E_{target} w` over left-out folds. Time is quadratic in rows, memory linear.

    Args:
        neighbours: numbers k to choose from.
        folds: of cross-validation.
        most: rows a part that cross-validation looks at.

    Raises:
        ConfigError: nothing to choose from, or numbers below 1.

    Reference:
        Loog (2012), doi 10.1109/MLSP.2012.6349714; Kremer et al. (2015), doi 10.1016/j.ascom.2015.06.005.
    """

    neighbours: Sequence[int] = (3, 5, 10, 20, 50, 100)
    folds: int = 5
    most: int = 5_000

    def __post_init__(self) -> None:
        if not self.neighbours or min(self.neighbours) < 1:
            raise ConfigError(
                f"neighbours: must be numbers of at least 1, got {self.neighbours}; leave the default"
            )

    def _scaled_ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        source, target = folds(source_ND, target_MD, self.folds, self.most, generator)
        kept = min(map(len, source), default=1) * max(1, len(source) - 1)
        choices = sorted({min(k, kept, len(source_ND)) for k in self.neighbours})
        score_J = torch.zeros(len(choices), dtype=torch.float64)
        for i in range(len(source)):
            sides = without(source, i), without(target, i)
            on_source, on_target = (_counted(part[i], *sides, choices) for part in (source, target))
            score_J += (0.5 * on_source.square().mean(0) - on_target.mean(0)).cpu() / len(source)
        best = int(score_J.argmin())
        details = {"neighbours": float(choices[best]), "score": float(score_J[best])}
        return NeighbourRatio(source_ND, target_MD, choices[best]), details


def _counted(
    rows_RD: Tensor, source_ND: Tensor, target_MD: Tensor, choices: Sequence[int]
) -> Tensor:
    """The ratio by counts (R, J), one column for each number of neighbours."""
    factor = len(source_ND) / len(target_MD)
    results = []
    for rows in torch.split(rows_RD, _CHUNK):
        nearest = (
            torch.cdist(rows, source_ND, compute_mode=_EXACT)
            .topk(max(choices), largest=False)
            .values
        )
        to_target = torch.cdist(rows, target_MD, compute_mode=_EXACT)
        radii = [nearest[:, k - 1 : k] for k in choices]
        results.append(torch.stack([(to_target <= radius).sum(1) for radius in radii], 1))
    size_J = torch.tensor(choices, dtype=torch.float64, device=rows_RD.device)
    return (torch.cat(results) + 1 / factor) * factor / (size_J + 1)
