"""The forecast of a run: what theory says of its signal and its gradient at initialization."""

import math
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from unitgain.forecast._layers import Described, described
from unitgain.spec import RunSpec
from unitgain.theory._branch import moved
from unitgain.theory.bands import HEALTHY_DECADES, SEVERE_DECADES
from unitgain.theory.gradient_spread import log_gradient_variance
from unitgain.theory.mean_field import MeanField, Phase
from unitgain.theory.network import Network, Signal, propagate

Array = NDArray[np.float64]
Label = Literal["healthy", "vanishing", "exploding", "unknown"]

_ALIKE = 0.95
"""Correlation of inputs from which a layer hardly tells them apart."""

_CRITICAL = 1e-4
"""How far chi_1 may be from one for gradients to keep their size, as in `unitgain.theory.mean_field`."""


@final
@dataclass(frozen=True)
class Forecast:
    r"""What theory says of a run at initialization, for wide layers.

    Attributes:
        name: activation and initializer, and what else there is: ``sigmoid with xavier``.
        label: as a measured record would be judged: healthy, vanishing, exploding; unknown where theory is silent.
        phase: ordered, critical, chaotic, half-stable, unbounded.
        q_star: the variance of pre-activations that depth leads to; infinite where it grows without end.
        chi_1: the factor a layer by which the squared gradient grows towards the input.
        xi_c: the layers over which two inputs' correlation approaches its limit by a factor of e.
        trainable_depth: about 6 xi_c.
        slope: decades a layer of the gradient's norm over the hidden layers, towards the input, at this depth.
        ratio: the gradient's norm at the first hidden layer over that at the last.
        spread: the standard deviation of log10 of one example's ratio over draws of networks of these widths.
        q_L: mean square of each layer's pre-activations, the output layer's last.
        correlation_L: of two independent inputs' pre-activations.
        activation_mean_L: of each hidden layer's activations.
        activation_second_moment_L: likewise.
        activation_correlation_L: the cosine between two inputs' activations.
        log10_gradient_L: log10 of the gradient's norm at each layer's pre-activations over the output layer's.
        caveats: what theory leaves out of this run.
    """

    name: str
    label: Label
    phase: Phase | None
    q_star: float
    chi_1: float
    xi_c: float
    trainable_depth: float
    slope: float
    ratio: float
    spread: float
    q_L: tuple[float, ...] = field(repr=False)
    correlation_L: tuple[float, ...] = field(repr=False)
    activation_mean_L: tuple[float, ...] = field(repr=False)
    activation_second_moment_L: tuple[float, ...] = field(repr=False)
    activation_correlation_L: tuple[float, ...] = field(repr=False)
    log10_gradient_L: tuple[float, ...] = field(repr=False)
    caveats: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """The number of hidden layers."""
        return len(self.q_L) - 1

    @property
    def decades(self) -> float:
        """D, the decades that the gradient's norm changes by between the first hidden layer and the last."""
        return abs(self.slope) * max(self.hidden - 1, 0)

    @property
    def severe(self) -> bool:
        """Whether so many decades lie between them that no measured net trained."""
        return self.decades >= SEVERE_DECADES

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for summary.json: None where a number is infinite or there is none."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)} | {
            "decades": _plain(self.decades)
        }


def forecast_of(
    spec: RunSpec, *, inputs: int | None = None, outputs: int | None = None, q_0: float = 1.0
) -> Forecast:
    """The forecast of a run; runs that differ in nothing it depends on share one.

    Args:
        spec: of the run.
        inputs: features of an example; None: as many as the first hidden layer has units.
        outputs: units of the output layer; None: 10.
        q_0: mean square of the inputs' features.

    Example:
        >>> from unitgain.spec import parse
        >>> sigmoid = {"_target_": "torch.nn.Sigmoid"}
        >>> xavier = {"_target_": "unitgain.nn.init.xavier"}
        >>> forecast = forecast_of(parse({"activation": sigmoid, "init": xavier}))
        >>> forecast.name, forecast.label, round(forecast.slope, 2)
        ('sigmoid with xavier', 'vanishing', -0.63)
    """
    return _forecast(Question.of(spec, inputs, outputs, q_0))


@final
@dataclass(frozen=True)
class Question:
    """What a forecast depends on; two are equal when all of that is."""

    key: str
    inputs: int | None
    outputs: int | None
    q_0: float
    spec: RunSpec = field(compare=False)

    @classmethod
    def of(cls, spec: RunSpec, inputs: int | None, outputs: int | None, q_0: float) -> Self:
        """Of a run; the arguments are those of `forecast_of`."""
        parts = (spec.model, spec.activation, spec.norm, spec.dropout, spec.bias_init)
        batch = spec.data.batch_size if "Batch" in spec.norm.target else None
        key = repr((parts, spec.init, spec.first_init, spec.output_init, batch))
        return cls(key, inputs, outputs, float(f"{q_0:.6g}"), spec)


@lru_cache(maxsize=1024)
def _forecast(asked: Question) -> Forecast:
    spec = asked.spec
    about = described(spec, asked.inputs, asked.outputs)
    name = _name(spec)
    if not about.known:
        nothing = math.nan
        blank = (nothing,) * (spec.model.depth + 1)
        return Forecast(
            name,
            "unknown",
            None,
            *(nothing,) * 7,
            *(blank, blank, blank[1:], blank[1:], blank[1:], blank),
            about.caveats,
        )
    signal = propagate(about.network, asked.q_0)
    limit = _limit(about.network, signal)
    hidden = signal.log10_gradient[:-1]
    slope = signal.slope
    difference = float(hidden[0] - hidden[-1]) if np.isfinite(hidden).all() else -math.inf
    return Forecast(
        name=name,
        label=_label(slope, len(hidden)),
        phase=limit.phase,
        q_star=limit.q_star,
        chi_1=limit.chi_1,
        xi_c=limit.xi_c,
        trainable_depth=6 * limit.xi_c,
        slope=slope,
        ratio=10.0**difference if difference < 300 else math.inf,
        spread=_spread(about, signal),
        q_L=_tuple(signal.q),
        correlation_L=_tuple(signal.correlation),
        activation_mean_L=_tuple(signal.activation_mean),
        activation_second_moment_L=_tuple(signal.activation_second_moment),
        activation_correlation_L=_tuple(signal.activation_correlation),
        log10_gradient_L=_tuple(signal.log10_gradient),
        caveats=about.caveats + _caveats_of(signal, limit),
    )


def maps_of(
    spec: RunSpec, *, inputs: int | None = None, outputs: int | None = None, q_0: float = 1.0
) -> MeanField | None:
    """The maps of lengths and correlations of a run's hidden layers; None where there are none.

    Args:
        spec: of the run.
        inputs: as for `forecast_of`.
        outputs: likewise.
        q_0: likewise.
    """
    about = described(spec, inputs, outputs)
    return mean_field_of(about.network, propagate(about.network, q_0)) if about.known else None


@dataclass(frozen=True)
class _Limit:
    """What depth leads to."""

    phase: Phase
    q_star: float
    chi_1: float
    xi_c: float


def mean_field_of(network: Network, signal: Signal) -> MeanField | None:
    """The maps of the hidden layers beyond the first, taken to be of one kind; None behind a norm, beside a skip, or
    where weights are the identity.

    Biases that are all the same move the activation, and the variance is that about their mean.
    """
    middle = len(network.layers) // 2
    layer = network.layers[middle]
    other = network.norm.kind != "none" or network.dropout.alpha or layer.identity
    if other or any(each.residual for each in network.layers):
        return None
    return MeanField(
        moved(network.activation, layer.bias_mean, 1.0),
        float(signal.sigma_w[middle]),
        layer.sigma_b,
        1 - network.dropout.p,
        max(float(signal.q[0]), 1e-12),
    )


def _limit(network: Network, signal: Signal) -> _Limit:
    """What the hidden layers lead to."""
    field = mean_field_of(network, signal)
    if field is not None:
        q_star = field.q_star + network.layers[len(network.layers) // 2].bias_mean ** 2
        return _Limit(field.phase, q_star, field.chi_1, field.xi_c)
    # Behind a norm lengths are at rest from the second layer on; beside a skip they never are.
    residual = any(layer.residual for layer in network.layers)
    rows = slice(0, -1) if residual else slice(len(network.layers) // 2, -1)
    growth = signal.growth[rows] if len(signal.growth[rows]) else signal.growth
    chi_1 = float(np.exp(np.log(growth).mean())) if (growth > 0).all() else 0.0
    grows = residual and signal.q[-2] > 2 * signal.q[0]
    phase = Phase.ORDERED if chi_1 < 1 else Phase.CHAOTIC
    if abs(chi_1 - 1) < _CRITICAL:
        phase = Phase.CRITICAL
    if grows:
        phase = Phase.UNBOUNDED
    rate = abs(math.log(chi_1)) if chi_1 > 0 else math.inf
    xi = 1 / rate if rate > 0 else math.inf
    return _Limit(phase, math.inf if grows else float(signal.q[-2]), chi_1, xi)


def _label(slope: float, layers: int) -> Label:
    """The bands of `unitgain.probe.verdict`."""
    if layers < 2:
        return "unknown"
    if math.isnan(slope):
        return "vanishing"
    if abs(slope) * (layers - 1) < HEALTHY_DECADES:
        return "healthy"
    return "vanishing" if slope < 0 else "exploding"


def _spread(about: Described, signal: Signal) -> float:
    """The standard deviation of log10 of the ratio of one example's gradients."""
    variance = log_gradient_variance(
        about.network, signal, about.widths[1:-1], orthogonal=about.orthogonal
    )
    return math.sqrt(max(variance, 0.0)) / (2 * math.log(10))


def _caveats_of(signal: Signal, limit: _Limit) -> tuple[str, ...]:
    found = []
    alike = np.flatnonzero(signal.correlation[:-1] > _ALIKE)
    if alike.size:
        found.append(
            f"inputs become alike: two independent ones are correlated above {_ALIKE:g} from layer "
            f"{alike[0] + 1} on"
        )
    if limit.phase is Phase.HALF_STABLE:
        found.append(
            "lengths leave this fixed point on one side: a network of finite width drifts from it"
        )
    large = np.flatnonzero(~(signal.q < 1e38))
    if large.size:
        found.append(f"pre-activations overflow float32 at layer {large[0] + 1}")
    return tuple(found)


def _name(spec: RunSpec) -> str:
    def short(target: str) -> str:
        return target.rpartition(".")[2]

    words = f"{_ACTIVATION_NAMES.get(short(spec.activation.target), short(spec.activation.target).lower())}"
    words += f" with {short(spec.init.target)}"
    extras = []
    if short(spec.norm.target) != "Identity":
        extras.append(f"{short(spec.norm.target).removesuffix('Norm').lower()} norm")
    rate = float(spec.dropout.arguments().get("p", 0.0))
    if rate:
        extras.append(f"dropout {rate:g}")
    if spec.model.residual:
        extras.append("residual branches")
    return ", ".join([words, *extras])


_ACTIVATION_NAMES = {"LeakyReLU": "leaky_relu"}


def _tuple(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Phase):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
