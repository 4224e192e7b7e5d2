"""The packed linear map, whose bits don't depend on how many members there are.

Shapes: K members, B examples, I inputs, O outputs.
"""

from typing import Any, final

import torch
from torch import Tensor

from unitgain.nn.layout import ALIGNMENT, aligned


def linear(
    h_KBI: Tensor, weight_KIO: Tensor, bias_K1O: Tensor | None, out: Tensor | None = None
) -> Tensor:
    """The map z = h W + b, member by member: (K, B, O).

    Member k's numbers, forward and backward, are bitwise those of K = 1 wherever B is at least 8. BLAS picks its kernel
    by the alignment of what it writes and by whether a matrix is a vector: weights whose size is a multiple of the
    alignment go straight through ``torch.baddbmm``, others through a function that keeps to one kernel.

    Args:
        h_KBI: inputs.
        weight_KIO: weights, each member's slice aligned (see `layout`).
        bias_K1O: biases, or None.
        out: where to; without it, autograd may differentiate the result.

    Example:
        >>> h, w, b = torch.ones(2, 3, 5), torch.ones(2, 5, 1), torch.zeros(2, 1, 1)
        >>> linear(h, w, b)[1].flatten()
        tensor([5., 5., 5.])
    """
    if out is not None or is_regular(weight_KIO):
        return _product(h_KBI, weight_KIO, bias_K1O, out)
    result: Tensor = _Irregular.apply(h_KBI, weight_KIO, bias_K1O)  # type: ignore[no-untyped-call]
    return result


def input_gradient(gz_KBO: Tensor, weight_KIO: Tensor, out: Tensor | None = None) -> Tensor:
    """The gradient with respect to h, (K, B, I), from that with respect to z: g W^T."""
    _, fan_in, fan_out = weight_KIO.shape
    if fan_out == 1:
        return torch.mul(gz_KBO, weight_KIO.mT, out=out)
    if fan_in == 1:
        return torch.sum(gz_KBO * weight_KIO, 2, keepdim=True, out=out)
    return torch.bmm(gz_KBO, weight_KIO.mT, out=out)


def weight_gradient(h_KBI: Tensor, gz_KBO: Tensor, out: Tensor) -> None:
    """Write the gradient with respect to W, h^T g, to a block of parameters.

    Args:
        h_KBI: inputs.
        gz_KBO: the gradient with respect to z.
        out: (K, I, O), each member's slice aligned.
    """
    if is_regular(out) or out.dtype != h_KBI.dtype:
        # All members at once, and then into the block: BLAS takes strided ones one by one.
        out.copy_(torch.bmm(h_KBI.mT, gz_KBO))
    else:
        torch.bmm(h_KBI.mT, gz_KBO, out=out)


def is_regular(weight_KIO: Tensor) -> bool:
    """Whether BLAS's own choice of a kernel doesn't depend on the number of members."""
    _, fan_in, fan_out = weight_KIO.shape
    return (fan_in * fan_out) % ALIGNMENT == 0 and min(fan_in, fan_out) > 1


def _product(
    h_KBI: Tensor, weight_KIO: Tensor, bias_K1O: Tensor | None, out: Tensor | None = None
) -> Tensor:
    _, fan_in, fan_out = weight_KIO.shape
    if min(fan_in, fan_out) > 1:
        if bias_K1O is None:
            return torch.bmm(h_KBI, weight_KIO, out=out)
        return torch.baddbmm(bias_K1O, h_KBI, weight_KIO, out=out)
    if fan_in == 1:
        z = torch.mul(h_KBI, weight_KIO, out=out)
    else:
        z = torch.sum(h_KBI * weight_KIO.mT, 2, keepdim=True, out=out)
    return z if bias_K1O is None else torch.add(z, bias_K1O, out=out)


@final
class _Irregular(torch.autograd.Function):
    """The same map with the weight's gradient in aligned memory, and vectors multiplied without BLAS."""

    @staticmethod
    def forward(ctx: Any, h_KBI: Tensor, weight_KIO: Tensor, bias_K1O: Tensor | None) -> Tensor:
        ctx.save_for_backward(h_KBI, weight_KIO)
        ctx.has_bias = bias_K1O is not None
        return _product(h_KBI, weight_KIO, bias_K1O)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        (gz_KBO,) = grad_outputs
        h_KBI, weight_KIO = ctx.saved_tensors
        gh = input_gradient(gz_KBO, weight_KIO) if ctx.needs_input_grad[0] else None
        gb = gz_KBO.sum(1, keepdim=True) if ctx.has_bias else None
        if torch.is_grad_enabled():
            # A gradient of the gradient is wanted, which writing in place would cut off.
            return gh, torch.bmm(h_KBI.mT, gz_KBO), gb
        members, fan_in, fan_out = weight_KIO.shape
        block = gz_KBO.new_empty(members, aligned(fan_in * fan_out))
        gw_KIO = block[:, : fan_in * fan_out].view(weight_KIO.shape)
        weight_gradient(h_KBI, gz_KBO, gw_KIO)
        return gh, gw_KIO, gb
