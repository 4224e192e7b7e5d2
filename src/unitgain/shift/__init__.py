"""Distribution shift: density ratios, their transforms and diagnostics, as pure functions of
tensors.

Weights are w(x) = p_target(x) / p_source(x), with mean one under the source.
"""

from unitgain.shift.calibration import Calibration, Calibrator
from unitgain.shift.classifier import Classifier
from unitgain.shift.concept import ConceptTest, detect_concept_shift
from unitgain.shift.conformal import conformal_interval, conformal_sets, weighted_threshold
from unitgain.shift.detect import (
    MMD,
    ClassifierTest,
    Detection,
    KolmogorovSmirnov,
    Portfolio,
    PortfolioResult,
    TwoSampleTest,
)
from unitgain.shift.diagnostics import (
    Balance,
    Diagnostics,
    balance,
    diagnose,
    effective_sample_size,
    pareto_k,
    relative_error,
)
from unitgain.shift.kernels import ULSIF, RuLSIF
from unitgain.shift.kliep import KLIEP
from unitgain.shift.kmm import KMM
from unitgain.shift.label import (
    BBSE,
    MLLS,
    RLLS,
    LabelEstimator,
    LabelRatio,
    bootstrap_weights,
    correct_posteriors,
)
from unitgain.shift.loss_model import predict_losses
from unitgain.shift.neighbours import NearestNeighbour
from unitgain.shift.ratio import DensityRatio, Estimator, Oracle, ScaledEstimator, Uniform
from unitgain.shift.risk import (
    Gate,
    Selection,
    TargetRisk,
    doubly_robust_risk,
    importance_weighted_risk,
    select_exponent,
    should_correct,
)
from unitgain.shift.sequential import (
    ConformalPValues,
    Effect,
    SequentialTest,
    SimpleJumper,
    StreamScores,
    effects,
)
from unitgain.shift.transforms import clip, flatten, normalise

__all__ = [
    "BBSE",
    "KLIEP",
    "KMM",
    "MLLS",
    "MMD",
    "RLLS",
    "ULSIF",
    "Balance",
    "Calibration",
    "Calibrator",
    "Classifier",
    "ClassifierTest",
    "ConceptTest",
    "ConformalPValues",
    "DensityRatio",
    "Detection",
    "Diagnostics",
    "Effect",
    "Estimator",
    "Gate",
    "KolmogorovSmirnov",
    "LabelEstimator",
    "LabelRatio",
    "NearestNeighbour",
    "Oracle",
    "Portfolio",
    "PortfolioResult",
    "RuLSIF",
    "ScaledEstimator",
    "Selection",
    "SequentialTest",
    "SimpleJumper",
    "StreamScores",
    "TargetRisk",
    "TwoSampleTest",
    "Uniform",
    "balance",
    "bootstrap_weights",
    "clip",
    "conformal_interval",
    "conformal_sets",
    "correct_posteriors",
    "detect_concept_shift",
    "diagnose",
    "doubly_robust_risk",
    "effective_sample_size",
    "effects",
    "flatten",
    "importance_weighted_risk",
    "normalise",
    "pareto_k",
    "predict_losses",
    "relative_error",
    "select_exponent",
    "should_correct",
    "weighted_threshold",
]
