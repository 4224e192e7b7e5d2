"""What a verdict is drawn from: the quantities of the measured steps, the losses, and what theory expects.

Shapes: S measured steps, L layers (the output layer last), E epochs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

USED = (
    "grad_preactivation",
    "update_ratio",
    "activation_mean",
    "activation_second_moment",
    "activation_correlation",
    "silent_fraction",
    "dead_fraction",
    "saturated_fraction",
)
"""The quantities that `judge` looks at; it does with what there is of them."""


@final
@dataclass(frozen=True)
class Expected:
    """What theory says of a network at initialization, in plain numbers.

    Args:
        slope: of log10 of the gradient norm a layer, towards the input.
        name: of what it is predicted for, such as "sigmoid with xavier".
        spread: the standard deviation of a measured slope about it at this width; None where it isn't known.
    """

    slope: float
    name: str
    spread: float | None = None


@final
@dataclass(frozen=True)
class Fault:
    """Where numbers first stopped being finite.

    Args:
        step: the optimizer step.
        layer: from 1, the output layer included; None where it isn't known.
        where: "loss", "pre-activation" or "gradient".
    """

    step: int
    layer: int | None
    where: str


@final
@dataclass(frozen=True)
class Record:
    """What a run has recorded so far.

    Args:
        steps: that were measured, ascending.
        values: (S, L) of each quantity; what isn't there, or NaN, isn't judged.
        losses: the mean training loss of each epoch.
        first_loss: the loss of the first step.
        steps_per_epoch: to tell the step of an epoch; 0 where there are no losses.
        planned_steps: of the whole run, None where it isn't known.
        fault: None while everything is finite.

    Example:
        >>> Record([0, 10], {"grad_preactivation": [[0.1, 0.2, 1.0], [0.1, 0.2, 1.0]]}).layers
        3
    """

    steps: Sequence[int]
    values: Mapping[str, Any] = field(default_factory=dict)
    losses: Sequence[float] = ()
    first_loss: float | None = None
    steps_per_epoch: int = 0
    planned_steps: int | None = None
    fault: Fault | None = None

    @property
    def layers(self) -> int:
        """L; 0 where nothing was measured."""
        return next((np.shape(value)[1] for value in self.values.values()), 0)

    def hidden(self, quantity: str) -> Numbers | None:
        """The values of the hidden layers, (S, L - 1); None where they weren't measured."""
        value_SL = self.values.get(quantity)
        if value_SL is None or not len(self.steps):
            return None
        return np.asarray(value_SL, dtype=np.float64)[:, :-1]


@final
class Course:
    """Measurements as they come, of the quantities that a verdict uses."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._blocks: dict[str, list[Numbers]] = {}

    def append(self, steps: Sequence[int], values: Mapping[str, Numbers]) -> None:
        """Keep the (S, L) values of some steps."""
        self.steps += steps
        for name in USED:
            if name in values:
                self._blocks.setdefault(name, []).append(np.array(values[name], dtype=np.float64))

    def record(self, **facts: Any) -> Record:
        """All of it, with the other facts of `Record`."""
        values = {name: _joined(blocks) for name, blocks in self._blocks.items()}
        return Record(tuple(self.steps), values, **facts)


def _joined(blocks: Sequence[Numbers]) -> Numbers:
    """Blocks (S, L) one below the other; a layer that came later is NaN before."""
    layers = max(block.shape[1] for block in blocks)
    if all(block.shape[1] == layers for block in blocks):
        return np.concatenate(blocks)
    wide = [np.pad(b, ((0, 0), (0, layers - b.shape[1])), constant_values=np.nan) for b in blocks]
    return np.concatenate(wide)
