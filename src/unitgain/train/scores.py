"""Losses and metrics of the parts of a pack's data, all members at once.

Shapes: K members, N rows, C classes, T targets.
"""

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.errors import explained
from unitgain.nn.losses import probabilities
from unitgain.pack.batches import Part
from unitgain.pack.engine import Pack, Prediction
from unitgain.pack.metrics import PackedMetric, as_metric, higher_is_better
from unitgain.pack.weighted_metrics import WeightedFunction, as_weighted
from unitgain.spec import Component, RunSpec, instantiate, locate
from unitgain.train.own import check_shape

PARTS: tuple[Part, ...] = ("train", "val", "test")

_NUMBERS = 2**17
"""Outputs that are scored at a time: what a metric computes of more no longer stays in caches."""


@final
class Scores:
    """The metrics of a run by name, computed for all members at once.

    Args:
        spec: of any member: metrics are part of what members share.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._task = spec.data.task
        self._limit = spec.trainer.eval_batch_size
        self._given = {
            name: _instantiated(node, name) for name, node in spec.resolved_metrics.items()
        }
        self._targets = {name: node.target for name, node in spec.resolved_metrics.items()}
        self.metrics: Mapping[str, PackedMetric] = {
            name: as_metric(m) for name, m in self._given.items()
        }
        self._weighted: Mapping[str, WeightedFunction] = {}
        if spec.weighting.corrects:
            self._weighted = {name: as_weighted(name, m) for name, m in self.metrics.items()}

    def mode(self, spec: RunSpec) -> Literal["min", "max"]:
        """Either min or max: which way the monitored metric is better."""
        if spec.monitor_mode is not None:
            return spec.monitor_mode
        return "max" if higher_is_better(self._given[spec.monitor.removeprefix("val/")]) else "min"

    def of(self, pack: Pack, part: Part) -> dict[str, NDArray[np.float64]]:
        """Loss and metrics of a part by name, (K,) each, after one copy to the host."""
        return self.of_prediction(pack, pack.predict(part, self._limit))

    def of_parts(self, pack: Pack) -> dict[str, float]:
        """Loss and metrics of a pack of one on every part, such as "test/accuracy"."""
        with torch.no_grad():
            return {
                f"{part}/{name}": float(value_K[0])
                for part in PARTS
                for name, value_K in self.of(pack, part).items()
            }

    def of_prediction(self, pack: Pack, prediction: Prediction) -> dict[str, NDArray[np.float64]]:
        """Loss and metrics of a prediction by name, (K,) each.

        Some members at a time: what a metric computes on the way is several times as large as the prediction.
        """
        output, target = prediction.output_KNT, prediction.target
        step = max(1, _NUMBERS // output[0].numel())
        rows = [slice(k, k + step) for k in range(0, len(output), step)]
        weight = prediction.weight_KN
        tables = [
            self._metrics_of(pack, output[k], target[k], None if weight is None else weight[k], k)
            for k in rows
        ]
        table = torch.cat([prediction.loss_K.double().unsqueeze(0), torch.cat(tables, 1)])
        return dict(zip(("loss", *self.metrics), table.cpu().numpy(), strict=True))

    def _metrics_of(
        self, pack: Pack, output: Tensor, target: Tensor, weight_KN: Tensor | None, members: slice
    ) -> Tensor:
        """The metrics (M, K) of some members."""
        if self._task == "classification":
            # In float64, where the log of a confidently wrong prediction is not cut off at 16.
            output = probabilities(output.double())
        else:
            scale, mean = pack.data.y_scale_K1T[members], pack.data.y_mean_K1T[members]
            output, target = output * scale + mean, target * scale + mean
        values = [self.value(name, output, target, weight_KN).double() for name in self.metrics]
        return torch.stack(values) if values else output.new_empty(0, len(output)).double()

    def value(
        self,
        name: str,
        prediction_KNT: Tensor,
        target: Tensor,
        weight_KN: Tensor | None = None,
    ) -> Tensor:
        """One metric, (K,), of class probabilities and classes or of predictions and targets, weighted if they are.

        Raises:
            ConfigError: it raises, or gives another shape.
        """
        what = {
            "classification": "probabilities (N, C) and classes (N,)",
            "regression": "predictions and targets (N, T)",
        }
        key, path = f"metrics.{name}", self._targets[name]
        requirement = f"must judge {what[self._task]}"
        remedy = f"choose one of torchmetrics.{self._task}, or metrics=auto"
        with explained(key, path, requirement, remedy), torch.no_grad():
            if weight_KN is None:
                value = self.metrics[name](prediction_KNT, target)
            else:
                value = self._weighted[name](prediction_KNT, target, weight_KN)
        check_shape(key, path, value, (len(prediction_KNT),), "a member")
        return value


def _instantiated(node: Component, name: str) -> object:
    """A metric as the configuration names it: a packed function with its arguments bound, or a torchmetrics object."""
    made = locate(node.target)
    return instantiate(node, _key_=f"metrics.{name}", _partial_=not isinstance(made, type))
