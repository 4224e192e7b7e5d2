"""What every estimator does to rows first: checks, scales, an order that depends on values alone.

Shapes: N source rows, M target rows, R rows of either kind, D features, C centres.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.errors import DataError

CHUNK = 16_384
"""Rows that are looked at together, so that memory is linear in their number."""


def check_rows(name: str, rows_RD: Tensor, features: int | None = None) -> Tensor:
    """The rows in float64, where they lie.

    Args:
        name: what a message calls them.
        rows_RD: numbers of any type.
        features: how many columns there must be.

    Raises:
        DataError: not a matrix, without rows or columns, not finite, or of other columns.
    """
    if rows_RD.ndim != 2 or rows_RD.shape[1] == 0:
        shape = tuple(rows_RD.shape)
        raise DataError(
            f"{name}: must be a matrix of rows and features, has shape {shape}; reshape it"
        )
    if len(rows_RD) == 0:
        raise DataError(
            f"{name}: must hold at least one row, holds none; see how rows are selected"
        )
    rows = rows_RD.detach().double()
    bad = int((~rows.isfinite().all(1)).sum())
    if bad:
        raise DataError(
            f"{name}: must be finite, {bad} of {len(rows)} rows are not; impute or drop them"
        )
    if features is not None and rows.shape[1] != features:
        raise DataError(
            f"{name}: must have {features} features, has {rows.shape[1]}; use the same columns"
        )
    return rows


def check_parts(source_ND: Tensor, target_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts in float64.

    Raises:
        DataError: a part isn't a finite matrix with rows, or they differ in columns or device.
    """
    source = check_rows("source", source_ND)
    target = check_rows("target", target_MD, source.shape[1])
    if source.device != target.device:
        raise DataError(
            f"target: must be on the source's device {source.device}, is on {target.device}; move it"
        )
    return source, target


def check_vector(name: str, values_R: Tensor, rows: int | None = None) -> Tensor:
    """The numbers in float64.

    Raises:
        DataError: not a vector, empty, not finite, or of another length.
    """
    if values_R.ndim != 1 or len(values_R) == 0:
        shape = tuple(values_R.shape)
        raise DataError(
            f"{name}: must be a vector of at least one number, has shape {shape}; mend it"
        )
    if rows is not None and len(values_R) != rows:
        raise DataError(f"{name}: must hold {rows} numbers, holds {len(values_R)}; one a row")
    values = values_R.detach().double()
    bad = int((~values.isfinite()).sum())
    if bad:
        raise DataError(f"{name}: must be finite, {bad} of {len(values)} are not; drop those rows")
    return values


@final
@dataclass(frozen=True)
class Scaler:
    """Centres and scales features; a constant one is centred only."""

    mean_D: Tensor
    scale_D: Tensor

    @classmethod
    def of(cls, source_ND: Tensor, target_MD: Tensor) -> "Scaler":
        """From both parts, each with half of the say whatever its size."""
        mean_D = (source_ND.mean(0) + target_MD.mean(0)) / 2
        parts = [(rows - mean_D).square().mean(0) for rows in (source_ND, target_MD)]
        deviation_D = (sum(parts, torch.zeros_like(mean_D)) / 2).sqrt()
        # What is left of a constant after rounding isn't a scale.
        constant_D = deviation_D <= 1e-12 * mean_D.abs()
        return cls(mean_D, torch.where(constant_D, torch.ones_like(mean_D), deviation_D))

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """The scaled rows."""
        return (rows_RD - self.mean_D) / self.scale_D


def chunks(rows_RD: Tensor, size: int = CHUNK) -> Iterator[Tensor]:
    """Neighbouring rows, at most ``size`` at a time."""
    return iter(torch.split(rows_RD, size))


def shuffled(rows_RD: Tensor, generator: torch.Generator) -> Tensor:
    """The rows in a random order that doesn't depend on the order they came in."""
    return rows_RD[shuffled_order(rows_RD, generator)]


def shuffled_order(rows_RD: Tensor, generator: torch.Generator) -> Tensor:
    """That order, as row numbers: rows are sorted by a projection first, so that equal sets give equal orders."""
    direction_D = torch.arange(1, rows_RD.shape[1] + 1, device=rows_RD.device).double().sqrt()
    order = (rows_RD * direction_D).sum(1).argsort(stable=True)
    shuffle = torch.randperm(len(order), generator=generator, device=generator.device)
    return order[shuffle.to(order.device)]


def folds(
    source_ND: Tensor, target_MD: Tensor, count: int, most: int, generator: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """Both parts in folds, of at most ``most`` rows a part in all, for cross-validation.

    Fewer folds where a part has fewer rows; none where a part has one row.
    """
    count = min(count, len(source_ND), len(target_MD))
    if count < 2:
        return [], []
    source, target = (shuffled(rows, generator)[:most] for rows in (source_ND, target_MD))
    return list(source.tensor_split(count)), list(target.tensor_split(count))


def without(parts: list[Tensor], left_out: int) -> Tensor:
    """All folds but one."""
    return torch.cat([part for i, part in enumerate(parts) if i != left_out])


def gaussian(rows_RD: Tensor, centres_CD: Tensor, width: float) -> Tensor:
    r"""The kernel :math:`\exp(-|x - c|^2 / 2 \sigma^2)`, (R, C)."""
    squares_RC = torch.cdist(rows_RD, centres_CD).square_()
    return squares_RC.mul_(-0.5 / width**2).exp_()


def median_distance(source_ND: Tensor, target_MD: Tensor, generator: torch.Generator) -> float:
    """The median distance of two rows of the pool, by at most 500 of each part; 1 where all
    agree.
    """
    rows = torch.cat([shuffled(part, generator)[:500] for part in (source_ND, target_MD)])
    distances = torch.pdist(rows) if len(rows) > 1 else rows.new_zeros(1)
    distances = distances[distances > 0]
    return float(distances.median()) if len(distances) else 1.0
