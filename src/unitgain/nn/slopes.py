"""Derivatives of activations, for the backward pass that is written by hand.

Torch has a kernel for the derivative of each activation that it ships; some of them take it from the activation's
output, which then may overwrite its input. Any other callable is differentiated by autograd, on its own.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from unitgain.nn.activations import Erf

_aten: Any = torch.ops.aten
_SELU = (1.6732632423543772, 1.0507009873554805)


class Slope(abc.ABC):
    """An activation and its derivative.

    Attributes:
        in_place: whether the derivative is taken from the output, so that the input need not be kept.
    """

    in_place: bool = False

    @abc.abstractmethod
    def forward(self, z: Tensor, out: Tensor) -> Any:
        """Write phi(z) to ``out``, which is ``z`` itself where `in_place`; gives what ``backward`` needs."""

    @abc.abstractmethod
    def backward(self, gradient: Tensor, saved: Any, out: Tensor) -> Tensor:
        """The gradient times phi'(z), written to ``out`` where that saves memory."""


@final
@dataclass(frozen=True)
class _Known(Slope):
    """An activation whose derivative torch has a kernel for."""

    function: Callable[[Tensor, Tensor], object]
    derivative: Callable[[Tensor, Tensor, Tensor], object]
    in_place: bool

    def forward(self, z: Tensor, out: Tensor) -> Tensor:
        self.function(z, out)
        return out if self.in_place else z

    def backward(self, gradient: Tensor, saved: Tensor, out: Tensor) -> Tensor:
        self.derivative(gradient, saved, out)
        return out


@final
@dataclass(frozen=True)
class _Differentiated(Slope):
    """Any activation, differentiated by autograd."""

    function: Callable[[Tensor], Tensor]

    def forward(self, z: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        # .data has a version of its own: z may be a part of a tensor that other layers' are parts of.
        leaf = z.data.requires_grad_()
        with torch.enable_grad():
            a = self.function(leaf)
        out.copy_(a.detach())
        return leaf, a

    def backward(self, gradient: Tensor, saved: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
        leaf, a = saved
        return torch.autograd.grad(a, leaf, gradient)[0]


def slope_of(activation: nn.Module) -> Slope:
    """The activation with its derivative.

    Args:
        activation: what `as_activation` gave.

    Example:
        >>> import torch
        >>> slope = slope_of(torch.nn.ReLU())
        >>> z = torch.tensor([-1.0, 2.0])
        >>> saved = slope.forward(z, z)
        >>> slope.backward(torch.ones(2), saved, torch.empty(2))
        tensor([0., 1.])
    """
    make = _KNOWN.get(type(activation))
    known = None if make is None else make(activation)
    return _Differentiated(activation) if known is None else known


def _relu(_: Any) -> Slope:
    return _Known(
        lambda z, out: torch.clamp_min(z, 0.0, out=out),
        lambda g, a, out: _aten.threshold_backward.grad_input(g, a, 0.0, grad_input=out),
        True,
    )


def _leaky_relu(module: Any) -> Slope | None:
    slope = module.negative_slope
    if slope < 0:
        # The sign of the output no longer tells that of the input.
        return None
    return _Known(
        lambda z, out: _aten.leaky_relu.out(z, slope, out=out),
        lambda g, a, out: _aten.leaky_relu_backward.grad_input(g, a, slope, True, grad_input=out),
        slope > 0,
    )


def _elu(alpha: float, scale: float) -> Slope | None:
    if alpha <= 0:
        return None
    return _Known(
        lambda z, out: _aten.elu.out(z, alpha, scale, 1.0, out=out),
        lambda g, a, out: _aten.elu_backward.grad_input(
            g, alpha, scale, 1.0, True, a, grad_input=out
        ),
        True,
    )


def _softplus(module: Any) -> Slope:
    beta, threshold = module.beta, module.threshold
    return _Known(
        lambda z, out: _aten.softplus.out(z, beta, threshold, out=out),
        lambda g, z, out: _aten.softplus_backward.grad_input(g, z, beta, threshold, grad_input=out),
        False,
    )


def _gelu(module: Any) -> Slope:
    kind = module.approximate
    return _Known(
        lambda z, out: _aten.gelu.out(z, approximate=kind, out=out),
        lambda g, z, out: _aten.gelu_backward.grad_input(g, z, approximate=kind, grad_input=out),
        False,
    )


def _erf_derivative(gradient: Tensor, z: Tensor, out: Tensor) -> None:
    torch.mul(z, z, out=out).neg_().exp_().mul_(2.0 / math.sqrt(math.pi)).mul_(gradient)


_KNOWN: dict[type, Callable[[Any], Slope | None]] = {
    nn.Identity: lambda _: _Known(
        lambda z, out: None if out is z else out.copy_(z), lambda g, _a, out: out.copy_(g), True
    ),
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.ELU: lambda module: _elu(module.alpha, 1.0),
    nn.SELU: lambda _: _elu(*_SELU),
    nn.GELU: _gelu,
    nn.SiLU: lambda _: _Known(
        lambda z, out: _aten.silu.out(z, out=out),
        lambda g, z, out: _aten.silu_backward.grad_input(g, z, grad_input=out),
        False,
    ),
    nn.Tanh: lambda _: _Known(
        lambda z, out: torch.tanh(z, out=out),
        lambda g, a, out: _aten.tanh_backward.grad_input(g, a, grad_input=out),
        True,
    ),
    nn.Sigmoid: lambda _: _Known(
        lambda z, out: torch.sigmoid(z, out=out),
        lambda g, a, out: _aten.sigmoid_backward.grad_input(g, a, grad_input=out),
        True,
    ),
    nn.Softplus: _softplus,
    Erf: lambda _: _Known(lambda z, out: torch.erf(z, out=out), _erf_derivative, False),
}
