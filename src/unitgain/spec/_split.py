"""The node ``split``: how a table's rows are parted."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from unitgain.spec._base import Component, Custom
from unitgain.spec._data import Seed


def _parts(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ValueError(
            f"must be three numbers above 0 that sum to 1 (train, validation, test), "
            f"got {list(fractions)} with sum {sum(fractions):g}"
        )
    return fractions


Fractions = Annotated[tuple[float, float, float], AfterValidator(_parts)]


class SplitNode(Component):
    """How the rows are parted into training, validation and test."""


class CustomSplit(SplitNode, Custom):
    """A split of the user's own: any argument is passed on as it is."""

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the target is called with."""
        return self.model_dump(exclude={"target", "partial"})


class RandomSplitNode(SplitNode):
    """Rows are drawn at random."""

    target: Literal["unitgain.data.splits.Random"] = Field(alias="_target_")
    fractions: Fractions = (0.6, 0.2, 0.2)
    seed: Seed = 0


class StratifiedSplitNode(SplitNode):
    """Rows are drawn at random within each class."""

    target: Literal["unitgain.data.splits.Stratified"] = Field(alias="_target_")
    fractions: Fractions = (0.6, 0.2, 0.2)
    seed: Seed = 0


class GroupSplitNode(SplitNode):
    """Whole groups are drawn at random."""

    target: Literal["unitgain.data.splits.Group"] = Field(alias="_target_")
    fractions: Fractions = (0.6, 0.2, 0.2)
    seed: Seed = 0


class TimeSplitNode(SplitNode):
    """The earliest rows train, the latest test."""

    target: Literal["unitgain.data.splits.Time"] = Field(alias="_target_")
    fractions: Fractions = (0.6, 0.2, 0.2)


SPLIT_NODES: tuple[type[SplitNode], ...] = (
    RandomSplitNode,
    StratifiedSplitNode,
    GroupSplitNode,
    TimeSplitNode,
)
