r"""Losses predicted from rows, for the doubly robust estimate of a target risk.

Shapes: N source rows, M target rows, D features, P kernel features, F folds.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unitgain.errors import ConfigError, DataError
from unitgain.shift._rows import (
    Scaler,
    check_parts,
    check_vector,
    chunks,
    median_distance,
    shuffled,
    shuffled_order,
)
from unitgain.shift.kmm import KernelMap


@torch.no_grad()
def predict_losses(
    source_ND: Tensor,
    loss_N: Tensor,
    target_MD: Tensor,
    generator: torch.Generator,
    *,
    centres: int = 100,
    ridges: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
    folds: int = 5,
) -> tuple[Tensor, Tensor]:
    r"""Cross-fitted kernel ridge regression of the loss on the row.

    No row's own loss is in its prediction: :math:`g(x_n) = \theta_f \cdot \varphi(x_n)` with
    :math:`\theta_f = (\Phi^T \Phi + \lambda N I)^{-1} \Phi^T l` over all folds but that of the row. Target rows
    get the mean of all folds' predictions. The features are those of a Gaussian kernel as wide as the median distance,
    and a one; the ridge is that with the least squared error on left-out folds.

    Args:
        source_ND: rows of the source that the model wasn't trained on.
        loss_N: their losses.
        target_MD: rows of the target.
        generator: draws folds and centres.
        centres: of the kernel features, half of each part.
        ridges: values of lambda to choose from.
        folds: how many, at most one a source row.

    Returns:
        Predicted losses of source rows (N,) and of target rows (M,).

    Raises:
        ConfigError: nothing to choose from, or fewer than two folds.
        DataError: rows or losses can't be used, or there is one source row.

    Example:
        >>> rows = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
        >>> loss = rows[:, 0] ** 2
        >>> predicted, _ = predict_losses(rows, loss, rows, torch.Generator().manual_seed(0))
        >>> bool((predicted - loss).abs().max() < 0.05)
        True

    Reference:
        Chernozhukov et al. (2018), arXiv 1608.00060, definition 3.1, for cross-fitting.
    """
    if centres < 1 or not ridges or min(ridges) <= 0 or folds < 2:
        raise ConfigError(
            "predict_losses: must have centres, ridges above 0 and at least 2 folds, "
            f"got {centres}, {ridges} and {folds}; leave the defaults"
        )
    source, target = check_parts(source_ND, target_MD)
    loss = check_vector("losses", loss_N, len(source))
    if len(source) < 2:
        raise DataError(
            "source: must hold at least two rows to be split in folds, holds one; add rows"
        )
    scaler = Scaler.of(source, target)
    source, target = scaler(source), scaler(target)
    half = -(-centres // 2)
    centres_CD = torch.cat([shuffled(rows, generator)[:half] for rows in (source, target)])
    features = KernelMap.of(centres_CD, median_distance(source, target, generator))
    phi_NP, phi_MP = (torch.cat([features(c) for c in chunks(r)]) for r in (source, target))
    parts = shuffled_order(source, generator).tensor_split(min(folds, len(source)))
    gram_FPP = torch.stack([phi_NP[part].T @ phi_NP[part] for part in parts])
    moment_FP = torch.stack([loss[part] @ phi_NP[part] for part in parts])
    penalty_P = torch.full_like(moment_FP[0], float(len(source)))
    penalty_P[-1] = 1e-9
    best, results = math.inf, (loss, loss)
    for ridge in ridges:
        left_FPP = gram_FPP.sum(0) - gram_FPP + torch.diag(ridge * penalty_P)
        theta_FP = torch.linalg.solve(left_FPP, moment_FP.sum(0) - moment_FP)
        predicted_N = torch.empty_like(loss)
        for part, theta_P in zip(parts, theta_FP, strict=True):
            predicted_N[part] = phi_NP[part] @ theta_P
        error = float((predicted_N - loss).square().mean())
        if error < best:
            best, results = error, (predicted_N, phi_MP @ theta_FP.mean(0))
    return results
