"""What theory says of a run that trains: what its verdict is held against, and what would heal it."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

import numpy as np

from unitgain.data import Prepared
from unitgain.forecast import Forecast, brief_remedies, forecast_of
from unitgain.probe.findings import Label
from unitgain.probe.record import Expected
from unitgain.probe.verdict import general_remedy
from unitgain.spec import RunSpec

_FROM_THEORY = ("vanishing", "exploding")
_SETTINGS: dict[Label, tuple[str, ...]] = {
    "update too large": ("a lower optimizer.lr",),
    "update too small": ("a higher optimizer.lr",),
    "diverged": ("a lower optimizer.lr", "trainer.gradient_clip_norm=1"),
    "oscillating": ("a lower optimizer.lr", "scheduler=cosine"),
    "dead units": ("a lower optimizer.lr", "activation=leaky_relu"),
    "saturated": ("norm=layer", "a smaller gain of init"),
    "rank collapse": ("model.residual=true", "norm=batch"),
    "vanishing": ("norm=layer", "model.residual=true"),
    "exploding": ("norm=layer", "a smaller gain of init"),
}
_SINCE_THE_START: dict[Label, tuple[str, ...]] = {
    "vanishing": ("a lower optimizer.lr", "model.residual=true"),
    "exploding": ("a lower optimizer.lr", "trainer.gradient_clip_norm=1"),
}
"""Against gradients that theory says don't vanish or explode before the first step: training made them do so."""
_IN_PLACE: dict[str, tuple[str, object]] = {
    "norm=layer": ("norm._target_", "unitgain.nn.LayerNorm"),
    "norm=batch": ("norm._target_", "unitgain.nn.BatchNorm"),
    "model.residual=true": ("model.residual", True),
    "activation=leaky_relu": ("activation._target_", "torch.nn.LeakyReLU"),
    "scheduler=cosine": ("scheduler._target_", "unitgain.pack.schedule.Cosine"),
    "trainer.gradient_clip_norm=1": ("trainer.gradient_clip_norm", 1.0),
}
"""What a configuration has where a remedy is in place."""


@final
class Outlook:
    """A run's forecast on its own data, with what follows from it.

    Args:
        spec: of the run.
        inputs: features of an example.
        outputs: units of the output layer.
        q_0: mean square of the training inputs.
    """

    def __init__(self, spec: RunSpec, inputs: int, outputs: int, q_0: float) -> None:
        self.spec = spec
        self._inputs, self._outputs, self._q_0 = inputs, outputs, q_0

    @cached_property
    def forecast(self) -> Forecast:
        """What theory says of the start."""
        return forecast_of(self.spec, inputs=self._inputs, outputs=self._outputs, q_0=self._q_0)

    @property
    def expected(self) -> Expected | None:
        """The same for a verdict; None where theory is silent, as it is of trained weights."""
        if self.spec.warm_start is not None:
            return None
        forecast = self.forecast
        if not math.isfinite(forecast.slope) or forecast.hidden < 2:
            return None
        # Of the ratio's logarithm, a sum over layers, to the slope of a line through it.
        spread = forecast.spread * math.sqrt(1.2) / (forecast.hidden - 1)
        return Expected(forecast.slope, forecast.name, spread if spread > 0 else None)

    def remedy(self, label: Label) -> str:
        """What to try against a fault, as typed behind `unitgain train` where theory knows; never what is in place."""
        known = self.spec.warm_start is None and label in _FROM_THEORY
        if known and self.forecast.label == label:
            found = brief_remedies(
                self.spec, inputs=self._inputs, outputs=self._outputs, q_0=self._q_0
            )
            if found:
                return " or ".join(found)
        later = known and self.forecast.label not in (label, "unknown")
        settings = (_SINCE_THE_START if later else _SETTINGS).get(label)
        if settings is None:
            return general_remedy(label)
        return " or ".join(setting for setting in settings if not self._has(setting))

    def _has(self, setting: str) -> bool:
        """Whether it is in place."""
        if setting not in _IN_PLACE:
            return False
        key, value = _IN_PLACE[setting]
        node: Any = self._resolved
        for part in key.split("."):
            node = node.get(part) if node is not None else None
        return bool(node == value)

    @cached_property
    def _resolved(self) -> dict[str, Any]:
        return self.spec.resolved()


def outlooks_of(specs: Sequence[RunSpec], tables: Sequence[Prepared]) -> list[Outlook]:
    """The outlooks of runs on their tables, each table looked at once."""
    q_0 = {id(table): _mean_square(table) for table in tables}
    return [
        Outlook(
            spec,
            table.n_features,
            table.n_classes if table.task == "classification" else table.n_outputs,
            q_0[id(table)],
        )
        for spec, table in zip(specs, tables, strict=True)
    ]


def _mean_square(table: Prepared) -> float:
    """Of the training inputs' features."""
    return float(np.square(table.x[table.split.train], dtype=np.float64).mean())
