"""From a configuration to what training consumes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from unitgain.data._checks import check_split, check_table
from unitgain.data._encoder import Encoder, fit_encoder
from unitgain.data._importance import Importance, estimate_importance, training_weights
from unitgain.data._shifted import Shifted
from unitgain.data._split import Split
from unitgain.data._table import Floats, Ints, Table, Task
from unitgain.data._warm_start import check_same_features, check_same_targets, first_run
from unitgain.errors import DataError
from unitgain.spec import RunSpec, instantiate
from unitgain.spec._data import DataNode
from unitgain.spec._shift import ShiftNode, UniformNode, WeightingNode
from unitgain.spec._split import SplitNode

# Which rows ``max_rows`` keeps is no parameter: a smaller table, the same for every run.
_SUBSAMPLE_SEED = 0x524F5753


@final
@dataclass(frozen=True, eq=False)
class Prepared:
    """A table, split, encoded and scaled; everything learned from the training rows alone.

    Args:
        x: (N, D) float64 features.
        y: (N,) int64 class codes, or (N, T) float64 targets, scaled: ``(y - y_mean) / y_scale``.
        y_mean: (T,) float64, 0 for classification.
        y_scale: (T,) float64, 1 for classification.
        weight: (N,) float64 what a row's loss counts in training: its sample weight, with mean one over the
            training rows, times its importance in training.
        eval_weight: (N,) float64 what it counts in losses and metrics of a part: its sample weight, in training
            and validation rows times its full importance.
        importance: The weights of source rows for their target; None for ``weighting=none``.
        split: The rows of the three parts.
        shifted: The raw table and what is known of the shift between its parts.
        task: ``classification`` or ``regression``.
        n_classes: C, 0 for regression.
        feature_names: D names, after encoding.
        class_names: C names.
        target_names: T names.
        fingerprint: The sha256 of the raw table.
        encoder: What makes features of further raw rows.
    """

    x: Floats
    y: Ints | Floats
    y_mean: Floats
    y_scale: Floats
    weight: Floats
    eval_weight: Floats
    importance: Importance | None
    split: Split
    shifted: Shifted
    task: Task
    n_classes: int
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    target_names: tuple[str, ...]
    fingerprint: str
    encoder: Encoder

    def with_exponent(self, chosen: Mapping[str, Any], largest: float | None) -> "Prepared":
        """The same table with training weights of a chosen exponent.

        Args:
            chosen: has the ``exponent``, and what it was chosen from.
            largest: The bound of training weights; None: there is none.
        """
        assert self.importance is not None
        train, training_N = self.split.train, self.importance.training_N.copy()
        training_N[train] = training_weights(
            self.importance.full_N[train], chosen["exponent"], largest
        )
        importance = replace(self.importance, training_N=training_N, chosen=chosen)
        given_N = _normalised_weight(self.shifted.table, train)
        return replace(self, weight=given_N * training_N, importance=importance)

    @property
    def n_features(self) -> int:
        """D, what the network's first layer takes."""
        return len(self.feature_names)

    @property
    def n_outputs(self) -> int:
        """What the network's last layer gives: C logits or T targets."""
        return self.n_classes if self.task == "classification" else len(self.target_names)


def load(node: DataNode) -> Table:
    """The checked table of a data node, subsampled to ``max_rows``.

    Raises:
        DataError: Every fault of the table, see `check_table`.
    """
    table = instantiate(node, _key_="data")
    if not isinstance(table, Table):
        raise DataError(
            f"data: a source must return a unitgain.data.Table, but {node.target} returned "
            f"{type(table).__name__}; build one with unitgain.data.table_from_arrays"
        )
    if table.task != node.task:
        raise DataError(
            f"{table.name}: data.task must be the table's own task, but it is {node.task} and "
            f"{node.target} gives {table.task}; set data.task={table.task}"
        )
    check_table(table, impute=node.impute)
    if node.max_rows is None or node.max_rows >= table.n_rows:
        return table
    rng = np.random.default_rng(_SUBSAMPLE_SEED)
    return table.take(np.sort(rng.permutation(table.n_rows)[: node.max_rows]))


def prepare(
    shifted: Shifted,
    *,
    node: DataNode,
    weighting: WeightingNode | None = None,
    fitted: Prepared | None = None,
) -> Prepared:
    """Encode, impute and scale, fitted on the training rows.

    Regression targets are scaled to mean 0 and standard deviation 1, unless ``node.scale`` is
    ``none``, which leaves features and targets as they are.

    Args:
        shifted: A checked table with its parts.
        node: ``scale`` and ``impute`` are read from it.
        weighting: How source rows are weighted for their target; None: not at all.
        fitted: Whose encoder and scaling of targets are taken over; None: they are fitted.

    Raises:
        DataError: What can't be fitted on the training rows, see `fit_encoder` and `estimate_importance`.
    """
    table, split = shifted.table, shifted.split
    if fitted is None:
        encoder = fit_encoder(table, split.train, scale=node.scale, impute=node.impute)
        y_mean, y_scale = _target_scaling(table, split.train, scaled=node.scale != "none")
    else:
        encoder, y_mean, y_scale = fitted.encoder, fitted.y_mean, fitted.y_scale
    y = table.y if table.task == "classification" else (table.y - y_mean) / y_scale
    x_ND, given_N = encoder.encode(table), _normalised_weight(table, split.train)
    importance = None if weighting is None else estimate_importance(x_ND, split, shifted, weighting)
    return Prepared(
        x=x_ND,
        y=y,
        y_mean=y_mean,
        y_scale=y_scale,
        weight=given_N if importance is None else given_N * importance.training_N,
        eval_weight=given_N if importance is None else given_N * importance.full_N,
        importance=importance,
        split=split,
        shifted=shifted,
        task=table.task,
        n_classes=len(table.class_names),
        feature_names=encoder.feature_names,
        class_names=table.class_names,
        target_names=table.target_names,
        fingerprint=table.fingerprint(),
        encoder=encoder,
    )


def open_data(spec: RunSpec, loaded: dict[str, Table] | None = None) -> Prepared:
    """Load, check, split, shift, check, prepare and weigh.

    Args:
        spec: What to load, how to split it, how to shift its target rows and how to weigh
            its source rows. Where it begins from an earlier run's weights, features and targets
            are scaled as they were there.
        loaded: Tables that need not be loaded again, by the text of their nodes; this one joins them.

    Raises:
        ConfigError: ``warm_start`` names no run, or one with other columns, targets or scaling.
        DataError: Every fault found at the first of these steps that has one.
    """
    loaded, key = {} if loaded is None else loaded, repr(spec.data)
    if key not in loaded:
        loaded[key] = load(spec.data)
    table = loaded[key]
    shifted = make_shift(spec.shift, table, make_split(spec.split, table))
    check_split(shifted.table, shifted.split, batch_size=spec.data.batch_size)
    fitted, first = None, first_run(spec)
    if first is not None:
        fitted = open_data(first.model_copy(update={"weighting": UniformNode()}), loaded)
        check_same_features(spec, table, first, fitted.encoder)
        check_same_targets(spec, table, fitted.shifted.table)
    return prepare(shifted, node=spec.data, weighting=spec.weighting, fitted=fitted)


def prepared_key(spec: RunSpec) -> str:
    """A text that two runs share only if `open_data` gives both the same."""
    return f"{spec.data!r} {spec.split!r} {spec.shift!r} {spec.weighting!r} {spec.warm_start!r}"


def make_split(node: SplitNode, table: Table) -> Split:
    """The split of a table that a split node names."""
    split = instantiate(node, _key_="split")(table)
    if not isinstance(split, Split):
        raise DataError(
            f"split: a split must return a unitgain.data.Split, but {node.target} returned "
            f"{type(split).__name__}"
        )
    return split


def make_shift(node: ShiftNode, table: Table, split: Split) -> Shifted:
    """The source and target rows that a shift node makes of a split."""
    shifted = instantiate(node, _key_="shift")(table, split)
    if not isinstance(shifted, Shifted):
        raise DataError(
            f"shift: a shift must return a unitgain.data.Shifted, but {node.target} returned "
            f"{type(shifted).__name__}"
        )
    return shifted


def _target_scaling(table: Table, train: Ints, *, scaled: bool) -> tuple[Floats, Floats]:
    n_targets = len(table.target_names)
    if table.task == "classification":
        return np.zeros(n_targets), np.ones(n_targets)
    y_NT = table.y[train]
    fixed = y_NT.max(axis=0) == y_NT.min(axis=0)
    if fixed.any():
        names = ", ".join(f"'{table.target_names[t]}'" for t in np.flatnonzero(fixed))
        raise DataError(
            f"{table.name}: targets must vary, but {names} has one value in all {len(train)} "
            f"training rows; check the target column and the split"
        )
    if not scaled:
        return np.zeros(n_targets), np.ones(n_targets)
    return y_NT.mean(axis=0), y_NT.std(axis=0)


def _normalised_weight(table: Table, train: Ints) -> Floats:
    if table.weight is None:
        return np.ones(table.n_rows)
    mean = table.weight[train].mean()
    if mean <= 0:
        raise DataError(
            f"{table.name}: some training row must have a weight above 0, but all {len(train)} "
            f"are 0; mend the weight column or change the split"
        )
    return np.asarray(table.weight / mean, dtype=np.float64)
