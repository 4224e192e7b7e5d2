"""What the recorded gradients say: do they vanish, explode, or flow?"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

HEALTHY_DECADES = 1.3
"""Decades of gradient across depth up to which deep tanh nets still trained: 6 correlation depths, since
6 / log(1 / chi_1) layers change the norm by 10^(6 / (2 ln 10)) = 10^1.30 (Schoenholz et al. 2017, section 5)."""

SEVERE_DECADES = 3.0
"""Decades from which none of the measured nets trained (tanh, digits, depth 5 to 50)."""


@dataclass(frozen=True)
class Verdict:
    """A judgement of one record of gradient norms.

    Args:
        label: vanishing, exploding or healthy; "unknown" where there is nothing to judge.
        text: the judgement in words, with its numbers and a remedy.
        slope: change of log10 of the gradient norm a layer, towards the input: below zero they vanish.
        ratio: gradient norm of the first hidden layer over that of the last.
        step: the optimizer step that it was recorded at.
    """

    label: str
    text: str
    slope: float
    ratio: float
    step: int

    def as_dict(self) -> dict[str, str | float | int]:
        """Plain types, for summary.json."""
        return asdict(self)


def slope_per_layer(norms_L: NDArray[np.float64]) -> float:
    """Least-squares slope of log10 of the norms a layer, towards the input; zero where fewer than two are above zero.

    Example:
        >>> round(slope_per_layer(np.array([1e-3, 1e-2, 1e-1])), 6)
        -1.0
    """
    usable = np.isfinite(norms_L) & (norms_L > 0)
    if usable.sum() < 2:
        return 0.0
    depth = np.flatnonzero(usable).astype(float)
    return -float(np.polyfit(depth, np.log10(norms_L[usable]), 1)[0])


def judge(norms_L: NDArray[np.float64], step: int) -> Verdict:
    """Judge the pre-activation gradient norms of the hidden layers, input side first.

    Args:
        norms_L: `grad_preactivation` of each hidden layer (the output layer left out), at one step.
        step: where it was recorded.
    """
    norms = np.asarray(norms_L, dtype=np.float64)
    layers = len(norms)
    if layers < 2 or not np.isfinite(norms).all():
        why = "fewer than two hidden layers" if layers < 2 else "gradients are not finite"
        return Verdict("unknown", f"no verdict on gradient flow: {why}.", 0.0, 1.0, step)
    first, last = float(norms[0]), float(norms[-1])
    ratio = first / last if last > 0 else (1.0 if first == 0 else float("inf"))
    slope = slope_per_layer(norms)
    lost = np.flatnonzero(norms == 0)
    # A gradient of exactly zero underflowed or was cut off: no slope through the others speaks for it.
    decades = np.inf if len(lost) else abs(slope) * (layers - 1)
    at = f"layer 1 gets {_number(ratio)} of layer {layers}'s"
    fit = f"slope {slope:+.3f} decades a layer towards the input, at step {step}"
    if decades < HEALTHY_DECADES:
        return Verdict("healthy", f"gradients flow: {at}; {fit}.", slope, ratio, step)
    degree = "" if decades >= SEVERE_DECADES else "mildly "
    if len(lost) or slope < 0:
        where = f"; none at all reaches layer {lost.max() + 1}" if len(lost) else ""
        remedy = "Try a larger init gain (init=he for relu), norm=batch or norm=layer, or model.residual=true."
        text = f"gradients vanish {degree}".rstrip() + f": {at}; {fit}{where}. {remedy}"
        return Verdict("vanishing", text, slope, ratio, step)
    remedy = "Try a smaller init gain, trainer.gradient_clip_norm=1 or norm=layer."
    text = f"gradients explode {degree}".rstrip() + f": {at}; {fit}. {remedy}"
    return Verdict("exploding", text, slope, ratio, step)


def _number(x: float) -> str:
    if 0.95 <= x < 10:
        return f"{x:.1f}"
    return f"{x:.2g}" if 1e-2 <= x < 1e3 else f"{x:.1e}"
