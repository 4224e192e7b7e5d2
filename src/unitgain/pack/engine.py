"""Training K members as one batched model: the steps, their state, their evaluation. No Lightning here.

Shapes: K members, B examples, D features, T outputs, L layers, S steps, P parameters of a member, Q quantities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from unitgain.nn.losses import Loss
from unitgain.nn.mlp import MLP, Trace
from unitgain.nn.propagate import Propagation
from unitgain.nn.share import WHOLE, Share
from unitgain.pack.batches import Batch, PackData, Part
from unitgain.pack.optim import Optimizer
from unitgain.pack.probing import ProbePlan, Probing
from unitgain.pack.schedule import Array, Schedule

_PREPARED = 2**12
"""Optimizer steps, times members, whose coefficients are computed at once."""

_EVALUATED = 128
"""Rows a member that are evaluated at a time on a CPU, if a batch has fewer."""


@dataclass(frozen=True)
class Steps:
    """What some steps left, all on the device.

    Args:
        loss_SK: each member's mean loss, without the penalty.
        probe_step: the steps that were measured.
        probe_QKL: what was measured at each.
    """

    loss_SK: Tensor
    probe_step: list[int]
    probe_QKL: list[Tensor]


@dataclass(frozen=True)
class Blame:
    """Where a member's numbers first stopped being finite.

    Args:
        step: the optimizer step.
        layer: 1 for the first hidden layer, L for the output layer.
        where: "pre-activation", "loss" or "gradient".
    """

    step: int
    layer: int
    where: Literal["pre-activation", "loss", "gradient"]


@dataclass(frozen=True)
class Prediction:
    """What a pack makes of a part of its data.

    Args:
        output_KNT: of the network.
        target: (K, N) classes or (K, N, T) scaled targets.
        loss_K: each member's mean loss, weighted as rows count in evaluation, without the penalty.
        weight_KN: what each row counts in metrics, up to a factor a member; None where rows have no importance.
    """

    output_KNT: Tensor
    target: Tensor
    loss_K: Tensor
    weight_KN: Tensor | None = None


@final
class Pack:
    r"""K members in training.

    The objective of a member is $J = E_b[w_b \ell_b] + (\lambda / 2) \sum_l \|W_l\|_F^2$; members are summed, so that
    no member's gradient depends on another.

    Args:
        mlp: already initialized, on its device.
        data: on the same device.
        loss: per-example losses (K, B).
        optimizer: over ``mlp.theta``.
        schedules: one a member.
        epochs: of the whole run; schedules stretch over them.
        l2: the penalty's lambda of each member.
        clip_norm: the largest gradient norm of each member, infinity for none.
        probe: when to measure and what.
        product: the type of matrix products in training, None for the network's own.
        share: what this process has of each batch. Where others have the rest, all call ``train_epoch`` and ``predict``
            together, and each gets what one process with all rows would.
    """

    def __init__(
        self,
        mlp: MLP,
        data: PackData,
        loss: Loss,
        optimizer: Optimizer,
        schedules: Sequence[Schedule],
        *,
        epochs: int,
        l2: Sequence[float],
        clip_norm: Sequence[float],
        probe: ProbePlan,
        product: torch.dtype | None = None,
        share: Share = WHOLE,
    ) -> None:
        self.mlp, self.data, self.loss, self.optimizer = mlp, data, loss, optimizer
        self.share = share
        self.schedules, self.epochs, self.probe = schedules, epochs, probe
        self.propagation = Propagation(mlp, product)
        theta = mlp.theta.detach()
        self.clip_K1 = None
        if np.isfinite(clip_norm).any():
            self.clip_K1 = torch.tensor(clip_norm, dtype=torch.float64).to(theta).unsqueeze(1)
        self.l2_K1 = None
        if any(l2):
            self.l2_K1 = torch.tensor(l2, dtype=torch.float64).to(theta).unsqueeze(1)
            self._weight_mask_P = mlp.layout.mask("weight").to(theta)
        keeps_gradient = optimizer.keeps_gradient and self.clip_K1 is None
        self.probing = Probing(
            probe, mlp, self.propagation, keeps_gradient=keeps_gradient, share=share
        )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.data.steps_per_epoch

    def train_epoch(
        self, epoch: int, stop: Callable[[], bool] = lambda: False, *, most: int | None = None
    ) -> Steps | None:
        """All steps of an epoch, or its first ones; None as soon as ``stop`` says so, with the epoch unfinished."""
        first = epoch * self.steps_per_epoch
        self._prepare(first)
        keys = self.mlp.mask_keys(first, self.steps_per_epoch)
        steps = Steps(torch.empty(0), [], [])
        losses: list[Tensor] = []
        for i, batch in enumerate(self.data.epoch(epoch, self.share)[:most]):
            if stop():
                return None
            losses.append(self._step(first + i, batch, None if keys is None else keys[i], steps))
        loss_SK = self.share.sum_(torch.stack(losses))
        return Steps(loss_SK, steps.probe_step, steps.probe_QKL)

    def last_lr(self) -> Array:
        """The learning rate of each member at the last step taken, (K,)."""
        return self.optimizer.last_lr

    def objective(self, loss_K: Tensor) -> Tensor:
        """Each member's J (K,) from its mean loss: what ``train_epoch`` takes the gradient of."""
        if self.l2_K1 is None:
            return loss_K
        penalty_K = (self.mlp.theta * self._weight_mask_P).square().sum(1)
        return loss_K + self.l2_K1[:, 0] * (0.5 * penalty_K)

    def predict(self, part: Part, limit: int = 4096) -> Prediction:
        """Outputs and losses of a part, at most ``limit`` rows a member at a time.

        On a CPU it's no more than a batch's rows, whose memory is there, or `_EVALUATED`: more don't stay in caches.
        """
        if self.mlp.theta.device.type == "cpu":
            limit = min(limit, max(self.data.batch_size, _EVALUATED))
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        losses: list[Tensor] = []
        totals: list[Tensor] = []
        weights: list[Tensor] = []
        with torch.no_grad():
            for batch in self.data.part_batches(part, limit, self.share):
                x, y = self.data.gather(batch.index)
                output = self.propagation.forward(x, None, batch.rows, training=False)
                rows, total = batch.rows, batch.total
                losses.append((self.loss(output, y) * batch.weight).sum(1) * total)
                totals.append(batch.weight.sum(1) * total)
                if self.data.has_importance:
                    weights.append(self.share.joined(batch.weight[:, :rows] * total, 1, total))
                outputs.append(self.share.joined(output[:, :rows], 1, total).clone())
                targets.append(self.share.joined(y[:, :rows], 1, total))
        # One after another: from eight on, torch adds up a stack in another order where there is one member.
        loss_K, total_K = (self.share.sum_(reduce(torch.add, each)) for each in (losses, totals))
        output_KNT, target = torch.cat(outputs, 1), torch.cat(targets, 1)
        weight_KN = torch.cat(weights, 1) if weights else None
        return Prediction(output_KNT, target, loss_K / total_K, weight_KN)

    def state(self, into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Copies of all that training changes, members first; ``into`` an earlier one, where that is given."""
        if into is None:
            return {name: tensor.clone() for name, tensor in self.tensors().items()}
        return {name: into[name].copy_(tensor) for name, tensor in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """What ``state`` copies."""
        optimizer = {f"optimizer.{name}": t for name, t in self.optimizer.state.items()}
        probe = {f"probe.{name}": t for name, t in self.probing.tensors().items()}
        return self.mlp.block_state() | optimizer | probe

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``."""
        for name, tensor in self.tensors().items():
            tensor.copy_(state[name])

    def blame(self, epoch: int, steps: Mapping[int, int]) -> dict[int, Blame]:
        """Find where members went first, by running their epoch again.

        The state must be that of the epoch's start; it is left at the last of the steps.

        Args:
            epoch: in which they went.
            steps: by member, the step whose loss was the first that isn't finite.
        """
        first = epoch * self.steps_per_epoch
        self._prepare(first)
        keys = self.mlp.mask_keys(first, self.steps_per_epoch)
        found: dict[int, Blame] = {}
        for i, batch in enumerate(self.data.epoch(epoch)):
            key = None if keys is None else keys[i]
            if due := [k for k, step in steps.items() if step == first + i]:
                found |= self._blame_step(first + i, batch, key, due)
            if len(found) == len(steps):
                return found
            self._step(first + i, batch, key, None)
        raise ValueError(f"steps {steps} are not all in epoch {epoch}")

    def blame_part(
        self, part: Part, step: int, members: Sequence[int], limit: int = 4096
    ) -> dict[int, Blame]:
        """Find where members go first on a part, with the parameters as they are before ``step``."""
        self.mlp.eval()
        found: dict[int, Blame] = {}
        for batch in self.data.part_batches(part, limit):
            trace = Trace()
            x, _ = self.data.gather(batch.index)
            with torch.no_grad():
                self.mlp(x, rows=batch.rows, trace=trace)
            for k in members:
                if k not in found and (layer := _first_broken(trace, k)):
                    found[k] = Blame(step, layer, "pre-activation")
        nowhere = Blame(step, self.mlp.depth + 1, "loss")
        return {k: found.get(k, nowhere) for k in members}

    def _blame_step(
        self, step: int, batch: Batch, keys_LK: Tensor | None, members: Sequence[int]
    ) -> dict[int, Blame]:
        self.mlp.train()
        trace = Trace()
        x, y = self.data.gather(batch.index)
        output = self.mlp(x, keys_LK=keys_LK, rows=batch.rows, trace=trace)
        loss_K = (self.loss(output, y) * batch.weight).sum(1)
        gradients = torch.autograd.grad(loss_K.sum(), trace.preactivations)
        layers = len(trace.preactivations)
        found = {}
        for k in members:
            broken = (i for i in range(layers, 0, -1) if not gradients[i - 1][k].isfinite().all())
            if layer := _first_broken(trace, k):
                found[k] = Blame(step, layer, "pre-activation")
            elif loss_K[k].isfinite() and (layer := next(broken, None)):
                found[k] = Blame(step, layer, "gradient")
            else:
                found[k] = Blame(step, layers, "loss")
        return found

    def _step(self, step: int, batch: Batch, keys_LK: Tensor | None, steps: Steps | None) -> Tensor:
        due = steps is not None and self.probe.due(step)
        x, y = self.data.gather(batch.index)
        with torch.no_grad():
            output = self.propagation.forward(x, keys_LK, batch.rows, first=batch.first)
            # Members' objectives are summed, so the gradient of each is its own.
            loss_KB, output_gradient = self.loss.with_slope(output, y, batch.weight)
            keep = due and self.probing.keeps_deltas
            instead = not self.probing.reads_activations
            self.propagation.backward(output_gradient, keep, instead=instead)
            gradient = self._penalized(self.share.sum_(self.propagation.gradient))
            if due:
                self.probing.before(gradient)
            self.optimizer.step(self._clipped(gradient), step)
            if steps is not None and due:
                steps.probe_step.append(step)
                steps.probe_QKL.append(self.probing.after(x.shape[1], batch.rows, batch.total))
            return (loss_KB * batch.weight).sum(1)

    def _penalized(self, gradient_KP: Tensor) -> Tensor:
        """The gradient with that of the penalty, lambda W, added in place."""
        if self.l2_K1 is None:
            return gradient_KP
        return gradient_KP.addcmul_(self.mlp.theta * self._weight_mask_P, self.l2_K1)

    def _clipped(self, gradient_KP: Tensor) -> Tensor:
        """Each member's gradient, scaled down in place to its own largest norm (torch's clip_grad_norm_)."""
        if self.clip_K1 is None:
            return gradient_KP
        norm_K1 = torch.linalg.vector_norm(gradient_KP, dim=1, keepdim=True)
        # A member that isn't clipped keeps its bits even where its norm overflows.
        scale_K1 = torch.where(self.clip_K1.isinf(), 1.0, self.clip_K1 / (norm_K1 + 1e-6))
        return gradient_KP.mul_(scale_K1.clamp(max=1.0))

    def _prepare(self, first: int) -> None:
        """Have the optimizer's coefficients ready for an epoch, computed for many epochs at once."""
        epoch = self.steps_per_epoch
        if self.optimizer.covers(first, first + epoch):
            return
        total = self.epochs * epoch
        cells = max(_PREPARED // self.mlp.members, 1)
        step_S = np.arange(first, max(first + epoch, min(first + cells, total)), dtype=np.float64)
        factors = np.stack([s.factor(step_S, total, epoch) for s in self.schedules], 1)
        self.optimizer.prepare(first, self.optimizer.lr * factors, self._momentum(step_S, total))

    def _momentum(self, step_S: Array, total: int) -> Array | None:
        moved = [s.momentum(step_S, total) for s in self.schedules]
        if all(m is None for m in moved):
            return None
        own = self.optimizer.own_momentum
        return np.stack(
            [np.full_like(step_S, own[k]) if m is None else m for k, m in enumerate(moved)], 1
        )


def _first_broken(trace: Trace, k: int) -> int | None:
    """The first layer, from 1, where a pre-activation of member ``k`` is not finite; None if there is none."""
    broken = (i for i, z in enumerate(trace.preactivations, 1) if not z[k].isfinite().all())
    return next(broken, None)
