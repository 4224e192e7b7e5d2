"""What theory says of a run that trains: what its verdict is held against, and what would heal it."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np

from unitgain.data import Prepared
from unitgain.forecast import Forecast, brief_remedies, forecast_of
from unitgain.probe.findings import Label
from unitgain.probe.record import Expected
from unitgain.probe.verdict import general_remedy
from unitgain.spec import RunSpec

_FROM_THEORY = ("vanishing", "exploding")
_SETTINGS: dict[Label, str] = {
    "update too large": "a lower optimizer.lr",
    "update too small": "a higher optimizer.lr",
    "diverged": "a lower optimizer.lr or trainer.gradient_clip_norm=1",
    "oscillating": "a lower optimizer.lr or scheduler=cosine",
    "dead units": "a lower optimizer.lr or activation=leaky_relu",
    "saturated": "norm=layer or a smaller gain of init",
    "rank collapse": "model.residual=true or norm=batch",
    "vanishing": "norm=layer or model.residual=true",
    "exploding": "norm=layer or a smaller gain of init",
}


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
        """What to try against a fault, as typed behind `unitgain train` where theory knows."""
        known = self.spec.warm_start is None and label in _FROM_THEORY
        if known and self.forecast.label == label:
            found = brief_remedies(
                self.spec, inputs=self._inputs, outputs=self._outputs, q_0=self._q_0
            )
            if found:
                return " or ".join(found)
        return _SETTINGS.get(label) or general_remedy(label)


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
