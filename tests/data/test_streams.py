import numpy as np
import pandas as pd
import pytest

from unitgain.data import fit_encoder
from unitgain.data.sources import csv
from unitgain.data.streams import Follow, encode_batch, feedback_stream, stream_batches
from unitgain.errors import DataError

COLUMNS = ("b", "a", "kind")


def frame(n=25, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["flat", "house, old", 'farm "B"', "two\nlines"], size=n)
    return pd.DataFrame({"a": rng.normal(size=n), "b": np.arange(n), "kind": kinds, "y": 1.0})


def joined(batches):
    batches = list(batches)
    return pd.concat(batches, ignore_index=True), [len(batch) for batch in batches]


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "rows.csv"
    frame().to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("rows", [1, 10, 25, 100])
def test_batches_of_a_file_are_its_rows_in_order(kind, rows, tmp_path):
    path, whole = tmp_path / f"rows.{kind}", frame()
    whole.to_csv(path, index=False) if kind == "csv" else whole.to_parquet(path, row_group_size=7)
    found, sizes = joined(stream_batches(path, COLUMNS, rows=rows))
    pd.testing.assert_frame_equal(found, whole[list(COLUMNS)])
    assert sum(sizes) == 25
    assert max(sizes) <= rows
    if kind == "csv":
        assert sizes == [rows] * (25 // rows) + [25 % rows] * (25 % rows > 0)


def test_separators_line_ends_and_marks_of_other_systems(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbfa;b\r\n1;2\r\n\r\n3;4")
    found, sizes = joined(stream_batches(path, ("b", "a"), separator=";"))
    assert found.to_numpy().tolist() == [[2, 1], [4, 3]]
    assert sizes == [2]


def test_a_file_that_grows_gives_rows_once_their_line_has_ended(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    stream = stream_batches(path, ("a", "b"), follow=Follow(every=0.01, idle=0.3))
    with path.open("a") as file:

        def written(text):
            file.write(text)
            file.flush()
            return next(stream).to_numpy().tolist()

        assert written("") == [[1, 2], [3, 4]]
        assert written("5,6\n7,") == [[5, 6]]
        assert written("8\n9,10\n") == [[7, 8], [9, 10]]
        # The last line counts without its end, once the stream is over.
        assert written("11,12") == [[11, 12]]
    assert list(stream) == []


def test_a_file_that_grows_may_begin_without_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    stream = stream_batches(path, ("a",), rows=2, follow=Follow(every=0.01, idle=0.2))
    assert list(stream) == []
    path.write_text("a,b\n" + "1,2\n" * 5)
    sizes = joined(stream_batches(path, ("a",), rows=2, follow=Follow(every=0.01, idle=0.2)))[1]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "needs a line of column names, but the file is empty"),
        (b"a,a\n1,2\n", "column names must differ, but 'a' stands for several of 2 columns"),
        (b"a,bb\n1,2\n", "'b' isn't there; is 'bb' meant"),
        (b"a;b\n1;2\n", "'a', 'b' isn't there"),
        (b"a,b\n1,2\n3,4,5\n", "one of rows 1 to 2 has more; mend it or set --separator"),
        (b"a,b\n1,\xff\n", "text must be UTF-8, but a line isn't"),
    ],
)
def test_a_bad_text_file_is_told(text, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(text)
    with pytest.raises(DataError, match=message):
        list(stream_batches(path, ("a", "b")))


def test_rows_of_a_fault_are_counted_over_batches(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "1,2\n" * 4 + "1,2,3\n")
    stream = stream_batches(path, ("a", "b"), rows=2)
    assert [len(next(stream)), len(next(stream))] == [2, 2]
    with pytest.raises(DataError, match="one of rows 5 to 5 has more"):
        next(stream)


def test_a_bad_parquet_file_is_told(tmp_path):
    path = tmp_path / "rows.parquet"
    with pytest.raises(DataError, match="a stream must be a file, but there is none"):
        list(stream_batches(path, ("a",)))
    path.write_text("no Parquet")
    with pytest.raises(DataError, match="must be a readable Parquet file"):
        list(stream_batches(path, ("a",)))
    frame().to_parquet(path)
    with pytest.raises(DataError, match="'c' isn't there"):
        list(stream_batches(path, ("c",)))
    with pytest.raises(DataError, match="only a CSV can grow, but this is Parquet"):
        list(stream_batches(path, ("a",), follow=Follow()))


@pytest.fixture
def trained(csv_file):
    """The table of the file, and an encoder of its rows."""

    def fitted(impute=None, encoding="one_hot"):
        table = csv(str(csv_file), "y", "regression", categorical=["kind"], encoding=encoding)
        return table, fit_encoder(table, np.arange(20), scale="standard", impute=impute)

    return fitted


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal"])
def test_a_batch_is_encoded_as_the_table_is(trained, encoding):
    table, encoder = trained(encoding=encoding)
    x, unknown = encode_batch("stream", frame()[5:15], encoder, 1)
    np.testing.assert_array_equal(x, encoder.encode(table)[5:15])
    assert unknown == 0


def test_categories_that_were_never_trained_on_are_counted(trained):
    _, encoder = trained()
    rows = frame().assign(kind=["tent"] * 3 + ["flat"] * 22)
    x, unknown = encode_batch("stream", rows, encoder, 1)
    assert unknown == 3
    first = list(encoder.feature_names).index("kind=flat")
    places = [d for d, name in enumerate(encoder.feature_names) if name.startswith("kind=")]
    assert (x[:3, places] == 0).all()
    assert (x[3:, first] == 1).all()


def test_missing_cells_are_filled_as_in_training(trained):
    table, encoder = trained("median")
    rows = frame()
    rows.loc[4, "a"] = np.nan
    x, _ = encode_batch("stream", rows, encoder, 1)
    a = encoder.feature_names.index("a")
    known = table.x[:20, table.feature_names.index("a")]
    assert x[4, a] == pytest.approx((np.median(known) - known.mean()) / known.std())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.nan, "stream: feature column 'a' must have a value in every row, but row 104 has none"),
        (np.inf, "stream: feature column 'a' must be finite, but row 104 isn't"),
        ("high", "stream: rows 100 to 124: feature column 'a' must be numbers"),
    ],
)
def test_a_cell_that_can_t_be_encoded_is_told(trained, cell, message):
    _, encoder = trained()
    rows = frame().astype({"a": object})
    rows.loc[4, "a"] = cell
    with pytest.raises(DataError, match=message):
        encode_batch("stream", rows, encoder, 100)


def approve(x):
    """A credit decision that rises with the first feature."""
    return 1 / (1 + np.exp(-4 * x[:, 0]))


def people(n=400):
    return np.random.default_rng(1).normal(size=(n, 2))


def test_feedback_of_no_strength_is_the_rows_shuffled():
    stream = list(feedback_stream(approve, people(), np.random.default_rng(0), 0.0))
    assert [len(rows) for rows in stream] == [50] * 8
    both = np.concatenate(stream)
    assert not np.array_equal(both, people())
    assert np.array_equal(np.sort(both, axis=0), np.sort(people(), axis=0))


def test_who_is_refused_near_the_boundary_moves_towards_approval():
    strength = 0.1
    step = strength * people()[:, 0].std()
    plain, moved = (
        np.stack(list(feedback_stream(approve, people(), np.random.default_rng(0), a)))
        for a in (0.0, strength)
    )
    assert np.array_equal(plain[0], moved[0])
    assert np.array_equal(plain[:, :, 1], moved[:, :, 1])
    times = (moved - plain)[:, :, 0] / step
    for heard, (before, moves) in enumerate(zip(plain, times, strict=True)):
        # From p = .2 up to .5, so many whole steps as the boundary is away, one a round heard of.
        x = before[:, 0]
        near = (x < 0) & (approve(before) > 0.2)
        wanted = np.minimum(heard, np.ceil(-x / step))
        assert moves[near] == pytest.approx(wanted[near])
        assert (moves[~near] == 0).all()
    assert (approve(moved[-1]) > 0.5).mean() > (approve(plain[-1]) > 0.5).mean() + 0.05


def test_moves_go_down_where_less_is_better():
    stream = feedback_stream(lambda x: approve(-x), people(), np.random.default_rng(0), 0.2)
    plain = feedback_stream(lambda x: approve(-x), people(), np.random.default_rng(0), 0.0)
    change = np.concatenate(list(stream)) - np.concatenate(list(plain))
    assert change[:, 0].min() < 0
    assert change[:, 0].max() == 0
