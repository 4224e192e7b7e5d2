import math
import os

import numpy as np
import pandas as pd
import pytest

from unitgain.errors import DataError
from unitgain.runs import MetricsWriter, read_metrics

NAMES = ("train/loss", "val/accuracy", "odd, name")


def fill(writer, epochs):
    for epoch in epochs:
        values = (math.exp(-epoch / 3), 1 / (epoch + 3), 1e-300 * epoch)
        writer.append(epoch, 17 * (epoch + 1), dict(zip(NAMES, values, strict=True)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


@pytest.fixture
def whole(tmp_path):
    with MetricsWriter(tmp_path / "whole.csv") as writer:
        fill(writer, range(6))
    return (tmp_path / "whole.csv").read_bytes()


def test_rows_read_back_to_the_bit(path):
    with MetricsWriter(path) as writer:
        fill(writer, range(6))
        assert writer.last_epoch == 5
    table = read_metrics(path)
    assert list(table) == ["epoch", "step", *NAMES]
    assert table["epoch"].tolist() == list(range(6))
    assert table["step"].dtype == np.int64
    assert table["train/loss"].tolist() == [math.exp(-epoch / 3) for epoch in range(6)]
    frame = pd.read_csv(path)
    for name, column in table.items():
        np.testing.assert_allclose(frame[name].to_numpy(), column, rtol=1e-15)


def test_each_row_is_on_disk_at_once(path):
    writer = MetricsWriter(path)
    for epoch in range(3):
        fill(writer, [epoch])
        assert read_metrics(path)["epoch"].tolist() == list(range(epoch + 1))


def test_no_file_stays_open(path):
    before = len(os.listdir("/proc/self/fd"))
    writer = MetricsWriter(path)
    fill(writer, range(3))
    assert len(os.listdir("/proc/self/fd")) == before


def test_numpy_numbers_and_special_values(path):
    with MetricsWriter(path) as writer:
        writer.append(0, np.int64(1), {"a": np.float32(0.1), "b": math.nan, "c": -math.inf})
    assert path.read_text() == "epoch,step,a,b,c\n0,1,0.10000000149011612,nan,-inf\n"
    table = read_metrics(path)
    assert table["a"][0] == np.float32(0.1)
    assert math.isnan(table["b"][0])
    assert table["c"][0] == -math.inf


def test_a_missing_value_is_an_empty_cell(path):
    with MetricsWriter(path) as writer:
        writer.append(0, 1, {"a": 1, "b": 2})
        writer.append(1, 2, {"b": 3})
    assert path.read_text().splitlines()[-1] == "1,2,,3.0"
    np.testing.assert_array_equal(read_metrics(path)["a"], [1.0, math.nan])


def test_a_late_column_is_refused(path):
    writer = MetricsWriter(path)
    writer.append(0, 1, {"a": 1})
    with pytest.raises(ValueError, match=r"\['b'\] came too late"):
        writer.append(1, 2, {"a": 1, "b": 1})
    assert read_metrics(path)["epoch"].tolist() == [0]


@pytest.mark.parametrize("name", ["epoch", "step", "a\nb"])
def test_a_name_that_breaks_the_table_is_refused(path, name):
    with pytest.raises(ValueError, match="can't be columns"):
        MetricsWriter(path).append(0, 1, {name: 1.0})
    assert not path.exists()


def test_starting_afresh_drops_an_older_file(path, whole):
    path.write_bytes(whole)
    MetricsWriter(path)
    assert not path.exists()


@pytest.mark.parametrize("kept", range(6))
def test_a_resumed_file_equals_an_uninterrupted_one(path, whole, kept):
    path.write_bytes(whole)
    writer = MetricsWriter(path, keep_until=kept)
    assert writer.last_epoch == kept
    assert read_metrics(path)["epoch"].tolist() == list(range(kept + 1))
    fill(writer, range(kept + 1, 6))
    assert path.read_bytes() == whole


def test_every_torn_tail_is_dropped(path, whole):
    rows = whole.count(b"\n")
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        complete = max(whole[:size].count(b"\n") - 1, 0)
        assert read_metrics(path)["epoch"].tolist() == list(range(complete))
        writer = MetricsWriter(path, keep_until=rows)
        fill(writer, range(complete, 6))
        assert path.read_bytes() == whole


def test_resuming_before_the_first_row_or_without_a_file_starts_afresh(path, whole):
    path.write_bytes(whole)
    writer = MetricsWriter(path, keep_until=-1)
    assert writer.last_epoch is None
    assert not path.exists()
    writer = MetricsWriter(path, keep_until=3)
    fill(writer, range(6))
    assert path.read_bytes() == whole


def test_truncation_is_atomic(path, whole, monkeypatch):
    path.write_bytes(whole)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        MetricsWriter(path, keep_until=2)
    assert path.read_bytes() == whole


def test_a_full_disk_leaves_no_half_row(path, monkeypatch):
    writer = MetricsWriter(path)
    fill(writer, [0])
    before = path.read_bytes()
    write = os.write

    def full(descriptor, data):
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device.*metrics\.csv"):
        fill(writer, [1])
    monkeypatch.undo()
    assert path.read_bytes() == before
    fill(writer, [1])
    assert read_metrics(path)["epoch"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "can't be read"),
        (b"a,b\n1,2\n", "starts with the columns"),
        (b"epoch,step,a\n0,1,2.0\n1,x,2.0\n", "damaged line 3"),
        (b"epoch,step,a\n0,1,2.0,3\n", "damaged line 2"),
        (b"epoch,step,a\n0,1,2.,0.0\n", "damaged line 2"),
        (b"epoch,step,a\n0,1,\x00\xff\n", "isn't a CSV file"),
        (b"\n", "starts with the columns"),
    ],
)
def test_a_damaged_file_is_one_line(path, content, fact):
    if content is not None:
        path.write_bytes(content)
        with pytest.raises(DataError, match=fact):
            MetricsWriter(path, keep_until=5)
    with pytest.raises(DataError, match=rf"metrics\.csv .*{fact}.*; restore it") as caught:
        read_metrics(path)
    assert "\n" not in str(caught.value)
