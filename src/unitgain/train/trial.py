"""What the user brings of losses, metrics and quantities, tried on a few numbers before anything is written.

Shapes: K members, B examples, N rows, C classes, T outputs, L layers.
"""

import math
import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared
from unitgain.errors import ConfigError, explained
from unitgain.nn.mlp import MLP
from unitgain.pack.build import build_loss, extra_quantities
from unitgain.probe.layers import Layers
from unitgain.probe.quantities import LayerTensors
from unitgain.spec import Custom, RunSpec
from unitgain.train.own import check_shape
from unitgain.train.scores import Scores

_MEMBERS, _EXAMPLES = 2, 5


def try_parts(spec: RunSpec, table: Prepared, mlp: MLP) -> None:
    """Call each part of the user's own once, as training will.

    Raises:
        ConfigError: one of them raises, or gives what can't be used.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        _try_loss(spec, table, mlp)
        _try_metrics(spec, table, mlp.theta.dtype)
        _try_quantities(spec, mlp)


def _try_loss(spec: RunSpec, table: Prepared, mlp: MLP) -> None:
    node = spec.resolved_loss
    if not isinstance(node, Custom):
        return
    target_KB = _packed(table.y[table.split.train[:_EXAMPLES]], mlp.theta.dtype)
    shape = (*target_KB.shape[:2], mlp.shape.outputs)
    output_KBT = _numbers(shape).to(mlp.theta.dtype).requires_grad_()
    requirement = "must give one number an example that gradients pass through"
    with explained("loss", node.target, requirement, "mend it, or choose loss=auto"):
        loss_KB = build_loss([spec])(output_KBT, target_KB)
    if not loss_KB.requires_grad:
        raise ConfigError(
            f"loss: {requirement}, but {node.target} cuts them off; compute it in torch, undetached"
        )


def _try_metrics(spec: RunSpec, table: Prepared, dtype: torch.dtype) -> None:
    scores = Scores(spec)
    scores.mode(spec)
    own = [name for name, node in spec.resolved_metrics.items() if isinstance(node, Custom)]
    if not own:
        return
    target = _packed(table.y[table.split.val], dtype)
    if table.task == "classification":
        prediction_KNC = _numbers((*target.shape, table.n_classes)).softmax(-1)
    else:
        scale, mean = (torch.from_numpy(v).to(dtype) for v in (table.y_scale, table.y_mean))
        target = target * scale + mean
        # Of the targets' own signs, for metrics that ask for positive numbers.
        prediction_KNC = target * torch.linspace(1.0, 1.1, target.shape[1], dtype=dtype)[:, None]
    weight_KN = torch.ones(target.shape[:2], dtype=dtype) if spec.weighting.corrects else None
    for name in own:
        scores.value(name, prediction_KNC, target, weight_KN)


def _try_quantities(spec: RunSpec, mlp: MLP) -> None:
    if not (spec.probe.measures and spec.probe.extra):
        return
    tensors = _layer_tensors(mlp)
    for name, quantity in extra_quantities(spec).items():
        key, target = f"probe.extra.{name}", spec.probe.extra[name].target
        requirement = "must be a function of a step's LayerTensors"
        remedy = "see unitgain.probe.quantities for examples"
        with explained(key, target, requirement, remedy), torch.no_grad():
            value = quantity(tensors)
        layers = tensors.weights.count
        if not (isinstance(value, Tensor) and value.shape == (1, layers)):  # of what no layer has
            check_shape(key, target, value, (_members(layers), layers), "a member and layer")


def _layer_tensors(mlp: MLP) -> LayerTensors:
    """What a step might leave."""
    layers = len(mlp.layers)
    members = _members(layers)
    theta_KP = mlp.theta.detach()[:1].expand(members, -1)
    units = [*mlp.shape.widths, mlp.shape.outputs]
    z = [_numbers((members, _EXAMPLES, d)).to(theta_KP.dtype) for d in units]

    def of(kind: str) -> Layers:
        return Layers(layers, tuple(mlp.layout.by_layer(theta_KP, kind)))

    return LayerTensors(
        preactivation_gradients=Layers.of(z),
        activations=Layers.of([*z[:-1], None]),
        inputs=Layers.of(
            [_numbers((members, _EXAMPLES, mlp.shape.inputs)).to(z[0].dtype), *z[:-1]]
        ),
        weights=of("weight"),
        weight_gradients=of("weight"),
        bias_gradients=of("bias"),
        weight_updates=of("weight"),
    )


def _members(layers: int) -> int:
    """Another number than that of the layers, so that one axis isn't taken for the other."""
    return _MEMBERS + (layers == _MEMBERS)


def _numbers(shape: tuple[int, ...]) -> Tensor:
    """Numbers of both signs, without ties, the same every time."""
    return torch.arange(math.prod(shape), dtype=torch.float64).add(0.5).sin().view(shape)


def _packed(y: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """The same targets for every member, as a pack holds them."""
    target = torch.from_numpy(y)
    target = target.to(dtype) if target.is_floating_point() else target.long()
    return target.expand(_MEMBERS, *target.shape)
