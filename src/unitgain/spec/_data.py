"""The node ``data``: what a table is read from.

For whoever puts the schema together: pick the class whose ``target`` literal is ``_target_`` from
`DATA_NODES`; any other target is a `CustomData`. Every data node carries the keys of `DataNode`;
``arguments()`` leaves those out that the source itself isn't called with.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from unitgain.spec._base import Component, Count, Custom, NonNegative, Positive

Task = Literal["classification", "regression"]
Scale = Literal["standard", "minmax", "none"]
Impute = Literal["mean", "median", "most_frequent"]
Encoding = Literal["one_hot", "ordinal"]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def _given(value: str) -> str:
    if value in ("", "???"):
        raise ValueError("must be given")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _character(value: object) -> object:
    return "\t" if value in ("tab", "\\t") else value


Character = Annotated[str, Field(min_length=1, max_length=1)]
Given = Annotated[str, AfterValidator(_given)]
Names = Annotated[tuple[Given, ...], BeforeValidator(_as_list)]

COMMON = frozenset({"task", "batch_size", "drop_last", "scale", "impute", "max_rows"})


class DataNode(Component):
    """What every data source has: batches, scaling, imputation."""

    task: Task
    batch_size: Count = 64
    drop_last: bool = False
    scale: Scale = "standard"
    impute: Impute | None = None
    max_rows: Count | None = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the source is called with."""
        return self.model_dump(exclude={"target", *COMMON})


class CustomData(DataNode, Custom):
    """A source of the user's own: every key that isn't common is passed on as it is."""

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the source is called with."""
        return self.model_dump(exclude={"target", "partial", *COMMON})


class ClassificationNode(DataNode):
    """A source that can only be classified."""

    task: Literal["classification"] = "classification"


class RegressionNode(DataNode):
    """A source that can only be regressed."""

    task: Literal["regression"] = "regression"


class DigitsNode(ClassificationNode):
    """1797 images of handwritten digits, 8 x 8 pixels, 10 classes."""

    target: Literal["unitgain.data.sources.digits"] = Field(alias="_target_")


class BreastCancerNode(ClassificationNode):
    """569 tumours, 30 features, 2 classes."""

    target: Literal["unitgain.data.sources.breast_cancer"] = Field(alias="_target_")


class WineNode(ClassificationNode):
    """178 wines, 13 features, 3 classes."""

    target: Literal["unitgain.data.sources.wine"] = Field(alias="_target_")


class IrisNode(ClassificationNode):
    """150 flowers, 4 features, 3 classes."""

    target: Literal["unitgain.data.sources.iris"] = Field(alias="_target_")


class CovertypeNode(ClassificationNode):
    """581012 forest patches, 54 features, 7 classes; downloaded."""

    target: Literal["unitgain.data.sources.covertype"] = Field(alias="_target_")


class DiabetesNode(RegressionNode):
    """442 patients, 10 features, 1 target."""

    target: Literal["unitgain.data.sources.diabetes"] = Field(alias="_target_")


class LinnerudNode(RegressionNode):
    """20 men, 3 features, 3 targets."""

    target: Literal["unitgain.data.sources.linnerud"] = Field(alias="_target_")


class AirfoilNode(RegressionNode):
    """1503 wind tunnel measurements, 5 features, 1 target."""

    target: Literal["unitgain.data.sources.airfoil"] = Field(alias="_target_")
    logarithms: bool = False


class CaliforniaHousingNode(RegressionNode):
    """20640 districts, 8 features, 1 target; downloaded."""

    target: Literal["unitgain.data.sources.california_housing"] = Field(alias="_target_")


class LinearNode(RegressionNode):
    """A linear map of Gaussian features, with noise."""

    target: Literal["unitgain.data.sources.linear"] = Field(alias="_target_")
    n: Count = 1000
    noise: NonNegative = 0.1
    seed: Seed = 0
    n_features: Count = 10
    n_targets: Count = 1


class Friedman1Node(RegressionNode):
    """Friedman's first function: five of the features matter."""

    target: Literal["unitgain.data.sources.friedman1"] = Field(alias="_target_")
    n: Count = 1000
    noise: NonNegative = 1.0
    seed: Seed = 0
    n_features: Annotated[int, Field(ge=5)] = 10


class SincNode(RegressionNode):
    """One feature, the sinc function, with noise."""

    target: Literal["unitgain.data.sources.sinc"] = Field(alias="_target_")
    n: Count = 1000
    noise: NonNegative = 0.25
    seed: Seed = 0
    inputs: Literal["normal", "uniform"] = "normal"
    center: float = 1.0
    spread: Positive = 0.5


class TeacherNode(RegressionNode):
    """The output of a random tanh network, with noise."""

    target: Literal["unitgain.data.sources.teacher"] = Field(alias="_target_")
    n: Count = 1000
    noise: NonNegative = 0.1
    seed: Seed = 0
    n_features: Count = 10
    n_targets: Count = 1
    depth: Count = 2
    width: Count = 32
    sigma_w: Positive = 1.5


class GaussianShiftNode(DataNode):
    """Source and target rows from two Gaussians, their ratio known."""

    target: Literal["unitgain.data.sources.gaussian_shift"] = Field(alias="_target_")
    task: Task = "regression"
    n_source: Count = 1000
    n_target: Count = 1000
    noise: NonNegative = 0.25
    seed: Seed = 0
    n_features: Count = 2
    target_mean: float = 1.0
    target_spread: Positive = 1.0

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the source is called with, the task among them."""
        return {"task": self.task, **super().arguments()}


class SincShiftNode(RegressionNode):
    """The sinc function, with source and target inputs from two Gaussians."""

    target: Literal["unitgain.data.sources.sinc_shift"] = Field(alias="_target_")
    n_source: Count = 1000
    n_target: Count = 1000
    noise: NonNegative = 0.25
    seed: Seed = 0
    center: float = 1.0
    spread: Positive = 0.5
    target_center: float = 2.0
    target_spread: Positive = 0.25


class TeacherShiftNode(RegressionNode):
    """The output of a random tanh network, with source and target inputs from two Gaussians."""

    target: Literal["unitgain.data.sources.teacher_shift"] = Field(alias="_target_")
    n_source: Count = 1000
    n_target: Count = 1000
    noise: NonNegative = 0.1
    seed: Seed = 0
    n_features: Count = 10
    n_targets: Count = 1
    depth: Count = 2
    width: Count = 32
    sigma_w: Positive = 1.5
    target_mean: float = 1.0
    target_spread: Positive = 1.0


class MoonsNode(ClassificationNode):
    """Two interleaving half circles."""

    target: Literal["unitgain.data.sources.moons"] = Field(alias="_target_")
    n: Annotated[int, Field(ge=2)] = 1000
    noise: NonNegative = 0.2
    seed: Seed = 0


class CirclesNode(ClassificationNode):
    """A circle within a circle."""

    target: Literal["unitgain.data.sources.circles"] = Field(alias="_target_")
    n: Annotated[int, Field(ge=2)] = 1000
    noise: NonNegative = 0.1
    seed: Seed = 0
    factor: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5


class BlobsNode(ClassificationNode):
    """Gaussian clusters, one a class."""

    target: Literal["unitgain.data.sources.blobs"] = Field(alias="_target_")
    n: Annotated[int, Field(ge=2)] = 1000
    noise: NonNegative = 1.0
    seed: Seed = 0
    n_features: Count = 2
    n_classes: Annotated[int, Field(ge=2)] = 3


class MNIST1DNode(ClassificationNode):
    """MNIST-1D by its published recipe, 10 classes."""

    target: Literal["unitgain.data.sources.mnist1d"] = Field(alias="_target_")
    n: Annotated[int, Field(ge=10)] = 5000
    noise: NonNegative = 0.02
    seed: Seed = 42
    correlated_noise: NonNegative = 0.25
    padding: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (36, 60)
    max_translation: Count = 48
    scale_range: NonNegative = 0.4
    shear: NonNegative = 0.75
    length: Annotated[int, Field(ge=2)] = 40

    @model_validator(mode="after")
    def _fits(self) -> Self:
        low, high = self.padding
        if low > high:
            raise ValueError(f"padding must be [low, high] with low <= high, got {[low, high]}")
        if self.max_translation > 12 + high:
            raise ValueError(
                f"max_translation must be at most 12 + padding = {12 + high}, "
                f"got {self.max_translation}"
            )
        return self


class TabularNode(DataNode):
    """What the columns of a table are for; all columns not named are numeric features."""

    categorical: Names = ()
    encoding: Encoding = "one_hot"
    group_column: Given | None = None
    time_column: Given | None = None
    weight_column: Given | None = None
    drop_columns: Names = ()

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the source is called with, the task among them."""
        return {"task": self.task, **super().arguments()}

    def targets(self) -> tuple[str, ...]:
        """The target columns that the node names."""
        return ()

    @model_validator(mode="after")
    def _one_role_each(self) -> Self:
        targets = self.targets()
        if self.task == "classification" and len(targets) > 1:
            raise ValueError(
                f"target_column must be one column for classification, got {list(targets)}"
            )
        singles = (self.group_column, self.time_column, self.weight_column)
        named = [*targets, *self.categorical, *self.drop_columns]
        named += [name for name in singles if name is not None]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"each column must have one role (target_column, categorical, group_column, "
                f"time_column, weight_column or drop_columns), got {', '.join(twice)} in several"
            )
        return self


class FileNode(TabularNode):
    """A table in a file."""

    path: Given
    target_column: Annotated[Names, Field(min_length=1)]

    def targets(self) -> tuple[str, ...]:
        """The target columns that the node names."""
        return self.target_column


class CSVNode(FileNode):
    """A text file with a header line."""

    target: Literal["unitgain.data.sources.csv"] = Field(alias="_target_")
    separator: Annotated[Character, BeforeValidator(_character)] = ","


class ParquetNode(FileNode):
    """A Parquet file."""

    target: Literal["unitgain.data.sources.parquet"] = Field(alias="_target_")


class OpenMLNode(TabularNode):
    """A data set of openml.org by its id; downloaded."""

    target: Literal["unitgain.data.sources.openml"] = Field(alias="_target_")
    data_id: Count
    target_column: Names | None = None

    def targets(self) -> tuple[str, ...]:
        """The target columns that the node names."""
        return self.target_column or ()


DATA_NODES: tuple[type[DataNode], ...] = (
    DigitsNode,
    BreastCancerNode,
    WineNode,
    IrisNode,
    CovertypeNode,
    DiabetesNode,
    LinnerudNode,
    AirfoilNode,
    CaliforniaHousingNode,
    LinearNode,
    Friedman1Node,
    SincNode,
    TeacherNode,
    GaussianShiftNode,
    SincShiftNode,
    TeacherShiftNode,
    MoonsNode,
    CirclesNode,
    BlobsNode,
    MNIST1DNode,
    CSVNode,
    ParquetNode,
    OpenMLNode,
)
