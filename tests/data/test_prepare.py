import sys
from types import ModuleType

import numpy as np
import pytest

from unitgain.data import Split, load, make_split, open_data, prepare, table_from_arrays
from unitgain.data.shifts import NoShift
from unitgain.errors import DataError
from unitgain.spec import RunSpec
from unitgain.spec._data import (
    CustomData,
    DiabetesNode,
    DigitsNode,
    IrisNode,
    LinnerudNode,
)
from unitgain.spec._split import CustomSplit, RandomSplitNode, StratifiedSplitNode

SOURCES = "unitgain.data.sources"
RANDOM = RandomSplitNode(target="unitgain.data.splits.Random")


def iris(**keys):
    return IrisNode(target=f"{SOURCES}.iris", **keys)


def diabetes(**keys):
    return DiabetesNode(target=f"{SOURCES}.diabetes", **keys)


@pytest.fixture
def own(monkeypatch):
    """A module of the user's, importable and allowed."""
    module = ModuleType("own_data")
    monkeypatch.setitem(sys.modules, "own_data", module)
    monkeypatch.setenv("UNITGAIN_ALLOW", "own_data")

    def add(function):
        function.__module__ = "own_data"
        setattr(module, function.__name__, function)
        return f"own_data.{function.__name__}"

    return add


def test_classification_is_prepared():
    data = open_data(RunSpec(data=iris(), split=RANDOM))
    assert (data.n_features, data.n_outputs, data.n_classes) == (4, 3, 3)
    assert data.y.dtype == np.int64
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert data.y_mean.tolist() == [0]
    assert data.y_scale.tolist() == [1]
    np.testing.assert_allclose(data.x[data.split.train].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(data.x[data.split.train].std(axis=0), 1, rtol=1e-12)
    assert np.abs(data.x[data.split.val].mean(axis=0)).min() > 1e-6


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_targets_are_scaled_on_the_training_rows(scale):
    node = LinnerudNode(target=f"{SOURCES}.linnerud", batch_size=4, scale=scale)
    data = open_data(RunSpec(data=node, split=RANDOM))
    raw = load(node).y
    assert (data.n_outputs, data.n_classes) == (3, 0)
    assert data.target_names == ("Weight", "Waist", "Pulse")
    np.testing.assert_allclose(data.y[data.split.train].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(data.y[data.split.train].std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(data.y * data.y_scale + data.y_mean, raw, rtol=1e-12)


def test_no_scaling_leaves_features_and_targets():
    node = diabetes(scale="none")
    data = open_data(RunSpec(data=node, split=RANDOM))
    raw = load(node)
    assert np.array_equal(data.x, raw.x)
    assert np.array_equal(data.y, raw.y)
    assert (data.y_mean, data.y_scale) == (0, 1)


def test_weights_have_mean_one_over_the_training_rows():
    weight = np.arange(1.0, 11.0)
    x = np.arange(10.0)[:, None]
    table = table_from_arrays("toy", x, x[:, 0], task="regression", weight=weight)
    split = Split(train=[0, 1, 2, 3], val=[4, 5], test=[6, 7, 8, 9])
    data = prepare(NoShift()(table, split), node=diabetes())
    np.testing.assert_allclose(data.weight, weight / 2.5)
    no_weight = table_from_arrays("toy", x, x[:, 0], task="regression")
    assert (prepare(NoShift()(no_weight, split), node=diabetes()).weight == 1).all()


def test_weightless_training_rows_are_a_fault():
    x = np.arange(4.0)[:, None]
    table = table_from_arrays("toy", x, x, task="regression", weight=[0, 0, 1, 1])
    with pytest.raises(DataError, match="some training row must have a weight above 0, but all 2"):
        prepare(NoShift()(table, Split(train=[0, 1], val=[2], test=[3])), node=diabetes())


def test_constant_targets_are_a_fault():
    x = np.arange(4.0)[:, None]
    table = table_from_arrays("toy", x, [5, 5, 1, 2], task="regression")
    with pytest.raises(DataError, match="toy: targets must vary, but 'y' has one value in all 2"):
        prepare(NoShift()(table, Split(train=[0, 1], val=[2], test=[3])), node=diabetes())


def test_the_fingerprint_is_that_of_the_raw_table():
    standard, minmax = (
        open_data(RunSpec(data=iris(scale=s), split=RANDOM)) for s in ("standard", "minmax")
    )
    assert standard.fingerprint == minmax.fingerprint == load(iris()).fingerprint()
    assert (
        open_data(RunSpec(data=iris(max_rows=120), split=RANDOM)).fingerprint
        != standard.fingerprint
    )


def test_everything_repeats_whatever_numpy_drew_before():
    first = open_data(RunSpec(data=DigitsNode(target=f"{SOURCES}.digits"), split=RANDOM))
    np.random.seed(9)
    second = open_data(RunSpec(data=DigitsNode(target=f"{SOURCES}.digits"), split=RANDOM))
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.split.test, second.split.test)


def test_max_rows_keeps_distinct_rows_in_their_order():
    whole, part = load(diabetes()), load(diabetes(max_rows=100))
    rows = [int(np.flatnonzero((whole.x == row).all(axis=1))[0]) for row in part.x]
    assert part.n_rows == 100
    assert (np.diff(rows) > 0).all()
    assert load(diabetes(max_rows=1000)).n_rows == 442


def test_a_batch_larger_than_the_training_part_is_a_fault():
    with pytest.raises(DataError, match=r"it has 90 of 150 rows and data\.batch_size is 91"):
        open_data(RunSpec(data=iris(batch_size=91), split=RANDOM))


def test_split_faults_name_the_table():
    node = StratifiedSplitNode(target="unitgain.data.splits.Stratified")
    with pytest.raises(DataError, match="diabetes: a stratified split needs classes"):
        open_data(RunSpec(data=diabetes(), split=node))


def test_a_source_and_a_split_of_ones_own(own):
    def spiral(turns):
        t = np.linspace(0, turns, 100)
        x = np.stack([t * np.cos(t), t * np.sin(t)], axis=1)
        return table_from_arrays("spiral", x, t > turns / 2, task="classification")

    def every_third(table, *, shift):
        part = (np.arange(table.n_rows) + shift) % 3
        return Split(*(np.flatnonzero(part == p) for p in range(3)))

    data_node = CustomData.model_validate(
        {"_target_": own(spiral), "task": "classification", "turns": 3.0, "batch_size": 8}
    )
    split_node = CustomSplit.model_validate(
        {"_target_": own(every_third), "_partial_": True, "shift": 1}
    )
    data = open_data(RunSpec(data=data_node, split=split_node))
    assert data.x.shape == (100, 2)
    assert data.split.val.tolist()[:2] == [0, 3]


def test_what_is_no_table_or_split_is_refused(own):
    def arrays():
        return np.zeros(3)

    def rows(table):
        return [0, 1]

    keys = {"task": "regression"}
    with pytest.raises(DataError, match=r"own_data.arrays returned ndarray; build one with"):
        load(CustomData.model_validate({"_target_": own(arrays), **keys}))
    node = CustomSplit.model_validate({"_target_": own(rows), "_partial_": True})
    with pytest.raises(DataError, match=r"own_data.rows returned list"):
        make_split(node, load(iris()))


def test_a_source_of_another_task_is_refused(own):
    def numbers():
        return table_from_arrays("numbers", np.eye(4), np.arange(4.0), task="regression")

    node = CustomData.model_validate({"_target_": own(numbers), "task": "classification"})
    with pytest.raises(DataError, match=r"it is classification and .* set data.task=regression"):
        load(node)
