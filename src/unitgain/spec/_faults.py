"""From what pydantic refuses to one line a fault: dotted key, what is accepted, what it got."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as limits
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from unitgain.spec._base import Node

_RANGE = frozenset(
    {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
)
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    NoneType: "null",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a configuration.

    Args:
        key: the dotted key, relative to the node that found it; empty for the node itself.
        text: requirement, fact and remedy.

    Example:
        >>> str(Fault("depth", "must be at least 1, got 0").under("model"))
        'model.depth: must be at least 1, got 0'
    """

    key: str
    text: str

    def under(self, parent: str) -> "Fault":
        """The same fault, its key counted from the parent of the node."""
        return Fault(join(parent, self.key), self.text)

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def join(*keys: str) -> str:
    """Dotted key of the parts that aren't empty."""
    return ".".join(key for key in keys if key)


def show(value: Any) -> str:
    """A value as a user would write it in YAML, on one line and not too long.

    Example:
        >>> show(None), show(True), show("a"), show([1, 2])
        ('null', 'true', "'a'", '[1, 2]')
    """
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def close_match(word: str, options: Iterable[str]) -> str | None:
    """The option that was probably meant, if any is close or holds the whole word.

    Example:
        >>> close_match("dept", ["width", "depth"]), close_match("slope", ["negative_slope"])
        ('depth', 'negative_slope')
    """
    options = sorted(options)
    matches = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    matches += [option for option in options if len(word) > 2 and word in option]
    return matches[0] if matches else None


def accepts(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a field takes, in words.

    Example:
        >>> accepts(Annotated[int, limits.Ge(1)] | None)
        'a whole number, at least 1, or null'
        >>> accepts(Literal["a", "b"])
        "one of 'a', 'b'"
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return accepts(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, UnionType):
        return ", or ".join(accepts(each) for each in arguments)
    if origin is Literal:
        values = ", ".join(show(value) for value in arguments)
        return values if len(arguments) == 1 else f"one of {values}"
    if origin in (list, tuple):
        count = "" if origin is list or arguments[-1] is ... else f" of {len(arguments)}"
        if any(isinstance(item, limits.MinLen) and item.min_length for item in metadata):
            count = " that is not empty"
        return f"a list{count}, each element {accepts(arguments[0])}"
    bounds, name = _bounds(metadata), _NAMES.get(annotation, "a mapping")
    return f"{name}, {bounds}" if bounds else name


def _bounds(metadata: Sequence[Any]) -> str:
    words = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            words.append(_bounds(item.metadata))
        elif isinstance(item, limits.Ge):
            words.append(f"at least {_number(item.ge)}")
        elif isinstance(item, limits.Gt):
            words.append(f"above {_number(item.gt)}")
        elif isinstance(item, limits.Le):
            words.append(f"at most {_number(item.le)}")
        elif isinstance(item, limits.Lt):
            words.append(f"below {_number(item.lt)}")
    return " and ".join(word for word in words if word)


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def faults_of(node: type[Node], values: Mapping[str, Any], error: ValidationError) -> list[Fault]:
    """One fault for each key that ``node`` refuses in ``values``."""
    faults: dict[str, Fault] = {}
    details = error.errors(include_url=False)
    for detail in details:
        loc = detail["loc"]
        if detail["type"] == "too_short" and any(
            len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in details
        ):
            continue  # Elements that are refused aren't counted: that they are is said already.
        if detail["type"] == "faults":
            parent = _dotted(detail["loc"])
            nested = [fault.under(parent) for fault in detail["ctx"]["faults"]]
            faults.update({str(fault): fault for fault in nested})
        else:
            fault = _fault(node, values, detail)
            faults.setdefault(fault.key, fault)
    return list(faults.values())


def _dotted(loc: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in loc)


@dataclass(frozen=True)
class _Place:
    """Where an error lies: the field it belongs to, and the node that has the field."""

    key: tuple[str | int, ...]
    annotation: Any
    metadata: tuple[Any, ...]
    description: str | None
    owner: type[Node]


def _fault(node: type[Node], values: Mapping[str, Any], detail: Any) -> Fault:
    kind, loc = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(_place(node, loc[:-1]), loc, detail["input"])
    place = _place(node, loc)
    key = _dotted(place.key)
    got = _value_at(values, place.key, detail["input"])
    if kind == "missing":
        return Fault(key, f"is required: {accepts(place.annotation, place.metadata)}")
    if kind in ("value_error", "assertion_error"):
        return _stated(key, str(detail["ctx"]["error"]), got)
    in_range = _bounds(place.metadata) if kind in _RANGE and place.key == tuple(loc) else ""
    wanted = in_range or accepts(place.annotation, place.metadata)
    text = f"must be {wanted}, got {show(got)}"
    meant = close_match(str(got), _texts(place.annotation)) if isinstance(got, str) else None
    if meant:
        return Fault(key, f"{text}; did you mean {show(meant)}?")
    return Fault(key, f"{text}; it is {place.description}" if place.description else text)


def _stated(key: str, text: str, got: Any) -> Fault:
    """A fault that a validator of the schema worded itself."""
    own_key = text.split(" ", 1)[0].rstrip(":")
    if own_key.startswith(f"{key}.") or own_key == key:
        return Fault(own_key, text[len(own_key) :].lstrip(": "))
    return Fault(key, text if "got" in text else f"{text}, got {show(got)}")


def _unknown_key(place: _Place, loc: Sequence[str | int], got: Any) -> Fault:
    owner = without_null(place.annotation)
    keys = sorted(field.alias or name for name, field in owner.model_fields.items())
    meant = close_match(str(loc[-1]), keys)
    hint = f"did you mean {meant}? " if meant else ""
    taken = ", ".join(key for key in keys if key != "_target_") or "none"
    return Fault(_dotted(loc), f"no such key, got {show(got)}; {hint}keys here: {taken}")


def _place(node: type[Node], loc: Sequence[str | int]) -> _Place:
    """Follow ``loc`` through fields, lists and mappings, up to the tag of a union."""
    place = _Place((), node, (), None, node)
    for part in loc:
        following = _step(place, part)
        if following is None:
            break
        place = following
    return place


def _step(place: _Place, part: str | int) -> _Place | None:
    annotation = without_null(place.annotation)
    key = (*place.key, part)
    if isinstance(annotation, type) and issubclass(annotation, Node):
        for name, field in annotation.model_fields.items():
            if part in (name, field.alias):
                return _Place(
                    key, field.annotation, tuple(field.metadata), field.description, annotation
                )
        return None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (list, tuple) and isinstance(part, int):
        at = 0 if origin is list or arguments[-1] is ... else part
        return _Place(key, arguments[at], (), place.description, place.owner)
    if origin is dict:
        return _Place(key, arguments[1], (), None, place.owner)
    return None


def without_null(annotation: Any) -> Any:
    """What a field takes besides null, without its metadata."""
    if get_origin(annotation) is Annotated:
        return without_null(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        rest = [each for each in get_args(annotation) if each is not NoneType]
        return without_null(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _texts(annotation: Any) -> list[str]:
    annotation = without_null(annotation)
    if get_origin(annotation) is not Literal:
        return []
    return [value for value in get_args(annotation) if isinstance(value, str)]


def _value_at(values: Any, key: Sequence[str | int], otherwise: Any) -> Any:
    for part in key:
        if isinstance(values, Mapping) and part in values:
            values = values[str(part)]
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return otherwise
    return values
