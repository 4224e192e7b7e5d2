"""Gradient flow: what is measured a layer and member, how it is gathered, and what it means.

Quantities are pure functions of tensors to (K, L). `Recorder` gathers what they need from any torch.nn module;
`judge` turns a record into a verdict.
"""

from unitgain.probe.quantities import QUANTITIES, Layers, LayerTensors, measure
from unitgain.probe.recorder import Recorder
from unitgain.probe.verdict import Verdict, judge, slope_per_layer

__all__ = [
    "QUANTITIES",
    "LayerTensors",
    "Layers",
    "Recorder",
    "Verdict",
    "judge",
    "measure",
    "slope_per_layer",
]
