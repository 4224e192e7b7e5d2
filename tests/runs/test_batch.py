"""Files that are put in place together."""

import os

import pytest

from unitgain.runs import Batch


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_come_into_place_in_their_order_when_the_batch_is_left(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    seen = []
    with Batch() as batch:
        batch.add(tmp_path / "a", b"1", lambda: seen.append((tmp_path / "a").read_bytes()))
        batch.add(tmp_path / "b", b"2", lambda: seen.append((tmp_path / "a").read_bytes()))
        assert (tmp_path / "a").read_bytes() == b"old"
    assert seen == [b"old", b"1"]
    assert (tmp_path / "b").read_bytes() == b"2"
    assert names(tmp_path) == ["a", "b"]


def test_an_error_throws_all_away(tmp_path):
    def broken_off():
        with Batch() as batch:
            batch.add(tmp_path / "a", b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken_off()
    assert names(tmp_path) == []


def test_what_can_t_be_kept_is_not_put_in_place(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(descriptor)

    batch = Batch()
    for name in "abcd":
        batch.add(tmp_path / name, b"new")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/[abcd]'"):
        batch.__exit__(None, None, None)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_disk_keeps_files_before_they_are_in_place_and_names_after(tmp_path, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor):
        order.append(os.path.isdir(f"/proc/self/fd/{descriptor}"))
        real_sync(descriptor)

    def replace(source, target):
        order.append("put")
        real_replace(source, target)

    (tmp_path / "there").write_bytes(b"already")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with Batch() as batch:
        batch.add(tmp_path / "a", b"1")
        batch.add(tmp_path / "b", b"2")
        batch.sync(tmp_path / "there")
    assert order == [False, False, False, "put", "put", True]
    order.clear()
    with Batch(durable=False) as batch:
        batch.add(tmp_path / "a", b"1")
    assert order == ["put"]
