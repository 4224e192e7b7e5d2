"""Gradient flow: what is measured a layer and member, how it is gathered, and what it means.

Quantities are pure functions of tensors to (K, L). `Recorder` gathers what they need from any torch.nn module;
`judge` turns a record into a verdict.
"""

from unitgain.probe.evidence import slope_per_layer
from unitgain.probe.findings import Finding
from unitgain.probe.layers import Layers
from unitgain.probe.loop import watch
from unitgain.probe.quantities import QUANTITIES, LayerTensors, measure
from unitgain.probe.record import Course, Expected, Fault, Record
from unitgain.probe.recorder import Recorder
from unitgain.probe.verdict import Verdict, judge

__all__ = [
    "QUANTITIES",
    "Course",
    "Expected",
    "Fault",
    "Finding",
    "LayerTensors",
    "Layers",
    "Record",
    "Recorder",
    "Verdict",
    "judge",
    "measure",
    "slope_per_layer",
    "watch",
]
