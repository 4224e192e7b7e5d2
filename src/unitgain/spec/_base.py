"""What every node of the typed schema is made of."""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]


class Node(BaseModel):
    """A mapping of the configuration: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
        strict=False,
        defer_build=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where numbers are meant: they would pass for 1 and 0."""
        field = cls.model_fields[info.field_name or ""]
        if _holds_bool(value) and not _may_hold_bool(field.annotation):
            raise PydanticCustomError("bool_for_number", "true or false is no number")
        return value


class Component(Node):
    """A node that names a callable in ``_target_`` and gives its keyword arguments."""

    target: str = Field(alias="_target_")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the target is called with."""
        return self.model_dump(exclude={"target"})


class Custom(Component):
    """A component of the user's own: any argument is passed on as it is."""

    model_config = ConfigDict(extra="allow")

    partial: bool = Field(default=False, alias="_partial_")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the target is called with."""
        return self.model_dump(exclude={"target", "partial"})


def _holds_bool(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(item, bool) for item in items)


def _may_hold_bool(annotation: Any) -> bool:
    """Whether true or false is a sensible value: anything but numbers, and texts and lists of them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _may_hold_bool(arguments[0])
    if origin in (Union, UnionType, list, tuple):
        return any(_may_hold_bool(each) for each in arguments)
    if origin is Literal:
        return any(isinstance(each, bool) for each in arguments)
    return annotation not in (int, float, type(None), ...)
