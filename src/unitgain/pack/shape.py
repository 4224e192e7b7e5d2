"""What runs must share to train as one pack."""

from collections.abc import Sequence
from typing import Any

from unitgain.data import Prepared
from unitgain.errors import ConfigError
from unitgain.spec import RunSpec


def signature(spec: RunSpec) -> dict[str, Any]:
    """The keys of a run that all members of its pack must share, with their values.

    Whatever isn't here may differ from member to member: seeds, initializers, scales of branches, rates, penalties,
    schedules, splits.

    Example:
        >>> from unitgain.spec import parse
        >>> signature(parse({"seed": 1})) == signature(parse({"seed": 2, "optimizer": {
        ...     "_target_": "unitgain.pack.optim.Adam", "lr": 0.1}}))
        True
    """
    optimizer = spec.optimizer.arguments()
    return {
        "model": spec.model.model_copy(update={"branch_scale": None}),
        "activation": spec.activation,
        "norm": spec.norm,
        "dropout": spec.dropout.target,
        "optimizer": spec.optimizer.target,
        "optimizer.nesterov": optimizer.get("nesterov"),
        "optimizer.centered": optimizer.get("centered"),
        "loss": spec.resolved_loss.target,
        "metrics": spec.resolved_metrics,
        "monitor": spec.monitor,
        "weighting": "none" if not spec.weighting.corrects else "of any kind",
        "data.task": spec.data.task,
        "data.batch_size": spec.data.batch_size,
        "data.drop_last": spec.data.drop_last,
        "probe": spec.probe,
        "trainer": spec.trainer.model_copy(update={"gradient_clip_norm": None}),
        "debug": spec.debug,
        "callbacks": spec.callbacks,
    }


def check_one_shape(specs: Sequence[RunSpec]) -> None:
    """Refuse runs that can't be one pack.

    Raises:
        ConfigError: one line for each key in which they differ but must not.
    """
    first = signature(specs[0])
    faults = {
        f"{key}: must be the same for all runs of one pack, got {first[key]} and {value}; "
        "train them apart"
        for spec in specs[1:]
        for key, value in signature(spec).items()
        if value != first[key]
    }
    if faults:
        raise ConfigError(*sorted(faults))


def check_one_table_shape(tables: Sequence[Prepared]) -> None:
    """Refuse tables whose features or outputs differ in number.

    Raises:
        ConfigError: they do.
    """
    sizes = {(t.n_features, t.n_outputs) for t in tables}
    if len(sizes) > 1:
        text = " and ".join(f"{f} features, {o} outputs" for f, o in sorted(sizes))
        raise ConfigError(
            f"data: must have one number of features and outputs in all runs of one pack, got {text}; train them apart"
        )
