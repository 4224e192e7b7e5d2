"""The nodes ``shift`` and ``weighting``: how the target's rows differ from the source's, and how the source's are
weighted for it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from unitgain.spec._base import Component, Custom, Fraction, NonNegative
from unitgain.spec._data import Seed

TestRows = Literal["population", "complement"]
Kept = Annotated[float, Field(gt=0.0, lt=1.0)]

ESTIMATION = frozenset({"exponent", "largest", "seed"})


class ShiftNode(Component):
    """How target rows are made to differ from source rows."""


class CustomShift(ShiftNode, Custom):
    """A shift of the user's own: any argument is passed on as it is."""

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the target is called with."""
        return self.model_dump(exclude={"target", "partial"})


class NoShiftNode(ShiftNode):
    """Source and target are of one distribution."""

    target: Literal["unitgain.data.shifts.NoShift"] = Field(
        "unitgain.data.shifts.NoShift", alias="_target_"
    )


class PCATiltNode(ShiftNode):
    """Source rows lie low along the first principal component."""

    target: Literal["unitgain.data.shifts.PCATilt"] = Field(alias="_target_")
    strength: NonNegative = 3.0
    seed: Seed = 0
    kept: Kept = 0.5
    test_rows: TestRows = "population"


class WeightingNode(Component):
    """How the weights of source rows are estimated, and how much of them training takes."""

    exponent: Fraction = Field(0.5, description="the power that training weights are raised to")
    largest: Annotated[float, Field(ge=1.0)] | None = Field(
        None, description="the bound of training weights"
    )
    seed: Seed = 0

    @property
    def corrects(self) -> bool:
        """Whether weights differ from one at all."""
        return True

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the estimator."""
        return self.model_dump(exclude={"target", *ESTIMATION})


class CustomWeighting(WeightingNode, Custom):
    """An estimator of the user's own: every key that isn't common is passed on as it is."""

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the estimator."""
        return self.model_dump(exclude={"target", "partial", *ESTIMATION})


class UniformNode(WeightingNode):
    """No correction: all weights are one."""

    target: Literal["unitgain.shift.Uniform"] = Field("unitgain.shift.Uniform", alias="_target_")

    @property
    def corrects(self) -> bool:
        """Whether weights differ from one at all."""
        return False


SHIFT_NODES: tuple[type[ShiftNode], ...] = (
    NoShiftNode,
    PCATiltNode,
)
WEIGHTING_NODES: tuple[type[WeightingNode], ...] = (UniformNode,)
