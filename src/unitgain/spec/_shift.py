"""The nodes ``shift`` and ``weighting``: how the target's rows differ from the source's, and how the source's are
weighted for it.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat

from unitgain.spec._base import Component, Count, Custom, Fraction, NonNegative, Positive, Rate
from unitgain.spec._data import Names, Seed


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int | str) else value


TestRows = Literal["population", "complement"]
Kept = Annotated[float, Field(gt=0.0, lt=1.0)]
Removed = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Groups = Annotated[tuple[int | str, ...], BeforeValidator(_as_list)]
Largest = Annotated[float, Field(gt=1.0)]

Choices = Annotated[tuple[Positive, ...], Field(min_length=1)]
FeatureKind = Literal["linear", "quadratic", "mlp"]
Folds = Annotated[int, Field(ge=2)]

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


class LogisticSelectionNode(ShiftNode):
    """Source rows lie low in the direction of named features, or a random one."""

    target: Literal["unitgain.data.shifts.LogisticSelection"] = Field(alias="_target_")
    strength: NonNegative = 3.0
    features: Names = ()
    seed: Seed = 0
    kept: Kept = 0.5
    test_rows: TestRows = "population"


class ExponentialTiltNode(ShiftNode):
    """Test rows are accepted with weights exponential in the features."""

    target: Literal["unitgain.data.shifts.ExponentialTilt"] = Field(alias="_target_")
    strength: NonNegative = 1.0
    features: Names = ()
    seed: Seed = 0
    largest: Largest = 5.0
    coefficients: tuple[FiniteFloat, ...] = ()


class GaussianMeanShiftNode(ShiftNode):
    """Test rows are accepted with the ratio of two Gaussians."""

    target: Literal["unitgain.data.shifts.GaussianMeanShift"] = Field(alias="_target_")
    strength: NonNegative = 1.0
    scale: Positive = 1.0
    seed: Seed = 0
    largest: Largest = 5.0


class LabelDirichletNode(ShiftNode):
    """The target's class shares are drawn from a Dirichlet distribution."""

    target: Literal["unitgain.data.shifts.LabelDirichlet"] = Field(alias="_target_")
    alpha: Positive = 1.0
    rows: Count | None = None
    seed: Seed = 0


class LabelTweakOneNode(ShiftNode):
    """One class has a given share of the target."""

    target: Literal["unitgain.data.shifts.LabelTweakOne"] = Field(alias="_target_")
    label: int | str = 0
    share: Kept = 0.9
    rows: Count | None = None
    seed: Seed = 0


class LabelKnockoutNode(ShiftNode):
    """A share of one class is missing from the source."""

    target: Literal["unitgain.data.shifts.LabelKnockout"] = Field(alias="_target_")
    label: int | str = 0
    share: Removed = 0.9
    seed: Seed = 0
    kept: Kept | None = None


class DomainNode(ShiftNode):
    """Target rows are those of held-out groups, or of later times."""

    target: Literal["unitgain.data.shifts.Domain"] = Field(alias="_target_")
    by: Literal["group", "time"] = "group"
    groups: Groups = ()
    start: float | str | None = None
    share: Kept = 0.25
    seed: Seed = 0


class GivenNode(ShiftNode):
    """Target rows are those that the source itself gives as such."""

    target: Literal["unitgain.data.shifts.Given"] = Field(alias="_target_")


class ConceptNode(ShiftNode):
    """Target labels differ in a region of the features."""

    target: Literal["unitgain.data.shifts.Concept"] = Field(alias="_target_")
    strength: NonNegative = 0.5
    features: Names = ()
    region: Kept = 0.5
    seed: Seed = 0


class GaussianNoiseNode(ShiftNode):
    """Gaussian noise on numeric features of the target."""

    target: Literal["unitgain.data.shifts.GaussianNoise"] = Field(alias="_target_")
    strength: NonNegative = 1.0
    features: Names = ()
    share: Share = 1.0
    seed: Seed = 0


class FeatureKnockoutNode(ShiftNode):
    """Features of the target are constant."""

    target: Literal["unitgain.data.shifts.FeatureKnockout"] = Field(alias="_target_")
    value: float | None = None
    features: Names = ()
    share: Share = 0.25
    seed: Seed = 0


class FeatureScalingNode(ShiftNode):
    """Numeric features of the target are multiplied."""

    target: Literal["unitgain.data.shifts.FeatureScaling"] = Field(alias="_target_")
    factor: float = 2.0
    features: Names = ()
    share: Share = 0.25
    seed: Seed = 0


class MissingValuesNode(ShiftNode):
    """Cells of the target are missing."""

    target: Literal["unitgain.data.shifts.MissingValues"] = Field(alias="_target_")
    share: Fraction = 0.25
    features: Names = ()
    seed: Seed = 0


class WeightingNode(Component):
    """How the weights of source rows are estimated, and how much of them training takes."""

    exponent: Fraction | Literal["auto"] = Field(
        0.5, description="the power that training weights are raised to"
    )
    largest: Annotated[float, Field(ge=1.0)] | None = Field(
        None, description="the bound of training weights"
    )
    seed: Seed = 0

    @property
    def corrects(self) -> bool:
        """Whether weights differ from one at all."""
        return True

    @property
    def chooses(self) -> bool:
        """Whether cross-validation chooses the exponent before training."""
        return self.corrects and self.exponent == "auto"

    @property
    def power(self) -> float:
        """The exponent as a number; 1, all of the weights, until one is chosen."""
        return 1.0 if self.exponent == "auto" else self.exponent

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


class OracleNode(WeightingNode):
    """The true weights, where the shift knows them."""

    target: Literal["unitgain.shift.Oracle"] = Field(alias="_target_")


class ClassifierNode(WeightingNode):
    """Odds of a logistic classifier that tells the parts apart."""

    target: Literal["unitgain.shift.Classifier"] = Field(alias="_target_")
    features: Annotated[tuple[FeatureKind, ...], Field(min_length=1)] = ("linear", "quadratic")
    ridges: Choices = (1.0, 0.1, 0.01)
    calibrate: bool = False
    folds: Folds = 5
    most: Count = 10_000
    width: Count = 32


class KMMNode(WeightingNode):
    """Kernel mean matching."""

    target: Literal["unitgain.shift.KMM"] = Field(alias="_target_")
    centres: Count = 200
    bound: Annotated[float, Field(gt=1.0)] = 1000.0
    widths: Choices = (0.25, 0.5, 1.0, 2.0)
    ridges: Choices = (0.0001, 0.001, 0.01, 0.1)
    folds: Folds = 5
    most: Count = 5_000


class KLIEPNode(WeightingNode):
    """The Kullback-Leibler importance estimation procedure."""

    target: Literal["unitgain.shift.KLIEP"] = Field(alias="_target_")
    centres: Count = 100
    widths: Choices = (0.125, 0.25, 0.5, 1.0, 2.0)
    folds: Folds = 5
    most: Count = 10_000


class ULSIFNode(WeightingNode):
    """Unconstrained least-squares importance fitting."""

    target: Literal["unitgain.shift.ULSIF"] = Field(alias="_target_")
    centres: Count = 100
    widths: Choices = (0.125, 0.25, 0.5, 1.0, 2.0)
    ridges: Choices = (0.001, 0.01, 0.1, 1.0, 10.0)
    folds: Folds = 5


class RuLSIFNode(WeightingNode):
    """Relative least-squares importance fitting."""

    target: Literal["unitgain.shift.RuLSIF"] = Field(alias="_target_")
    centres: Count = 100
    widths: Choices = (0.125, 0.25, 0.5, 1.0, 2.0)
    ridges: Choices = (0.001, 0.01, 0.1, 1.0, 10.0)
    folds: Folds = 5
    alpha: Rate = 0.1


class NearestNeighbourNode(WeightingNode):
    """Shares of target rows among nearest neighbours."""

    target: Literal["unitgain.shift.NearestNeighbour"] = Field(alias="_target_")
    neighbours: Annotated[tuple[Count, ...], Field(min_length=1)] = (3, 5, 10, 20, 50, 100)
    folds: Folds = 5
    most: Count = 5_000


SHIFT_NODES: tuple[type[ShiftNode], ...] = (
    NoShiftNode,
    PCATiltNode,
    LogisticSelectionNode,
    ExponentialTiltNode,
    GaussianMeanShiftNode,
    LabelDirichletNode,
    LabelTweakOneNode,
    LabelKnockoutNode,
    DomainNode,
    GivenNode,
    ConceptNode,
    GaussianNoiseNode,
    FeatureKnockoutNode,
    FeatureScalingNode,
    MissingValuesNode,
)
WEIGHTING_NODES: tuple[type[WeightingNode], ...] = (
    UniformNode,
    OracleNode,
    ClassifierNode,
    KMMNode,
    KLIEPNode,
    ULSIFNode,
    RuLSIFNode,
    NearestNeighbourNode,
)
