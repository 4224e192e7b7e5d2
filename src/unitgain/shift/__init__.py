"""Distribution shift: density ratios, their transforms and diagnostics, as pure functions of
tensors.

Weights are w(x) = p_target(x) / p_source(x), with mean one under the source.
"""

from unitgain.shift.classifier import Classifier, Features, Hidden, Linear, Quadratic
from unitgain.shift.diagnostics import (
    Balance,
    Diagnostics,
    balance,
    diagnose,
    effective_sample_size,
    pareto_k,
)
from unitgain.shift.kernels import ULSIF, RuLSIF
from unitgain.shift.kliep import KLIEP
from unitgain.shift.kmm import KMM
from unitgain.shift.neighbours import NearestNeighbour
from unitgain.shift.ratio import DensityRatio, Estimator, Oracle, ScaledEstimator, Uniform
from unitgain.shift.transforms import clip, flatten, normalise

__all__ = [
    "KLIEP",
    "KMM",
    "ULSIF",
    "Balance",
    "Classifier",
    "DensityRatio",
    "Diagnostics",
    "Estimator",
    "Features",
    "Hidden",
    "Linear",
    "NearestNeighbour",
    "Oracle",
    "Quadratic",
    "RuLSIF",
    "ScaledEstimator",
    "Uniform",
    "balance",
    "clip",
    "diagnose",
    "effective_sample_size",
    "flatten",
    "normalise",
    "pareto_k",
]
