"""Shifted problems whose weights are known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor

Array = NDArray[np.float64]
TABLES = {"breast_cancer": load_breast_cancer, "digits": load_digits, "diabetes": load_diabetes}


@dataclass(frozen=True)
class Problem:
    """Labelled source rows with their true weights, and labelled target rows to score on."""

    source_x: Array
    source_y: NDArray[Any]
    weight: Array
    target_x: Array
    target_y: NDArray[Any]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The features of both parts."""
        return torch.from_numpy(self.source_x), torch.from_numpy(self.target_x)


def gaussian(n: int, features: int, shift: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and true weights of a mean shift of that length."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(n, features, generator=generator, dtype=torch.float64)
    target = torch.randn(n, features, generator=generator, dtype=torch.float64)
    mu = torch.full((features,), shift / features**0.5, dtype=torch.float64)
    return source, target + mu, (source @ mu - shift**2 / 2).exp()


def sinc(seed: int, n: int = 150) -> Problem:
    """Sugiyama's regression: x from N(1, .5^2) to N(2, .25^2); the target's y are without noise."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(1, 0.5, n), rng.normal(2, 0.25, n)
    y = np.sinc(x) + rng.normal(0, 0.25, n)
    weight = 2 * np.exp(2 * (x - 1) ** 2 - 8 * (x - 2) ** 2)
    return Problem(x[:, None], y, weight, z[:, None], np.sinc(z))


def pca_tilt(name: str, seed: int, strength: float = 3.0) -> Problem:
    """Half of a table is the target; of the other, rows are kept with p = clip(sigmoid(-a z), .02, 1).

    z is the standardised first principal component of standardised features: weights are 1 / p.
    """
    x, y = TABLES[name](return_X_y=True)
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    z = x @ np.linalg.svd(x, full_matrices=False)[2][0]
    z = z / z.std() * np.sign(z[np.argmax(np.abs(z))])
    p = np.clip(1 / (1 + np.exp(strength * z)), 0.02, 1)
    rng = np.random.default_rng(seed)
    pool, target = np.array_split(rng.permutation(len(x)), [len(x) // 2])
    kept = pool[rng.random(len(pool)) < p[pool]]
    return Problem(x[kept], y[kept], 1 / p[kept], x[target], y[target])


def shifted(kind: str, n: int, seed: int, features: int = 10) -> tuple[Tensor, Tensor]:
    """Standard normal rows, and rows that differ in the mean, a scale or a correlation.

    Sparse is two features: with one the Kolmogorov-Smirnov test has half of the power that belongs
    to the bar.
    """
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(n, features, generator=generator, dtype=torch.float64)
    target = torch.randn(n, features, generator=generator, dtype=torch.float64)
    if kind == "sparse .2":
        target[:, :2] += 0.2
    elif kind == "dense .5":
        target += 0.5 / features**0.5
    elif kind == "scale 1.5":
        target[:, 0] *= 1.5
    elif kind == "correlation .5":
        target[:, 1] = 0.5 * target[:, 0] + 0.75**0.5 * target[:, 1]
    return source, target
