import warnings

import numpy as np
import pytest

from unitgain.data import (
    CategoricalColumn,
    DataWarning,
    Split,
    check_split,
    check_table,
    table_from_arrays,
)
from unitgain.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3))
Y = RNG.normal(size=8)
LABELS = [0, 1] * 4


def spoiled(row, column, value):
    x = X.copy()
    x[row, column] = value
    return x


def regression(x=X, y=Y, **more):
    return table_from_arrays("toy", x, y, task="regression", **more)


def classification(y=LABELS, **more):
    return table_from_arrays("toy", X, y, task="classification", **more)


def category(codes):
    return [CategoricalColumn("colour", np.array(codes), ("red", "blue"))]


def lines(table, **options):
    with pytest.raises(DataError) as caught:
        check_table(table, **options)
    return caught.value.lines


def test_a_sound_table_passes_in_silence():
    check_table(regression())
    check_table(classification(group=list("aabbccdd"), time=np.arange(8), weight=np.ones(8)))


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            regression(np.zeros((0, 3)), np.zeros(0)),
            "toy: a table needs rows, but it has 0",
        ),
        (
            regression(np.zeros((8, 0))),
            "toy: a table needs a feature column, but of its 8 rows none has one",
        ),
        (
            regression(spoiled(2, 1, np.nan)),
            "toy: features must have no missing values, but 1 of 3 columns do: 'x1' in 1 of 8 rows "
            "(row 3); set data.impute=median (or mean, most_frequent), or remove these rows",
        ),
        (
            regression(categorical=category([0, 1, -1, 0, 1, -1, 0, 1])),
            "toy: features must have no missing values, but 1 of 4 columns do: 'colour' in 2 of 8 "
            "rows (rows 3, 6); set data.impute=median (or mean, most_frequent), or remove these "
            "rows",
        ),
        (
            regression(spoiled([0, 1, 2, 3], 0, -np.inf)),
            "toy: features must be finite and below 1e+30 in size, but 1 of 3 columns hold "
            "infinite or larger values: 'x0' in 4 of 8 rows (rows 1, 2, 3, ...); remove or replace "
            "these values",
        ),
        (
            regression(y=[np.nan, np.inf, 0, 1, 2, 3, 4, 1e31]),
            "toy: targets must be finite and below 1e+30 in size in every row, but some are "
            "missing, infinite or larger: 'y' in 3 of 8 rows (rows 1, 2, 8); remove these rows "
            "(imputation is for features)",
        ),
        (
            classification([0, 1, 1, 1, 1, 1, 1, 1]),
            "toy: every class needs at least two rows, but 1 of 2 classes have one ('0': row 1 of "
            "8); remove or merge them",
        ),
        (
            classification(range(8)),
            "toy: every class needs at least two rows, but 8 of 8 classes have one ('0', '1', '2', "
            "'3', '4' and 3 more: rows 1, 2, 3, ... of 8); remove or merge them, or set "
            "data.task=regression",
        ),
        (
            classification(["a"] * 8),
            "toy: classification needs at least two classes, but all 8 rows are of class 'a'; "
            "check the target column",
        ),
        (
            regression(feature_names=["a", "b", "a"]),
            "toy: feature names must differ, but 'a' stands for several; rename them",
        ),
        (
            regression(group=["a", None, "b", "c", "a", "a", None, "a"]),
            "toy: the group must be known in every row, but it is missing in 2 of 8 rows (rows 2, "
            "7); fill it in or remove these rows",
        ),
        (
            regression(time=np.array(["2026-01-01", "NaT"] * 4, dtype="datetime64[D]")),
            "toy: the time must be known in every row, but it is missing in 4 of 8 rows (rows 2, "
            "4, 6, ...); fill it in or remove these rows",
        ),
        (
            regression(weight=[1, 1, 1, -2, 1, 1, 1, 1]),
            "toy: weights must be finite and not negative, but 1 of 8 rows are (row 4: -2); mend "
            "the weight column",
        ),
        (
            regression(weight=[1, 1, 1, np.nan, 1, 1, 1, 1]),
            "toy: the weight must be known in every row, but it is missing in 1 of 8 rows (row 4); "
            "fill it in or remove these rows",
        ),
        (
            regression(weight=np.zeros(8)),
            "toy: some weight must be above 0, but all 8 are 0; mend the weight column",
        ),
    ],
)
def test_each_fault_is_one_line(table, line):
    assert lines(table) == (line,)


def test_faults_come_together():
    x = spoiled(0, 0, np.nan)
    x[1, 1] = np.inf
    found = lines(regression(x, np.full(8, np.nan), weight=np.full(8, -1.0)))
    assert [line.split(" must ")[0] for line in found] == [
        "toy: features",
        "toy: features",
        "toy: targets",
        "toy: weights",
    ]


def test_imputation_allows_missing_features_unless_all_are():
    check_table(regression(spoiled(0, 0, np.nan)), impute="mean")
    assert lines(regression(spoiled(slice(None), 2, np.nan)), impute="mean") == (
        "toy: a feature column needs values, but all 8 rows are missing in 'x2'; drop it "
        "(data.drop_columns)",
    )


def test_columns_that_are_copies_are_warned_of():
    x = X.copy()
    x[:, 2] = x[:, 0]
    with pytest.warns(DataWarning, match="columns 'x0' and 'x2' are the same in all 8 rows"):
        check_table(regression(x))


def test_constant_columns_are_not_called_copies():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_table(regression(np.hstack([X, np.zeros((8, 2))])))


def test_split_must_lie_in_the_table():
    split = Split(train=[0, 1], val=[2], test=[8])
    with pytest.raises(DataError, match="must hold row numbers from 0 to 7, but it holds 8"):
        check_split(regression(), split, batch_size=1)


def test_training_rows_must_fill_a_batch():
    split = Split(train=[0, 1, 2], val=[3], test=[4])
    check_split(regression(), split, batch_size=3)
    with pytest.raises(DataError) as caught:
        check_split(regression(), split, batch_size=4)
    assert caught.value.lines == (
        "toy: training needs at least one full batch, but it has 3 of 8 rows and data.batch_size "
        "is 4; set data.batch_size=3 or less, or raise the training part of split.fractions",
    )


def test_classes_without_training_rows_are_refused():
    table = classification(["a", "a", "b", "b", "c", "c", "a", "a"])
    check_split(table, Split(train=[0, 2, 4], val=[1, 3], test=[5]), batch_size=1)
    with pytest.raises(DataError) as caught:
        check_split(table, Split(train=[0, 1], val=[2, 6], test=[4, 3]), batch_size=1)
    assert caught.value.lines == (
        "toy: every class needs training rows, but 'b' in val has none (2 of 8 rows train); set "
        "split=stratified, another split.seed, or a larger training part of split.fractions",
        "toy: every class needs training rows, but 'b', 'c' in test has none (2 of 8 rows train); "
        "set split=stratified, another split.seed, or a larger training part of split.fractions",
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([0, 1], [1], [2]), "each row must stand in one part, once, but 1 of 3 rows stand twice"),
        (([0, 0], [1], [2]), "each row must stand in one part, once"),
        (([0], [], [2]), "val must be a list of at least one row number"),
        (([0], [-1], [2]), "val must hold row numbers from 0 up, got int64 from -1"),
        (([0.5], [1], [2]), "train must hold row numbers from 0 up, got float64"),
        (([[0]], [1], [2]), r"train must be a list of .* got shape \(1, 1\)"),
    ],
)
def test_impossible_parts_are_refused(parts, message):
    with pytest.raises(DataError, match=message):
        Split(*parts)
