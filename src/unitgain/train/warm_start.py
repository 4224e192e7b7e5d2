"""Beginning from the weights of an earlier run's best checkpoint instead of from the initializer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unitgain.data import earlier_run
from unitgain.errors import ConfigError
from unitgain.nn.mlp import MLP
from unitgain.spec import RunSpec, parse
from unitgain.train.checkpoint import check_belongs, read_checkpoint

_SAME = ("depth", "width", "bias", "residual", "branch_scale", "norm_position")
State = dict[str, Tensor]


def warm_starts(specs: Sequence[RunSpec], mlp: MLP) -> list[State | None]:
    """The weights and running statistics that each member begins with; None for its initializer's.

    Args:
        specs: of the members; each distinct ``warm_start`` is read once.
        mlp: of their shape.

    Raises:
        ConfigError: ``warm_start`` names no run, or one of another architecture.
        CheckpointError: its best checkpoint is missing, damaged or another configuration's.
    """
    read: dict[str, tuple[RunSpec, State]] = {}
    states: list[State | None] = []
    for spec in specs:
        if spec.warm_start is None:
            states.append(None)
            continue
        if spec.warm_start not in read:
            read[spec.warm_start] = _earlier(spec.warm_start)
        earlier, state = read[spec.warm_start]
        _check_architecture(spec, earlier, state, mlp)
        states.append(state)
    return states


@torch.no_grad()
def begin_from(mlp: MLP, states: Sequence[State | None]) -> None:
    """Put what `warm_starts` gave into a network whose initializers have run."""
    for k, state in enumerate(states):
        if state is not None:
            mlp.load_member_state(k, state)


def _earlier(path: str) -> tuple[RunSpec, State]:
    run = earlier_run(path)
    spec = parse(run.read_config())
    content = read_checkpoint(run.best_checkpoint)
    check_belongs(content, spec, run.best_checkpoint)
    return spec, content["state_dict"]


def _check_architecture(spec: RunSpec, earlier: RunSpec, state: State, mlp: MLP) -> None:
    """Refuse a network in which the weights would mean something else.

    Raises:
        ConfigError: a line for each key that differs; the loss where it alone asks for other outputs.
    """
    asked, had = _architecture(spec), _architecture(earlier)
    faults = [
        f"{key}: must be {had[key]}, as in warm_start={spec.warm_start}, got {asked[key]}; set {key}={had[key]}, "
        "or train without warm_start"
        for key in asked
        if asked[key] != had[key]
    ]
    shapes = {name: tuple(tensor.shape) for name, tensor in mlp.member_state(0).items()}
    if not faults and shapes != {name: tuple(tensor.shape) for name, tensor in state.items()}:
        faults = [
            f"loss: must have as many outputs as that of warm_start={spec.warm_start}, "
            f"{earlier.resolved_loss.target}, but {spec.resolved_loss.target} hasn't; take that one"
        ]
    if faults:
        raise ConfigError(*faults)


def _architecture(spec: RunSpec) -> Mapping[str, Any]:
    """What decides on a network's function besides its weights, as keys with their values in words."""
    model: dict[str, Any] = {key: getattr(spec.model, key) for key in _SAME}
    widths = spec.model.widths
    model["width"] = widths[0] if len(set(widths)) == 1 else list(widths)
    keys: dict[str, Any] = {f"model.{key}": value for key, value in model.items()}
    for key in ("activation", "norm"):
        node = getattr(spec, key)
        given = "".join(f" {name}={value}" for name, value in sorted(node.arguments().items()))
        keys[key] = f"{node.target}{given}"
    return keys
