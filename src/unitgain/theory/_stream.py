r"""The part of a residual network's gradient that all units share.

The mean m and the mean square M of a layer's outputs decide the next layer's:

$m' = m + s \mu(q)$, $M' = M + 2 s m \mu(q) + s^2 v(q)$, $q = \sigma_w^2 M + \sigma_b^2 + \mu_b^2$,

so the loss depends on units also through (m, M), and its derivatives (a, b) with respect to them go back by the
transposed Jacobian J of this map. A gradient of random directions has 1 / n of its square in the directions 1 and h of
n units, from which (a, b) begin; where activations have a mean, as in ReLU networks, they grow faster than the rest.
Behind a norm they don't, and `unitgain.theory._radial` has layers without skips.

Legend: all matrices are 2 x 2, of the directions 1 and h or of m and M.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._branch import Branch, Moments

Array = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Shared:
    """The shared part of a gradient g with respect to a layer's outputs h.

    Attributes:
        h: moments of the outputs.
        projections: E[p p^T] with p = (1^T g, h^T g), in units of E|g|^2.
    """

    h: Moments
    projections: Array

    @classmethod
    def of_random(cls, h: Moments) -> "Shared":
        """That of a gradient without preferred direction."""
        return cls(h, _square(h))

    def back(
        self, h: Moments, branch: Branch, scale: float, sigma_w: float, growth: float, width: int
    ) -> "tuple[Shared, float]":
        """Through a residual layer, to the gradient at its inputs.

        Args:
            h: moments of its inputs.
            branch: what it adds.
            scale: s.
            sigma_w: of its weights.
            growth: the squared gradient that the branch adds to a random one.
            width: units.

        Returns:
            The shared part there, and by what the whole squared gradient has grown.
        """
        mean_slope = scale * sigma_w**2 * branch.mean_slope
        second_slope = (scale * sigma_w) ** 2 * branch.second_slope
        jacobian = np.array(
            [
                [1.0, mean_slope],
                [2 * scale * branch.output.mean, 1 + 2 * h.mean * mean_slope + second_slope],
            ]
        )
        inverse = np.linalg.inv(_directions(self.h))
        derivatives = inverse @ self.projections @ inverse.T
        after = jacobian.T @ derivatives @ jacobian
        # Where lengths collapse within a layer, the difference is rounding.
        change = max((_norm(h, after) - _norm(self.h, derivatives)) / width, -1.0)
        grown = 1 + change + growth if growth > 0 else max(1 + change, 1 / width)
        to = _directions(h)
        projections = (to @ after @ to.T + growth * _square(h)) / grown
        return Shared(h, projections), grown


def _square(h: Moments) -> Array:
    """The inner products of 1 and h, a unit."""
    return np.array([[1.0, h.mean], [h.mean, h.second]])


def _directions(h: Moments) -> Array:
    """How m and M change along 1 and h: the rows."""
    return np.array([[1.0, 2 * h.mean], [h.mean, 2 * h.second]])


def _norm(h: Moments, derivatives: Array) -> float:
    """The squared gradient, times n, of derivatives (a, b): g_i = (a + 2 b h_i) / n."""
    return float((derivatives * np.array([[1.0, 2 * h.mean], [2 * h.mean, 4 * h.second]])).sum())
