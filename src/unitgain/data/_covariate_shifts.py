"""Shifts of p(x), with weights that are known because rows are drawn with known probabilities."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from unitgain.data._directions import first_component, standardised
from unitgain.data._selection import Selection, source_probability
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Floats, Table

TestRows = Literal["population", "complement"]
_FLOOR = 0.02


@final
@dataclass(frozen=True)
class PCATilt:
    """Source rows lie low along the first principal component.

    ``p = clip(sigmoid(-strength z), .02, 1)`` for the standardised first principal component z of
    standardised numeric features; source rows are kept with ``pi = min(1, c p)``. Test rows are the
    population, with ``w = 1 / pi``, or what the source lacks, kept with ``1 - pi``, with
    ``w = (1 - pi) / pi``.

    Args:
        strength: The slope a; 0 is no shift.
        seed: Decides which rows are kept, not how many.
        kept: The share of training and validation rows that is kept; below 1 with ``complement``.
        test_rows: ``population`` or ``complement``.

    Example:
        >>> from unitgain.data.sources import breast_cancer
        >>> from unitgain.data.splits import Random
        >>> table = breast_cancer()
        >>> shifted = PCATilt()(table, Random()(table))
        >>> [len(part) for part in shifted.split.parts()]
        [170, 57, 114]

    Reference: Gretton et al. (2009), Covariate shift by kernel mean matching, section 8.4.3 (a bias
    along the first principal component).
    """

    strength: float = 3.0
    seed: int = 0
    kept: float = 0.5
    test_rows: TestRows = "population"

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The rows of ``split`` that the tilt keeps.

        Raises:
            DataError: Without numeric features that vary, or where a part keeps no row.
        """
        z_N = first_component(standardised(table))
        selection = _tilted(z_N, split, self.strength, self.kept, self.test_rows)
        return selection.apply(table, split, self.seed)


def _tilted(
    z_N: Floats, split: Split, strength: float, kept: float, test_rows: TestRows
) -> Selection:
    p_N = np.clip(1 / (1 + np.exp(np.clip(strength * z_N, -700, 700))), _FLOOR, 1.0)
    source_N = source_probability(p_N, split, kept)
    target_N = np.ones(len(z_N)) if test_rows == "population" else 1 - source_N
    return Selection(source_N, target_N)
