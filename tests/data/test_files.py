import gzip
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unitgain.data import load, open_data
from unitgain.data.sources import csv, parquet
from unitgain.errors import DataError
from unitgain.spec import RunSpec
from unitgain.spec._data import CSVNode
from unitgain.spec._split import GroupSplitNode, TimeSplitNode

TABLE = """\
size,colour,shop,day,share,note,price,kind
1,red,a,2026-01-03,1,x,10.5,cheap
2,blue,a,2026-01-01,2,y,20,dear
3.5,red,b,2026-01-02,1,z,30,dear
"""
ROLES = {
    "categorical": ["colour"],
    "group_column": "shop",
    "time_column": "day",
    "weight_column": "share",
    "drop_columns": ["note"],
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a text into table.csv of the working directory, and give its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="table.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def faults(*arguments, **more):
    with pytest.raises(DataError) as caught:
        csv(*arguments, **more)
    return caught.value.lines


def numbers(n=30):
    rows = np.random.default_rng(0).normal(size=(n, 3)).tolist()
    return pd.DataFrame(rows, columns=["a", "b", "y"])


def test_columns_go_where_they_are_told(write):
    table = csv(write(TABLE), "price", "regression", **{**ROLES, "drop_columns": ["note", "kind"]})
    assert table.name == "table.csv"
    assert table.feature_names == ("size",)
    assert table.x.tolist() == [[1], [2], [3.5]]
    assert table.y.tolist() == [[10.5], [20], [30]]
    assert table.categorical[0].levels == ("blue", "red")
    assert table.categorical[0].codes.tolist() == [1, 0, 1]
    assert table.categorical[0].encoding == "one_hot"
    assert table.group.tolist() == ["a", "a", "b"]
    assert table.time.argsort().tolist() == [1, 2, 0]
    assert table.weight.tolist() == [1, 2, 1]


def test_classes_are_text(write):
    table = csv(write(TABLE), "kind", "classification", encoding="ordinal", **ROLES)
    assert table.class_names == ("cheap", "dear")
    assert table.y.tolist() == [0, 1, 1]
    assert table.feature_names == ("size", "price")
    assert table.categorical[0].encoding == "ordinal"


def test_several_targets(write):
    roles = {"drop_columns": ["note", "kind", "colour", "shop", "day"]}
    table = csv(write(TABLE), ["price", "size"], "regression", **roles)
    assert table.target_names == ("price", "size")
    assert table.y.tolist() == [[10.5, 1], [20, 2], [30, 3.5]]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["1", "0", "1"], ("0", "1")),
        (["1.0", "2.0", "1.0"], ("1", "2")),
        (["True", "False", "True"], ("False", "True")),
        (["10", "9", "10"], ("9", "10")),
    ],
)
def test_class_labels_of_any_type(write, cells, names):
    text = "a,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    assert csv(write(text), "y", "classification").class_names == names


def test_categories_of_numbers_sort_as_numbers_and_may_miss(write):
    table = csv(write("c,a,y\n10,1,1\n,2,2\n9,3,3\n"), "y", "regression", categorical=["c"])
    assert table.categorical[0].levels == ("9", "10")
    assert table.categorical[0].codes.tolist() == [1, -1, 0]


def test_truth_is_one_and_zero(write):
    assert csv(write("a,y\nTrue,1\nFalse,2\n"), "y", "regression").x.tolist() == [[1], [0]]


@pytest.mark.parametrize(("separator", "mark"), [(";", ";"), ("\t", "\t"), ("|", "|")])
def test_other_separators(write, separator, mark):
    table = csv(write(f"a{mark}y\n1{mark}2\n"), "y", "regression", separator=separator)
    assert table.x.tolist() == [[1]]


def test_compressed_files_and_byte_order_marks(write):
    assert csv(write(gzip.compress(b"a,y\n1,2\n"), "t.csv.gz"), "y", "regression").n_rows == 1
    assert csv(write(b"\xef\xbb\xbfa,y\n1,2\n"), "y", "regression").feature_names == ("a",)


def test_quoted_names_and_cells(write):
    table = csv(write('"a,b",y\n"1",2\n'), "y", "regression")
    assert table.feature_names == ("a,b",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "table.csv: a table needs columns and rows, but the file is empty (0 bytes)"),
        ("\n\n", "table.csv: a table needs columns and rows, but the file holds no text (2 bytes)"),
        ("a,y\n", "table.csv: a table needs rows, but it has 2 columns and 0 rows"),
        (
            "a,b,a,y,b\n1,2,3,4,5\n",
            "table.csv: column names must differ, but 'a', 'b' stands for several of 5 columns "
            "(columns 1, 3); rename or remove them",
        ),
        (
            "a,,y\n1,2,3\n",
            "table.csv: every column needs a name in the first line, but column 2 of 3 has none; "
            "name or remove it",
        ),
        (
            "a;y\n1;2\n",
            "table.csv: a table needs a target and a feature, but its first line is one column "
            "'a;y' for data.separator=','; set \"data.separator=';'\"",
        ),
        (
            "a\ty\n1\t2\n",
            "table.csv: a table needs a target and a feature, but its first line is one column "
            "'a\ty' for data.separator=','; set \"data.separator=tab\"",
        ),
        (
            "a,y\n1,2\n1,2,3\n",
            "table.csv: every row must have as many cells as the first line, but pandas says: "
            "Expected 2 fields in line 3, saw 3; mend this line or set data.separator",
        ),
        (
            "a,y\n1,2,3\n1,2,3\n",
            "table.csv: every row must have as many cells as the first line, but some have more; "
            "mend these rows or set data.separator",
        ),
        (
            b"a,y\n\xff\xfe,2\n",
            "table.csv: text must be UTF-8, but byte 0 is not; save it as UTF-8",
        ),
        (
            "a,price\n1,2\n",
            "table.csv: data.target_column must name a column, but none is called 'y'; the 2 "
            "columns are a, price",
        ),
        (
            "a,b,y\n1,x,1\n2,3,2\n4,z,2\n",
            "table.csv: feature column 'b' must be numbers, but 2 of 3 rows hold something else "
            "(rows 1, 3: 'x'); declare it (data.categorical), drop it (data.drop_columns) or mend "
            "it",
        ),
        (
            "a,y\n1,one\n2,2\n",
            "table.csv: target column 'y' must be numbers, but 1 of 2 rows hold something else "
            "(row 1: 'one'); mend it, or set data.task=classification",
        ),
        (
            'a,y\n"1,000",1\n2,2\n',
            "table.csv: feature column 'a' must be numbers, but 1 of 2 rows hold something else "
            "(row 1: '1,000'); declare it (data.categorical), drop it (data.drop_columns) or mend "
            "it",
        ),
        (
            "a,y\n9007199254740993,1\n2,2\n",
            "table.csv: feature column 'a' must hold numbers that float64 holds exactly, but 1 of "
            "2 rows are beyond 2^53 (row 1: 9007199254740993); drop it (data.drop_columns), or "
            "rescale it",
        ),
        (
            "a,y\n99999999999999999999999,1\n2,2\n",
            "table.csv: feature column 'a' must be numbers, but 2 of 2 rows hold something else "
            "(rows 1, 2: '99999999999999999999999'); declare it (data.categorical), drop it "
            "(data.drop_columns) or mend it",
        ),
    ],
)
def test_each_fault_is_one_line(write, text, line):
    assert faults(write(text), "y", "regression") == (line,)


def test_missing_file_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"in the working directory {tmp_path}")):
        csv("none.csv", "y", "regression")
    with pytest.raises(DataError, match=r"but there is none; mend the path"):
        csv(str(tmp_path / "none.csv"), "y", "regression")
    with pytest.raises(DataError, match="but this is a folder"):
        csv(str(tmp_path), "y", "regression")


def test_names_that_are_nearly_right_are_suggested(write):
    assert faults(
        write(TABLE), "prize", "regression", categorical=["color"], group_column="no"
    ) == (
        "table.csv: data.target_column must name a column, but none is called 'prize'; did you "
        "mean 'price'? the 8 columns are size, colour, shop, day, share, note, price, kind",
        "table.csv: data.categorical must name a column, but none is called 'color'; did you mean "
        "'colour'? the 8 columns are size, colour, shop, day, share, note, price, kind",
        "table.csv: data.group_column must name a column, but none is called 'no'; did you mean "
        "'note'? the 8 columns are size, colour, shop, day, share, note, price, kind",
    )


def test_faults_of_columns_come_together(write):
    found = faults(write(TABLE), "kind", "regression", time_column="colour", weight_column="note")
    columns = [re.search(r"'(\w+)' must", line)[1] for line in found]
    assert columns == ["shop", "day", "kind", "colour", "note"]
    assert found[3] == (
        "table.csv: time_column 'colour' must hold numbers or ISO 8601 dates (2026-01-31), but 3 "
        "of 3 rows hold something else (rows 1, 2, 3: 'red'); write the dates so"
    )


def test_missing_targets_and_labels(write):
    table = write("a,b,y\n1,1,\n2,3,2\n")
    node = {"_target_": "unitgain.data.sources.csv", "path": table, "target_column": "y"}
    with pytest.raises(DataError, match=r"'y' in 1 of 2 rows \(row 1\); remove these rows"):
        load(CSVNode.model_validate({**node, "task": "regression", "impute": "mean"}))
    with pytest.raises(DataError, match=r"target column 'y' must have a label in every row.*row 1"):
        load(CSVNode.model_validate({**node, "task": "classification"}))


def test_a_whole_column_without_values(write):
    table = write("a,b,y\n,1,1\n,3,2\n")
    node = {"_target_": "unitgain.data.sources.csv", "path": table, "target_column": "y"}
    with pytest.raises(DataError, match="all 2 rows are missing in 'a'; drop it"):
        load(CSVNode.model_validate({**node, "task": "regression", "impute": "mean"}))


def test_a_file_is_prepared_for_training(write):
    frame = numbers(90).assign(shop=np.arange(90) // 3, day=np.arange(90)[::-1])
    frame.loc[4, "a"] = None
    node = {
        "_target_": "unitgain.data.sources.csv",
        "path": write(frame.to_csv(index=False)),
        "target_column": "y",
        "task": "regression",
        "group_column": "shop",
        "time_column": "day",
        "batch_size": 32,
    }
    group = GroupSplitNode(target="unitgain.data.splits.Group")
    with pytest.raises(DataError, match=r"table.csv: .* 'a' in 1 of 90 rows \(row 5\)"):
        open_data(RunSpec(data=CSVNode.model_validate(node), split=group))
    node["impute"] = "median"
    data = open_data(RunSpec(data=CSVNode.model_validate(node), split=group))
    assert data.feature_names == ("a", "b")
    assert np.isfinite(data.x).all()
    time = TimeSplitNode(target="unitgain.data.splits.Time")
    latest = open_data(RunSpec(data=CSVNode.model_validate(node), split=time))
    assert latest.split.test.tolist() == list(range(18))


def test_parquet_is_read_with_its_types(tmp_path):
    frame = numbers(6).assign(
        grade=pd.Categorical(["low", "high", "low", "mid", None, "low"], ["low", "mid", "high"]),
        count=pd.array([1, 2, None, 4, 5, 6], dtype="Int64"),
        flag=[True, False] * 3,
        day=pd.date_range("2026-01-01", periods=6, tz="UTC"),
    )
    path = tmp_path / "t.parquet"
    frame.to_parquet(path, index=False)
    table = parquet(str(path), "y", "regression", categorical=["grade"], time_column="day")
    assert table.feature_names == ("a", "b", "count", "flag")
    np.testing.assert_array_equal(table.x[:, 2], [1, 2, np.nan, 4, 5, 6])
    assert table.x[:, 3].tolist() == [1, 0, 1, 0, 1, 0]
    assert set(table.categorical[0].levels) == {"low", "mid", "high"}
    assert table.categorical[0].codes[4] == -1
    assert table.time.dtype.kind == "M"


def test_ordered_levels_of_a_parquet_file_keep_their_order(tmp_path):
    grade = pd.Categorical(["low", "high", "mid"], ["low", "mid", "high"], ordered=True)
    path = tmp_path / "t.parquet"
    numbers(3).assign(grade=grade).to_parquet(path, index=False)
    table = parquet(str(path), "y", "regression", categorical=["grade"])
    assert table.categorical[0].levels == ("low", "mid", "high")


def test_csv_and_parquet_give_the_same_table(tmp_path):
    frame = numbers().assign(c=["u", "v", "w"] * 10)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    tables = [
        source(str(tmp_path / f"t.{source.__name__}"), "y", "regression", categorical=["c"])
        for source in (csv, parquet)
    ]
    assert tables[0].fingerprint() == tables[1].fingerprint()


def test_parquet_faults(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("no such thing as a footer")
    with pytest.raises(DataError, match="must be a readable Parquet file, but of its 25 bytes"):
        parquet(str(path), "y", "regression")
    pq.write_table(pa.Table.from_arrays([pa.array([1.0])] * 3, names=["a", "a", "y"]), path)
    with pytest.raises(
        DataError, match="column names must differ, but 'a' stands for several of 3"
    ):
        parquet(str(path), "y", "regression")
    numbers(0).to_parquet(path)
    with pytest.raises(DataError, match="it has 3 columns and 0 rows"):
        parquet(str(path), "y", "regression")
    numbers().assign(when=pd.Timestamp("2026-01-01")).to_parquet(path, index=False)
    with pytest.raises(DataError, match="feature column 'when' must be numbers, but 30 of 30 rows"):
        parquet(str(path), "y", "regression")
