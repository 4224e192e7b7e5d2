r"""Density ratios as sums of Gaussian kernels: uLSIF and RuLSIF, by least squares.

Memory is linear in rows: kernels are summed up chunk by chunk into C by C matrices, one a fold.
Shapes: N source rows, M target rows, R rows of either kind, D features, C centres, F folds.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.shift._rows import chunks, gaussian, median_distance, shuffled
from unitgain.shift.ratio import RatioFunction, ScaledEstimator

WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Kernel widths to choose from, in median distances of the pool."""

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@final
@dataclass(frozen=True)
class KernelRatio:
    """A sum of Gaussian kernels with weights of 0 or above."""

    centres_CD: Tensor
    width: float
    alpha_C: Tensor

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """The ratios of scaled rows (R,)."""
        return gaussian(rows_RD, self.centres_CD, self.width) @ self.alpha_C


@dataclass(frozen=True, kw_only=True)
class _LeastSquares(ScaledEstimator):
    """Weights of kernels by least squares; width and ridge are those that do best on left-out folds."""

    centres: int = 100
    widths: Sequence[float] = WIDTHS
    ridges: Sequence[float] = RIDGES
    folds: int = 5

    def __post_init__(self) -> None:
        check_kernels(self.centres, widths=self.widths, ridges=self.ridges)

    @abc.abstractmethod
    def _share(self) -> float:
        """The share of the target in the denominator."""

    def _scaled_ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        centres_CD = shuffled(target_MD, generator)[: self.centres]
        unit = median_distance(source_ND, target_MD, generator)
        parts = [shuffled(rows, generator) for rows in (source_ND, target_MD)]
        count = max(1, min(self.folds, *map(len, parts)))
        share = self._share()
        best, found = math.inf, None
        for width in (unit * w for w in self.widths):
            moments = [_moments(rows, centres_CD, width, count) for rows in parts]
            H_FCC = (1 - share) * moments[0][0] + share * moments[1][0]
            h_FC = moments[1][1]
            for ridge in self.ridges:
                score = _left_out_score(H_FCC, h_FC, ridge)
                if found is None or score < best:
                    best, found = score, (width, ridge, H_FCC.mean(0), h_FC.mean(0))
        assert found is not None
        width, ridge, H_CC, h_C = found
        details = {"width": width, "ridge": ridge, "score": best, "centres": float(len(centres_CD))}
        return KernelRatio(centres_CD, width, _solve(H_CC, h_C, ridge)), details


@final
@dataclass(frozen=True)
class ULSIF(_LeastSquares):
    r"""Unconstrained least-squares importance fitting.

    :math:`w(x) = \sum_c \alpha_c k(x, c)` with centres among the target rows and
    :math:`\alpha = \max(0, (H + \lambda I)^{-1} h)`, :math:`H = E_{source} k k^T`, :math:`h = E_{target} k`, which
    minimises the squared distance to the true ratio under the source. Width and ridge are those with the least
    :math:`\frac{1}{2} E_{source} w^2 - E_{target} w` over left-out folds.

    In ten whitened dimensions and more, sums of Gaussian kernels say little but one everywhere.

    Args:
        centres: at most that many.
        widths: to choose from, in median distances of the pool.
        ridges: values of lambda to choose from.
        folds: of cross-validation.

    Raises:
        ConfigError: nothing to choose from, or numbers that aren't above 0.

    Example:
        >>> rows = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
        >>> ratio = ULSIF().fit(rows, rows + 0.5, torch.Generator().manual_seed(0))
        >>> round(float(ratio(rows).mean()), 6)
        1.0

    Reference:
        Kanamori, Hido and Sugiyama (2009), JMLR 10, section 3.
    """

    def _share(self) -> float:
        return 0.0


@final
@dataclass(frozen=True)
class RuLSIF(_LeastSquares):
    r"""Least-squares fitting of the relative ratio, which is bounded by :math:`1 / \alpha`.

    The relative ratio is :math:`p_{target} / (\alpha p_{target} + (1 - \alpha) p_{source})`, fitted like `ULSIF` with
    :math:`H = \alpha E_{target} k k^T + (1 - \alpha) E_{source} k k^T`. What comes out is normalised to mean one under
    the source like all weights, so it is a flattened importance weight.

    Args:
        alpha: the share of the target in the denominator, in [0, 1).
        centres: at most that many.
        widths: to choose from, in median distances of the pool.
        ridges: values of lambda to choose from.
        folds: of cross-validation.

    Raises:
        ConfigError: alpha is outside [0, 1), nothing to choose from, or numbers that aren't above 0.

    Reference:
        Yamada, Suzuki, Kanamori, Hachiya and Sugiyama (2013), arXiv 1106.4729, section 2.2.
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"alpha: must be in [0, 1), got {self.alpha:g}; 0.1 is usual")

    def _share(self) -> float:
        return self.alpha


def check_kernels(centres: int, **choices: Sequence[float]) -> None:
    """Raise a `ConfigError` where there is nothing to choose from."""
    if centres < 1:
        raise ConfigError(f"centres: must be at least 1, got {centres}; 100 is usual")
    for name, values in choices.items():
        if not values or min(values) <= 0:
            raise ConfigError(f"{name}: must be numbers above 0, got {values}; leave the default")


def _moments(
    rows_RD: Tensor, centres_CD: Tensor, width: float, count: int
) -> tuple[Tensor, Tensor]:
    """Means of k k^T (F, C, C) and of k (F, C) in each fold."""
    seconds, firsts = [], []
    for fold in rows_RD.tensor_split(count):
        second_CC = rows_RD.new_zeros(len(centres_CD), len(centres_CD))
        first_C = rows_RD.new_zeros(len(centres_CD))
        for rows in chunks(fold):
            kernel_RC = gaussian(rows, centres_CD, width)
            second_CC.addmm_(kernel_RC.T, kernel_RC)
            first_C += kernel_RC.sum(0)
        seconds.append(second_CC / len(fold))
        firsts.append(first_C / len(fold))
    return torch.stack(seconds), torch.stack(firsts)


def _left_out_score(H_FCC: Tensor, h_FC: Tensor, ridge: float) -> float:
    """The mean over folds of the criterion there, fitted to the others; infinite where there is one fold."""
    count = len(H_FCC)
    if count < 2:
        return math.inf
    alpha_FC = _solve(
        (H_FCC.sum(0) - H_FCC) / (count - 1), (h_FC.sum(0) - h_FC) / (count - 1), ridge
    )
    squares_F = torch.einsum("fc,fcd,fd->f", alpha_FC, H_FCC, alpha_FC)
    return float((0.5 * squares_F - (alpha_FC * h_FC).sum(1)).mean())


def _solve(H_CC: Tensor, h_C: Tensor, ridge: float) -> Tensor:
    identity = torch.eye(H_CC.shape[-1], dtype=H_CC.dtype, device=H_CC.device)
    alpha_C: Tensor = torch.linalg.solve(H_CC + ridge * identity, h_C)
    return alpha_C.clamp(min=0)
