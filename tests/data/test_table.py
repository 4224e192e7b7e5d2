import os
import subprocess
import sys

import numpy as np
import pytest

from unitgain.data import CategoricalColumn, Table, table_from_arrays
from unitgain.errors import DataError


def toy(**changes):
    arguments = {"x": np.arange(6.0).reshape(3, 2), "y": np.arange(3.0), "task": "regression"}
    arguments |= changes
    return table_from_arrays("toy", **arguments)


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ([10, 9, 10], [1, 0, 1], ("9", "10")),
        ([2.0, 1.0, 2.0], [1, 0, 1], ("1", "2")),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
    ],
)
def test_labels_become_codes_in_sorted_order(labels, codes, names):
    table = toy(y=labels, task="classification")
    assert table.y.tolist() == codes
    assert table.y.dtype == np.int64
    assert table.class_names == names


def test_given_class_names_keep_the_codes():
    table = toy(y=[2, 0, 2], task="classification", class_names=["a", "b", "c"])
    assert table.y.tolist() == [2, 0, 2]


def test_names_have_defaults():
    assert toy().feature_names == ("x0", "x1")
    assert toy().target_names == ("y",)
    assert toy(y=np.zeros((3, 2))).target_names == ("y0", "y1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": [["a", "b"]] * 3}, "toy: x must hold numbers, but its dtype is <U1"),
        (
            {"x": np.zeros(3)},
            r"x must be float64 of shape \(rows, features\), got float64 of shape",
        ),
        (
            {"y": np.zeros(4)},
            r"y must be float64 of shape \(3, targets\), got float64 of shape \(4",
        ),
        ({"y": ["a", "b", "c"]}, "y must hold numbers"),
        ({"feature_names": ["one"]}, "must name all 2 columns of x, got 1 names"),
        ({"target_names": ["a", "b"]}, "must name all 1 columns of y, got 2 names"),
        ({"group": [1, 2]}, r"group must have shape \(3,\), got \(2,\)"),
        ({"time": ["x", "y", "z"]}, "time must be numbers or datetime64, got <U1"),
        (
            {"y": [0.5, 1, 2], "task": "classification"},
            r"1 of 3 rows hold other numbers \(row 1: 0.5\); set data.task=regression",
        ),
        (
            {"y": [np.inf, 1, 2], "task": "classification"},
            r"1 of 3 rows hold other numbers \(row 1: inf\)",
        ),
        (
            {"y": [None, "a", "b"], "task": "classification"},
            r"y must have a label in every row, but 1 of 3 rows have none \(row 1\)",
        ),
        (
            {"y": [0, 1, 5], "task": "classification", "class_names": ["a", "b"]},
            "class codes must lie in 0 to 1 for 2 class_names, but they range from 0 to 5",
        ),
        (
            {"y": np.zeros((3, 2)), "task": "classification"},
            r"y must be int64 class codes of shape \(3,\), got float64 of shape \(3, 2\)",
        ),
        (
            {"categorical": [CategoricalColumn("c", np.array([0, 1, 2]), ("a", "b"))]},
            "codes of categorical column 'c' must lie in -1 to 1, but they range from 0 to 2",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        toy(**changes)


def test_faults_come_together():
    with pytest.raises(DataError) as caught:
        toy(feature_names=["one"], y=np.zeros(4), group=[1])
    assert len(caught.value.lines) == 3


def test_take_selects_every_column():
    table = toy(
        group=["a", "b", "c"],
        time=[1, 2, 3],
        weight=[1, 2, 3],
        categorical=[CategoricalColumn("c", np.array([0, 1, -1]), ("u", "v"))],
    ).take(np.array([2, 0]))
    assert table.x.tolist() == [[4, 5], [0, 1]]
    assert table.y.tolist() == [[2], [0]]
    assert table.group.tolist() == ["c", "a"]
    assert table.time.tolist() == [3, 1]
    assert table.weight.tolist() == [3, 1]
    assert table.categorical[0].codes.tolist() == [-1, 0]


def test_fingerprint_sees_every_field_but_the_name():
    def everything(name="toy", **changes):
        arguments = {
            "x": np.arange(6.0).reshape(3, 2),
            "y": np.array([0, 1, 0]),
            "task": "classification",
            "class_names": ["a", "b"],
            "group": ["a", "b", "c"],
            "time": [1, 2, 3],
            "weight": [1, 2, 3],
            "categorical": [CategoricalColumn("c", np.array([0, 1, -1]), ("u", "v"))],
        }
        return table_from_arrays(name, **(arguments | changes)).fingerprint()

    changed = [
        {"x": np.arange(6.0).reshape(3, 2) + 1e-15},
        {"y": np.array([0, 1, 1])},
        {"class_names": ["a", "c"]},
        {"feature_names": ["p", "q"]},
        {"group": ["a", "b", "d"]},
        {"time": [1, 2, 4]},
        {"weight": None},
        {"categorical": [CategoricalColumn("c", np.array([0, 1, 0]), ("u", "v"))]},
        {"categorical": [CategoricalColumn("c", np.array([0, 1, -1]), ("u", "w"))]},
    ]
    prints = {everything(**change) for change in changed}
    assert len(prints | {everything()}) == len(changed) + 1
    assert everything(name="other") == everything()


def test_fingerprint_is_the_same_in_another_process():
    code = "from unitgain.data.sources import iris; print(iris().fingerprint())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    from unitgain.data.sources import iris

    assert found.stdout.strip() == iris().fingerprint()


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, unitgain.data; "
        "print({'torch', 'sklearn', 'pandas', 'scipy', 'pyarrow', 'lightning'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"


def test_a_table_is_a_plain_value():
    assert isinstance(toy(), Table)
    with pytest.raises(AttributeError):
        toy().name = "other"
