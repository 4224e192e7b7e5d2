r"""How much the gradients of a batch's examples agree, and those of successive steps.

The gradient of one example's loss with respect to a linear map's weights is the outer product $h_b \delta_b^T$, and
with respect to its biases $\delta_b$: its squared norm is $\|\delta_b\|^2 (\|h_b\|^2 + 1)$, and no example needs a
backward pass of its own.

Everything is in float64, since squares of gradients leave float32's range.

Shapes: K members, L layers, B examples, T places of an example, I inputs and O outputs of a linear map.
"""

import numpy as np
import torch
from torch import Tensor

from unitgain.probe import _host
from unitgain.probe.layers import Layers


def gradient_moments(
    gradients: Layers, inputs: Layers, weights: Layers, biases: Layers
) -> tuple[Tensor, Tensor]:
    r"""What a batch says of the gradients of examples: the trace of their covariance, and their mean's squared norm.

    With $G_b$ the gradients of examples and $G_B$ that of their mean, the unbiased estimates are

    $\mathrm{tr} \Sigma = (E_b \|G_b\|^2 - \|G_B\|^2) B / (B - 1)$,
    $\|G\|^2 = (B \|G_B\|^2 - E_b \|G_b\|^2) / (B - 1)$.

    Shape:
        - return: (K, L) each, float64; NaN for layers that aren't linear maps, and for a batch of one

    Args:
        gradients: dJ/dz_l (K, B, O) or (K, B, T, O), of the mean over examples.
        inputs: h_{l-1}, (K, B, I) or (K, B, T, I).
        weights: of the linear maps.
        biases: theirs, for the layers that have any.

    Reference:
        McCandlish et al. 2018, arXiv 1812.06162, equations A.2 and A.4 with batches of 1 and B.
    """
    gradient_of, input_of, weight_of, bias_of = (
        layers.by_layer() for layers in (gradients, inputs, weights, biases)
    )
    like = next(iter(gradient_of.values()))
    trace_KL = like.new_full((like.shape[0], gradients.count), torch.nan, dtype=torch.float64)
    square_KL = trace_KL.clone()
    for i, d in gradient_of.items():
        h, weight = input_of.get(i), weight_of.get(i)
        if h is None or weight is None or not _is_linear(h, d, weight) or d.shape[1] < 2:
            continue
        count = d.shape[1]
        single_K, whole_K = _squared_norms(h.double(), d.double(), bias=i in bias_of)
        trace_KL[:, i] = (single_K - whole_K) * (count / (count - 1))
        square_KL[:, i] = (count * whole_K - single_K) / (count - 1)
    return trace_KL, square_KL


def cosines(now: Layers, before: Layers) -> Tensor:
    """The cosine between two tensors of each member and layer, (K, L); NaN where one of them is zero."""
    values = []
    for (_, x), (_, y) in zip(now.groups, before.groups, strict=True):
        a, b = x.flatten(2).double(), y.flatten(2).double()
        lengths = (_dot(a, a) * _dot(b, b)).sqrt_()
        values.append((_dot(a, b) / lengths).to(x.dtype))
    return now.table(values)


def _is_linear(h: Tensor, d: Tensor, weight: Tensor) -> bool:
    maps = h.shape[-1] * d.shape[-1] == weight[0].numel()
    return maps and d.dim() in (3, 4) and h.shape[:-1] == d.shape[:-1]


def _squared_norms(h: Tensor, d: Tensor, *, bias: bool) -> tuple[Tensor, Tensor]:
    """The mean of the examples' squared gradient norms, and that of the whole batch, (K,) each."""
    count = d.shape[1]
    if d.dim() == 3:
        single_K = (d.square().sum(2) * (h.square().sum(2) + bias)).sum(1)
    else:
        # |sum_t h_t d_t^T|^2 = sum_tu (h_t h_u) (d_t d_u).
        single_K = ((h @ h.mT + bias) * (d @ d.mT)).sum((1, 2, 3))
    h_KNI, d_KNO = h.flatten(1, -2), d.flatten(1, -2)
    whole_K = _product(h_KNI.mT, d_KNO).flatten(1).square().sum(1)
    if bias:
        whole_K = whole_K + d_KNO.sum(1).square().sum(1)
    # J is a mean: an example's own gradient is B times its part of dJ/dz.
    return single_K * count, whole_K


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product, member by member; on CPU by numpy, whose bits depend on no neighbour's place in memory."""
    if a.device.type == "cpu":
        return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))
    return a @ b


def _dot(a: Tensor, b: Tensor) -> Tensor:
    if a.device.type == "cpu":
        return torch.from_numpy(_host.dot(a.numpy(), b.numpy()))
    return (a * b).sum(-1)
