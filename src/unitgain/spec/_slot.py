"""A place in the configuration that takes one of several components, told apart by ``_target_``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from unitgain.spec._allow import refusal
from unitgain.spec._base import Component, Custom
from unitgain.spec._faults import Fault, close_match, faults_of, join, show


def slot(
    options: Sequence[type[Component]], custom: type[Component] | None = Custom
) -> PlainValidator:
    """What validates such a place.

    Args:
        options: the shipped components, each with the literal type of its ``target``.
        custom: what a target that isn't shipped becomes; None refuses it.
    """
    shipped = {target: option for option in options for target in targets_of(option)}

    def choose(value: Any) -> Component:
        if isinstance(value, Component):
            return value
        faults = _target_faults(value, shipped, custom)
        if not faults:
            node = shipped.get(value["_target_"], custom)
            assert node is not None
            try:
                return node.model_validate(value)
            except ValidationError as error:
                faults = faults_of(node, value, error)
        raise PydanticCustomError("faults", "{faults}", {"faults": faults})

    return PlainValidator(choose)


def targets_of(option: type[Component]) -> tuple[str, ...]:
    """The targets that a shipped component stands for.

    Example:
        >>> from unitgain.spec._nodes import ReLU
        >>> targets_of(ReLU)
        ('torch.nn.ReLU',)
    """
    targets: tuple[str, ...] = get_args(option.model_fields["target"].annotation)
    return targets


def _target_faults(
    value: Any, shipped: Mapping[str, type[Component]], custom: type[Component] | None
) -> list[Fault]:
    if not isinstance(value, Mapping):
        return [Fault("", f"must be a mapping with _target_ and arguments, got {show(value)}")]
    target = value.get("_target_")
    if not isinstance(target, str):
        return [Fault("_target_", f"must be the dotted path of a callable, got {show(target)}")]
    if target in shipped:
        return []
    meant = close_match(target, shipped)
    if custom is None or (meant and target.startswith("unitgain.") and _near(target, meant)):
        hint = f"did you mean {meant}?" if meant else f"it takes {', '.join(sorted(shipped))}"
        return [Fault("_target_", f"no such component, got {target}; {hint}")]
    return [
        Fault(key, f"{reason}; {remedy}")
        for key, nested in _targets(value)
        for reason, remedy in refusal(nested)
    ]


def _near(target: str, meant: str) -> bool:
    """Whether they differ in the last part alone: a slip of the fingers, not an own component."""
    return target.rpartition(".")[0] == meant.rpartition(".")[0]


def _targets(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each ``_target_`` in a node, with its key."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "_target_":
                yield join(key, name), str(item)
            else:
                yield from _targets(item, join(key, str(name)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _targets(item, join(key, str(index)))
