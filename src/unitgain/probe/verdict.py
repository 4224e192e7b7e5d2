"""What a record says of a network in training, in a word, a number and a sentence."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, final

from unitgain.probe.evidence import Evidence, flow_text, number, ratio_of, slope_per_layer
from unitgain.probe.findings import Finding, Label, findings
from unitgain.probe.record import Expected, Record
from unitgain.theory.bands import SEVERE_DECADES

SEVERITY: tuple[Label, ...] = (
    "diverged",
    "update too large",
    "dead units",
    "exploding",
    "vanishing",
    "saturated",
    "rank collapse",
    "oscillating",
    "update too small",
    "out of theory",
)
"""Which fault gives the verdict its label if there are several: what explains or outweighs the others comes first."""

Remedy = Callable[[Label], str]
"""What to try against a fault: "init=critical or norm=layer"."""

RECOVERED_SURE = 0.6
"""The most that is sure of a network whose gradients were not healthy at first (labelled set: 55 % learned well)."""

_ALSO = 2
"""Further faults that the text names."""


@final
@dataclass(frozen=True)
class Verdict:
    """A judgement of a run, or of what there is of it.

    Args:
        label: the gravest fault, "healthy" if there is none, "unknown" where there is nothing to judge.
        confidence: from 0 to 1, of the label: among labelled runs with this confidence, about this share was right.
        text: in words, with the layer, the step, the number and a remedy.
        findings: every fault, the gravest first; those that went away by themselves (`Finding.recovered`) too.
        slope: change of log10 of the gradient norm a layer at the first step, towards the input: below zero they
            vanish.
        ratio: gradient norm of the first hidden layer over that of the last, at that step.
        step: the optimizer step that these two are of.
    """

    label: Label
    confidence: float
    text: str
    findings: tuple[Finding, ...]
    slope: float
    ratio: float
    step: int

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for summary.json."""
        return {**asdict(self), "findings": [finding.as_dict() for finding in self.findings]}


def judge(
    record: Record, expected: Expected | None = None, remedy: Remedy | None = None
) -> Verdict:
    """Judge a run by its record. Rules whose quantities are missing stay silent.

    Args:
        record: of the whole run, or of its beginning.
        expected: what theory says of it.
        remedy: what to try against a fault; by default something that holds for any network.

    Example:
        >>> norms = [[1e-4, 1e-3, 1e-2, 1e-1, 1.0]]
        >>> judge(Record([0], {"grad_preactivation": norms})).text
        "gradients vanish: layer 1 gets 1.0e-03 of layer 4's; slope -1.000 decades a layer at step 0. Try ..."
    """
    evidence = Evidence(record, expected)
    said = list(findings(evidence))
    faults = sorted(
        (f for f in said if f.confidence >= 0.5),
        key=lambda f: (f.recovered is not None, SEVERITY.index(f.label), -f.confidence),
    )
    lasting = [f for f in faults if f.recovered is None]
    slope, ratio, step = _start(evidence)
    if lasting:
        label, sure = lasting[0].label, lasting[0].confidence
        text = _fault_text(lasting, remedy or general_remedy)
    elif (why := _nothing_to_judge(evidence)) is not None:
        label, sure, text = "unknown", 0.0, f"no verdict on gradient flow: {why}."
    else:
        label, text = "healthy", _healthy_text(evidence, faults)
        sure = 1 - max((f.confidence for f in said if f.recovered is None), default=0.5)
        sure = min(sure, RECOVERED_SURE) if faults else sure
    return Verdict(label, round(sure, 3), text, tuple(faults), slope, ratio, step)


def general_remedy(label: Label) -> str:
    """What to try against a fault in any network."""
    smaller = "a smaller learning rate"
    return {
        "vanishing": "a larger gain of the initial weights, a norm, or residual layers",
        "exploding": "a smaller gain of the initial weights, or a norm",
        "dead units": f"{smaller}, or an activation with a slope below zero",
        "saturated": "a smaller gain of the initial weights, or a norm",
        "rank collapse": "residual layers, or a norm",
        "out of theory": "to look at the initial weights and the scale of the inputs",
        "update too large": smaller,
        "update too small": "a larger learning rate",
        "diverged": f"{smaller}, or clipping gradients",
        "oscillating": f"{smaller}, or one that falls",
    }.get(label, "")


def _start(e: Evidence) -> tuple[float, float, int]:
    """Slope, ratio and step of the first step that reaches the hidden layers."""
    if e.norms is None or not e.norms.size:
        return 0.0, 1.0, e.step(0) if len(e.record.steps) else 0
    row = e.start or 0
    return slope_per_layer(e.norms[row]), ratio_of(e.norms[row]), e.step(row)


def _nothing_to_judge(e: Evidence) -> str | None:
    if not len(e.record.steps):
        return "nothing was measured"
    if e.norms is None:
        return "grad_preactivation was not measured"
    if e.norms.shape[1] < 2:
        return "fewer than two hidden layers"
    if e.start is None:
        return "the output layer passes nothing back yet"
    return None


def _fault_text(faults: list[Finding], remedy: Remedy) -> str:
    first = faults[0]
    text = first.text
    if first.label in ("vanishing", "exploding"):
        verb = {"vanishing": "vanish", "exploding": "explode"}[first.label]
        degree = "" if first.number >= SEVERE_DECADES else " mildly"
        text = f"gradients {verb}{degree}: {text}"
    if trying := remedy(first.label):
        text += f". Try {trying}"
    also = [f"{f.label} ({_place(f)}{number(f.number)})" for f in faults[1 : 1 + _ALSO]]
    return f"{text}.{' Also: ' + ', '.join(also) + '.' if also else ''}"


def _place(finding: Finding) -> str:
    return "" if finding.layer is None else f"layer {finding.layer}: "


def _healthy_text(e: Evidence, gone: list[Finding]) -> str:
    row = e.start or 0
    if not gone:
        return f"gradients flow: {flow_text(e, row)}."
    verb = {"vanishing": "vanished", "exploding": "exploded"}[gone[0].label]
    return (
        f"gradients flow since step {gone[0].recovered}; at first they {verb}: {flow_text(e, row)}."
    )
