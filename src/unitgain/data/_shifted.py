"""A split whose target rows come from another distribution than its source rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from unitgain.data._split import Split
from unitgain.data._table import Floats, Table

Kind = Literal["none", "covariate", "label", "concept", "domain", "corruption"]
"""What differs: nothing; p(x); p(y); p(y|x); all of it between two domains; the target's features."""


@final
@dataclass(frozen=True, eq=False)
class Shifted:
    """Source rows to train and validate on, target rows to test on, and the true ratio of their densities.

    Args:
        table: The table; the features or labels of its target rows may differ from the loaded one's.
        split: Source rows as ``train`` and ``val``, target rows as ``test``.
        kind: What differs between source and target.
        ratio: (N,) the true w = p_target / p_source of each row's features (for a label shift of its
            label), with mean one over the training rows; None where it isn't known or isn't finite.
        bound: The largest w that the populations allow, with mean one under the source; infinity
            where there is none, NaN where it isn't known.
        ess_share: 1 / E[w^2] under the source's population: the effective share of its rows;
            0 where E[w^2] is infinite, NaN where it isn't known.
    """

    table: Table
    split: Split
    kind: Kind
    ratio: Floats | None
    bound: float
    ess_share: float


Shift = Callable[[Table, Split], Shifted]
"""From a table and its split to source and target."""
