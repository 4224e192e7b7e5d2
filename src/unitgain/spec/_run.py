"""The whole configuration of one run, typed."""

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from unitgain.errors import ConfigError
from unitgain.spec._base import Component, Count, Index, Node, NonNegative
from unitgain.spec._checks import cross_faults
from unitgain.spec._data import (
    DATA_NODES,
    CustomData,
    DataNode,
    DigitsNode,
    Seed,
    Task,
)
from unitgain.spec._faults import faults_of, without_null
from unitgain.spec._init import BIAS_INITIALIZERS, INITIALIZERS, He
from unitgain.spec._nodes import (
    ACTIVATIONS,
    DROPOUTS,
    LOGGERS,
    LOSSES,
    METRICS,
    MSE,
    NORMS,
    OPTIMIZERS,
    SCHEDULES,
    Adam,
    AutoLoss,
    Checkpoints,
    ClassificationMetric,
    ConstantSchedule,
    CrossEntropy,
    CSVLogger,
    Debug,
    Dropout,
    EarlyStopping,
    Identity,
    Network,
    RegressionMetric,
    ReLU,
    Trainer,
)
from unitgain.spec._shift import (
    SHIFT_NODES,
    WEIGHTING_NODES,
    CustomShift,
    CustomWeighting,
    NoShiftNode,
    ShiftNode,
    UniformNode,
    WeightingNode,
)
from unitgain.spec._slot import slot
from unitgain.spec._split import SPLIT_NODES, CustomSplit, RandomSplitNode, SplitNode

Quantity = Literal[
    "grad_preactivation",
    "grad_weight",
    "grad_bias",
    "weight_norm",
    "update_ratio",
    "activation_mean",
    "activation_variance",
    "activation_second_moment",
    "activation_correlation",
    "silent_fraction",
    "dead_fraction",
    "saturated_fraction",
    "gradient_noise_scale",
    "gradient_snr",
    "gradient_cosine",
]
FULL: tuple[Quantity, ...] = get_args(Quantity)[:12]
"""What ``probe=full`` measures: what the verdict needs and what costs next to nothing beside it."""
Initializer = Annotated[Component, slot(INITIALIZERS)]
BiasInitializer = Annotated[Component, slot(BIAS_INITIALIZERS)]
Named = Annotated[Component, slot(())]
DEFAULT_METRICS: dict[Task, tuple[tuple[str, ...], type[Component]]] = {
    "classification": (("accuracy", "f1_macro", "auroc", "ece", "log_loss"), ClassificationMetric),
    "regression": (("mae", "mse", "rmse", "r2"), RegressionMetric),
}
"""The metrics of ``metrics=auto``, and the node that each is."""
EmptyIsNull = BeforeValidator(lambda value: None if value == {} else value)


class Probe(Node):
    """What is measured of gradient flow, and when: all the steps that any of the three keys names."""

    every: Count | None = Field(10, description="the number of steps between two measurements")
    per_decade: Count | None = Field(
        None, description="the number of measurements in each tenfold of steps"
    )
    at: tuple[Index, ...] = Field((), description="a step that is measured besides")
    quantities: tuple[Quantity, ...] = FULL
    extra: dict[str, Named] = Field({})

    @property
    def measures(self) -> bool:
        """Whether anything is ever measured."""
        scheduled = bool(self.every or self.per_decade or self.at)
        return scheduled and bool(self.quantities or self.extra)


class Callbacks(Node):
    """Checkpoints, early stopping, and callbacks of the user's own."""

    checkpoint: Checkpoints = Checkpoints()
    early_stopping: EarlyStopping = EarlyStopping()
    extra: dict[str, Named] = Field({})


class RunSpec(Node):
    """One run: every key of the resolved configuration. `parse` makes one and checks it as a whole.

    Example:
        >>> spec = parse({"model": {"_target_": "unitgain.nn.MLP", "depth": 2}})
        >>> spec.model.widths, spec.resolved_loss.target, sorted(spec.resolved_metrics)[:2]
        ((64, 64), 'unitgain.nn.losses.CrossEntropy', ['accuracy', 'auroc'])
    """

    seed: Seed = 0
    name: str | None = None
    tags: tuple[str, ...] = ()
    monitor: str = "val/loss"
    warm_start: str | None = Field(
        None, description="the directory of the run whose best weights this one begins from"
    )
    l2_penalty: NonNegative = Field(0.0, description="lambda of the objective's penalty")
    model: Annotated[Network, slot((Network,), custom=None)] = Network()
    activation: Annotated[Component, slot(ACTIVATIONS)] = ReLU()
    norm: Annotated[Component, slot(NORMS)] = Identity()
    dropout: Annotated[Component, slot(DROPOUTS)] = Dropout()
    init: Initializer = He(target="unitgain.nn.init.he")
    first_init: Annotated[Initializer | None, EmptyIsNull] = None
    output_init: Annotated[Initializer | None, EmptyIsNull] = None
    bias_init: Annotated[BiasInitializer | None, EmptyIsNull] = None
    optimizer: Annotated[Component, slot(OPTIMIZERS)] = Adam()
    scheduler: Annotated[Component, slot(SCHEDULES)] = ConstantSchedule()
    loss: Annotated[Component, slot(LOSSES)] = AutoLoss()
    metrics: dict[str, Annotated[Component, slot(METRICS)]] = Field({})
    data: Annotated[DataNode, slot(DATA_NODES, CustomData)] = DigitsNode(
        target="unitgain.data.sources.digits"
    )
    split: Annotated[SplitNode, slot(SPLIT_NODES, CustomSplit)] = RandomSplitNode(
        target="unitgain.data.splits.Random"
    )
    shift: Annotated[ShiftNode, slot(SHIFT_NODES, CustomShift)] = NoShiftNode()
    weighting: Annotated[WeightingNode, slot(WEIGHTING_NODES, CustomWeighting)] = UniformNode()
    probe: Probe = Probe()
    trainer: Trainer = Trainer()
    debug: Debug | None = None
    logger: dict[str, Annotated[Component, slot(LOGGERS)]] = Field({"csv": CSVLogger()})
    callbacks: Callbacks = Callbacks()
    figures: bool = True

    @property
    def resolved_loss(self) -> Component:
        """The loss, ``auto`` replaced by what the task calls for."""
        if not isinstance(self.loss, AutoLoss):
            return self.loss
        return CrossEntropy() if self.data.task == "classification" else MSE()

    @property
    def resolved_metrics(self) -> dict[str, Component]:
        """The metrics by name; where none are given, the task's own set."""
        if self.metrics:
            return self.metrics
        names, kind = DEFAULT_METRICS[self.data.task]
        return {
            name: kind.model_validate({"_target_": f"unitgain.pack.metrics.{name}"})
            for name in names
        }

    @property
    def monitor_mode(self) -> Literal["min", "max"] | None:
        """Whether less or more of the monitored metric is better; None where only the metric knows."""
        name = self.monitor.removeprefix("val/")
        metric = self.resolved_metrics.get(name)
        if metric is None:
            return "min"
        if not isinstance(metric, ClassificationMetric | RegressionMetric):
            return None
        more = {"accuracy", "f1_macro", "auroc", "r2"}
        return "max" if metric.target.rpartition(".")[2] in more else "min"

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain mappings, lists and scalars, every default written out.

        `parse` makes the same `RunSpec` of it again.
        """
        return self.model_dump(mode="json", by_alias=True, serialize_as_any=True)


def parse(config: Mapping[str, Any]) -> RunSpec:
    """Make the typed configuration of a run from plain mappings, lists and scalars.

    Args:
        config: the resolved configuration; keys that are left out take the default.

    Raises:
        ConfigError: with one line for each fault, all of them at once.

    Example:
        >>> parse({"seed": -1, "optimiser": {}})
        Traceback (most recent call last):
        unitgain.errors.ConfigError: seed: must be at least 0 and at most 4294967295, got -1
        optimiser: no such key, got {}; did you mean optimizer? keys here: ...
    """
    config = _given(config)
    try:
        spec = RunSpec.model_validate(config)
    except ValidationError as error:
        faults = faults_of(RunSpec, config, error)
        faults += cross_faults(*_sound_part(config))
    else:
        faults = cross_faults(spec)
        if not faults:
            return spec
    raise ConfigError(*(str(fault) for fault in faults))


def takes_one(key: str) -> bool:
    """Whether a key at the top holds one component, not a collection or settings.

    Example:
        >>> takes_one("optimizer"), takes_one("init"), takes_one("logger"), takes_one("trainer")
        (True, True, False, False)
    """
    field = RunSpec.model_fields.get(key)
    kind = without_null(field.annotation) if field else None
    return isinstance(kind, type) and issubclass(kind, Component)


def may_be_null(key: str) -> bool:
    """Whether a key at the top may be null; so may what isn't part of a run, such as an experiment.

    Example:
        >>> may_be_null("debug"), may_be_null("experiment"), may_be_null("model")
        (True, True, False)
    """
    field = RunSpec.model_fields.get(key)
    return field is None or NoneType in get_args(field.annotation)


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without ``???``, which is how YAML files mark what must be given."""
    return {
        key: _given(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if value != "???"
    }


def _sound_part(config: Mapping[str, Any]) -> tuple[RunSpec, frozenset[str]]:
    """The configuration with each key that isn't valid on its own at its default, and those keys."""
    values: dict[str, Any] = {}
    unsound: set[str] = set()
    for name, field in RunSpec.model_fields.items():
        if name not in config:
            continue
        annotation: Any = field.annotation
        for item in field.metadata:
            annotation = Annotated[annotation, item]
        try:
            values[name] = TypeAdapter(annotation).validate_python(config[name])
        except ValidationError:
            unsound.add(name)
    return RunSpec.model_construct(**values), frozenset(unsound)
