"""Layer-sequential unit variance: weights rescaled on a batch of data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class LSUV:
    """What is asked of each layer's pre-activations on a batch of data.

    Attributes:
        target_std: Their standard deviation over the batch and the layer's units.
        tolerance: A member is done where |std / target_std - 1| is at most this.
        max_iterations: At most so many rescalings of a layer.
    """

    target_std: float = 1.0
    tolerance: float = 0.01
    max_iterations: int = 10


def lsuv_scales(preactivation_KBD: Tensor, target_std: float) -> Tensor:
    """The factor for each member's weight that brings its pre-activations to the target.

    scale_k = target_std / std_{b, d}(h_kbd), the population's standard deviation in float64; 1
    where that isn't a finite positive number, so a dead or diverged member is left as it is.

    Shape:
        - preactivation_KBD: (K, B, D)
        - return: (K,), float64

    Example:
        >>> import torch
        >>> lsuv_scales(torch.tensor([[[1.0, 5.0]], [[3.0, 3.0]]]), target_std=1.0)
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    # A reduction over a slice of its own gives a member the same bits in any pack.
    std_K = torch.stack([h_BD.double().std(correction=0) for h_BD in preactivation_KBD.detach()])
    scale_K = target_std / std_K
    return torch.where(torch.isfinite(scale_K) & (scale_K > 0), scale_K, 1.0)


def lsuv_rescale(preactivation: Callable[[Tensor], Tensor], members: int, settings: LSUV) -> Tensor:
    """The factors that one layer's weights are to be multiplied by, a member each.

    W <- W * target_std / std(h(W)), repeated until each member is within the tolerance. A member
    that is done keeps its factor, however long its neighbours take. Without biases one rescaling
    is enough; biases whose own standard deviation is above the target leave it out of reach, and
    then the last rescaling stands.

    Shape:
        - preactivation: (K,) -> (K, B, D)
        - return: (K,), float64

    Args:
        preactivation: Gives the layer's pre-activations on the batch when each member's weight, as
            it was drawn, is multiplied by the given factor. The layers before it are final.
        members: K, of those that share the settings: a pack's other members needn't be shown.
        settings: Target, tolerance, limit.

    Example:
        >>> import torch
        >>> h_KBD = torch.tensor([[[2.0, -2.0]], [[0.5, -0.5]]])
        >>> lsuv_rescale(lambda scale_K: scale_K[:, None, None] * h_KBD, 2, LSUV())
        tensor([0.5000, 2.0000], dtype=torch.float64)

    Reference:
        Mishkin and Matas 2016, arXiv 1511.06422, algorithm 1.
    """
    total_K = torch.ones(members, dtype=torch.float64)
    for _ in range(settings.max_iterations):
        scale_K = lsuv_scales(preactivation(total_K), settings.target_std).to(total_K.device)
        # scale = target / std, so this is |std / target - 1| > tolerance.
        off_K = (1 / scale_K - 1).abs() > settings.tolerance
        if not off_K.any():
            break
        total_K = torch.where(off_K, total_K * scale_K, total_K)
    return total_K
