"""Rows of a source that come from two domains, and what it knows of their densities."""

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt


@final
@dataclass(frozen=True, eq=False)
class Domains:
    """Which rows of a table are of the target, and how much likelier they are there.

    Args:
        target: (N,) bool, whether a row is of the target.
        ratio: (N,) float64, the true w = p_target / p_source of its features; None where it isn't known.
        bound: The largest w; infinity where there is none, NaN where it isn't known.
        ess_share: 1 / E[w^2] under the source; 0 where E[w^2] is infinite, NaN where it isn't known.
    """

    target: npt.NDArray[np.bool_]
    ratio: npt.NDArray[np.float64] | None = None
    bound: float = math.nan
    ess_share: float = math.nan

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Domains":
        """Those of these rows, in this order."""
        ratio = None if self.ratio is None else self.ratio[rows]
        return Domains(self.target[rows], ratio, self.bound, self.ess_share)
