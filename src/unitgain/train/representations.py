"""What a trained network makes of rows: their inputs, its last hidden layer, what it says.

Shapes: R rows, D features, H hidden units, C classes, T targets.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unitgain.data import Prepared
from unitgain.nn.losses import probabilities
from unitgain.pack.engine import Pack

_ROWS = 4096
"""Rows that a network sees at a time."""


@final
@dataclass(frozen=True, eq=False)
class Representations:
    """Some rows as a network sees them, float64 on the CPU.

    Attributes:
        input_RD: features as the network's first layer takes them.
        hidden_RH: what the last layer takes; None for a network without hidden layers.
        said_RT: posteriors (R, C) of classes, or predictions (R, T) in the units of the targets.
        classes: whether these are posteriors.
    """

    input_RD: Tensor
    hidden_RH: Tensor | None
    said_RT: Tensor
    classes: bool

    @property
    def independent(self) -> Tensor:
        """What is said, less the first of two posteriors, which sum to one."""
        return self.said_RT[:, 1:] if self.classes and self.said_RT.shape[1] == 2 else self.said_RT


@final
class Reader:
    """The network of a pack of one as a function of a table's rows.

    Args:
        pack: trained.
        table: its data.
    """

    def __init__(self, pack: Pack, table: Prepared) -> None:
        self._network: nn.Sequential = pack.mlp.unpack(0).cpu()
        self._dtype = pack.mlp.theta.dtype
        self._table = table

    @torch.no_grad()
    def __call__(self, rows: NDArray[np.int64]) -> Representations:
        """What the network makes of these rows of the table."""
        input_RD = torch.from_numpy(self._table.x[rows])
        *layers, last = self._network
        below = nn.Sequential(*layers)
        parts = [below(input_RD[i : i + _ROWS].to(self._dtype)) for i in range(0, len(rows), _ROWS)]
        output_RT = torch.cat([last(part) for part in parts]).double()
        hidden_RH = torch.cat(parts).double() if layers else None
        classes = self._table.task == "classification"
        return Representations(input_RD.double(), hidden_RH, self._said(output_RT), classes)

    def _said(self, output_RT: Tensor) -> Tensor:
        if self._table.task == "classification":
            return probabilities(output_RT[None])[0]
        scale_T, mean_T = map(torch.from_numpy, (self._table.y_scale, self._table.y_mean))
        predicted_RT: Tensor = output_RT * scale_T + mean_T
        return predicted_RT
