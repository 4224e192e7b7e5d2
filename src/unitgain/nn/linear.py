"""The packed linear map, whose bits don't depend on how many members there are.

Shapes: K members, B examples, I inputs, O outputs.
"""

from typing import Any, final

import torch
from torch import Tensor

from unitgain.nn.layout import ALIGNMENT, aligned


def linear(h_KBI: Tensor, weight_KIO: Tensor, bias_K1O: Tensor | None) -> Tensor:
    """The map z = h W + b, member by member: (K, B, O).

    Member k's numbers, forward and backward, are bitwise those of K = 1 wherever B is at least 8. BLAS picks its kernel
    by the alignment of what it writes and by whether a matrix is a vector: weights whose size is a multiple of the
    alignment go straight through ``torch.baddbmm``, others through a function that keeps to one kernel.

    Args:
        h_KBI: inputs.
        weight_KIO: weights, each member's slice aligned (see `layout`).
        bias_K1O: biases, or None.

    Example:
        >>> h, w, b = torch.ones(2, 3, 5), torch.ones(2, 5, 1), torch.zeros(2, 1, 1)
        >>> linear(h, w, b)[1].flatten()
        tensor([5., 5., 5.])
    """
    _, fan_in, fan_out = weight_KIO.shape
    if (fan_in * fan_out) % ALIGNMENT == 0 and min(fan_in, fan_out) > 1:
        return _matrix(h_KBI, weight_KIO, bias_K1O)
    result: Tensor = _Unaligned.apply(h_KBI, weight_KIO, bias_K1O)  # type: ignore[no-untyped-call]
    return result


def _matrix(h_KBI: Tensor, weight_KIO: Tensor, bias_K1O: Tensor | None) -> Tensor:
    if bias_K1O is None:
        return torch.bmm(h_KBI, weight_KIO)
    return torch.baddbmm(bias_K1O, h_KBI, weight_KIO)


@final
class _Unaligned(torch.autograd.Function):
    """The same map with the weight's gradient in aligned memory, and vectors multiplied without BLAS."""

    @staticmethod
    def forward(ctx: Any, h_KBI: Tensor, weight_KIO: Tensor, bias_K1O: Tensor | None) -> Tensor:
        ctx.save_for_backward(h_KBI, weight_KIO)
        ctx.has_bias = bias_K1O is not None
        _, fan_in, fan_out = weight_KIO.shape
        if min(fan_in, fan_out) > 1:
            return _matrix(h_KBI, weight_KIO, bias_K1O)
        z = h_KBI * weight_KIO if fan_in == 1 else (h_KBI * weight_KIO.mT).sum(2, keepdim=True)
        return z if bias_K1O is None else z + bias_K1O

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        (gz_KBO,) = grad_outputs
        h_KBI, weight_KIO = ctx.saved_tensors
        gh = _input_gradient(gz_KBO, weight_KIO) if ctx.needs_input_grad[0] else None
        gb = gz_KBO.sum(1, keepdim=True) if ctx.has_bias else None
        return gh, _weight_gradient(h_KBI, gz_KBO), gb


def _input_gradient(gz_KBO: Tensor, weight_KIO: Tensor) -> Tensor:
    _, fan_in, fan_out = weight_KIO.shape
    if fan_out == 1:
        return gz_KBO * weight_KIO.mT
    if fan_in == 1:
        return (gz_KBO * weight_KIO).sum(2, keepdim=True)
    return torch.bmm(gz_KBO, weight_KIO.mT)


def _weight_gradient(h_KBI: Tensor, gz_KBO: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        # A gradient of the gradient is wanted, which writing in place would cut off.
        return torch.bmm(h_KBI.mT, gz_KBO)
    members, _, fan_in = h_KBI.shape
    size = fan_in * gz_KBO.shape[2]
    block = gz_KBO.new_empty(members, aligned(size))
    gw_KIO = block[:, :size].view(members, fan_in, -1)
    return torch.bmm(h_KBI.mT, gz_KBO, out=gw_KIO)
