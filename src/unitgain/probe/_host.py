"""Reductions on CPU, by numpy: its dot products read memory twice as fast as torch's norms do.

A member's numbers depend on no other member's: each product is a call of BLAS of its own, below the size at which BLAS
shares a call among threads.

Float32 squares vanish below 1e-23 and overflow above 1e19. What comes near that is taken again in float64: it is free
to look here, and only what needs it pays.

Shapes: F fields, K members, L layers, G layers of one shape, B examples, D units, N numbers of a tensor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitgain.probe.layers import Array, Layers

_CHUNK = 4096
"""Numbers of one dot product: OpenBLAS takes threads for more than 10,000."""
_BLOCK = 2**15
"""Numbers of one matrix of a product with two vectors: it takes threads for more than 2^17."""
_SAFE_LEAST, _SAFE_GREATEST = 1e-30, 1e30
"""Squares that float32 holds with all digits, and sums of them."""
_DIGITS = 0.01
"""The share of a mean square that a variance must be to be told from it in float32."""
_NEAR_ONE = 1e-3
"""Below this distance from one, a cosine is taken from the spread of directions."""


def dot(x: Array, y: Array) -> Array:
    """The sum of products over the last axis."""
    size = x.shape[-1]
    total: Array
    if size <= _CHUNK:
        total = np.vecdot(x, y)
        return total
    whole = size // _CHUNK * _CHUNK
    total = np.add.reduce(np.vecdot(_chunks(x, whole), _chunks(y, whole)), -1)
    if whole < size:
        total += np.vecdot(x[..., whole:], y[..., whole:])
    return total


def _chunks(x: Array, size: int) -> Array:
    return x[..., :size].reshape(*x.shape[:-1], size // _CHUNK, _CHUNK)


def squares(x: Array) -> Array:
    """The sum of squares over the last axis."""
    return dot(x, x)


def shares(which: NDArray[np.bool_], dtype: np.dtype[Any]) -> Array:
    """The share of true ones along the last axis; a sum of booleans costs ten times as much."""
    # As many ones as bits that are set: eight of them in one number of eight bytes.
    eights = which.shape[-1] % 8 == 0 and which.flags.c_contiguous
    bits = np.bitwise_count(which.view(np.uint64)) if eights else which
    share: Array = np.add.reduce(bits, -1, dtype) / which.shape[-1]
    return share


def norms(fields: Sequence[Layers]) -> Array:
    """The Frobenius norm of each member's tensor of each layer, (F, L, K)."""
    square_FLK = np.full((len(fields), fields[0].count, _members(fields)), np.nan, _kind(fields))
    with np.errstate(all="ignore"):
        for square_LK, layers in zip(square_FLK, fields, strict=True):
            for place, x_GKN in layers.whole:
                square_LK[place] = squares(x_GKN)
        norm_FLK: Array = np.sqrt(square_FLK)
        if norm_FLK.dtype == np.float32 and not _safe(square_FLK):
            unsafe_FLK = (square_FLK < _SAFE_LEAST) | (square_FLK > _SAFE_GREATEST)
            for norm_LK, unsafe_LK, layers in zip(norm_FLK, unsafe_FLK, fields, strict=True):
                _look_again(norm_LK, unsafe_LK, layers)
    return norm_FLK


def _members(fields: Sequence[Layers]) -> int:
    return next((layers.groups[0][1].shape[1] for layers in fields if layers.groups), 1)


def _kind(fields: Sequence[Layers]) -> type[np.floating[Any]]:
    wide = any(layers.is_double for layers in fields)
    return np.float64 if wide else np.float32


def _safe(square: Array) -> bool:
    """Whether float32 holds all these squares; those that aren't numbers stay so however they are taken."""
    flat = square.reshape(-1)
    return bool(np.fmin.reduce(flat) >= _SAFE_LEAST and np.fmax.reduce(flat) <= _SAFE_GREATEST)


def _look_again(norm_LK: Array, unsafe_LK: NDArray[np.bool_], layers: Layers) -> None:
    """Take the norms in float64 whose squares float32 does not hold."""
    for place, x_GKN in layers.whole:
        index = np.arange(layers.count)[place]
        g, k = np.nonzero(unsafe_LK[index])
        norm_LK[index[g], k] = np.sqrt(squares(x_GKN[g, k].astype(np.float64)))


def statistics(layers: Layers) -> tuple[Array, list[NDArray[np.bool_]]]:
    """What there is to say of activations (K, B, D) by layer.

    Returns:
        Mean, mean square, variance, mean cosine and share of silent units, (5, L, K), and which units are silent, of
        each group (G, K, D).
    """
    table_SLK = np.full((5, layers.count, _members([layers])), np.nan, _kind([layers]))
    silent = []
    with np.errstate(all="ignore"):
        for place, x_GKBD in layers.examples_whole:
            *values, silent_GKD = _statistics(x_GKBD)
            silent.append(silent_GKD)
            for row_LK, value_GK in zip(table_SLK, values, strict=True):
                row_LK[place] = value_GK
    return table_SLK, silent


def _statistics(x_GKBD: Array) -> tuple[Array, ...]:
    """Mean, mean square, variance, mean cosine, share of silent units, (G, K) each, and the silent units (G, K, D)."""
    count, units = x_GKBD.shape[2:]
    square_GKB = squares(x_GKBD)
    # One product with two vectors reads the numbers as often as one with a single one.
    weight_GK2B = np.ones((*x_GKBD.shape[:2], 2, count), x_GKBD.dtype)
    np.divide(1.0, np.sqrt(square_GKB), out=weight_GK2B[:, :, 0])
    sum_GK2D = _weighted_sums(weight_GK2B, x_GKBD)
    mean_GK = np.add.reduce(sum_GK2D[:, :, 1], -1) / (count * units)
    second_GK = np.add.reduce(square_GKB, -1) / (count * units)
    variance_GK = second_GK - mean_GK * mean_GK
    pairs = count * (count - 1) or np.nan
    cosine_GK = ((squares(sum_GK2D[:, :, 0]) - count) / pairs).astype(x_GKBD.dtype, copy=False)
    unsafe_GK = _unsafe(square_GKB)
    few_GK = ~(variance_GK > _DIGITS * second_GK) | unsafe_GK
    if few_GK.any():
        _spread_again(variance_GK, second_GK, few_GK, x_GKBD)
    near_GK = ~(cosine_GK < 1 - _NEAR_ONE) | unsafe_GK
    if near_GK.any():
        _cosine_again(cosine_GK, near_GK, square_GKB, x_GKBD)
    silent_GKD = _silent(sum_GK2D[:, :, 1], x_GKBD)
    share_GK = shares(silent_GKD, x_GKBD.dtype)
    return mean_GK, second_GK, variance_GK, cosine_GK, share_GK, silent_GKD


def _weighted_sums(weight_GK2B: Array, x_GKBD: Array) -> Array:
    """Two weighted sums over the examples, (G, K, 2, D)."""
    count, units = x_GKBD.shape[2:]
    step = max(_BLOCK // units, 1)
    total: Array = np.matmul(weight_GK2B[..., :step], x_GKBD[:, :, :step])
    for first in range(step, count, step):
        rows = slice(first, first + step)
        total += np.matmul(weight_GK2B[..., rows], x_GKBD[:, :, rows])
    return total


def _unsafe(square_GKB: Array) -> NDArray[np.bool_]:
    """Which members' squares of some layer float32 does not hold, (G, K), or false for all; float64 near zero alike."""
    if _safe(square_GKB):
        return np.zeros((1, 1), bool)
    safe: NDArray[np.bool_] = square_GKB.min(-1) >= _SAFE_LEAST
    safe &= square_GKB.max(-1) <= _SAFE_GREATEST
    return ~safe


def _spread_again(
    variance_GK: Array, second_GK: Array, which_GK: NDArray[np.bool_], x_GKBD: Array
) -> None:
    """Take moments in float64 where squares leave float32's range, or their difference few digits."""
    g, k = np.nonzero(which_GK)
    wide = x_GKBD[g, k].reshape(len(g), -1).astype(np.float64)
    second_GK[g, k] = squares(wide) / wide.shape[1]
    wide -= (np.add.reduce(wide, -1) / wide.shape[1])[:, None]
    variance_GK[g, k] = squares(wide) / wide.shape[1]


def _cosine_again(
    cosine_GK: Array, which_GK: NDArray[np.bool_], square_GKB: Array, x_GKBD: Array
) -> None:
    r"""Take the mean cosine from the spread of directions, where that is near or squares leave float32's range.

    With $\bar u$ the mean of the n directions, it is $1 - \sum_b |u_b - \bar u|^2 / (n - 1)$, which has all its
    digits near one. Examples that are zero have no direction and don't count; with fewer than two others there is no
    cosine.
    """
    g, k = np.nonzero(which_GK)
    u_NBD, square_NB = x_GKBD[g, k], square_GKB[g, k]
    weight_NB = np.ones_like(square_NB)
    if not _safe(square_NB):
        size_NB = np.maximum(u_NBD.max(-1), -u_NBD.min(-1))
        # By a power of two: what is safe keeps its bits, and none of them depends on a neighbour.
        u_NBD = np.ldexp(u_NBD, -np.frexp(size_NB)[1][..., None])
        weight_NB[size_NB == 0] = 0
        square_NB = np.where(size_NB == 0, 1, squares(u_NBD))
    u_NBD *= (1 / np.sqrt(square_NB))[..., None]
    count_N = weight_NB.sum(-1)
    u_NBD -= np.matmul((weight_NB / count_N[:, None])[:, None], u_NBD)
    spread_N = np.add.reduce(squares(u_NBD) * weight_NB, -1)
    cosine_GK[g, k] = np.where(count_N > 1, 1 - spread_N / (count_N - 1), np.nan)


def _silent(sum_GKD: Array, x_GKBD: Array) -> NDArray[np.bool_]:
    """Units whose numbers are all zero: their sum is, and where no number is negative that says it all."""
    candidate: NDArray[np.bool_] = sum_GKD == 0
    if candidate.any() and not x_GKBD.min() >= 0:
        g, k = np.nonzero(candidate.any(-1))
        rows = x_GKBD[g, k]
        candidate[g, k] = (rows.max(1) == 0) & (rows.min(1) == 0)
    return candidate
