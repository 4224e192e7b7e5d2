"""Optimizers over the flat block of a pack, with hyperparameters a member.

Each agrees with its namesake in torch.optim; a member's numbers depend on no other member. Coefficients that vary over
steps are computed in float64 on the host for many steps at once, so that a step is a handful of kernels on (K, P).
Shapes: K members, P parameters of a member, S steps.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.pack.fused import Fused
from unitgain.theory.derived import Rule

Array = NDArray[np.float64]


class Optimizer(abc.ABC):
    """Updates theta (K, P) in place from its gradient.

    ``state`` holds named tensors (K, P) that start at zero: with the count of steps, all that a checkpoint needs.

    Attributes:
        rule: whether steps are in proportion to gradients ("sgd") or of a size that doesn't depend on theirs ("adam"):
            what initializers that set rates a layer must know. None: they are refused.

    Args:
        theta_KP: the block of parameters.
        members: one mapping of hyperparameters a member, the keyword arguments of the configuration.
        moves_momentum: whether some member's schedule moves momentum.
    """

    rule: Rule | None = None

    def __init__(
        self,
        theta_KP: Tensor,
        members: Sequence[Mapping[str, Any]],
        *,
        moves_momentum: bool = False,
    ) -> None:
        self.theta = theta_KP
        self.rate_factor: Tensor | None = None
        self._rated: Tensor | None = None
        self.members = list(members)
        self.moves_momentum = moves_momentum
        self.decays = bool(self.per_member("weight_decay").any())
        self.state: dict[str, Tensor] = {
            name: torch.zeros_like(theta_KP, requires_grad=False) for name in self.state_names()
        }
        self._coefficients: list[dict[str, Tensor]] = []
        self._first_step, self._last = 0, 0
        self._lr_SK = self.lr[None]

    def scale_rates(self, factor_KP: Tensor) -> None:
        """Multiply the learning rate of each parameter with a factor of its own from now on.

        An optimizer's ``update`` passes what it takes times the rate through ``rated``. AdamW's decay keeps its rate.
        """
        self.rate_factor = factor_KP.to(self.theta)
        self._rated = torch.empty_like(self.rate_factor)

    def rated(self, step_KP: Tensor) -> Tensor:
        """A step times the factors of `scale_rates`, in memory that the next call overwrites; itself without any."""
        if self.rate_factor is None:
            return step_KP
        return torch.mul(step_KP, self.rate_factor, out=self._rated)

    @abc.abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """The names of the tensors that it keeps."""

    @abc.abstractmethod
    def coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        """The coefficients (S, K) of some steps, counted from zero.

        ``momentum_SK`` comes from schedules that move momentum (or Adam's beta1) too, else it is None.
        """

    @abc.abstractmethod
    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        """Take one step; ``c`` holds its coefficients, each (K, 1).

        The gradient may be overwritten: a new tensor of that size at every step would cost more than the arithmetic.
        """

    @property
    def lr(self) -> Array:
        """The base learning rates (K,)."""
        return self.per_member("lr")

    @property
    @abc.abstractmethod
    def own_momentum(self) -> Array:
        """The momentum, or Adam's beta1, of each member (K,): what a schedule may move."""

    @property
    def keeps_gradient(self) -> bool:
        """Whether ``update`` leaves the gradient as it is, so that nobody has to copy it before."""
        return False

    @property
    def last_lr(self) -> Array:
        """The learning rates of the last step taken (K,)."""
        return np.asarray(self._lr_SK[self._last])

    def per_member(self, name: str) -> Array:
        """One hyperparameter of all members, (K,) float64."""
        return np.array([float(m[name]) for m in self.members], dtype=np.float64)

    def keeps_momentum(self) -> bool:
        """Whether some member has momentum.

        Where none has, its term is left out, as that of weight decay is where no member ``decays``: it would add an
        exact zero, so a member's bits don't depend on its neighbours' having it.
        """
        return self.moves_momentum or bool(self.own_momentum.any())

    def covers(self, first_step: int, end: int) -> bool:
        """Whether the coefficients of the steps from ``first_step`` up to ``end`` are there."""
        return self._first_step <= first_step and end <= self._first_step + len(self._coefficients)

    def prepare(self, first_step: int, lr_SK: Array, momentum_SK: Array | None = None) -> None:
        """Compute the coefficients of the steps from ``first_step`` on."""
        steps_S = np.arange(first_step, first_step + len(lr_SK), dtype=np.float64)[:, None]
        tables = self.coefficients(steps_S, lr_SK, momentum_SK)
        value_SCK = np.stack([np.broadcast_to(t, lr_SK.shape) for t in tables.values()], axis=1)
        cells = torch.from_numpy(value_SCK).to(self.theta).flatten(0, 1).unsqueeze(-1).unbind(0)
        count = len(tables)
        self._first_step, self._lr_SK = first_step, lr_SK
        self._coefficients = [
            dict(zip(tables, cells[i * count : (i + 1) * count], strict=True))
            for i in range(len(lr_SK))
        ]

    @torch.no_grad()
    def step(self, gradient_KP: Tensor, step: int) -> None:
        """Update theta with the coefficients of ``step``, which ``prepare`` must have covered."""
        self._last = step - self._first_step
        self.update(gradient_KP, self._coefficients[self._last])

    def decay(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        """Add weight decay to the gradient, where some member has any."""
        if self.decays:
            gradient_KP.addcmul_(self.theta, c["weight_decay"])


@final
class SGD(Optimizer):
    """Stochastic gradient descent with momentum (torch.optim.SGD).

    Arguments of a member: lr, momentum, dampening, weight_decay; ``nesterov`` is the pack's.

    Reference:
        Sutskever et al. 2013, PMLR 28(3):1139.
    """

    rule = "sgd"

    @property
    def keeps_gradient(self) -> bool:
        """Unless weight decay or Nesterov's term is added to it."""
        return not (self.decays or (self.state and self.members[0]["nesterov"]))

    @property
    def own_momentum(self) -> Array:
        return self.per_member("momentum")

    def state_names(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.keeps_momentum() else ()

    def coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        momentum = self.per_member("momentum") if momentum_SK is None else momentum_SK
        # torch starts the buffer with the gradient itself, and has no buffer where momentum is zero.
        plain = (steps_S == 0) | (momentum == 0.0)
        return {
            "lr": lr_SK,
            "momentum": momentum,
            "fresh": np.where(plain, 1.0, 1.0 - self.per_member("dampening")),
            "weight_decay": self.per_member("weight_decay"),
        }

    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        g = gradient_KP
        self.decay(g, c)
        if self.state:
            fresh = g * c["fresh"] if self._dampens else g
            buffer = self.state["momentum_buffer"]
            torch.addcmul(fresh, buffer, c["momentum"], out=buffer)
            g = g.addcmul_(buffer, c["momentum"]) if self.members[0]["nesterov"] else buffer
        self.theta.addcmul_(self.rated(g), c["lr"], value=-1.0)

    @cached_property
    def _dampens(self) -> bool:
        return bool(self.per_member("dampening").any())


class _AdaptiveMoments(Optimizer):
    """What Adam and AdamW share: the moments and the step that follows from them.

    On CPU torch's fused kernel goes over each member's numbers once, where packed kernels go seven times, and torch's
    square root takes four times as long for zeros, and 27 times for numbers below 1e-38, as squares of vanishing
    gradients are. Elsewhere a kernel a member would cost more than the arithmetic.
    """

    rule = "adam"

    @property
    def fused(self) -> bool:
        """Whether torch's fused kernel takes the steps."""
        return self.theta.device.type == "cpu"

    @property
    def keeps_gradient(self) -> bool:
        """Torch's fused kernel does."""
        return self.fused

    @property
    def own_momentum(self) -> Array:
        return self._betas()[:, 0]

    def state_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        betas = self._betas()
        beta1, beta2 = betas[:, 0] if momentum_SK is None else momentum_SK, betas[:, 1]
        t = steps_S + 1.0
        second_scale = 1.0 / np.sqrt(1.0 - beta2**t)
        decay = self.per_member("weight_decay")
        return {
            "fresh1": 1.0 - beta1,
            "fresh2": 1.0 - beta2,
            # lr (m / c1) / (sqrt(v / c2) + eps), with both corrections drawn out of the root.
            "rate": lr_SK / ((1.0 - beta1**t) * second_scale),
            "eps": self.per_member("eps") / second_scale,
            "weight_decay": decay,
            "kept": 1.0 - lr_SK * decay,
        }

    def prepare(self, first_step: int, lr_SK: Array, momentum_SK: Array | None = None) -> None:
        super().prepare(first_step, lr_SK, momentum_SK)
        if self.fused:
            beta1_SK = np.broadcast_to(
                self._betas()[:, 0] if momentum_SK is None else momentum_SK, lr_SK.shape
            )
            self._fused = Fused(
                self._kernel(), self._blocks(), self.members, lr_SK, beta1_SK, self.rate_factor
            )

    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        if self.fused:
            self._fused.step(gradient_KP, self._last, self._first_step)
        else:
            self._packed(gradient_KP, c)

    @abc.abstractmethod
    def _kernel(self) -> Callable[..., None]:
        """Torch's fused kernel."""

    @abc.abstractmethod
    def _decay_packed(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        """Apply weight decay, to the gradient or to theta."""

    def _packed(self, g: Tensor, c: Mapping[str, Tensor]) -> None:
        if self.decays:
            self._decay_packed(g, c)
        m, v = self.state["exp_avg"], self.state["exp_avg_sq"]
        m.lerp_(g, c["fresh1"])
        v.lerp_(torch.mul(g, g, out=g), c["fresh2"])
        torch.div(m, torch.sqrt(v, out=g).add_(c["eps"]), out=g)
        self.theta.addcmul_(self.rated(g), c["rate"], value=-1.0)

    def _blocks(self) -> list[Tensor]:
        return [self.theta.detach(), self.state["exp_avg"], self.state["exp_avg_sq"]]

    def _betas(self) -> Array:
        return np.array([m["betas"] for m in self.members], dtype=np.float64)


@final
class Adam(_AdaptiveMoments):
    """Adam; weight decay, where given, is added to the gradient (torch.optim.Adam).

    Arguments of a member: lr, betas, eps, weight_decay.

    Reference:
        Kingma and Ba 2015, arXiv 1412.6980, algorithm 1.
    """

    def _kernel(self) -> Callable[..., None]:
        return torch._fused_adam_

    def _decay_packed(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        gradient_KP.addcmul_(self.theta, c["weight_decay"])


@final
class AdamW(_AdaptiveMoments):
    """Adam with decoupled weight decay (torch.optim.AdamW).

    Arguments of a member: lr, betas, eps, weight_decay.

    Reference:
        Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2.
    """

    def _kernel(self) -> Callable[..., None]:
        return torch._fused_adamw_

    def _decay_packed(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        self.theta.mul_(c["kept"])


@final
class RMSprop(Optimizer):
    """RMSprop (torch.optim.RMSprop).

    Arguments of a member: lr, alpha, eps, momentum, weight_decay; ``centered`` is the pack's.

    Reference:
        Hinton 2012, lecture 6e of Neural Networks for Machine Learning; centred: Graves 2013, arXiv 1308.0850, eq. 40.
    """

    rule = "adam"

    @property
    def own_momentum(self) -> Array:
        return self.per_member("momentum")

    def state_names(self) -> tuple[str, ...]:
        names = ["square_avg"]
        if self.members[0]["centered"]:
            names.append("grad_avg")
        if self.keeps_momentum():
            names.append("momentum_buffer")
        return tuple(names)

    def coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        alpha = self.per_member("alpha")
        return {
            "lr": lr_SK,
            "fresh": 1.0 - alpha,
            "eps": self.per_member("eps"),
            "momentum": self.per_member("momentum") if momentum_SK is None else momentum_SK,
            "weight_decay": self.per_member("weight_decay"),
        }

    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        g = gradient_KP
        self.decay(g, c)
        spread = self.state["square_avg"].lerp_(g * g, c["fresh"])
        if "grad_avg" in self.state:
            mean = self.state["grad_avg"].lerp_(g, c["fresh"])
            spread = spread - mean * mean
        g.div_(_root(spread).add_(c["eps"]))
        if "momentum_buffer" in self.state:
            buffer = self.state["momentum_buffer"]
            g = torch.addcmul(g, buffer, c["momentum"], out=buffer)
        self.theta.addcmul_(self.rated(g), c["lr"], value=-1.0)


def _root(x: Tensor) -> Tensor:
    """The square root; on CPU numpy's: torch's takes 7 times as long for zeros, 19 times for numbers below 1e-38."""
    if x.device.type != "cpu":
        return torch.sqrt(x)
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.sqrt(x.numpy()))
