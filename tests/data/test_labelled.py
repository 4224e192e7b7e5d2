"""Rows of a file behind a run's own."""

import numpy as np
import pytest

from unitgain.data import CategoricalColumn, table_from_arrays
from unitgain.data.labelled import with_labelled_rows
from unitgain.errors import DataError


@pytest.fixture
def table():
    """Two classes, a number and a category; weighted."""
    return table_from_arrays(
        "own",
        [[1.0], [2.0], [3.0]],
        [0, 1, 1],
        task="classification",
        feature_names=["a"],
        target_names=["y"],
        class_names=["no", "yes"],
        categorical=[CategoricalColumn("kind", np.array([0, 1, -1]), ("p", "q"), "ordinal")],
        weight=[1.0, 2.0, 3.0],
    )


def test_columns_go_by_name_and_labels_by_text(table, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("other,y,kind,a\n9,yes,new,4\n9,no,q,5\n9,yes,,6\n")
    joined = with_labelled_rows(table, path, impute="mean")
    assert joined.x[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert joined.y.tolist() == [0, 1, 1, 1, 0, 1]
    [kind] = joined.categorical
    assert kind.levels == ("p", "q", "new")
    assert kind.codes.tolist() == [0, 1, -1, 2, 1, -1]
    assert kind.encoding == "ordinal"
    assert joined.weight is None
    assert joined.name == "own"


def test_one_class_alone_will_do(table, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,kind,y\n4,p,yes\n")
    assert with_labelled_rows(table, path).y.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "4,p,maybe",
            r"target column 'y' must hold the classes .* \(no, yes\), but 1 of 2 rows hold",
        ),
        ("inf,p,no", r"rows\.csv: features must be finite .*rows? 2"),
        (",p,no", r"rows\.csv: features must have no missing values"),
        ("4,p,", "target column 'y' must have a label in every row, but 1 of 2"),
    ],
)
def test_faults_count_rows_in_the_file(table, tmp_path, row, message):
    path = tmp_path / "rows.csv"
    path.write_text(f"a,kind,y\n4,p,no\n{row}\n")
    with pytest.raises(DataError, match=message):
        with_labelled_rows(table, path)
