"""What every node of the typed schema is made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]


class Node(BaseModel):
    """A mapping of the configuration: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False, strict=False
    )


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
