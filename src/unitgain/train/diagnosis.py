"""What `unitgain doctor` finds: a network at initialization, the verdict on it, and the changes that were tried.

Shapes: K seeds, L layers (the output layer last), Q quantities.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from unitgain.forecast import Forecast
from unitgain.probe import Expected, Fault, Record, Verdict, judge, slope_per_layer
from unitgain.spec import RunSpec

Array = NDArray[np.float64]

OF_ONE_STEP = (
    "grad_preactivation",
    "grad_weight",
    "weight_norm",
    "update_ratio",
    "activation_mean",
    "activation_second_moment",
    "activation_correlation",
    "silent_fraction",
    "saturated_fraction",
)
"""The quantities that one step gives."""

FAULTLESS = ("healthy", "unknown")
"""Verdicts that leave nothing to heal."""

_RATIOS = ("grad_preactivation", "grad_weight", "weight_norm", "update_ratio")
"""Those that span decades: their mean over seeds is the geometric one."""


@final
@dataclass(frozen=True)
class Measured:
    """A network at initialization, over some seeds.

    Args:
        values: (L,) of each quantity, the mean of the seeds.
        names: of the layers.
        slope: decades a layer of the gradient's norm over the hidden layers, towards the input.
        error: the standard error of the slope's mean over seeds; NaN for one seed.
        ratio: the gradient's norm at the first hidden layer over that at the last.
        loss: of the batch.
        seeds: how many.
    """

    values: Mapping[str, Array] = field(repr=False)
    names: tuple[str, ...]
    slope: float
    error: float
    ratio: float
    loss: float
    seeds: int

    @classmethod
    def of(
        cls, value_KQL: Array, quantities: Sequence[str], names: Sequence[str], loss: float
    ) -> "Measured":
        """What each seed gave, put together."""
        values = {
            name: (_geometric if name in _RATIOS else _mean)(value_KQL[:, i])
            for i, name in enumerate(quantities)
        }
        norm_KL = value_KQL[:, quantities.index("grad_preactivation"), :-1]
        slope_K = np.array([slope_per_layer(norm_L) for norm_L in norm_KL])
        norms = values["grad_preactivation"][:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(norms[0] / norms[-1]) if norms.size else math.nan
        seeds = len(slope_K)
        error = float(slope_K.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan
        return cls(values, tuple(names), float(slope_K.mean()), error, ratio, loss, seeds)

    def verdict(self, expected: Expected | None) -> Verdict:
        """The judgement of it; what to try is said elsewhere."""
        values = {name: value[None] for name, value in self.values.items()}
        return judge(Record([0], values, fault=self._fault()), expected, lambda _label: "")

    def _fault(self) -> Fault | None:
        """Where numbers aren't finite any more."""
        activation = self.values["activation_second_moment"][:-1]
        broken = np.flatnonzero(np.isinf(activation) | np.isnan(activation))
        if broken.size and not math.isfinite(self.loss):
            return Fault(0, int(broken[0]) + 1, "pre-activation")
        return None if math.isfinite(self.loss) else Fault(0, None, "loss")


@final
@dataclass(frozen=True)
class Proposal:
    """A change, tried.

    Args:
        text: what it is.
        steps: what to type: overrides of a configuration, or lines of Python.
        predicted: decades a layer, towards the input; None without a theory of it.
        measured: the network with it.
        verdict: on that.
        spec: the run with it; None for a module of one's own.
    """

    text: str
    steps: tuple[str, ...]
    predicted: float | None
    measured: Measured
    verdict: Verdict
    spec: RunSpec | None = None

    @property
    def heals(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict.label == "healthy"


@final
@dataclass(frozen=True)
class Diagnosis:
    """What `unitgain doctor` says.

    Args:
        name: what was measured: activation and initializer, or the module.
        facts: how, in words.
        measured: the network as it is.
        verdict: on that.
        predicted: by layer and as a whole; None without a theory of it.
        proposals: those that heal first, each group in the order of theory: what changes least first.
        gains: the largest and the smallest singular value of the outputs' Jacobian, the median of some examples.
        sharpness: the largest eigenvalue of the loss's Hessian on the batch; None where it wasn't asked for.
    """

    name: str
    facts: str
    measured: Measured
    verdict: Verdict
    predicted: "Predicted | None"
    proposals: tuple[Proposal, ...]
    gains: tuple[float, float] | None = None
    sharpness: float | None = None

    @property
    def faulty(self) -> bool:
        """Whether something is wrong."""
        return self.verdict.label not in FAULTLESS

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "name": self.name,
            "facts": self.facts,
            "verdict": self.verdict.as_dict(),
            "measured": _plain(self.measured),
            "predicted": None if self.predicted is None else self.predicted.as_dict(),
            "proposals": [
                {
                    "text": each.text,
                    "steps": list(each.steps),
                    "heals": each.heals,
                    "predicted_slope": each.predicted,
                    "measured_slope": each.measured.slope,
                    "verdict": each.verdict.as_dict(),
                }
                for each in self.proposals
            ],
            "jacobian_singular_values": None if self.gains is None else list(self.gains),
            "sharpness": self.sharpness,
        }


@final
@dataclass(frozen=True)
class Predicted:
    """What theory says of the same network.

    Args:
        slope: as in `Measured`.
        ratio: likewise.
        log10_gradient_L: relative to the output layer's.
        second_moment_L: of the hidden layers' activations.
        correlation_L: the cosine between two examples' activations.
        phase: of the hidden layers.
        chi_1: likewise.
        trainable_depth: 6 xi_c.
        caveats: what theory leaves out.
    """

    slope: float
    ratio: float
    log10_gradient_L: tuple[float, ...]
    second_moment_L: tuple[float, ...]
    correlation_L: tuple[float, ...]
    phase: str | None
    chi_1: float | None
    trainable_depth: float | None
    caveats: tuple[str, ...] = ()

    @classmethod
    def of(cls, forecast: Forecast) -> "Predicted | None":
        """That of a configured run; None where theory is silent."""
        if forecast.phase is None:
            return None
        return cls(
            forecast.slope,
            forecast.ratio,
            forecast.log10_gradient_L,
            forecast.activation_second_moment_L,
            forecast.activation_correlation_L,
            forecast.phase.value,
            forecast.chi_1,
            forecast.trainable_depth,
            forecast.caveats,
        )

    def expected(self, name: str) -> Expected:
        """What a verdict compares with."""
        return Expected(self.slope, name)

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "slope": self.slope,
            "ratio": self.ratio,
            "phase": self.phase,
            "chi_1": self.chi_1,
            "trainable_depth": self.trainable_depth,
            "log10_gradient": list(self.log10_gradient_L),
            "activation_second_moment": list(self.second_moment_L),
            "activation_correlation": list(self.correlation_L),
            "caveats": list(self.caveats),
        }


def _geometric(value_KL: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_L: Array = np.exp(np.log(value_KL).mean(0))
    return mean_L


def _mean(value_KL: Array) -> Array:
    mean_L: Array = value_KL.mean(0)
    return mean_L


def _plain(measured: Measured) -> dict[str, Any]:
    return {
        "slope": measured.slope,
        "error": measured.error,
        "ratio": measured.ratio,
        "loss": measured.loss,
        "seeds": measured.seeds,
        "layers": list(measured.names),
        **{name: value.tolist() for name, value in measured.values.items()},
    }
