"""Measuring the steps of a pack: what is kept from before a step, and what is made of it afterwards.

Shapes: K members, B examples, D units, L layers, P parameters of a member, Q quantities.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from unitgain.nn.mlp import MLP
from unitgain.nn.propagate import Grouped, Propagation
from unitgain.nn.share import WHOLE, Share
from unitgain.probe.history import History
from unitgain.probe.layers import Layers
from unitgain.probe.quantities import LayerTensors, Quantity, measure, reads
from unitgain.probe.schedule import due


@dataclass(frozen=True)
class ProbePlan:
    """When to measure and what.

    Args:
        quantities: by name.
        every: steps between two measurements; None for none of that kind.
        per_decade: measurements in each tenfold of steps; likewise.
        at: further steps.
        saturated: as in `LayerTensors`.
    """

    quantities: Mapping[str, Quantity]
    every: int | None = None
    per_decade: int | None = None
    at: Collection[int] = ()
    saturated: Callable[[Tensor], Tensor] | None = None

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure, ever."""
        return bool(self.quantities) and bool(self.every or self.per_decade or self.at)

    def due(self, step: int) -> bool:
        """Whether this step is measured."""
        return bool(self.quantities) and due(
            step, every=self.every, per_decade=self.per_decade, at=self.at
        )


@final
class Probing:
    """What a pack measures of its own steps.

    Layers of one kind are views of blocks that stay where they are, so they are made once.

    Args:
        plan: when and what.
        mlp: the network.
        propagation: its passes.
        keeps_gradient: whether the gradient is still there behind a step.
        share: what this process has of each batch; measured are whole batches, which all processes hand one another.
    """

    def __init__(
        self,
        plan: ProbePlan,
        mlp: MLP,
        propagation: Propagation,
        *,
        keeps_gradient: bool,
        share: Share = WHOLE,
    ) -> None:
        self.plan, self._mlp, self._propagation, self._share = plan, mlp, propagation, share
        names = plan.quantities
        self.keeps_deltas = reads(names, "preactivation_gradients")
        self.reads_activations = reads(names, "activations") or reads(names, "inputs")
        self._reads_inputs = reads(names, "inputs")
        self._keeps_theta = reads(names, "weight_updates")
        self._copies_gradient = reads(names, "weight_gradients") and not keeps_gradient
        self._theta = mlp.theta.detach()
        self._of_batch: dict[tuple[int, int | None], tuple[Layers, Layers]] = {}
        self._made: tuple[Layers, Layers, Layers, Layers] | None = None
        self.history = self._history()

    def tensors(self) -> dict[str, Tensor]:
        """What measured steps leave for later ones, by name, members first."""
        return {} if self.history is None else self.history.tensors()

    def before(self, gradient: Tensor) -> None:
        """Keep what the step will overwrite, in memory that stays: a new block costs more than a copy."""
        if self._made is None:
            self._gradient = torch.empty_like(gradient) if self._copies_gradient else gradient
            self._change = torch.empty_like(self._theta) if self._keeps_theta else None
            self._made = (
                self._of(self._theta, "weight"),
                self._of(self._gradient, "weight"),
                self._of(self._gradient, "bias"),
                self._none if self._change is None else self._of(self._change, "weight"),
            )
        if self._gradient is not gradient:
            self._gradient.copy_(gradient)
        if self._change is not None:
            self._change.copy_(self._theta)

    def after(self, rows: int, examples: int | None, total: int) -> Tensor:
        """What is measured of the step that has been taken, (Q, K, L).

        Args:
            rows: of this process's part of the batch, padding included.
            examples: how many of them are examples; None: all.
            total: examples of the whole batch.
        """
        if self._made is None:
            raise RuntimeError("a step is measured only after what it overwrites was kept")
        if self._change is not None:
            torch.sub(self._theta, self._change, out=self._change)
        weights, weight_gradients, bias_gradients, weight_updates = self._made
        deltas, activations = self._layers_of(rows, examples, total)
        tensors = LayerTensors(
            preactivation_gradients=deltas,
            activations=activations,
            inputs=self._inputs(examples, total),
            weights=weights,
            weight_gradients=weight_gradients,
            bias_gradients=bias_gradients,
            weight_updates=weight_updates,
            saturated=self.plan.saturated,
            history=self.history,
        )
        values = measure(tensors, self.plan.quantities)
        tensors.remember()
        return values

    def _layers_of(self, rows: int, examples: int | None, total: int) -> tuple[Layers, Layers]:
        if (rows, examples) not in self._of_batch or not self._share.whole:
            deltas = self._propagation.preactivation_gradients if self.keeps_deltas else ()
            h = self._propagation.activations if self.reads_activations else ()
            self._of_batch[rows, examples] = (
                self._grouped(deltas, examples, total),
                self._grouped(h, examples, total),
            )
        return self._of_batch[rows, examples]

    def _inputs(self, examples: int | None, total: int) -> Layers:
        """These do not stay where they are: dropout and residual sums make new ones."""
        if not self._reads_inputs:
            return self._none
        return self._grouped(self._propagation.inputs, examples, total)

    def _history(self) -> History | None:
        if not self.plan.measures:
            return None
        mlp, members = self._mlp, self._mlp.members
        units = [self._theta.new_empty((members, width)) for width in mlp.shape.widths]
        weights = self._of(self._theta, "weight")
        return History.of(self.plan.quantities, Layers.of([*units, None]), weights)

    @cached_property
    def _none(self) -> Layers:
        return Layers(len(self._mlp.layers), ())

    def _of(self, block: Tensor, kind: str) -> Layers:
        return Layers(len(self._mlp.layers), tuple(self._mlp.layout.by_layer(block, kind)))

    def _grouped(self, groups: Grouped, examples: int | None, total: int) -> Layers:
        if examples is not None:
            groups = tuple((i, tensor[:, :, :examples]) for i, tensor in groups)
        if not self._share.whole:
            groups = tuple((i, self._share.joined(tensor, 2, total)) for i, tensor in groups)
        return Layers(len(self._mlp.layers), groups)
