"""Optimizers over the flat block of a pack, with hyperparameters a member.

Each agrees with its namesake in torch.optim; a member's numbers depend on no other member. Coefficients that vary over
steps are computed in float64 on the host for many steps at once, so that a step is a handful of kernels on (K, P).
Shapes: K members, P parameters of a member, S steps.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


class Optimizer(abc.ABC):
    """Updates theta (K, P) in place from its gradient.

    ``state`` holds named tensors (K, P) that start at zero: with the count of steps, all that a checkpoint needs.

    Args:
        theta_KP: the block of parameters.
        members: one mapping of hyperparameters a member, the keyword arguments of the configuration.
        moves_momentum: whether some member's schedule moves momentum.
    """

    def __init__(
        self,
        theta_KP: Tensor,
        members: Sequence[Mapping[str, Any]],
        *,
        moves_momentum: bool = False,
    ) -> None:
        self.theta = theta_KP
        self.members = list(members)
        self.moves_momentum = moves_momentum
        self.decays = bool(self.per_member("weight_decay").any())
        self.state: dict[str, Tensor] = {
            name: torch.zeros_like(theta_KP, requires_grad=False) for name in self.state_names()
        }
        self.delta, self.scratch = (
            torch.zeros_like(theta_KP, requires_grad=False) for _ in range(2)
        )
        self._coefficients: list[dict[str, Tensor]] = []
        self._first_step, self._last = 0, 0
        self._lr_SK = self.lr[None]

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
        """Put one step into ``delta``, which is then taken from theta; ``c`` holds its coefficients, each (K, 1).

        ``scratch`` may be overwritten: a new tensor of that size at every step would cost more than the arithmetic.
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
        self.theta.sub_(self.delta)

    def decayed(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> Tensor:
        """The gradient with weight decay added, where some member has any."""
        return gradient_KP + self.theta * c["weight_decay"] if self.decays else gradient_KP

    def average(self, name: str, keep: Tensor, value_KP: Tensor, fresh: Tensor) -> Tensor:
        """Move a running average in place: state = keep * state + fresh * value."""
        state = self.state[name]
        return state.mul_(keep).add_(torch.mul(value_KP, fresh, out=self.scratch))


@final
class SGD(Optimizer):
    """Stochastic gradient descent with momentum (torch.optim.SGD).

    Arguments of a member: lr, momentum, dampening, weight_decay; ``nesterov`` is the pack's.

    Reference:
        Sutskever et al. 2013, PMLR 28(3):1139.
    """

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
        g = self.decayed(gradient_KP, c)
        if self.state:
            buffer = self.average("momentum_buffer", c["momentum"], g, c["fresh"])
            g = g + buffer * c["momentum"] if self.members[0]["nesterov"] else buffer
        torch.mul(g, c["lr"], out=self.delta)


class _AdaptiveMoments(Optimizer):
    """What Adam and AdamW share: the moments and the step that follows from them."""

    @property
    def own_momentum(self) -> Array:
        return self._betas()[:, 0]

    def state_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def moment_coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        """The coefficients of the moments and of the step (S, K)."""
        betas = self._betas()
        beta1, beta2 = betas[:, 0] if momentum_SK is None else momentum_SK, betas[:, 1]
        t = steps_S + 1.0
        return {
            "beta1": beta1,
            "fresh1": 1.0 - beta1,
            "beta2": beta2,
            "fresh2": 1.0 - beta2,
            "step_size": lr_SK / (1.0 - beta1**t),
            "second_scale": 1.0 / np.sqrt(1.0 - beta2**t),
            "eps": self.per_member("eps"),
        }

    def step_by_moments(self, g: Tensor, c: Mapping[str, Tensor]) -> None:
        """Put lr m / (sqrt(v) + eps), both moments unbiased, into ``delta``."""
        m = self.average("exp_avg", c["beta1"], g, c["fresh1"])
        square = torch.mul(g, g, out=self.scratch)
        v = self.average("exp_avg_sq", c["beta2"], square, c["fresh2"])
        denominator = torch.sqrt(v, out=self.scratch).mul_(c["second_scale"]).add_(c["eps"])
        torch.mul(m, c["step_size"], out=self.delta).div_(denominator)

    def _betas(self) -> Array:
        return np.array([m["betas"] for m in self.members], dtype=np.float64)


@final
class Adam(_AdaptiveMoments):
    """Adam; weight decay, where given, is added to the gradient (torch.optim.Adam).

    Arguments of a member: lr, betas, eps, weight_decay.

    Reference:
        Kingma and Ba 2015, arXiv 1412.6980, algorithm 1.
    """

    def coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        moments = self.moment_coefficients(steps_S, lr_SK, momentum_SK)
        return {**moments, "weight_decay": self.per_member("weight_decay")}

    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        self.step_by_moments(self.decayed(gradient_KP, c), c)


@final
class AdamW(_AdaptiveMoments):
    """Adam with decoupled weight decay (torch.optim.AdamW).

    Arguments of a member: lr, betas, eps, weight_decay.

    Reference:
        Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2.
    """

    def coefficients(
        self, steps_S: Array, lr_SK: Array, momentum_SK: Array | None
    ) -> dict[str, Array]:
        moments = self.moment_coefficients(steps_S, lr_SK, momentum_SK)
        return {**moments, "shrinkage": lr_SK * self.per_member("weight_decay")}

    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        self.step_by_moments(gradient_KP, c)
        if self.decays:
            self.delta.add_(torch.mul(self.theta, c["shrinkage"], out=self.scratch))


@final
class RMSprop(Optimizer):
    """RMSprop (torch.optim.RMSprop).

    Arguments of a member: lr, alpha, eps, momentum, weight_decay; ``centered`` is the pack's.

    Reference:
        Hinton 2012, lecture 6e of Neural Networks for Machine Learning; centred: Graves 2013, arXiv 1308.0850, eq. 40.
    """

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
            "alpha": alpha,
            "fresh": 1.0 - alpha,
            "eps": self.per_member("eps"),
            "momentum": self.per_member("momentum") if momentum_SK is None else momentum_SK,
            "weight_decay": self.per_member("weight_decay"),
        }

    def update(self, gradient_KP: Tensor, c: Mapping[str, Tensor]) -> None:
        g = self.decayed(gradient_KP, c)
        square = torch.mul(g, g, out=self.scratch)
        spread = self.average("square_avg", c["alpha"], square, c["fresh"])
        if "grad_avg" in self.state:
            mean = self.average("grad_avg", c["alpha"], g, c["fresh"])
            spread = spread - mean * mean
        g = g / torch.sqrt(spread, out=self.scratch).add_(c["eps"])
        if "momentum_buffer" in self.state:
            g = self.state["momentum_buffer"].mul_(c["momentum"]).add_(g)
        torch.mul(g, c["lr"], out=self.delta)
