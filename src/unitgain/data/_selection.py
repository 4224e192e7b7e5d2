"""Rows drawn with known probabilities: then the ratio of target and source is known too."""

from dataclasses import dataclass
from typing import final

import numpy as np

from unitgain.data._shifted import Shifted
from unitgain.data._split import PARTS, Split
from unitgain.data._table import Floats, Ints, Table
from unitgain.errors import DataError

# A split may draw from its seed too: the stream of a shift is apart from it.
_STREAM = 0x53484654
# Probabilities this near to one are one: what's left of them is rounding.
_ROUNDING = 1e-9


@final
@dataclass(frozen=True, eq=False)
class Selection:
    """The probability of each row to be kept, as a source row and as a target row.

    Rows of one part are kept with these probabilities exactly, and always as many.

    Args:
        source_N: (N,) of a training or validation row, above 0, with a whole sum in each part.
        target_N: (N,) of a test row, with a whole sum over the test rows.
    """

    source_N: Floats
    target_N: Floats

    def apply(self, table: Table, split: Split, seed: int) -> Shifted:
        """The kept rows of the parts, and ``w = target / source`` as a covariate shift.

        Raises:
            DataError: Where a part keeps no row, or training rows have no weight.
        """
        parts: dict[str, Ints] = {}
        for stream, (part, rows) in enumerate(zip(PARTS, split.parts(), strict=True)):
            probability = self.target_N if part == "test" else self.source_N
            generator = np.random.default_rng([_STREAM, seed, stream])
            parts[part] = rows[systematic_sample(probability[rows], generator)]
        check_parts(table, split, parts)
        weight_N = self.target_N / self.source_N
        mean = weight_N[parts["train"]].mean()
        if not mean > 0:
            raise DataError(
                f"{table.name}: shift: some training row must have a target probability above 0, "
                f"but none of {len(parts['train'])} has; lower shift.strength or shift.kept"
            )
        source, target = self.source_N.sum(), self.target_N.sum()
        return Shifted(
            table=table,
            split=Split(**parts),
            kind="covariate",
            ratio=weight_N / mean,
            bound=float(weight_N.max() * source / target),
            ess_share=float(target**2 / ((self.target_N * weight_N).sum() * source)),
        )


def check_parts(table: Table, split: Split, parts: dict[str, Ints]) -> None:
    """Raise one `DataError` where a part of the shifted split has no rows.

    Raises:
        DataError: With how many rows there were.
    """
    faults = [
        f"{table.name}: shift: the {part} part needs a row, but of its {len(rows)} rows the shift "
        f"keeps none; use more rows, a larger part in split.fractions, or a milder shift"
        for part, rows in zip(PARTS, split.parts(), strict=True)
        if not len(parts[part])
    ]
    if faults:
        raise DataError(*faults)


def source_probability(size_N: Floats, split: Split, kept: float) -> Floats:
    """(N,) ``min(1, c size)``, with a c for each part, so that its sum is the whole number next to ``kept``.

    The sums depend on the sizes of the parts alone: runs with other ``size_N`` keep as many rows.

    Args:
        size_N: (N,) what the probability is proportional to, above 0.
        split: The parts.
        kept: The share of each part, above 0 and at most 1.
    """
    probability_N = np.ones(len(size_N))
    for rows in split.parts():
        probability_N[rows] = proportional(size_N[rows], kept_count(kept, len(rows)))
    return probability_N


def kept_count(kept: float, rows: int) -> int:
    """How many of a part's rows a share of them is, at least one."""
    return max(1, round(kept * rows))


def proportional(size_N: Floats, count: int) -> Floats:
    """(N,) ``min(1, c size)`` with sum ``count``, at most N.

    Example:
        >>> proportional(np.array([1.0, 1.0, 2.0, 8.0]), 2)
        array([0.25, 0.25, 0.5 , 1.  ])
    """
    descending = np.sort(size_N)[::-1]
    rest = np.cumsum(descending[::-1])[::-1]
    certain = np.arange(len(size_N))
    # With the largest ones certain, the next must stay below one.
    c_N = (count - certain) / rest
    first = int(np.argmax(c_N * descending <= 1.0))
    return np.asarray(np.minimum(1.0, c_N[first] * size_N), dtype=np.float64)


def systematic_sample(probability_N: Floats, generator: np.random.Generator) -> Ints:
    """Ascending positions, each with its own probability, as many as the probabilities sum to.

    Rows in random order lie on a line, each as long as its probability; what lies at a random start
    and every step of one further on is drawn.

    Args:
        probability_N: (N,) from 0 to 1, with a whole sum.
        generator: Decides order and start.

    Reference: Madow (1949), On the theory of systematic sampling, II.
    """
    certain = np.flatnonzero(probability_N > 1 - _ROUNDING)
    order = generator.permutation(np.flatnonzero(probability_N <= 1 - _ROUNDING))
    start = generator.random()
    count = round(float(probability_N.sum())) - len(certain)
    if count <= 0:
        return certain.astype(np.int64)
    until = np.cumsum(probability_N[order])
    ticks = (start + np.arange(count)) * (until[-1] / count)
    drawn = order[np.searchsorted(until, ticks, side="right")]
    return np.sort(np.concatenate([certain, drawn])).astype(np.int64)
