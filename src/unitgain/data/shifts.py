"""Shifts: callables from a `Table` and its `Split` to `Shifted` source and target rows.

A shift of one's own is any such callable, named by ``_target_``.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from unitgain.data._concept_shift import Concept
from unitgain.data._corruptions import (
    FeatureKnockout,
    FeatureScaling,
    GaussianNoise,
    MissingValues,
)
from unitgain.data._covariate_shifts import (
    ExponentialTilt,
    GaussianMeanShift,
    LogisticSelection,
    PCATilt,
)
from unitgain.data._domain_shifts import Domain, Given
from unitgain.data._label_shifts import LabelDirichlet, LabelKnockout, LabelTweakOne
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Table

__all__ = [
    "Concept",
    "Domain",
    "ExponentialTilt",
    "FeatureKnockout",
    "FeatureScaling",
    "GaussianMeanShift",
    "GaussianNoise",
    "Given",
    "LabelDirichlet",
    "LabelKnockout",
    "LabelTweakOne",
    "LogisticSelection",
    "MissingValues",
    "NoShift",
    "PCATilt",
    "Shifted",
]


@final
@dataclass(frozen=True)
class NoShift:
    """Source and target are of one distribution: the split as it is, with true weights of one."""

    def __call__(self, table: Table, split: Split) -> Shifted:
        """The split as it is."""
        return Shifted(table, split, "none", np.ones(table.n_rows), bound=1.0, ess_share=1.0)
