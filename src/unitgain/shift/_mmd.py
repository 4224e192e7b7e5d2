r"""The maximum mean discrepancy of many permutations at once.

Shapes: R rows of the pool, D features, B statistics (the data's first), F random features.
"""

import math

import torch
from torch import Tensor

from unitgain.shift._rows import gaussian, shuffled

_CHUNK = 1024


def permuted_mmd(
    rows_RD: Tensor, first: int, permutations: int, features: int, generator: torch.Generator
) -> Tensor:
    """The unbiased statistic of the data and of permutations (B,).

    Args:
        rows_RD: the pool.
        first: how many of its first rows are the source.
        permutations: how many.
        features: random features; 0 is the exact kernel.
        generator: draws them all.
    """
    # A width and features from the pool alone: permutations leave them as they are.
    sample = shuffled(rows_RD, generator)[:1000]
    distances = torch.pdist(sample)
    distances = distances[distances > 0]
    width = float(distances.median()) if len(distances) else 1.0
    member_RB = _memberships(len(rows_RD), first, permutations, generator, rows_RD.device)
    if features:
        sums = _feature_sums(rows_RD, member_RB, width, features, generator)
    else:
        sums = _kernel_sums(rows_RD, member_RB, width)
    within_B, across_B, both, diagonal_B, trace = sums
    n, m = first, len(rows_RD) - first
    other_B = both - 2 * across_B + within_B
    mixed_B = across_B - within_B
    first_B = (within_B - diagonal_B) / (n * (n - 1))
    second_B = (other_B - (trace - diagonal_B)) / (m * (m - 1))
    return first_B + second_B - 2 * mixed_B / (n * m)


_Sums = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""s K s (B,), 1 K s (B,), 1 K 1, and the diagonal's sum within s (B,) and in all; s marks source rows."""


def _memberships(
    rows: int, first: int, permutations: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Which rows are the source (R, B), in the data and in each permutation."""
    member_BR = torch.zeros(permutations + 1, rows, dtype=torch.bool, device=device)
    member_BR[0, :first] = True
    for row_R in member_BR[1:]:
        drawn = torch.randperm(rows, generator=generator, device=generator.device)[:first]
        row_R[drawn.to(device)] = True
    return member_BR.T.contiguous()


def _kernel_sums(rows_RD: Tensor, member_RB: Tensor, width: float) -> _Sums:
    within_B = rows_RD.new_zeros(member_RB.shape[1])
    across_B, both = torch.zeros_like(within_B), rows_RD.new_zeros(())
    # float32 is exact for the members, and far more exact for the kernel than any p-value needs.
    rows, members_RB = rows_RD.float(), member_RB.float()
    for start in range(0, len(rows), _CHUNK):
        kernel_SR = gaussian(rows[start : start + _CHUNK], rows, width)
        product_SB = kernel_SR @ members_RB
        own_SB = members_RB[start : start + _CHUNK]
        within_B += (own_SB * product_SB).sum(0, dtype=torch.float64)
        across_B += product_SB.sum(0, dtype=torch.float64)
        both += kernel_SR.sum(dtype=torch.float64)
    diagonal_B = member_RB.sum(0).double()
    return within_B, across_B, both, diagonal_B, diagonal_B.new_tensor(float(len(rows)))


def _feature_sums(
    rows_RD: Tensor, member_RB: Tensor, width: float, features: int, generator: torch.Generator
) -> _Sums:
    at = generator.device
    omega_DF = torch.randn(rows_RD.shape[1], features, generator=generator, device=at) / width
    phase_F = 2 * math.pi * torch.rand(features, generator=generator, device=at)
    omega_DF, phase_F = omega_DF.to(rows_RD.device), phase_F.to(rows_RD.device)
    scale = math.sqrt(2 / features)
    sum_BF = rows_RD.new_zeros(member_RB.shape[1], features)
    total_F, diagonal_B = rows_RD.new_zeros(features), rows_RD.new_zeros(member_RB.shape[1])
    trace = rows_RD.new_zeros(())
    for start in range(0, len(rows_RD), 16 * _CHUNK):
        rows, member = (part[start : start + 16 * _CHUNK] for part in (rows_RD, member_RB))
        feature_SF = torch.addmm(phase_F, rows.float(), omega_DF).cos_() * scale
        square_S = feature_SF.square().sum(1)
        sum_BF += member.float().T @ feature_SF
        total_F += feature_SF.sum(0)
        diagonal_B += square_S @ member.float()
        trace += square_S.sum()
    within_B = sum_BF.square().sum(1)
    return within_B, sum_BF @ total_F, total_F @ total_F, diagonal_B, trace
