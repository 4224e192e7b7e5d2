"""What must hold between keys: each check names the keys that it looks at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from unitgain.spec._base import Component, Custom
from unitgain.spec._data import ClassificationNode, RegressionNode
from unitgain.spec._faults import Fault, close_match
from unitgain.spec._init import ScaledResidual
from unitgain.spec._nodes import (
    CLASSIFICATION_LOSSES,
    REGRESSION_LOSSES,
    SGD,
    BatchNorm,
    ClassificationMetric,
    Identity,
    OneCycleSchedule,
    RegressionMetric,
    RMSprop,
)
from unitgain.spec._shift import MissingValuesNode

if TYPE_CHECKING:
    from unitgain.spec._run import RunSpec

Faults = Iterator[Fault]


def cross_faults(spec: "RunSpec", unsound: frozenset[str] = frozenset()) -> list[Fault]:
    """What is wrong between keys, leaving out what looks at an ``unsound`` one."""
    return [fault for keys, check in CHECKS if not unsound & set(keys) for fault in check(spec)]


@dataclass(frozen=True)
class _Counterparts:
    """What stands in for torch's own components of one kind, which know nothing of members.

    Args:
        package: where torch keeps them.
        base: what an own one derives from.
        options: ours by how the names of theirs begin.
    """

    package: str
    base: str
    options: Mapping[str, str]


_COUNTERPARTS = {
    "norm": _Counterparts(
        "torch.nn.",
        "unitgain.nn.Norm",
        {"BatchNorm": "batch", "LayerNorm": "layer", "RMSNorm": "rms"},
    ),
    "dropout": _Counterparts(
        "torch.nn.",
        "unitgain.nn.DropoutKind",
        {"Dropout": "dropout", "AlphaDropout": "alpha_dropout"},
    ),
    "optimizer": _Counterparts(
        "torch.optim.",
        "unitgain.pack.optim.Optimizer",
        {"SGD": "sgd", "AdamW": "adamw", "Adam": "adam", "RMSprop": "rmsprop"},
    ),
    "scheduler": _Counterparts(
        "torch.optim.",
        "unitgain.pack.schedule.Schedule",
        {"Constant": "constant", "Step": "step", "Cosine": "cosine", "OneCycle": "one_cycle"},
    ),
}


def _torchs_own(key: str, spec: "RunSpec") -> Faults:
    node, ours = getattr(spec, key), _COUNTERPARTS[key]
    if not (isinstance(node, Custom) and node.target.startswith(ours.package)):
        return
    name = node.target.rpartition(".")[2]
    meant = [option for start, option in ours.options.items() if name.startswith(start)]
    choice = meant[0] if meant else ", ".join(ours.options.values())
    yield Fault(
        f"{key}._target_", f"must be a {ours.base}, got {node.target}; choose {key}={choice}"
    )


def _widths(spec: "RunSpec") -> Faults:
    model = spec.model
    if isinstance(model.width, int):
        return
    if len(model.width) != model.depth:
        yield Fault(
            "model.width",
            f"must be one number or a list of model.depth = {model.depth} numbers, "
            f"got {len(model.width)} in {list(model.width)}; set model.depth={len(model.width)}?",
        )
    if model.residual and len(set(model.width)) > 1:
        yield Fault(
            "model.residual",
            f"adds a layer's input to its output, so model.width must be one number or equal "
            f"ones, got {list(model.width)}",
        )


def _branch_scale(spec: "RunSpec") -> Faults:
    model = spec.model
    if model.branch_scale != 1.0 and not model.residual:
        yield Fault(
            "model.branch_scale",
            f"must be 1 without residual branches, got {model.branch_scale:g}; "
            "set model.residual=true?",
        )


def _scaled_residual(spec: "RunSpec") -> Faults:
    for key in ("init", "first_init", "output_init"):
        if not isinstance(getattr(spec, key), ScaledResidual):
            continue
        if not spec.model.residual:
            yield Fault(
                key,
                "scaled_residual needs residual branches, got model.residual=false; "
                "set model.residual=true?",
            )
        elif not isinstance(spec.norm, Identity):
            scale = spec.model.depth**-0.5
            yield Fault(
                key,
                "scaled_residual can't go with a norm, which undoes the scale of weights, "
                f"got norm={spec.norm.target.rpartition('.')[2]}; "
                f"set model.branch_scale={scale:.2g} and init=critical, or norm=none",
            )


def _nesterov(spec: "RunSpec") -> Faults:
    optimizer = spec.optimizer
    if not isinstance(optimizer, SGD) or not optimizer.nesterov:
        return
    if optimizer.momentum == 0:
        yield Fault("optimizer.nesterov", "needs optimizer.momentum above 0, got 0")
    if optimizer.dampening != 0:
        yield Fault(
            "optimizer.nesterov", f"needs optimizer.dampening of 0, got {optimizer.dampening:g}"
        )


def _momentum_cycle(spec: "RunSpec") -> Faults:
    schedule, optimizer = spec.scheduler, spec.optimizer
    if not isinstance(schedule, OneCycleSchedule) or not schedule.cycle_momentum:
        return
    if isinstance(optimizer, SGD | RMSprop) and optimizer.momentum == 0:
        yield Fault("scheduler.cycle_momentum", "needs optimizer.momentum above 0, got 0")
    if schedule.base_momentum > schedule.max_momentum:
        yield Fault(
            "scheduler.base_momentum",
            f"must be at most scheduler.max_momentum = {schedule.max_momentum:g}, "
            f"got {schedule.base_momentum:g}",
        )


def _batch_norm(spec: "RunSpec") -> Faults:
    if isinstance(spec.norm, BatchNorm) and spec.data.batch_size < 2:
        yield Fault(
            "data.batch_size", "must be at least 2 with norm=batch, got 1; or choose norm=layer"
        )


def _loss(spec: "RunSpec") -> Faults:
    task = spec.data.task
    wrong = CLASSIFICATION_LOSSES if task == "regression" else REGRESSION_LOSSES
    if isinstance(spec.loss, wrong):
        fitting = (
            "mse, mae, huber" if task == "regression" else "cross_entropy, binary_cross_entropy"
        )
        name = spec.loss.target.rpartition(".")[2]
        yield Fault("loss", f"{name} can't train on {_of_data(spec)}; choose auto, {fitting}")


def _metrics(spec: "RunSpec") -> Faults:
    task = spec.data.task
    kinds = {name: _task_of(metric) for name, metric in spec.metrics.items()}
    wrong = [name for name, kind in kinds.items() if kind not in (None, task)]
    if wrong:
        yield Fault(
            "metrics",
            f"{', '.join(wrong)} can't judge {_of_data(spec)}; "
            f"choose metrics=auto or metrics={task}",
        )


def _task_of(metric: Component) -> str | None:
    if isinstance(metric, ClassificationMetric):
        return "classification"
    if isinstance(metric, RegressionMetric):
        return "regression"
    package = metric.target.split(".")[:2]
    if package in (["torchmetrics", "classification"], ["torchmetrics", "regression"]):
        return package[1]
    return None


def _monitor(spec: "RunSpec") -> Faults:
    known = ["val/loss", *(f"val/{name}" for name in spec.resolved_metrics)]
    if spec.monitor not in known:
        meant = close_match(spec.monitor, known)
        hint = f"; did you mean {meant}?" if meant else ""
        yield Fault("monitor", f"must be one of {', '.join(known)}, got {spec.monitor}{hint}")


def _reserved_metric(spec: "RunSpec") -> Faults:
    if "loss" in spec.metrics:
        yield Fault("metrics.loss", "is the name of the loss itself; choose another name")


def _missing_values(spec: "RunSpec") -> Faults:
    if isinstance(spec.shift, MissingValuesNode) and spec.data.impute is None:
        yield Fault(
            "data.impute",
            "must be given where shift=missing_values empties cells, got null; set data.impute=median "
            "(or mean, most_frequent)",
        )


def _of_data(spec: "RunSpec") -> str:
    """The data by what decides its task: the source, or the key ``data.task``."""
    if isinstance(spec.data, ClassificationNode | RegressionNode):
        return f"data={spec.data.target.rpartition('.')[2]}, which is {spec.data.task}"
    return f"data.task={spec.data.task}"


CHECKS: tuple[tuple[tuple[str, ...], Callable[["RunSpec"], Faults]], ...] = (
    (("model",), _widths),
    (("model",), _branch_scale),
    (("init", "first_init", "output_init", "model", "norm"), _scaled_residual),
    (("optimizer",), _nesterov),
    (("scheduler", "optimizer"), _momentum_cycle),
    (("norm", "data"), _batch_norm),
    (("loss", "data"), _loss),
    (("metrics", "data"), _metrics),
    (("metrics",), _reserved_metric),
    (("monitor", "metrics", "data"), _monitor),
    (("shift", "data"), _missing_values),
    *(((key,), partial(_torchs_own, key)) for key in _COUNTERPARTS),
)
"""Each check with the keys that it looks at."""
