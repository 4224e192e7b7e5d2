"""Networks whose predictions are averaged, as one module.

Shapes: B examples, D features, C classes, T targets, K members.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from unitgain.nn.losses import probabilities


@final
class Ensemble(nn.Module):
    r"""A weighted mean of networks' class probabilities, or of their predictions.

    Classification: :math:`p = \sum_k w_k softmax(f_k(x))`, then :math:`softmax(\log p / \tau)`. Regression:
    :math:`\mu + \sigma \sum_k w_k f_k(x)`, in the units of the data. Both in float64.

    Args:
        members: K networks of one number of features and outputs.
        weights: one a member, their sum one.
        classes: whether outputs stand for classes.
        temperature: tau.
        mean: mu of each target.
        scale: sigma of each target.

    Example:
        >>> ensemble = Ensemble([nn.Identity(), nn.Identity()], [0.5, 0.5], classes=True)
        >>> ensemble(torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]], dtype=torch.float64)

    Reference:
        Caruana, Niculescu-Mizil, Crew and Ksikes (2004), doi 10.1145/1015330.1015432; Guo et al. (2017), arXiv
        1706.04599, section 4.2, for the temperature.
    """

    weight_K: Tensor
    mean_T: Tensor
    scale_T: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Sequence[float],
        *,
        classes: bool,
        temperature: float = 1.0,
        mean: Sequence[float] = (0.0,),
        scale: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.classes, self.temperature = classes, temperature
        self.register_buffer("weight_K", torch.tensor(weights, dtype=torch.float64))
        self.register_buffer("mean_T", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("scale_T", torch.tensor(scale, dtype=torch.float64))

    def forward(self, x_BD: Tensor) -> Tensor:
        """Probabilities (B, C), or predictions (B, T), float64, of encoded features in the members' type."""
        output_KBT = torch.stack([member(x_BD) for member in self.members]).double()
        if not self.classes:
            return torch.einsum("k,kbt->bt", self.weight_K, output_KBT) * self.scale_T + self.mean_T
        return tempered(
            torch.einsum("k,kbc->bc", self.weight_K, probabilities(output_KBT)), self.temperature
        )


def tempered(probability_BC: Tensor, temperature: float) -> Tensor:
    r"""Probabilities at a temperature: :math:`softmax(\log p / \tau)`.

    Example:
        >>> tempered(torch.tensor([[0.2, 0.8]]), 2.0)
        tensor([[0.3333, 0.6667]])
    """
    if temperature == 1.0:
        return probability_BC
    smallest = torch.finfo(probability_BC.dtype).tiny
    return (probability_BC.clamp(min=smallest).log() / temperature).softmax(-1)
