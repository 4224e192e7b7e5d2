"""How far a run's confidence is its accuracy: on validation rows, on these weighted, and on target rows.

Shapes: N rows, C classes, B bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from unitgain.data import Prepared
from unitgain.pack.metrics import BINS, confidence_bins
from unitgain.train.representations import Representations


@final
@dataclass(frozen=True, eq=False)
class Reliability:
    r"""Even bins of the largest posterior, and :math:`\sum_b share_b \, |accuracy_b - confidence_b|`.

    Attributes:
        part: which rows: validation or target.
        weights: what these are weighted by: nothing, inputs, or classes.
        ece: the expected calibration error.
        share_B: of the weights' sum, by bin; the last bin is that of a confidence of exactly 1.
        confidence_B: the mean largest posterior; NaN in a bin without weight.
        accuracy_B: the share that is right; NaN there too.
    """

    part: str
    weights: str
    ece: float
    share_B: Tensor
    confidence_B: Tensor
    accuracy_B: Tensor

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types, without empty bins."""
        bins = torch.stack([self.share_B, self.confidence_B, self.accuracy_B], 1)
        names = ("share", "confidence", "accuracy")
        return {
            "part": self.part,
            "weights": self.weights,
            "ece": self.ece,
            "bins": [dict(zip(names, row, strict=True)) for row in bins[self.share_B > 0].tolist()],
        }


def reliability(
    part: str, weights: str, posterior_NC: Tensor, label_N: Tensor, weight_N: Tensor
) -> Reliability:
    """The bins of some rows.

    Args:
        part: a name for the rows.
        weights: a name for the weights.
        posterior_NC: posteriors.
        label_N: true classes.
        weight_N: not negative, not all zero.

    Example:
        >>> said_NC, label_N = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])
        >>> found = reliability("target", "nothing", said_NC, label_N, torch.ones(2))
        >>> round(found.ece, 3)
        0.45

    Reference:
        Guo et al. (2017), arXiv 1706.04599, equation 3.
    """
    confidence_N, said_N = posterior_NC.double().max(1)
    bin_N, weight_N = confidence_bins(confidence_N), weight_N.double() / weight_N.double().sum()

    def total(value_N: Tensor) -> Tensor:
        return torch.zeros(BINS + 1, dtype=torch.float64).scatter_add_(0, bin_N, weight_N * value_N)

    share_B = total(torch.ones_like(confidence_N))
    confidence_B, accuracy_B = total(confidence_N), total((said_N == label_N).double())
    ece = float((accuracy_B - confidence_B).abs().sum())
    return Reliability(part, weights, ece, share_B, confidence_B / share_B, accuracy_B / share_B)


def reliabilities(
    table: Prepared,
    source: Representations,
    target: Representations,
    weight_N: Tensor,
    class_weight_C: Tensor | None,
) -> tuple[Reliability, ...]:
    """Those of validation rows, of these weighted as the target, and of target rows; none in a regression.

    Args:
        table: of the run.
        source: its validation rows.
        target: its target rows.
        weight_N: of validation rows, by inputs.
        class_weight_C: weights of classes, which come before these under label shift; None without.
    """
    if table.task != "classification":
        return ()
    val_N, test_M = (
        torch.from_numpy(table.y[rows]) for rows in (table.split.val, table.split.test)
    )
    ways = "inputs", weight_N
    if class_weight_C is not None:
        ways = "classes", class_weight_C[val_N]

    def found() -> Iterator[Reliability]:
        yield reliability("validation", "nothing", source.said_RT, val_N, torch.ones(len(val_N)))
        # Where validation rows weigh nothing at all, they foretell nothing.
        if float(ways[1].sum()) > 0:
            yield reliability("validation", ways[0], source.said_RT, val_N, ways[1])
        yield reliability("target", "nothing", target.said_RT, test_M, torch.ones(len(test_M)))

    return tuple(found())
