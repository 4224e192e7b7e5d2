"""What a packed network tells the initializers that are derived from it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unitgain.nn.activations import Erf
from unitgain.nn.dropout import AlphaDropout
from unitgain.nn.mlp import MLP
from unitgain.nn.norm import BatchNorm, Norm, RMSNorm
from unitgain.theory import activations
from unitgain.theory._branch import Dropout, NormKind
from unitgain.theory._branch import Norm as TheoryNorm
from unitgain.theory.activations import Activation
from unitgain.theory.derived import Facts, Role

Array = NDArray[np.float64]


def facts_of(mlp: MLP, k: int, i: int, activation: Activation) -> Facts:
    """The facts of linear map ``i`` of member ``k``.

    Args:
        mlp: the network.
        k: which member.
        i: 0 is the first map, ``mlp.depth`` the output's.
        activation: from `theory_of`.
    """
    role: Role = "output" if i == mlp.depth else "first" if i == 0 else "hidden"
    dropout = mlp.dropouts[k] if mlp.dropouts else None
    return Facts(
        activation=activation,
        role=role,
        inputs=mlp.shape.inputs,
        outputs=mlp.shape.outputs,
        widths=mlp.shape.widths,
        bias=mlp.layers[i].bias is not None,
        norm=TheoryNorm(_kind(mlp.norm), mlp.shape.norm_first),
        dropout=Dropout(dropout.p if dropout else 0.0, isinstance(dropout, AlphaDropout)),
        residual=mlp.layers[i].skip,
        branches=sum(layer.skip for layer in mlp.layers),
        branch_scale=mlp.branch_scales[k],
    )


def theory_of(module: nn.Module) -> Activation:
    """The activation in the terms of theory; one of the user's own with the slope that autograd gives it.

    Example:
        >>> theory_of(nn.LeakyReLU(0.1))
        Activation(name='leaky_relu', kinks=(0.0,))
    """
    make = _KNOWN.get(type(module))
    if make is not None:
        return make(module)

    def value(x: Array) -> Array:
        with torch.no_grad():
            result: Array = module(torch.from_numpy(np.array(x))).numpy()
        return result

    def slope(x: Array) -> Array:
        leaf = torch.from_numpy(np.array(x)).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(module(leaf).sum(), leaf)
        result: Array = gradient.numpy()
        return result

    return activations.from_callable(value, slope, name=repr(module))


_KNOWN: Mapping[type, Callable[[Any], Activation]] = {
    nn.Identity: lambda _: activations.identity(),
    nn.ReLU: lambda _: activations.relu(),
    nn.LeakyReLU: lambda m: activations.leaky_relu(m.negative_slope),
    nn.ELU: lambda m: activations.elu(m.alpha),
    nn.SELU: lambda _: activations.selu(),
    nn.GELU: lambda m: activations.gelu(m.approximate),
    nn.SiLU: lambda _: activations.silu(),
    nn.Softplus: lambda m: activations.softplus(m.beta, m.threshold),
    nn.Sigmoid: lambda _: activations.sigmoid(),
    nn.Tanh: lambda _: activations.tanh(),
    Erf: lambda _: activations.erf(),
}


def _kind(norm: Norm | None) -> NormKind:
    """The norm's kind; one of the user's own is taken for one over the features of an example."""
    if norm is None:
        return "none"
    if isinstance(norm, BatchNorm) or norm.centres:
        return "batch"
    return "rms" if isinstance(norm, RMSNorm) else "layer"
