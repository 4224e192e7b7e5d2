"""Weights of source rows for the target that they are to speak for.

Shapes: N rows of the table, M of them test rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Floats
from unitgain.errors import DataError
from unitgain.spec import instantiate
from unitgain.spec._shift import OracleNode, WeightingNode

if TYPE_CHECKING:
    from unitgain.shift import Diagnostics


@final
@dataclass(frozen=True, eq=False)
class Importance:
    """The weights of a table's source rows.

    Attributes:
        full_N: (N,) the estimated w = p_target / p_source of training and validation rows, with mean one over the
            training rows; 1 for test rows, which are the target already.
        target_M: (M,) the same w at test rows, for what weighs these too, such as conformal sets.
        training_N: (N,) what training takes: w^exponent, bounded, with mean one over the training rows; 1 elsewhere.
        diagnostics: of ``full_N`` over the training rows.
        error: how far these are from the true weights; None where the truth isn't known.
        details: what the estimator chose by cross-validation.
        chosen: the exponent that cross-validation chose and what from, in plain types; None where it was given.
    """

    full_N: Floats
    target_M: Floats
    training_N: Floats
    diagnostics: "Diagnostics"
    error: float | None
    details: Mapping[str, float]
    chosen: Mapping[str, Any] | None = None


def estimate_importance(
    x_ND: Floats, split: Split, shifted: Shifted, node: WeightingNode
) -> Importance | None:
    """Weigh source rows by what target rows look like; their labels are not looked at.

    The ratio is fitted on training rows against test rows, on features as the network sees them, and evaluated at
    validation rows too. Weights are normalised over the whole training part, never over a batch.

    Args:
        x_ND: Encoded and scaled features.
        split: Source rows as training and validation, target rows as test.
        shifted: Knows the true ratio, for ``weighting=oracle``.
        node: The estimator, the exponent and the bound.

    Returns:
        None for ``weighting=none``. An exponent that is yet to be chosen counts as 1.

    Raises:
        DataError: The true ratio isn't known, or the estimator can't use the rows.
    """
    if not node.corrects:
        return None
    import torch

    from unitgain.shift import Estimator, diagnose, relative_error

    source = np.concatenate([split.train, split.val])
    full_N, details = np.ones(len(x_ND)), dict[str, float]()
    if isinstance(node, OracleNode):
        if shifted.ratio is None:
            raise DataError(
                f"weighting: oracle needs the true weights, but a shift of kind {shifted.kind} knows none; "
                "choose weighting=classifier"
            )
        full_N[source], target_M = shifted.ratio[source], shifted.ratio[split.test]
    else:
        estimator = instantiate(node, _key_="weighting")
        if not isinstance(estimator, Estimator):
            raise DataError(
                f"weighting: must be a unitgain.shift.Estimator, got {node.target}; derive it from that"
            )
        generator = torch.Generator().manual_seed(node.seed)
        train, target = (torch.from_numpy(x_ND[rows]) for rows in (split.train, split.test))
        ratio = estimator.fit(train, target, generator)
        full_N[source] = ratio(torch.from_numpy(x_ND[source])).numpy()
        target_M = ratio(target).numpy()
        details = dict(ratio.details)
    weight_N, error = torch.from_numpy(full_N[split.train]), None
    if shifted.ratio is not None:
        error = relative_error(weight_N, torch.from_numpy(shifted.ratio[split.train]))
    training_N = np.ones(len(x_ND))
    training_N[split.train] = training_weights(full_N[split.train], node.power, node.largest)
    return Importance(full_N, target_M, training_N, diagnose(weight_N), error, details)


def training_weights(weight_N: Floats, exponent: float, largest: float | None) -> Floats:
    """What training takes of weights: w^exponent, bounded, with mean one over the rows given.

    Args:
        weight_N: the full weights of training rows.
        exponent: within [0, 1].
        largest: the bound; None: there is none.
    """
    import torch

    from unitgain.shift import clip, flatten

    bounded = flatten(torch.from_numpy(weight_N), exponent)
    if largest is not None:
        bounded = clip(bounded, largest)
    return bounded.numpy()
