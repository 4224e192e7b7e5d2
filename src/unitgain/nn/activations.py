"""Activations: what a layer may apply to each number on its own, and where that saturates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unitgain.errors import ConfigError, no_warnings_of_errors
from unitgain.nn._names import name_of

_NEAR = 0.05
"""Share of the way from phi(0) to an asymptote that is left to a saturated entry."""


@final
class Erf(nn.Module):
    """The error function, erf(x) = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x.

    Shape:
        - input and output: any, the same

    Example:
        >>> import torch
        >>> Erf()(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.8427])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply erf to every entry."""
        return torch.erf(x)


@final
class Elementwise(nn.Module):
    """A function of one number, as a module.

    Shape:
        - input and output: any, the same

    Args:
        function: Takes and gives a tensor; `as_activation` verifies that it is elementwise.

    Example:
        >>> import torch
        >>> Elementwise(torch.sin)
        Elementwise(sin)
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function to every entry."""
        return self.function(x)

    def extra_repr(self) -> str:
        """The function's name."""
        return name_of(self.function)


def as_activation(value: object) -> nn.Module:
    """An activation out of what a configuration gave.

    It is tried on a few numbers: shape and dtype are kept, each entry depends on the entry in its
    place alone, the same input gives the same output, the input isn't written to, and gradients
    pass.

    Args:
        value: A module without parameters or buffers, or a function of a tensor.

    Raises:
        ConfigError: It is neither, or not elementwise; the line says which of the above fails.

    Example:
        >>> import torch
        >>> as_activation(torch.nn.ReLU())
        ReLU()
        >>> as_activation(torch.nn.Softmax(dim=-1))
        Traceback (most recent call last):
        ...
        unitgain.errors.ConfigError: activation: each entry must depend on the entry in its place
        alone, but Softmax mixes entries; use an elementwise function (normalization belongs to norm)
    """
    if isinstance(value, nn.Module):
        module, name = value, type(value).__name__
    elif callable(value) and not isinstance(value, type):
        module, name = Elementwise(value), name_of(value)
    else:
        raise ConfigError(
            "activation: a module such as torch.nn.ReLU or a function of a tensor is needed, "
            f"but this is {name_of(value)}; name one in _target_ "
            "(for a function such as torch.sin, add _partial_: true)"
        )
    own = [key for key, _ in module.named_parameters()] + [key for key, _ in module.named_buffers()]
    if own:
        raise ConfigError(
            f"activation: a module without parameters or buffers is needed, but {name} has "
            f"{', '.join(own)}; use one with fixed arguments (torch.nn.LeakyReLU for PReLU)"
        )
    _try(module, name)
    return module


@no_warnings_of_errors()
def _try(module: nn.Module, name: str) -> None:
    """Refuse what isn't a deterministic, differentiable function of each entry."""
    training = module.training
    module.train()
    # A random module is refused, and mustn't have moved the global stream before that.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            fault = _fault_of_form(module, name) or _fault_of_dependence(module, name)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            fault = (
                f"any shape of input must do, but {name} failed on {tuple(_probe().shape)} or "
                f"(1, 1, 1) ({reason}); use an elementwise function"
            )
    module.train(training)
    if fault:
        raise ConfigError(f"activation: {fault}")


def _probe() -> Tensor:
    """Numbers of both signs and zero, in no order, some of them close together."""
    x = torch.linspace(-3.0, 3.0, 25, dtype=torch.float64)[torch.arange(25) * 7 % 25]
    return torch.cat([x, x[:5] / 7]).reshape(2, 3, 5)


def _fault_of_form(module: nn.Module, name: str) -> str | None:
    """What is wrong with what ``module`` returns, or None."""
    x = _probe()
    y = module(x)
    if not torch.equal(x, _probe()):
        return f"the input must be left as it is, but {name} writes to it; leave inplace out"
    if not isinstance(y, Tensor) or y.shape != x.shape:
        got = tuple(y.shape) if isinstance(y, Tensor) else name_of(y)
        return (
            f"the shape must be kept, but {name} makes {got} of {tuple(x.shape)}; "
            "use an elementwise function"
        )
    if y.dtype != x.dtype or module(x.float()).dtype != torch.float32:
        return f"the dtype must be kept, but {name} changes it; end it with .to(x.dtype)"
    if not torch.isfinite(y).all():
        return (
            f"finite entries must stay finite, but {name} makes {_first_bad(x, y)}; "
            "use a function that is defined for every number"
        )
    return None


def _fault_of_dependence(module: nn.Module, name: str) -> str | None:
    """What else than the entry in its place an entry of the output depends on, or None."""
    x = _probe()
    y = module(x)
    if not torch.equal(module(x), y):
        return (
            f"the same input must give the same output, but {name} is random or has a memory; "
            "use a fixed function (randomness belongs to dropout)"
        )
    alone = torch.cat([module(entry.reshape(1, 1, 1)) for entry in x.flatten()]).reshape(x.shape)
    # The last bits may depend on an entry's place in a vector register.
    if not torch.allclose(alone, y, rtol=1e-9, atol=1e-9):
        return (
            f"each entry must depend on the entry in its place alone, but {name} mixes entries; "
            "use an elementwise function (normalization belongs to norm)"
        )
    if not module(x.requires_grad_()).requires_grad:
        return f"gradients must pass, but {name} cuts them off; compute it in torch, undetached"
    return None


def _first_bad(x: Tensor, y: Tensor) -> str:
    """The first entry whose image isn't finite, with its image."""
    place = int((~torch.isfinite(y)).flatten().nonzero()[0])
    return f"{float(y.flatten()[place])} of {float(x.flatten()[place]):.4g}"


@final
@dataclass(frozen=True)
class Saturation:
    """Where an activation is flat.

    Attributes:
        lower: phi(-infinity), if it is finite and isn't phi(0); else None.
        upper: phi(+infinity), likewise.
        phi_0: phi(0).
    """

    lower: float | None
    upper: float | None
    phi_0: float

    def saturated(self, h: Tensor) -> Tensor:
        """Which activations are nearer to an asymptote a than 0.05 |a - phi(0)|.

        Shape:
            - h: any, activations (outputs of phi)
            - return: the same, bool

        Example:
            >>> import torch
            >>> saturation_bounds(torch.nn.Tanh()).saturated(torch.tensor([-0.96, 0.0, 0.94]))
            tensor([ True, False, False])
        """
        result = torch.zeros_like(h, dtype=torch.bool)
        for asymptote in (self.lower, self.upper):
            if asymptote is not None:
                result |= (h - asymptote).abs() < _NEAR * abs(asymptote - self.phi_0)
        return result

    def share(self, h: Tensor) -> Tensor:
        """The share of saturated entries over all but the first two dimensions.

        Shape:
            - h: (G, K, ...), activations
            - return: (G, K)

        Example:
            >>> import torch
            >>> saturation_bounds(torch.nn.Tanh()).share(torch.tensor([[[-0.96, 0.0, 0.94, 0.1]]]))
            tensor([[0.2500]])
        """
        flat = h.flatten(2)
        on_host = h.device.type == "cpu" and h.dtype in (torch.float32, torch.float64)
        # On CPU numpy compares in a fifth of torch's time.
        x = flat.numpy() if on_host else flat
        near: Any = None
        for asymptote in (self.lower, self.upper):
            if asymptote is not None:
                edge = asymptote + _NEAR * (self.phi_0 - asymptote)
                beyond = x < edge if asymptote < self.phi_0 else x > edge
                near = beyond if near is None else near | beyond
        if near is None:
            return torch.zeros_like(flat[:, :, 0])
        return _share_on_host(near, h.dtype) if on_host else near.to(h.dtype).mean(2)


def _share_on_host(near: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
    """The share of true ones along the last axis, eight at a time: as many as the bits that are set."""
    size = near.shape[-1]
    counted = np.bitwise_count(near.view(np.uint64)) if size % 8 == 0 else near
    return torch.from_numpy(np.add.reduce(counted, -1, np.float64) / size).to(dtype)


def saturation_bounds(activation: nn.Module) -> Saturation:
    """The finite asymptotes of an elementwise activation, found on numbers far from zero.

    An asymptote equal to phi(0), as of ReLU, GELU and SiLU at -infinity, doesn't count: zero is
    where such a unit is silent, which is another quantity.

    Args:
        activation: What `as_activation` gave.

    Example:
        >>> import torch
        >>> saturation_bounds(torch.nn.Sigmoid())
        Saturation(lower=0.0, upper=1.0, phi_0=0.5)
        >>> saturation_bounds(torch.nn.ReLU())
        Saturation(lower=None, upper=None, phi_0=0.0)
    """
    # Several magnitudes, so that neither a logarithm nor a sine passes for a constant.
    far = torch.tensor([1e8, 3.3e8, 1.7e9, 4.9e10, 2.3e11, 1e12], dtype=torch.float64)
    with torch.no_grad():
        phi_0 = float(activation(torch.zeros(1, dtype=torch.float64)))
        lower = _limit(activation(-far), phi_0)
        upper = _limit(activation(far), phi_0)
    return Saturation(lower, upper, phi_0)


def _limit(values: Tensor, phi_0: float) -> float | None:
    """What ``values`` have come to, unless they haven't or it is phi(0)."""
    last = float(values[-1])
    slack = 1e-6 * (1.0 + abs(last))
    settled = bool(((values - last).abs() <= slack).all())  # false for nan and infinities
    return last if settled and abs(last - phi_0) > slack else None
