"""What is known of two Gaussians whose rows are source and target."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from unitgain.data._table import Floats


@final
@dataclass(frozen=True)
class GaussianRatio:
    """``w(x) = N(x; mu, scale^2 I) / N(x; 0, I)``, with ``mu`` of length ``mean``, the same in each feature.

    Args:
        mean: The length of mu; a negative one turns it round.
        scale: The target's standard deviation, above 0; the source's is 1.
        n_features: D.

    Example:
        >>> sinc = GaussianRatio(mean=2.0, scale=0.5, n_features=1)
        >>> round(sinc.second_moment, 3), round(sinc.ess_share, 4)
        (14.866, 0.0673)

    Reference: Cortes, Mansour and Mohri (2010), Learning bounds for importance weighting, section 4 (a Gaussian
    whose weights have no second moment).
    """

    mean: float
    scale: float
    n_features: int

    @property
    def centre(self) -> Floats:
        """(D,) mu, the mean of the target."""
        return np.full(self.n_features, self.mean / math.sqrt(self.n_features))

    @property
    def bound(self) -> float:
        """The largest w, infinity where there is none."""
        if self.scale < 1:
            exponent = self.mean**2 / (2 * (1 - self.scale**2))
            return math.exp(exponent - self.n_features * math.log(self.scale))
        return 1.0 if (self.mean, self.scale) == (0, 1) else math.inf

    @property
    def second_moment(self) -> float:
        """``E[w^2] = (s sqrt(2 - s^2))^-D exp(mean^2 / (2 - s^2))`` under the source; infinity from s^2 = 2 up."""
        rest = 2 - self.scale**2
        if rest <= 0:
            return math.inf
        return math.exp(
            self.mean**2 / rest - self.n_features * math.log(self.scale * math.sqrt(rest))
        )

    @property
    def ess_share(self) -> float:
        """1 / E[w^2], 0 where this is infinite."""
        return 1 / self.second_moment

    @property
    def kl(self) -> float:
        """The divergence KL(target, source) in nats: ``(mean^2 + D (s^2 - 1 - log s^2)) / 2``."""
        variance = self.scale**2
        return (self.mean**2 + self.n_features * (variance - 1 - math.log(variance))) / 2

    def ratio(self, x_ND: Floats) -> Floats:
        """(N,) w of rows (N, D)."""
        away_N = ((x_ND - self.centre) ** 2).sum(axis=1) / self.scale**2
        log_w_N = ((x_ND**2).sum(axis=1) - away_N) / 2 - self.n_features * math.log(self.scale)
        return np.asarray(np.exp(log_w_N), dtype=np.float64)
