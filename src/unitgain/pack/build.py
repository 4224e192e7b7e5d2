"""From the specifications of runs of one shape to a pack in training."""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from unitgain.data import Prepared
from unitgain.errors import ConfigError, UnitgainWarning
from unitgain.nn.activations import as_activation, saturation_bounds
from unitgain.nn.dropout import DropoutKind
from unitgain.nn.init import (
    Derived,
    Initializer,
    as_bias_initializer,
    as_initializer,
    with_bias,
)
from unitgain.nn.initialize import (
    MemberInit,
    initialize,
    initialize_from_data,
    rate_factors,
)
from unitgain.nn.layout import row_quantum
from unitgain.nn.losses import Loss, as_loss
from unitgain.nn.mlp import MLP, Shape
from unitgain.nn.norm import BatchNorm, Norm
from unitgain.nn.share import WHOLE, Share
from unitgain.pack.batches import PackData
from unitgain.pack.engine import Pack
from unitgain.pack.optim import Optimizer
from unitgain.pack.probing import ProbePlan
from unitgain.pack.schedule import Schedule
from unitgain.probe.quantities import QUANTITIES, Quantity
from unitgain.spec import Component, Custom, RunSpec, instantiate, locate

DTYPES = {"32": torch.float32, "bf16-mixed": torch.float32, "64": torch.float64}


def build_mlp(specs: Sequence[RunSpec], tables: Sequence[Prepared], *, fill: bool = True) -> MLP:
    """The network of some runs, filled by their initializers (data-driven ones come later, see `build_pack`).

    Args:
        specs: of runs whose shape agrees.
        tables: one a run.
        fill: whether to; a network that goes on from another's state needn't be.
    """
    spec, table = specs[0], tables[0]
    size = table.n_classes if table.task == "classification" else table.n_outputs
    shape = Shape(
        inputs=table.n_features,
        outputs=build_loss(specs).n_outputs(size),
        widths=spec.model.widths,
        bias=spec.model.bias,
        residual=spec.model.residual,
        norm_first=spec.model.norm_position == "before_activation",
    )
    mlp = MLP(
        shape,
        activation=instantiate(spec.activation, _key_="activation"),
        norm=_norm(spec.norm),
        dropouts=_dropouts(specs),
        branch_scales=[s.model.branch_scale for s in specs],
        seeds=[s.seed for s in specs],
        dtype=DTYPES[spec.trainer.precision],
    )
    if fill:
        initialize(mlp, [member_init(s) for s in specs])
    return mlp


def member_init(spec: RunSpec) -> MemberInit:
    """The initializers of a run's layers, each with the run's initializer of biases where it names one.

    Args:
        spec: of the run.

    Raises:
        ConfigError: no initializer is named, or what is named isn't one.
    """
    bias = as_bias_initializer(
        None if spec.bias_init is None else instantiate(spec.bias_init, _key_="bias_init")
    )

    def made(node: Component | None, key: str) -> Initializer | Derived | None:
        return (
            None
            if node is None
            else with_bias(as_initializer(instantiate(node, _key_=key), key), bias)
        )

    hidden = made(spec.init, "init")
    if hidden is None:
        raise ConfigError("init: must name an initializer, got null")
    return MemberInit(
        hidden, made(spec.first_init, "first_init"), made(spec.output_init, "output_init")
    )


def build_loss(specs: Sequence[RunSpec], device: torch.device | str = "cpu") -> Loss:
    """The loss of some runs, with a row of hyperparameters a member, on the device of their outputs."""
    node = specs[0].resolved_loss
    if isinstance(node, Custom):
        return as_loss(instantiate(node, _key_="loss"), specs[0].data.task)
    kind = locate(node.target)
    dtype = DTYPES[specs[0].trainer.precision]
    stacked: Loss = kind.stack([s.resolved_loss.arguments() for s in specs], dtype, device)
    return stacked


def build_pack(
    specs: Sequence[RunSpec],
    tables: Sequence[Prepared],
    mlp: MLP,
    device: torch.device,
    *,
    fresh: bool = True,
    share: Share = WHOLE,
) -> Pack:
    """Everything that trains, on the device that the network is on.

    Args:
        specs: of runs whose shape agrees.
        tables: one a run; runs that share a table give the same object.
        mlp: from `build_mlp`.
        device: of the network.
        fresh: whether initializers that are driven by data still have to run.
        share: what this process has of each batch.
    """
    spec = specs[0]
    data = PackData(
        tables,
        [s.seed for s in specs],
        batch_size=spec.data.batch_size,
        drop_last=spec.data.drop_last,
        quantum=row_quantum(mlp.shape.all_widths),
        train_batches=_train_batches(spec),
        eval_batches=(spec.debug and spec.debug.fast_dev_run) or None,
        repeat=bool(spec.debug and spec.debug.overfit),
        device=device,
        dtype=mlp.theta.dtype,
    )
    _check_batches(mlp, data)
    inits = [member_init(s) for s in specs]
    if fresh:
        first = data.epoch(0)[0]
        x, _ = data.gather(first.index)
        initialize_from_data(mlp, inits, x, first.rows)
    mlp.norm = _norm_over(mlp.norm, share)
    schedules: list[Schedule] = [instantiate(s.scheduler, _key_="scheduler") for s in specs]
    if fresh and spec.debug is None:
        _check_warmup(schedules, epochs(spec) * data.steps_per_epoch)
    return Pack(
        mlp,
        data,
        build_loss(specs, device),
        _optimizer(specs, mlp, inits, schedules),
        schedules,
        epochs=epochs(spec),
        l2=[s.l2_penalty for s in specs],
        clip_norm=[s.trainer.gradient_clip_norm or float("inf") for s in specs],
        probe=_probe(spec, mlp),
        product=torch.bfloat16 if spec.trainer.precision == "bf16-mixed" else None,
        share=share,
    )


def epochs(spec: RunSpec) -> int:
    """How many epochs a run has: one where it is only tried out."""
    return 1 if spec.debug and spec.debug.fast_dev_run else spec.trainer.max_epochs


def _train_batches(spec: RunSpec) -> int | None:
    if spec.debug is None:
        return None
    return spec.debug.fast_dev_run or spec.debug.overfit or None


def _check_batches(mlp: MLP, data: PackData) -> None:
    """Refuse a batch of one example where its mean over the batch is taken off."""
    smallest = data.last_rows or data.batch_size
    if mlp.norm is not None and mlp.norm.centres and smallest == 1:
        raise ConfigError(
            "data.batch_size: every batch must hold at least 2 examples with norm=batch, but batches of "
            f"{data.batch_size} from {data.size('train')} training rows end with one of 1; "
            "change it, set data.drop_last=true, or choose norm=layer"
        )


def _check_warmup(schedules: Sequence[Schedule], steps: int) -> None:
    """Warn of a learning rate that never gets to the end of its rise."""
    for warmup in {s.warmup_steps for s in schedules if s.warmup_steps >= steps}:
        warnings.warn(
            f"scheduler.warmup_steps: should be below the {steps} steps of the run, or the rate never "
            f"reaches optimizer.lr, but is {warmup}; lower it or raise trainer.max_epochs",
            UnitgainWarning,
            stacklevel=3,
        )


def _norm(node: Component) -> Norm | None:
    norm = instantiate(node, _key_="norm")
    if isinstance(norm, nn.Identity):
        return None
    if not isinstance(norm, Norm):
        raise ConfigError(
            f"norm: must be a unitgain.nn.Norm or torch.nn.Identity, got {node.target}; "
            "derive it from unitgain.nn.Norm"
        )
    return norm


def _norm_over(norm: Norm | None, share: Share) -> Norm | None:
    """The norm with statistics of whole batches, of which this process may have but a part."""
    if share.whole or norm is None or not norm.centres:
        return norm
    if not isinstance(norm, BatchNorm):
        raise ConfigError(
            "norm: must be of single examples, or norm=batch, where several processes share a batch, "
            f"got {type(norm).__name__}, which takes a mean over the batch; set trainer.devices=1"
        )
    return norm.over(share)


def _dropouts(specs: Sequence[RunSpec]) -> list[DropoutKind] | None:
    dropouts = [instantiate(s.dropout, _key_="dropout") for s in specs]
    if all(isinstance(d, nn.Identity) for d in dropouts):
        return None
    for spec, dropout in zip(specs, dropouts, strict=True):
        if not isinstance(dropout, DropoutKind):
            raise ConfigError(
                f"dropout: must be a unitgain.nn.DropoutKind, the same for the whole pack, got {spec.dropout.target}"
            )
    return dropouts


def _optimizer(
    specs: Sequence[RunSpec],
    mlp: MLP,
    inits: Sequence[MemberInit],
    schedules: Sequence[Schedule],
) -> Optimizer:
    kind = locate(specs[0].optimizer.target)
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise ConfigError(
            f"optimizer: must be a unitgain.pack.optim.Optimizer, got {specs[0].optimizer.target}; "
            "use optimizer=sgd, adam, adamw or rmsprop"
        )
    moves = any(s.momentum(_ONE_STEP, 1) is not None for s in schedules)
    optimizer = kind(mlp.theta, [s.optimizer.arguments() for s in specs], moves_momentum=moves)
    factor_KP = rate_factors(mlp, inits, optimizer.rule)
    if factor_KP is not None:
        optimizer.scale_rates(factor_KP)
    return optimizer


_ONE_STEP = torch.zeros(1, dtype=torch.float64).numpy()


def extra_quantities(spec: RunSpec) -> dict[str, Quantity]:
    """The quantities of the user's own, by name."""
    return {
        name: instantiate(node, _key_=f"probe.extra.{name}", _partial_=True)
        for name, node in spec.probe.extra.items()
    }


def _probe(spec: RunSpec, mlp: MLP) -> ProbePlan:
    quantities = {name: QUANTITIES[name] for name in spec.probe.quantities} | extra_quantities(spec)
    bounds = saturation_bounds(as_activation(mlp.activation))
    saturates = bounds.lower is not None or bounds.upper is not None
    return ProbePlan(
        quantities,
        every=spec.probe.every,
        per_decade=spec.probe.per_decade,
        at=frozenset(spec.probe.at),
        saturated=bounds.share if saturates else None,
    )
