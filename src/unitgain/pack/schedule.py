"""Learning rates over the steps of a run, as factors of the base rate.

Each agrees with its namesake in torch.optim.lr_scheduler, stepped once an optimizer step. Shapes: S steps.
"""

import abc
import math
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Schedule(abc.ABC):
    """A factor of the learning rate for each step, behind an optional linear warm-up.

    During the first ``warmup_steps`` steps the factor rises linearly from ``warmup_factor`` times the schedule's first
    value (torch's LinearLR in SequentialLR); the schedule itself runs over the steps that remain.

    Args:
        warmup_steps: steps of the warm-up, 0 for none.
        warmup_factor: where it starts, as a share of the full rate.
    """

    def __init__(self, warmup_steps: int = 0, warmup_factor: float = 0.01) -> None:
        self.warmup_steps, self.warmup_factor = warmup_steps, warmup_factor

    @abc.abstractmethod
    def main(self, step_S: Array, total: int, epoch: int) -> Array:
        """The factor behind the warm-up.

        Args:
            step_S: steps since the end of the warm-up.
            total: steps of the run without the warm-up.
            epoch: steps of an epoch.
        """

    def momentum(self, step_S: Array, total: int) -> Array | None:
        """The momentum at each step of a run of ``total`` steps, where the schedule moves it too, else None."""
        return None

    def factor(self, step_S: Array, total: int, epoch: int) -> Array:
        """The factor of the base learning rate at each step of a run of ``total`` steps."""
        w = self.warmup_steps
        main = self.main(np.maximum(step_S - w, 0), max(total - w, 1), epoch)
        if w == 0:
            return main
        ramp = self.warmup_factor + (1.0 - self.warmup_factor) * step_S / w
        first = self.main(np.zeros(1), max(total - w, 1), epoch)
        return np.where(step_S < w, ramp * first, main)


@final
class Constant(Schedule):
    """The base rate throughout."""

    def main(self, step_S: Array, total: int, epoch: int) -> Array:
        return np.ones_like(step_S)


@final
class Step(Schedule):
    """The rate times ``gamma`` after every ``step_epochs`` epochs (torch's StepLR).

    Args:
        step_epochs: epochs between two drops.
        gamma: factor of each drop.
        warmup_steps: see `Schedule`.
        warmup_factor: see `Schedule`.
    """

    def __init__(
        self,
        step_epochs: int = 10,
        gamma: float = 0.1,
        warmup_steps: int = 0,
        warmup_factor: float = 0.01,
    ) -> None:
        super().__init__(warmup_steps, warmup_factor)
        self.step_epochs, self.gamma = step_epochs, gamma

    def main(self, step_S: Array, total: int, epoch: int) -> Array:
        return np.asarray(self.gamma ** np.floor(step_S / (self.step_epochs * epoch)))


@final
class Cosine(Schedule):
    r"""Half a cosine from 1 to ``min_factor`` over the run (torch's CosineAnnealingLR).

    $f(t) = m + (1 - m) (1 + \cos(\pi t / T)) / 2$

    Reference:
        Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5.
    """

    def __init__(
        self, min_factor: float = 0.0, warmup_steps: int = 0, warmup_factor: float = 0.01
    ) -> None:
        super().__init__(warmup_steps, warmup_factor)
        self.min_factor = min_factor

    def main(self, step_S: Array, total: int, epoch: int) -> Array:
        m = self.min_factor
        return m + (1.0 - m) * (1.0 + np.cos(np.pi * step_S / total)) / 2.0


@final
class OneCycle(Schedule):
    """Up to the base rate and down again, momentum the other way about (torch's OneCycleLR with max_lr = lr).

    Args:
        pct_start: share of the run that the rise takes.
        div_factor: the rate starts at lr / div_factor,
        final_div_factor: and ends at lr / (div_factor * final_div_factor).
        anneal: shape of both ways, "cos" or "linear".
        cycle_momentum: whether momentum (Adam: beta1) goes from max_momentum to base_momentum and back.
        base_momentum: its least value.
        max_momentum: its greatest value.
        warmup_steps: see `Schedule`.
        warmup_factor: see `Schedule`.

    Reference:
        Smith and Topin 2018, arXiv 1708.07120.
    """

    def __init__(
        self,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        anneal: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = False,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        warmup_steps: int = 0,
        warmup_factor: float = 0.01,
    ) -> None:
        super().__init__(warmup_steps, warmup_factor)
        self.pct_start, self.anneal = pct_start, anneal
        self.start, self.end = 1.0 / div_factor, 1.0 / (div_factor * final_div_factor)
        self.cycle_momentum = cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum

    def main(self, step_S: Array, total: int, epoch: int) -> Array:
        return self._two_phases(step_S, total, self.start, 1.0, self.end)

    def momentum(self, step_S: Array, total: int) -> Array | None:
        if not self.cycle_momentum:
            return None
        low, high = self.base_momentum, self.max_momentum
        after = np.maximum(step_S - self.warmup_steps, 0)
        return self._two_phases(after, max(total - self.warmup_steps, 1), high, low, high)

    def _two_phases(self, step_S: Array, total: int, start: float, top: float, end: float) -> Array:
        peak = self.pct_start * total - 1.0
        last = total - 1.0
        up = self._between(start, top, step_S / peak if peak else np.ones_like(step_S))
        down = self._between(top, end, (step_S - peak) / ((last - peak) or 1.0))
        return np.where(step_S <= peak, up, down)

    def _between(self, start: float, end: float, share: Array) -> Array:
        if self.anneal == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2.0 * (1.0 + np.cos(math.pi * share))
