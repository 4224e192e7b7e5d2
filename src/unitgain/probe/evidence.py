"""A run's record as the rules of a verdict look at it: the start, the present, and the gradient's way through depth.

Shapes: S measured steps, R some of them, H hidden layers.
"""

import math
from functools import cached_property
from typing import final

import numpy as np

from unitgain.probe.record import Expected, Fault, Numbers, Record

LATE, MOST_LATE = 4, 32
"""The late steps are the last quarter of those measured, at most 32."""


def slope_per_layer(norms_H: Numbers) -> float:
    """Least-squares slope of log10 of the norms a layer, towards the input; zero where fewer than two are above zero.

    Example:
        >>> round(slope_per_layer(np.array([1e-3, 1e-2, 1e-1])), 6)
        -1.0
    """
    usable = np.isfinite(norms_H) & (norms_H > 0)
    if usable.sum() < 2:
        return 0.0
    depth = np.flatnonzero(usable).astype(float)
    depth -= depth.mean()
    return -float(depth @ np.log10(norms_H[usable]) / (depth @ depth))


def decades(norms_RH: Numbers) -> Numbers:
    """The change of log10 of the norm from the last hidden layer to the first, by least squares, (R,).

    Minus infinity where a layer gets nothing at all: no slope through the others speaks for it. NaN where a norm isn't
    finite.
    """
    layers = norms_RH.shape[1]
    depth = np.arange(layers) - (layers - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        change_R = -(np.log10(norms_RH) @ depth) / (depth @ depth) * (layers - 1)
    change_R = np.where((norms_RH == 0).any(1), -np.inf, change_R)
    return np.where(np.isfinite(norms_RH).all(1), change_R, np.nan)


@final
class Evidence:
    """A record as the rules look at it.

    Args:
        record: of the run.
        expected: by theory.
    """

    def __init__(self, record: Record, expected: Expected | None = None) -> None:
        self.record, self.expected = record, expected
        count = len(record.steps)
        late = min(max(count // LATE, 1), MOST_LATE)
        self.late = slice(count - late, count) if count >= LATE else None
        """The late steps, None where too few were measured to tell them from the start."""

    @cached_property
    def norms(self) -> Numbers | None:
        """`grad_preactivation` of the hidden layers that have one."""
        norms_SH = self.record.hidden("grad_preactivation")
        if norms_SH is None:
            return None
        present = ~np.isnan(norms_SH).all(0)
        return norms_SH if present.all() else norms_SH[:, present]

    @cached_property
    def start(self) -> int | None:
        """The first measured step at which the hidden layers get a gradient at all; None where they never do.

        An output layer that begins with zeros passes nothing back on its first step, which is no fault.
        """
        if self.norms is None or not self.norms.size:
            return None
        reached_S = (self.norms != 0).any(1)
        return int(np.argmax(reached_S)) if reached_S.any() else None

    @cached_property
    def broken(self) -> Fault | None:
        """The first measured step with a gradient that isn't finite, and its last layer that has one."""
        if self.norms is None or (fine_SH := np.isfinite(self.norms)).all():
            return None
        row = int(np.argmin(fine_SH.all(1)))
        return Fault(self.step(row), int(np.flatnonzero(~fine_SH[row]).max()) + 1, "gradient")

    @property
    def now(self) -> slice:
        """The late steps, or else the latest one."""
        count = len(self.record.steps)
        return self.late or slice(count - 1, count)

    def step(self, row: int) -> int:
        """The optimizer step of a measured one."""
        return int(self.record.steps[row])

    def settled(self, quantity: str) -> Numbers | None:
        """The middle of a quantity over the present steps, (H,); None where there is no number."""
        value_SH = self.record.hidden(quantity)
        if value_SH is None:
            return None
        value_H = middle(value_SH[self.now])
        return value_H if np.isfinite(value_H).any() else None


def flow_text(e: Evidence, row: int) -> str:
    """The gradient's way through depth at one measured step, in words."""
    norms_H = e.norms[row] if e.norms is not None else np.zeros(0)
    layers = len(norms_H)
    slope = slope_per_layer(norms_H)
    theory = f" (theory {signed(e.expected.slope)}: {e.expected.name})" if e.expected else ""
    lost = np.flatnonzero(norms_H == 0)
    where = f"; none at all reaches layer {lost.max() + 1}" if len(lost) else ""
    return (
        f"layer 1 gets {number(ratio_of(norms_H))} of layer {layers}'s; slope {signed(slope)} decades a layer{theory} "
        f"at step {e.step(row)}{where}"
    )


def ratio_of(norms_H: Numbers) -> float:
    """The first layer's norm over that of the last."""
    first, last = float(norms_H[0]), float(norms_H[-1])
    return first / last if last > 0 else (1.0 if first == 0 else math.inf)


def number(x: float) -> str:
    """A number in as few letters as tell it.

    Example:
        >>> number(3.04e-7), number(0.25), number(1.04), number(12345.0)
        ('3.0e-07', '0.25', '1.0', '1.2e+04')
    """
    if 0.95 <= x < 10:
        return f"{x:.1f}"
    return f"{x:.2g}" if 1e-2 <= x < 1e3 else f"{x:.1e}"


def signed(slope: float) -> str:
    """A slope to three decimals, with its sign unless it is zero.

    Example:
        >>> signed(-0.1416), signed(-0.0001)
        ('-0.142', '0.000')
    """
    rounded = round(slope, 3)
    return f"{rounded:+.3f}" if rounded else "0.000"


def middle(value_RH: Numbers) -> Numbers:
    """The median over the first axis, NaN left out, without numpy's warnings and at a third of its time."""
    if not np.isnan(value_RH).any():
        return np.asarray(np.median(value_RH, axis=0))
    present = ~np.isnan(value_RH).all(0)
    if value_RH.ndim == 1:
        return np.asarray(np.nanmedian(value_RH) if present else np.nan)
    result = np.full(value_RH.shape[1:], np.nan)
    result[present] = np.nanmedian(value_RH[:, present], axis=0)
    return result
