"""What may be wrong with a network in training: a rule for each fault, with its threshold and its source.

Each rule compares one number with one threshold. How far it lies beyond, its margin, becomes a confidence: the logistic
function of the margin over a scale, so that the threshold itself has 0.5. Thresholds without a paper are the borders
that divide the labelled runs of `benchmarks/verdict.py` best, and the scales are those that make the confidence the
share of findings that are true there.

Shapes: S measured steps, R some of them, H hidden layers, L layers.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

import numpy as np

from unitgain.probe.evidence import (
    Evidence,
    decades,
    flow_text,
    middle,
    number,
    signed,
    slope_per_layer,
)
from unitgain.theory.bands import HEALTHY_DECADES, SEVERE_DECADES

Label = Literal[
    "healthy",
    "vanishing",
    "exploding",
    "dead units",
    "saturated",
    "rank collapse",
    "out of theory",
    "update too large",
    "update too small",
    "diverged",
    "oscillating",
    "unknown",
]

RECOVERED_SHARE = 0.9
"""Share of the late steps with healthy decades from which a bad start counts as recovered (labelled set)."""

DEAD_SHARE = 0.6
"""Share of a layer's units that may be silent for good (labelled set: ReLU networks that learned well reach 0.52)."""

SATURATED_SHARE = 0.7
"""Share of a layer's activations that may lie near an asymptote (labelled set)."""

COLLAPSED_COSINE = 0.975
"""Mean cosine between the examples of a batch from which they count as one, where the units' common mean is taken off
(labelled set: networks that learned well reach 0.97). A critical ReLU network has it at depth 42, since there
1 - c = 9 pi^2 / (2 l^2) (Schoenholz et al. 2017, arXiv 1611.01232, for kinked activations)."""

REPLACED_SHARE = 0.5
"""Share of a layer's weights that one step may replace (labelled set: it learned up to 0.33, not from 0.78)."""

LARGE_UPDATE, SMALL_UPDATE = 1e-1, 1e-5
"""A usual step changes weights by some 1e-3 of their norm; outside of these bounds it is suspicious."""

SLOW_UPDATE = 1e-4
"""Above it no update is too small, however few there are: a run that is cut short isn't at fault for it."""

LEAST_MOVE = 0.04
"""By how much of their norm all steps of a run together must be able to move the weights of some layer (labelled set:
up to 0.02 nothing was learned, from 0.1 most of it)."""

GROWN_LOSS = 10.0
"""How many times the first step's loss the last epoch's may be."""

SWING = 0.18
"""By how much of its level the loss may go up, and down again, from epoch to epoch: the average of the last half of the
epochs (labelled set)."""

LEVEL = 0.05
"""Share of the first epoch's loss below which a swing of the loss doesn't matter."""

SPREADS = 4.0
"""Standard deviations by which a slope may differ from theory: one run in 15,000 does by chance."""

SPREAD = 0.02
"""Standard deviation of a slope where its theory states none."""

THEORY_DECADES = 0.2
"""Standard deviation, in decades across depth, of what theory leaves out beside the width: batches of finite size,
inputs of unequal lengths, gradients that align with the layers' mean (labelled set)."""


@final
@dataclass(frozen=True)
class Finding:
    """A fault that the record shows.

    Args:
        label: which.
        layer: where it is worst, from 1; None for the whole network.
        step: the optimizer step that the number is of.
        number: what was measured, in the unit of the threshold.
        threshold: beyond which it is a fault.
        confidence: from 0 to 1; 0.5 at the threshold.
        text: in words, with the number.
        recovered: the step from which it was gone again, None if it wasn't.
    """

    label: Label
    layer: int | None
    step: int
    number: float
    threshold: float
    confidence: float
    text: str
    recovered: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def confidence(margin: float, scale: float) -> float:
    """The logistic function of margin / scale, within [0.01, 0.99].

    Example:
        >>> confidence(0.0, 1.0), confidence(float("inf"), 1.0)
        (0.5, 0.99)
    """
    if math.isnan(margin):
        return 0.01
    x = min(max(margin / scale, -50.0), 50.0)
    return min(max(1.0 / (1.0 + math.exp(-x)), 0.01), 0.99)


def findings(evidence: Evidence) -> Iterator[Finding]:
    """What each rule says that has its data, those that find nothing included: their confidence is below 0.5."""
    rules = (
        _diverged,
        _flow,
        _late_flow,
        _large_update,
        _dead,
        _saturated,
        _collapsed,
        _oscillating,
        _small_update,
        _out_of_theory,
    )
    for rule in rules:
        if (finding := rule(evidence)) is not None:
            yield finding


def _diverged(e: Evidence) -> Finding | None:
    record = e.record
    if (fault := record.fault or e.broken) is not None:
        at = "" if fault.layer is None or fault.where == "loss" else f" at layer {fault.layer}"
        text = f"training diverged: the {fault.where}{at} was not finite at step {fault.step}"
        return Finding("diverged", fault.layer, fault.step, math.inf, GROWN_LOSS, 0.99, text)
    if not len(record.losses) or not record.first_loss:
        return None
    growth = record.losses[-1] / abs(record.first_loss)
    margin = math.log10(max(growth, 1e-9) / GROWN_LOSS)
    step = len(record.losses) * record.steps_per_epoch
    text = f"training diverged: the loss is {number(growth)} times that of the first step at step {step}"
    return Finding("diverged", None, step, growth, GROWN_LOSS, confidence(margin, 0.3), text)


def _flow(e: Evidence) -> Finding | None:
    """Decades of gradient across depth at the first step, and whether they stayed."""
    if e.norms is None or e.norms.shape[1] < 2:
        return None
    if e.start is None and len(e.record.steps) < 2:
        return None
    # Where no step reaches any hidden layer, the first one shows it as well as another.
    row = e.start or 0
    change = float(decades(e.norms[row : row + 1])[0])
    if math.isnan(change):
        return None
    # By then an output layer that began with zeros has learned something, which makes for some decades.
    bound = HEALTHY_DECADES if row == 0 else SEVERE_DECADES
    size, recovered = abs(change), None
    if e.late is not None and size >= bound:
        fine_S = np.abs(decades(e.norms[row:])) < HEALTHY_DECADES
        if fine_S[-len(e.norms[e.late]) :].mean() >= RECOVERED_SHARE:
            recovered = e.step(row + _since(fine_S))
    label: Label = "exploding" if change > 0 else "vanishing"
    sure = confidence(size - bound, 0.6)
    text = flow_text(e, row)
    return Finding(label, 1, e.step(row), size, bound, sure, text, recovered)


def _late_flow(e: Evidence) -> Finding | None:
    """A gradient that was healthy at first and then isn't by far: what a network learns makes for some decades."""
    if e.norms is None or e.norms.shape[1] < 2 or e.late is None or e.start is None:
        return None
    if not abs(float(decades(e.norms[e.start : e.start + 1])[0])) < HEALTHY_DECADES:
        return None
    late_R = decades(e.norms[e.late])
    # The row in the middle, which the text shows.
    middle = int(np.argsort(late_R)[(len(late_R) - 1) // 2])
    change, row = float(late_R[middle]), e.late.start + middle
    if math.isnan(change):
        return None
    label: Label = "exploding" if change > 0 else "vanishing"
    sure = confidence(abs(change) - SEVERE_DECADES, 0.6)
    return Finding(label, 1, e.step(row), abs(change), SEVERE_DECADES, sure, flow_text(e, row))


def _large_update(e: Evidence) -> Finding | None:
    """One step that replaces a layer's weights, or steps that are large all along."""
    ratio_SL = e.record.values.get("update_ratio")
    if ratio_SL is None or not len(e.record.steps):
        return None
    ratio_SL = np.asarray(ratio_SL, dtype=np.float64)
    # The layer in the middle: one that begins with zeros is replaced by its first step, and well so.
    middle_S = middle(ratio_SL.T)
    if not np.isfinite(middle_S).any():
        return None
    peak = int(np.nanargmax(middle_S))
    usual = float(middle(middle_S[1:] if len(middle_S) > 1 else middle_S))
    replaced = middle_S[peak] / REPLACED_SHARE >= usual / LARGE_UPDATE
    value, bound = (middle_S[peak], REPLACED_SHARE) if replaced else (usual, LARGE_UPDATE)
    step = e.step(peak) if replaced else e.step(-1)
    when = f"step {step} alone changed" if replaced else "a usual step changes"
    text = f"updates are too large: {when} the weights of the middle layer by {number(value)} of their norm"
    row = peak if replaced else len(e.record.steps) - 1
    layer = int(np.argsort(np.nan_to_num(ratio_SL[row]))[ratio_SL.shape[1] // 2]) + 1
    text = text.replace("the middle layer", f"layer {layer}")
    sure = confidence(math.log10(max(float(value), 1e-30) / bound), 0.1)
    return Finding("update too large", layer, step, float(value), bound, sure, text)


def _small_update(e: Evidence) -> Finding | None:
    """Steps that all together leave the weights where they were."""
    ratio_SL = e.record.values.get("update_ratio")
    if ratio_SL is None or not len(e.record.steps):
        return None
    ratio_SL = np.asarray(ratio_SL, dtype=np.float64)
    # A first step may be far larger than the others (an output layer that begins with zeros, Adam).
    rest_SL = ratio_SL[1:] if len(ratio_SL) > 1 else ratio_SL
    if not np.isfinite(rest_SL).all():
        return None
    usual_L = rest_SL.mean(0)
    layer = int(usual_L.argmax())
    usual = float(usual_L[layer])
    steps = e.record.planned_steps
    bound = SMALL_UPDATE if steps is None else min(LEAST_MOVE / steps, SLOW_UPDATE)
    run = "" if steps is None else f", {number(usual * steps)} in {steps} steps"
    text = f"updates are too small: no layer moves by more than {number(usual)} of its weights a step{run}"
    sure = confidence(math.log10(bound / max(usual, 1e-30)), 0.15)
    return Finding("update too small", layer + 1, e.step(-1), usual, bound, sure, text)


def _dead(e: Evidence) -> Finding | None:
    """Units that say nothing to any example of a window; those of collapsed inputs are not dead but all alike."""
    dead_H, share = e.settled("dead_fraction"), DEAD_SHARE
    silent_SH = e.record.hidden("silent_fraction")
    if dead_H is None and silent_SH is not None and e.late is not None:
        # Without the units themselves only a layer that is silent as a whole is known to be dead.
        dead_H, share = silent_SH[e.late].min(0), 1.0 - 1e-9
    if dead_H is None or not np.isfinite(dead_H).any():
        return None
    cosine_H = e.settled("activation_correlation")
    if cosine_H is not None and len(cosine_H) == len(dead_H):
        dead_H = np.where((cosine_H > COLLAPSED_COSINE) & (dead_H < 1), np.nan, dead_H)
        if not np.isfinite(dead_H).any():
            return None
    layer = int(np.nanargmax(dead_H))
    value = float(dead_H[layer])
    text = (
        f"units are dead: {value:.0%} of layer {layer + 1} are silent on every example "
        f"of steps {e.step(e.now.start)} to {e.step(-1)}"
    )
    sure = confidence((value - share) if share < 1 else (0.4 if value >= share else -0.2), 0.1)
    return Finding("dead units", layer + 1, e.step(-1), value, share, sure, text)


def _saturated(e: Evidence) -> Finding | None:
    saturated_H = e.settled("saturated_fraction")
    if saturated_H is None:
        return None
    layer = int(np.nanargmax(saturated_H))
    value = float(saturated_H[layer])
    text = (
        f"activations saturate: {value:.0%} of layer {layer + 1}'s lie within 5 % of an asymptote "
        f"at step {e.step(-1)}"
    )
    sure = confidence(value - SATURATED_SHARE, 0.05)
    return Finding("saturated", layer + 1, e.step(-1), value, SATURATED_SHARE, sure, text)


def _collapsed(e: Evidence) -> Finding | None:
    """Inputs that have become one direction by the last hidden layer."""
    cosine_H = e.settled("activation_correlation")
    if cosine_H is None:
        return None
    mean_H, second_H = e.settled("activation_mean"), e.settled("activation_second_moment")
    if mean_H is not None and second_H is not None:
        # What all units have in common tells nothing of the inputs: of a sigmoid it is most of the cosine.
        with np.errstate(divide="ignore", invalid="ignore"):
            common_H = np.minimum(mean_H**2 / second_H, 1.0)
            cosine_H = np.where(common_H < 1, (cosine_H - common_H) / (1 - common_H), np.nan)
    if not np.isfinite(cosine_H[-1]):
        return None
    value = float(cosine_H[-1])
    alike = np.flatnonzero(~(cosine_H > COLLAPSED_COSINE))
    layer = int(alike.max()) + 2 if len(alike) else 1
    layer = min(layer, len(cosine_H))
    text = (
        f"inputs collapse onto one direction: from layer {layer} on the mean cosine between two examples "
        f"is {value:.3f} at step {e.step(-1)}"
    )
    margin = math.log10((1 - COLLAPSED_COSINE) / max(1 - value, 1e-9))
    sure = confidence(margin, 0.3)
    return Finding("rank collapse", layer, e.step(-1), value, COLLAPSED_COSINE, sure, text)


def _oscillating(e: Evidence) -> Finding | None:
    losses = np.asarray(e.record.losses, dtype=np.float64)
    last = losses[len(losses) // 2 :]
    if len(last) < 4 or not np.isfinite(losses).all():
        return None
    level = max(float(np.median(last)), LEVEL * float(losses[0]))
    change = np.diff(last)
    # A loss that only falls, or only rises, does not swing.
    swing = min(np.maximum(change, 0).mean(), np.maximum(-change, 0).mean())
    value = float(swing / level) if level > 0 else 0.0
    epochs = f"epochs {len(losses) - len(last) + 1} to {len(losses)}"
    text = f"the loss oscillates: in {epochs} it goes up and down by {value:.0%} of its level"
    step = len(losses) * e.record.steps_per_epoch
    sure = confidence(math.log10(max(value, 1e-9) / SWING), 0.15)
    return Finding("oscillating", None, step, value, SWING, sure, text)


def _out_of_theory(e: Evidence) -> Finding | None:
    # Theory speaks of the start; a later step has learned something.
    if e.expected is None or e.norms is None or e.start != 0 or e.norms.shape[1] < 2:
        return None
    norms_H = e.norms[0]
    if not (np.isfinite(norms_H) & (norms_H > 0)).all():
        return None
    slope = slope_per_layer(norms_H)
    spread = math.hypot(e.expected.spread or SPREAD, THEORY_DECADES / (len(norms_H) - 1))
    value = abs(slope - e.expected.slope) / spread
    text = (
        f"gradients do not follow theory: slope {signed(slope)} decades a layer at step {e.step(0)}, "
        f"theory {signed(e.expected.slope)} ({e.expected.name}), {value:.0f} times the spread of chance"
    )
    sure = confidence(value - SPREADS, 1.0)
    return Finding("out of theory", None, e.step(0), value, SPREADS, sure, text)


def _since(fine_S: "np.ndarray[Any, Any]") -> int:
    """The first place that is true and from which on nine tenths are."""
    share_S = np.cumsum(fine_S[::-1])[::-1] / np.arange(len(fine_S), 0, -1)
    return int(np.argmax(fine_S & (share_S >= RECOVERED_SHARE)))
