import io
import os
import zipfile

import pytest
import torch

from unitgain.errors import CheckpointError
from unitgain.runs import (
    atomic_write,
    drop_previous,
    newest_valid,
    open_sealed,
    previous_of,
    read_sealed,
    seal,
    write_sealed,
)


def saved(number: float) -> bytes:
    content = io.BytesIO()
    torch.save({"epoch": int(number), "theta": torch.full((5,), number)}, content)
    return content.getvalue()


def flip(data: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_a_sealed_file_as_it_is(tmp_path, mmap):
    path = tmp_path / "last.ckpt"
    write_sealed(path, saved(7))
    content = torch.load(path, weights_only=True, mmap=mmap)
    assert content["epoch"] == 7
    assert torch.equal(content["theta"], torch.full((5,), 7.0))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"unitgain sha256:")


def test_the_payload_comes_back_byte_for_byte(tmp_path):
    write_sealed(tmp_path / "last.ckpt", saved(7))
    assert read_sealed(tmp_path / "last.ckpt") == saved(7)


def test_every_flipped_byte_is_noticed():
    sealed = seal(saved(7))
    for place in range(len(sealed)):
        with pytest.raises(ValueError, match=r"is damaged|is cut short"):
            open_sealed(flip(sealed, place, place % 8))


def test_every_truncation_is_noticed():
    sealed = seal(saved(7))
    for size in range(1, len(sealed)):
        with pytest.raises(ValueError, match="is cut short"):
            open_sealed(sealed[:size])
    with pytest.raises(ValueError, match="is empty"):
        open_sealed(b"")


def test_appended_bytes_are_noticed():
    with pytest.raises(ValueError, match="is cut short or not a checkpoint"):
        open_sealed(seal(saved(7)) + b"\0")


@pytest.mark.parametrize("payload", [b"", b"text", seal(saved(1))])
def test_only_what_torch_saves_is_sealed(payload):
    with pytest.raises(ValueError, match="only a zip archive without a comment"):
        seal(payload)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "is missing; train the run again or name another"),
        (b"", r"\(0 bytes\) is empty; restore"),
        (seal(saved(7))[:-100], "is cut short"),
        (flip(seal(saved(7)), 200, 3), "is damaged: its content doesn't match its checksum"),
        (saved(7), "has no checksum: something else wrote it"),
    ],
)
def test_each_damage_has_its_own_line(tmp_path, content, fact):
    path = tmp_path / "best.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=fact) as caught:
        read_sealed(path)
    assert len(caught.value.lines) == 1
    assert str(path) in caught.value.lines[0]


def test_an_unreadable_checkpoint_is_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match=r"must be readable: .* Is a directory"):
        read_sealed(tmp_path)


def test_the_newest_checkpoint_is_taken(tmp_path):
    last = tmp_path / "last.ckpt"
    for number in (1, 2, 3):
        write_sealed(last, saved(number), keep_previous=True)
    assert newest_valid(tmp_path) == (last, saved(3), ())
    assert read_sealed(previous_of(last)) == saved(2)
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", "last.prev.ckpt"]


@pytest.mark.parametrize("content", [None, b"", b"junk", seal(saved(2))[:300]])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, content):
    last = tmp_path / "last.ckpt"
    write_sealed(last, saved(1), keep_previous=True)
    write_sealed(last, saved(2), keep_previous=True)
    last.unlink()
    if content is not None:
        last.write_bytes(content)
    path, payload, warnings = newest_valid(tmp_path)
    assert (path, payload) == (previous_of(last), saved(1))
    assert len(warnings) == 1
    assert warnings[0].endswith("going on from last.prev.ckpt, the checkpoint before it")


def test_no_whole_checkpoint_names_each(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"junk")
    with pytest.raises(CheckpointError) as caught:
        newest_valid(tmp_path)
    first, second = caught.value.lines
    assert "last.ckpt (4 bytes) is cut short" in first
    assert "last.prev.ckpt is missing" in second


def test_a_damaged_checkpoint_never_pushes_out_a_whole_one(tmp_path):
    last = tmp_path / "last.ckpt"
    write_sealed(last, saved(1), keep_previous=True)
    write_sealed(last, saved(2), keep_previous=True)
    last.write_bytes(b"junk")
    write_sealed(last, saved(3), keep_previous=True)
    assert read_sealed(previous_of(last)) == saved(1)
    assert read_sealed(last) == saved(3)


def test_a_whole_checkpoint_is_there_at_every_step_of_a_write(tmp_path, monkeypatch):
    last = tmp_path / "last.ckpt"
    write_sealed(last, saved(1), keep_previous=True)
    write_sealed(last, saved(2), keep_previous=True)
    link, replace, unlink = os.link, os.replace, os.unlink
    found = []

    def watched(call):
        def watch(*arguments, **named):
            found.append(newest_valid(tmp_path).payload)
            result = call(*arguments, **named)
            found.append(newest_valid(tmp_path).payload)
            return result

        return watch

    monkeypatch.setattr(os, "link", watched(link))
    monkeypatch.setattr(os, "replace", watched(replace))
    monkeypatch.setattr(os, "unlink", watched(unlink))
    write_sealed(last, saved(3), keep_previous=True)
    assert found[0] == saved(2)
    assert found[-1] == saved(3)
    assert set(found) == {saved(2), saved(3)}


def test_a_failed_write_keeps_the_newest(tmp_path, monkeypatch):
    last = tmp_path / "last.ckpt"
    write_sealed(last, saved(1), keep_previous=True)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_sealed(last, saved(2), keep_previous=True)
    assert newest_valid(tmp_path).payload == saved(1)


def test_a_filesystem_without_hard_links_gets_a_copy(tmp_path, monkeypatch):
    last = tmp_path / "last.ckpt"
    write_sealed(last, saved(1), keep_previous=True)

    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_sealed(last, saved(2), keep_previous=True)
    assert read_sealed(previous_of(last)) == saved(1)
    assert read_sealed(last) == saved(2)


def test_keeping_the_same_file_again_leaves_no_second_name(tmp_path):
    last = tmp_path / "last.ckpt"
    write_sealed(last, saved(1))
    os.link(last, previous_of(last))
    write_sealed(last, saved(2), keep_previous=True)
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", "last.prev.ckpt"]
    assert read_sealed(previous_of(last)) == saved(1)


def test_the_previous_checkpoint_can_go(tmp_path):
    last = tmp_path / "last.ckpt"
    atomic_write(previous_of(last), b"old")
    drop_previous(last)
    drop_previous(last)
    assert os.listdir(tmp_path) == []
