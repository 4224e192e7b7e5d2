"""Losses and metrics of the parts of a pack's data, all members at once.

Shapes: K members, N rows, C classes, T targets.
"""

from collections.abc import Mapping
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.nn.losses import probabilities
from unitgain.pack.batches import Part
from unitgain.pack.engine import Pack, Prediction
from unitgain.pack.metrics import PackedMetric, as_metric, higher_is_better
from unitgain.spec import Component, RunSpec, instantiate, locate


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
        self.metrics: Mapping[str, PackedMetric] = {
            name: as_metric(m) for name, m in self._given.items()
        }

    def mode(self, spec: RunSpec) -> Literal["min", "max"]:
        """Either min or max: which way the monitored metric is better."""
        if spec.monitor_mode is not None:
            return spec.monitor_mode
        return "max" if higher_is_better(self._given[spec.monitor.removeprefix("val/")]) else "min"

    def of(self, pack: Pack, part: Part) -> dict[str, NDArray[np.float64]]:
        """Loss and metrics of a part by name, (K,) each, after one copy to the host."""
        return self.of_prediction(pack, pack.predict(part, self._limit))

    def of_prediction(self, pack: Pack, prediction: Prediction) -> dict[str, NDArray[np.float64]]:
        """Loss and metrics of a prediction by name, (K,) each, after one copy to the host."""
        output, target = prediction.output_KNT, prediction.target
        if self._task == "classification":
            # In float64, where the log of a confidently wrong prediction is not cut off at 16.
            output = probabilities(output.double())
        else:
            scale, mean = pack.data.y_scale_K1T, pack.data.y_mean_K1T
            output, target = output * scale + mean, target * scale + mean
        values: dict[str, Tensor] = {"loss": prediction.loss_K}
        values |= {name: metric(output, target) for name, metric in self.metrics.items()}
        table = torch.stack([v.double() for v in values.values()]).cpu().numpy()
        return dict(zip(values, table, strict=True))


def _instantiated(node: Component, name: str) -> object:
    """A metric as the configuration names it: a packed function with its arguments bound, or a torchmetrics object."""
    made = locate(node.target)
    return instantiate(node, _key_=f"metrics.{name}", _partial_=not isinstance(made, type))
