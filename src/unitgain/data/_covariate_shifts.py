"""Shifts of p(x), with weights that are known because rows are drawn with known probabilities."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from unitgain.data._directions import (
    chosen_direction,
    first_component,
    named_direction,
    projection,
    standardised,
    sum_in_own_units,
)
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


@final
@dataclass(frozen=True)
class LogisticSelection:
    """Source rows are kept with ``min(1, c p)``, ``p = clip(sigmoid(-strength z), .02, 1)``, as in `PCATilt`.

    z is the standardised sum of the named standardised features, or of all of them in a random
    direction.

    Args:
        strength: The slope; 0 is no shift.
        features: Names of numeric features; none for a random direction.
        seed: Decides the direction and which rows are kept, not how many.
        kept: The share of training and validation rows that is kept.
        test_rows: ``population`` or ``complement``.
    """

    strength: float = 3.0
    features: tuple[str, ...] = ()
    seed: int = 0
    kept: float = 0.5
    test_rows: TestRows = "population"

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The rows of ``split`` that the selection keeps.

        Raises:
            DataError: Features that aren't there or don't vary, or where a part keeps no row.
        """
        z_N = chosen_direction(table, self.features, self.seed)
        selection = _tilted(z_N, split, self.strength, self.kept, self.test_rows)
        return selection.apply(table, split, self.seed)


@final
@dataclass(frozen=True)
class ExponentialTilt:
    """Test rows are accepted with ``w = min(largest, c exp(strength z))``; source rows stay as they are.

    z is the standardised sum of the named standardised features, or their first principal component;
    with ``coefficients`` it is the sum of these times the named features, in the features' own units.
    c makes the mean of w one; a share of 1 / ``largest`` of the test rows is accepted.

    Args:
        strength: beta; 0 is no shift.
        features: Names of numeric features; none for the first principal component.
        seed: Decides which test rows are accepted, not how many.
        largest: The bound of w, above 1.
        coefficients: One for each of ``features``; none for their standardised sum.

    Reference: Tibshirani et al. (2019), Conformal prediction under covariate shift,
    arXiv 1904.06019, section 2.3.
    """

    strength: float = 1.0
    features: tuple[str, ...] = ()
    seed: int = 0
    largest: float = 5.0
    coefficients: tuple[float, ...] = ()

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split with the accepted test rows.

        Raises:
            DataError: Features that aren't there or don't vary, or coefficients that aren't one for each.
        """
        x_ND = standardised(table)
        z_N = first_component(x_ND)
        if self.coefficients:
            z_N = sum_in_own_units(table, self.features, self.coefficients)
        elif self.features:
            z_N = projection(x_ND, named_direction(table, self.features))
        return _accepted(self.strength * z_N, split, self.largest).apply(table, split, self.seed)


@final
@dataclass(frozen=True)
class GaussianMeanShift:
    """Test rows are accepted with ``w = min(largest, c N(z; strength, scale^2) / N(z; 0, 1))``.

    z is the standardised first principal component; c makes the mean of w one; a share of
    1 / ``largest`` of the test rows is accepted. Source rows stay as they are.

    Args:
        strength: The mean of the target's z.
        scale: The standard deviation of the target's z.
        seed: Decides which test rows are accepted, not how many.
        largest: The bound of w, above 1.
    """

    strength: float = 1.0
    scale: float = 1.0
    seed: int = 0
    largest: float = 5.0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split with the accepted test rows.

        Raises:
            DataError: Without numeric features that vary.
        """
        z_N = first_component(standardised(table))
        log_w_N = z_N**2 / 2 - ((z_N - self.strength) / self.scale) ** 2 / 2
        return _accepted(log_w_N, split, self.largest).apply(table, split, self.seed)


def _accepted(log_w_N: Floats, split: Split, largest: float) -> Selection:
    # A probability of at most one, with a mean of 1 / largest: clipped weights over their bound.
    w_N = np.exp(np.maximum(log_w_N - log_w_N.max(), -600.0))
    return Selection(np.ones(len(w_N)), source_probability(w_N, split, 1 / largest))


def _tilted(
    z_N: Floats, split: Split, strength: float, kept: float, test_rows: TestRows
) -> Selection:
    p_N = np.clip(1 / (1 + np.exp(np.clip(strength * z_N, -700, 700))), _FLOOR, 1.0)
    source_N = source_probability(p_N, split, kept)
    target_N = np.ones(len(z_N)) if test_rows == "population" else 1 - source_N
    return Selection(source_N, target_N)
