r"""Density ratios from a classifier that tells target rows from source rows.

With :math:`\eta(x)` the log odds of the target among N source and M target rows, Bayes gives
:math:`w(x) = \frac{N}{M} e^{\eta(x)}`: the factor is what many implementations forget.
Shapes: N source rows, M target rows, R rows of either kind, D features, P parameters, H hidden units.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor
from torch.nn import functional as fn

from unitgain.errors import ConfigError
from unitgain.shift._minimise import minimise
from unitgain.shift._rows import folds, without
from unitgain.shift.ratio import RatioFunction, ScaledEstimator

_LARGEST_LOG = 200.0
"""Log ratios are kept below it, so that weights and their squares are finite."""


Kind = Literal["linear", "quadratic", "mlp"]
"""What a logistic classifier sees of the rows."""


class Features(abc.ABC):
    """What a logistic classifier sees of the rows, and its parameters."""

    @abc.abstractmethod
    def start(self, features: int, generator: torch.Generator) -> Tensor:
        """Parameters (P,) to start from, float64 on the CPU; all but the last, the intercept, are penalised."""

    @abc.abstractmethod
    def log_ratio(self, theta_P: Tensor, rows_RD: Tensor) -> Tensor:
        """The logarithm of the ratio (R,)."""


@final
@dataclass(frozen=True)
class Linear(Features):
    r""":math:`\log w = \beta \cdot x + \gamma`: exact for Gaussians with one covariance matrix."""

    def start(self, features: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(features + 1, dtype=torch.float64)

    def log_ratio(self, theta_P: Tensor, rows_RD: Tensor) -> Tensor:
        return rows_RD @ theta_P[:-1] + theta_P[-1]


@final
@dataclass(frozen=True)
class Quadratic(Features):
    r""":math:`\log w = x \cdot A x + \beta \cdot x + \gamma`: exact for any two Gaussians.

    The products of features are never formed: time and memory are those of one D by D layer.
    """

    def start(self, features: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(features * features + features + 1, dtype=torch.float64)

    def log_ratio(self, theta_P: Tensor, rows_RD: Tensor) -> Tensor:
        features = rows_RD.shape[1]
        A_DD = theta_P[: features * features].view(features, features)
        slope_D = theta_P[features * features : -1]
        return ((rows_RD @ A_DD + slope_D) * rows_RD).sum(1) + theta_P[-1]


@final
@dataclass(frozen=True)
class MLP(Features):
    r"""One hidden layer: :math:`\log w = v \cdot \tanh(U x + b) + \gamma`, from a random start."""

    width: int

    def start(self, features: int, generator: torch.Generator) -> Tensor:
        numbers = torch.randn(
            self.width * (features + 2) + 1,
            dtype=torch.float64,
            generator=generator,
            device=generator.device,
        ).cpu()
        numbers[: self.width * features] /= math.sqrt(features)
        numbers[self.width * (features + 1) : -1] /= math.sqrt(self.width)
        numbers[-1] = 0.0
        return numbers

    def log_ratio(self, theta_P: Tensor, rows_RD: Tensor) -> Tensor:
        features = rows_RD.shape[1]
        sizes = [self.width * features, self.width, self.width, 1]
        U, bias_H, v_H, intercept = torch.split(theta_P, sizes)
        hidden_RH = torch.addmm(bias_H, rows_RD, U.view(features, self.width)).tanh()
        log_R: Tensor = hidden_RH @ v_H + intercept
        return log_R


def check_kinds(kinds: Sequence[str], width: int) -> None:
    """Raise a `ConfigError` where features are of no such kind, or an MLP has no units."""
    known = get_args(Kind)
    if not kinds or not set(kinds) <= set(known):
        raise ConfigError(
            f"features: must be of {', '.join(known)}, got {tuple(kinds)}; name one or more"
        )
    if width < 1:
        raise ConfigError(f"width: must be at least 1, got {width}; 32 is usual")


def features_of(kind: Kind, width: int) -> Features:
    """The features of a kind."""
    return {"linear": Linear(), "quadratic": Quadratic(), "mlp": MLP(width)}[kind]


@final
@dataclass(frozen=True)
class LogisticRatio:
    """The ratio that a fitted classifier gives: a slope and an intercept of calibration over its log ratio."""

    features: Features
    theta_P: Tensor
    slope: float
    intercept: float

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """The ratios of scaled rows (R,)."""
        log_R = self.features.log_ratio(self.theta_P, rows_RD)
        return (self.slope * log_R + self.intercept).clamp(max=_LARGEST_LOG).exp()


@final
@dataclass(frozen=True)
class Classifier(ScaledEstimator):
    r"""Logistic regression of the part that a row belongs to.

    It minimises :math:`\sum_{source} \log(1 + \tfrac{M}{N} w) + \sum_{target} \log(1 + \tfrac{N}{M} w^{-1}) +
    \tfrac{\lambda}{2} |\theta|^2` over :math:`w = e^{\log w_\theta}`, features standardised. The
    ridge is that with the least log loss on left-out folds; features are chosen likewise.
    Stronger ridges than one often have less, but they flatten weights in the direction of the
    shift too. Calibration fits a slope and
    an intercept to the log ratios that left-out rows were given.

    ==============  ==========================================================================
    features        :math:`\log w`
    ==============  ==========================================================================
    ``linear``      :math:`\beta \cdot x + \gamma`: exact for Gaussians of one covariance matrix
    ``quadratic``   :math:`x \cdot A x + \beta \cdot x + \gamma`: exact for any two Gaussians
    ``mlp``         :math:`v \cdot \tanh(U x + b) + \gamma` with `width` hidden units
    ==============  ==========================================================================

    Args:
        features: kinds to choose from, the simplest first.
        ridges: values of lambda to choose from.
        calibrate: whether to calibrate.
        folds: of cross-validation.
        most: rows a part that cross-validation looks at.
        width: hidden units of ``mlp``.

    Raises:
        ConfigError: nothing to choose from, no such kind, ridges below 0, or no hidden units.

    Example:
        >>> rows = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
        >>> ratio = Classifier().fit(rows, rows + 0.5, torch.Generator().manual_seed(0))
        >>> bool(ratio(torch.tensor([[1.0]])) > 1 > ratio(torch.tensor([[-1.0]])))
        True

    Reference:
        Bickel, Brueckner and Scheffer (2009), JMLR 10, section 5; Qin (1998), doi 10.1093/biomet/85.3.619.
    """

    features: Sequence[Kind] = ("linear", "quadratic")
    ridges: Sequence[float] = (1.0, 0.1, 0.01)
    calibrate: bool = False
    folds: int = 5
    most: int = 10_000
    width: int = 32

    def __post_init__(self) -> None:
        check_kinds(self.features, self.width)
        if not self.ridges or min(self.ridges) < 0:
            raise ConfigError(
                f"ridges: must be numbers of 0 or above, got {self.ridges}; leave the default"
            )

    def _scaled_ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        kinds = [features_of(kind, self.width) for kind in self.features]
        starts = [f.start(source_ND.shape[1], generator).to(source_ND) for f in kinds]
        # With nothing to choose and to calibrate, no folds are fitted.
        count = self.folds if self.calibrate or len(kinds) * len(self.ridges) > 1 else 1
        parts = folds(source_ND, target_MD, count, self.most, generator)
        chosen, ridge, held_out = 0, max(self.ridges), None
        for i, features in enumerate(kinds):
            logs, least = _least_loss(features, starts[i], *parts, self.ridges)
            if logs is not None and (held_out is None or _excess(held_out, logs) > 0):
                chosen, ridge, held_out = i, least, logs
        features = kinds[chosen]
        theta_P = _fit(features, starts[chosen], source_ND, target_MD, ridge)
        slope, intercept, details = 1.0, 0.0, {"features": float(chosen), "ridge": ridge}
        if held_out is not None:
            details["log_loss"] = float(_losses(*held_out).mean())
            if self.calibrate:
                slope, intercept = _calibration(*held_out)
                details["slope"] = slope
        return LogisticRatio(features, theta_P, slope, intercept), details


def _fit(
    features: Features,
    start_P: Tensor,
    source_ND: Tensor,
    target_MD: Tensor,
    ridge: float,
    *,
    roughly: bool = False,
) -> Tensor:
    rows_RD = torch.cat([source_ND, target_MD])
    sizes = [len(source_ND), len(target_MD)]
    offset = math.log(sizes[1] / sizes[0])

    def loss(theta_P: Tensor) -> Tensor:
        odds_R = features.log_ratio(theta_P, rows_RD) + offset
        source_N, target_M = torch.split(odds_R, sizes)
        misses = fn.softplus(source_N).sum() + fn.softplus(-target_M).sum()
        return (misses + 0.5 * ridge * theta_P[:-1].square().sum()) / sum(sizes)

    steps, tolerance = (50, 1e-4) if roughly else (200, 1e-6)
    return minimise(loss, start_P, steps=steps, tolerance=tolerance)


_Logs = tuple[Tensor, Tensor]
"""Log ratios of source rows and of target rows."""


def _least_loss(
    features: Features,
    start_P: Tensor,
    source: list[Tensor],
    target: list[Tensor],
    ridges: Sequence[float],
) -> tuple[_Logs | None, float]:
    """The left-out log ratios of the ridge with the least log loss, and that ridge."""
    best, chosen = None, max(ridges)
    # The loss has one least value over the path, and weak ridges take the most steps.
    for ridge in sorted(ridges, reverse=True) if source else ():
        logs = _held_out(features, start_P, source, target, ridge)
        if best is not None and _excess(logs, best) >= 0:
            break
        best, chosen = logs, ridge
    return best, chosen


def _held_out(
    features: Features, start_P: Tensor, source: list[Tensor], target: list[Tensor], ridge: float
) -> _Logs:
    """The log ratios of left-out source and target folds."""
    logs: tuple[list[Tensor], list[Tensor]] = ([], [])
    for i in range(len(source)):
        kept = without(source, i), without(target, i)
        theta_P = _fit(features, start_P, *kept, ridge, roughly=True)
        for part, log in zip((source, target), logs, strict=True):
            log.append(features.log_ratio(theta_P, part[i]))
    return torch.cat(logs[0]), torch.cat(logs[1])


def _losses(source_N: Tensor, target_M: Tensor) -> Tensor:
    """The log loss of each row, both parts with their own sizes."""
    offset = math.log(len(target_M) / len(source_N))
    return torch.cat([fn.softplus(source_N + offset), fn.softplus(-target_M - offset)])


def _excess(one: _Logs, other: _Logs) -> float:
    """By how many standard errors of the paired difference the mean loss of one exceeds that of the other."""
    difference_R = _losses(*one) - _losses(*other)
    error = float(difference_R.std(correction=0)) / math.sqrt(len(difference_R))
    return float(difference_R.mean()) / error if error > 0 else 0.0


def _calibration(source_N: Tensor, target_M: Tensor) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on log ratios of rows that weren't fitted."""
    fitted = _fit(
        Linear(), source_N.new_tensor([1.0, 0.0]), source_N[:, None], target_M[:, None], 0.0
    )
    slope, intercept = fitted.tolist()
    # Rows that nothing tells apart can make the slope negative; those that all does tell, infinite.
    return (min(slope, 10.0), intercept) if slope > 0 else (0.0, 0.0)
