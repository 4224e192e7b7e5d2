import os

import numpy as np
import pandas as pd
import pytest

from unitgain.errors import DataError
from unitgain.runs import GradientsWriter, read_gradients

NAMES = ("grad_preactivation", "grad_weight", "activation_mean")
STEPS = range(0, 80, 10)
LAYERS = {"grad_preactivation": 5, "grad_weight": 5, "activation_mean": 4}


def values(step):
    stream = np.random.default_rng(step)
    return {name: stream.normal(size=LAYERS[name]) for name in NAMES}


def block(steps):
    rows = [values(step) for step in steps]
    return {name: np.stack([row[name] for row in rows]) for name in NAMES}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gradients.parquet"


@pytest.fixture
def whole(tmp_path):
    writer = GradientsWriter(tmp_path / "whole.parquet")
    writer.append(list(STEPS), block(STEPS))
    writer.flush()
    return (tmp_path / "whole.parquet").read_bytes()


def test_schema_and_rows_as_pandas_sees_them(path, whole):
    path.write_bytes(whole)
    frame = pd.read_parquet(path)
    assert list(frame) == ["step", "layer", "quantity", "value"]
    assert [str(frame[name].dtype) for name in frame] == ["int64", "int32", "category", "float64"]
    assert len(frame) == len(STEPS) * 14
    for step, rows in frame.groupby("step"):
        expected = values(step)
        assert rows["quantity"].tolist() == [name for name in NAMES for _ in range(LAYERS[name])]
        for name in NAMES:
            mine = rows[rows["quantity"] == name]
            assert mine["layer"].tolist() == list(range(1, LAYERS[name] + 1))
            np.testing.assert_array_equal(mine["value"], expected[name])


def test_grid(path, whole):
    path.write_bytes(whole)
    gradients = read_gradients(path)
    assert gradients.names == NAMES
    for name in NAMES:
        step_S, value_SL = gradients.grid(name)
        assert step_S.tolist() == list(STEPS)
        np.testing.assert_array_equal(value_SL, block(STEPS)[name])
    with pytest.raises(KeyError, match="nothing"):
        gradients.grid("nothing")


def test_grid_has_gaps_where_nothing_was_recorded(path):
    writer = GradientsWriter(path)
    writer.append(0, {"a": [1.0, 2.0]})
    writer.append(10, {"b": [3.0], "a": [4.0]})
    writer.flush()
    step_S, value_SL = read_gradients(path).grid("a")
    assert step_S.tolist() == [0, 10]
    np.testing.assert_array_equal(value_SL, [[1.0, 2.0], [4.0, np.nan]])
    assert read_gradients(path).grid("b")[0].tolist() == [10]


def test_special_values_read_back(path):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308]
    writer = GradientsWriter(path)
    writer.append(0, {"a": special})
    writer.flush()
    back = read_gradients(path).values
    assert back.tobytes() == np.array(special).tobytes()


@pytest.mark.parametrize("cuts", [[8], [1] * 8, [3, 5], [2, 1, 5]])
@pytest.mark.parametrize("flush_each", [True, False])
def test_bytes_depend_on_the_rows_alone(path, whole, cuts, flush_each):
    writer = GradientsWriter(path)
    done = 0
    for cut in cuts:
        steps = list(STEPS)[done : done + cut]
        writer.append(steps, block(steps))
        done += cut
        if flush_each:
            writer.flush()
    writer.flush()
    assert path.read_bytes() == whole


def test_float32_is_kept_exactly(path):
    value_SL = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    writer = GradientsWriter(path)
    writer.append([0, 1, 2, 3], {"a": value_SL})
    value_SL[:] = 0
    writer.flush()
    expected = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(read_gradients(path).grid("a")[1], expected)


@pytest.mark.parametrize("kept", [-1, 0, 25, 30, 70, 1000])
def test_a_resumed_file_equals_an_uninterrupted_one(path, whole, kept):
    path.write_bytes(whole)
    writer = GradientsWriter(path, keep_until=kept)
    rest = [step for step in STEPS if step > kept]
    for step in rest:
        writer.append(step, values(step))
    writer.flush()
    assert path.read_bytes() == whole


def test_resuming_renumbers_quantities_that_came_later(path, tmp_path):
    first, second = {"a": [1.0]}, {"b": [2.0], "a": [3.0]}
    writer = GradientsWriter(path)
    writer.append(0, first)
    writer.append(10, {"late": [5.0], **second})
    writer.flush()
    resumed = GradientsWriter(path, keep_until=0)
    resumed.append(10, second)
    resumed.flush()
    fresh = GradientsWriter(tmp_path / "fresh.parquet")
    fresh.append(0, first)
    fresh.append(10, second)
    fresh.flush()
    assert path.read_bytes() == (tmp_path / "fresh.parquet").read_bytes()
    assert read_gradients(path).names == ("a", "b")


def test_without_measurements_there_is_no_file(path, whole):
    path.write_bytes(whole)
    writer = GradientsWriter(path)
    assert not path.exists()
    writer.append(0, {})
    writer.flush()
    assert not path.exists()


@pytest.mark.parametrize(
    ("step", "item"), [(0, [[1.0], [2.0]]), ([0, 1], [1.0, 2.0]), (0, np.ones((1, 1, 1)))]
)
def test_shapes_must_fit(path, step, item):
    with pytest.raises(ValueError, match="steps don't fit values of shape"):
        GradientsWriter(path).append(step, {"a": item})


def test_a_failed_write_keeps_the_old_file(path, whole, monkeypatch):
    path.write_bytes(whole)
    writer = GradientsWriter(path, keep_until=30)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    assert path.read_bytes() == whole
    assert os.listdir(path.parent).count("gradients.parquet") == 1
    assert not [name for name in os.listdir(path.parent) if name.endswith(".tmp")]


def same(one, other):
    return one.names == other.names and all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("steps", "layers", "codes", "values")
    )


def test_a_flipped_bit_is_an_error_or_harmless(path):
    writer = GradientsWriter(path)
    writer.append([0, 10], {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[5.0], [6.0]]})
    writer.flush()
    whole, expected = path.read_bytes(), read_gradients(path)
    errors = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = read_gradients(path)
        except DataError:
            errors += 1
        else:
            assert same(found, expected), place
    assert errors > len(whole) / 2


def test_a_truncated_empty_or_missing_file_is_one_line(path, whole):
    for size in (0, 1, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"gradients\.parquet is damaged; restore") as caught:
            read_gradients(path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match="No such file or directory"):
        read_gradients(path)


def test_a_foreign_table_is_refused(path):
    pd.DataFrame({"step": [1], "value": [1.0]}).to_parquet(path)
    with pytest.raises(DataError, match="is damaged or something else wrote it"):
        read_gradients(path)
