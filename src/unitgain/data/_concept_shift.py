"""A shift of p(y|x): the target's labels follow another function of the same features."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from unitgain.data._directions import chosen_direction
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Floats, Ints, Table
from unitgain.errors import DataError

_STREAM = 0x434F4E43


@final
@dataclass(frozen=True)
class Concept:
    """Target labels differ where ``z > t``: some become another class, or all rise.

    z is the standardised sum of the named standardised features, or of all of them in a random
    direction; t leaves the share ``region`` of the table's rows above it. Of the target rows there
    a share ``strength``, to the nearest row, is given another class, each of the training rows'
    other classes alike; for regression ``y + strength * s``, with s the standard deviation of the
    training rows' targets. All else stays: p(x) is the same, so the ratio is one, and no weights
    of features make up for it.

    Args:
        strength: The share of labels, or standard deviations of the target; 0 is no shift.
        features: Names of numeric features; none for a random direction.
        region: The share of rows that lie in the region, above 0 and below 1.
        seed: Decides the direction, which labels are changed, and to what.
    """

    strength: float = 0.5
    features: tuple[str, ...] = ()
    region: float = 0.5
    seed: int = 0

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split as it is, with other labels of its test rows.

        Raises:
            DataError: Features that aren't there or don't vary, no test row in the region, or a
                share of labels above 1.
        """
        z_N = chosen_direction(table, self.features, self.seed)
        inside_N = z_N > _threshold(z_N, self.region)
        rows = split.test[inside_N[split.test]]
        if not len(rows):
            raise DataError(
                f"{table.name}: shift: some test row must lie in the region, but none of {len(split.test)} "
                f"does; raise shift.region, or use more rows"
            )
        y = table.y.copy()
        if table.task == "regression":
            y[rows] += self.strength * table.y[split.train].std(axis=0)
        else:
            rng = np.random.default_rng([_STREAM, self.seed])
            changed = rng.permutation(rows)[: self._count(table, len(rows))]
            y[changed] = _other_classes(table, split.train, changed, rng)
        return Shifted(
            table=replace(table, y=y),
            split=split,
            kind="concept",
            ratio=np.ones(table.n_rows),
            bound=1.0,
            ess_share=1.0,
        )

    def _count(self, table: Table, rows: int) -> int:
        if self.strength > 1:
            raise DataError(
                f"{table.name}: shift.strength must be a share of labels from 0 to 1 for classification, got "
                f"{self.strength:g}; lower it"
            )
        return round(self.strength * rows)


def _threshold(z_N: Floats, region: float) -> float:
    """Between two rows, so that no rounding decides on which side one lies."""
    count = min(max(1, round(region * len(z_N))), len(z_N) - 1)
    below, above = np.partition(z_N, [-count - 1, -count])[[-count - 1, -count]]
    return float((below + above) / 2)


def _other_classes(table: Table, train: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
    classes: npt.NDArray[np.int64] = np.unique(table.y[train]).astype(np.int64)
    if len(classes) < 2:
        raise DataError(
            f"{table.name}: shift: labels can change where training rows have two classes, but all "
            f"{len(train)} are of one; set split=stratified"
        )
    own = np.searchsorted(classes, table.y[rows])
    other: Ints = (own + rng.integers(1, len(classes), size=len(rows))) % len(classes)
    return classes[other]
