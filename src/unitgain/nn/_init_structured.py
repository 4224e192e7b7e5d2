"""Initializers that shape a weight as a whole: constants, orthogonal, sparse, identity, LSUV."""

from functools import partial

import torch
from torch import Tensor, nn

from unitgain.nn._init_base import Initializer
from unitgain.nn._init_lsuv import LSUV
from unitgain.theory import weights


def zeros() -> Initializer:
    """Every weight 0: no gradient passes a layer like this, which makes it a lower bound.

    Example:
        >>> zeros().weight_std(64, 10)
        0.0
    """
    return constant(0.0)


def constant(value: float = 0.1) -> Initializer:
    """Every weight the same ``value``: all units of a layer stay equal for ever.

    Example:
        >>> constant(0.1).weight_std(64, 10)
        0.0
    """
    return Initializer(partial(_constant, value=value), weights.constant(value).weight)


def identity(gain: float = 1.0) -> Initializer:
    """``gain`` on the diagonal, 0 elsewhere; extra units get nothing, extra inputs are dropped.

    Example:
        >>> import torch
        >>> weight = torch.empty(2, 3)
        >>> identity(2.0).weight(weight, generator=torch.Generator())
        >>> weight
        tensor([[2., 0., 0.],
                [0., 2., 0.]])

    Reference:
        Le, Jaitly and Hinton 2015, arXiv 1504.00941.
    """
    return Initializer(partial(_identity, gain=gain))


def orthogonal(gain: float = 1.0) -> Initializer:
    """``gain`` times a uniformly drawn matrix with orthonormal rows or columns, the fewer of both.

    The mean square of the entries is gain^2 / max(fan_in, fan_out), in each draw exactly.

    Example:
        >>> orthogonal().weight_std(25, 10)
        0.2

    Reference:
        Saxe, McClelland and Ganguli 2014, arXiv 1312.6120.
    """
    return Initializer(partial(nn.init.orthogonal_, gain=gain), weights.orthogonal(gain).weight)


def sparse(sparsity: float = 0.9, std: float = 0.01) -> Initializer:
    """Each unit hears a few inputs: N(0, std^2) there, 0 on the ``sparsity`` share of the others.

    ceil(sparsity * fan_in) of a unit's incoming weights are 0, and at least one isn't. (In
    ``torch.nn.init.sparse_`` the share counts in the outgoing weights of an input, so one output
    unit would hear nothing; and it draws the places from torch's global generator.)

    The standard deviation of an entry is std * sqrt(kept / fan_in).

    Example:
        >>> import torch
        >>> weight = torch.empty(3, 10)
        >>> sparse().weight(weight, generator=torch.Generator().manual_seed(0))
        >>> (weight != 0).sum(dim=1)
        tensor([1, 1, 1])

    Reference:
        Martens 2010, Deep learning via Hessian-free optimization, section 5.
    """
    return Initializer(
        partial(_sparse, sparsity=sparsity, std=std),
        weights.sparse(sparsity, std).weight,
    )


def lsuv(target_std: float = 1.0, tolerance: float = 0.01, max_iterations: int = 10) -> Initializer:
    """Orthogonal weights, then each layer rescaled on a batch until its pre-activations fit.

    Args:
        target_std: The standard deviation that a layer's pre-activations are brought to.
        tolerance: How far from it, relatively, is near enough.
        max_iterations: At most so many rescalings of a layer.

    Example:
        >>> lsuv(target_std=2.0).data_driven
        LSUV(target_std=2.0, tolerance=0.01, max_iterations=10)

    Reference:
        Mishkin and Matas 2016, arXiv 1511.06422, algorithm 1.
    """
    return Initializer(
        weight=partial(nn.init.orthogonal_, gain=1.0),
        data_driven=LSUV(target_std, tolerance, max_iterations),
    )


def _constant(weight: Tensor, /, *, generator: torch.Generator, value: float) -> None:
    del generator
    nn.init.constant_(weight, value)


def _identity(weight: Tensor, /, *, generator: torch.Generator, gain: float) -> None:
    del generator
    nn.init.eye_(weight)
    with torch.no_grad():
        weight.mul_(gain)


def _sparse(weight: Tensor, /, *, generator: torch.Generator, sparsity: float, std: float) -> None:
    nn.init.normal_(weight, std=std, generator=generator)
    dropped = weight.shape[1] - weights.kept_inputs(weight.shape[1], sparsity)
    order = torch.rand(weight.shape, generator=generator).argsort(dim=1)
    with torch.no_grad():
        weight.scatter_(1, order[:, :dropped], 0.0)
