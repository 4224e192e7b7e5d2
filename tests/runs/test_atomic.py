import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from unitgain.runs import atomic_write, remove_leftovers

WRITER = """
import sys
from pathlib import Path
from unitgain.runs import atomic_write
target = Path(sys.argv[1])
print("ready", flush=True)
for letter in iter(lambda: b"ab", None):
    atomic_write(target, letter[:1] * 300_000, durable=False)
    atomic_write(target, letter[1:] * 300_000, durable=False)
"""


@pytest.mark.parametrize("durable", [True, False])
def test_replaces_the_content_and_leaves_nothing_else(tmp_path, durable):
    target = tmp_path / "file"
    atomic_write(target, b"old", durable=durable)
    atomic_write(target, b"new", durable=durable)
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    atomic_write(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_stages_beside_the_target_whatever_tmpdir_is(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nowhere")
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append(source.parent)
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    atomic_write(tmp_path / "file", b"content")
    assert seen == [tmp_path]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_file_and_no_leftover(tmp_path, monkeypatch, call):
    target = tmp_path / "file"
    atomic_write(target, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"No space left on device.*file'") as caught:
        atomic_write(target, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_leaves_the_old_file_and_no_leftover(tmp_path, monkeypatch):
    target = tmp_path / "file"
    atomic_write(target, b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone/file"):
        atomic_write(tmp_path / "gone" / "file", b"")


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.02, 0.05])
def test_a_killed_writer_leaves_one_whole_file(tmp_path, delay):
    target = tmp_path / "file"
    atomic_write(target, b"a" * 300_000)
    with subprocess.Popen([sys.executable, "-c", WRITER, target], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
    content = target.read_bytes()
    assert content in (b"a" * 300_000, b"b" * 300_000)
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def test_only_leftovers_are_removed(tmp_path):
    leftover = tmp_path / ".last.ckpt.123.0123abcd.tmp"
    kept = {"last.ckpt", ".hidden", "notes.tmp", ".notes.tmp", ".a.12.xyz.tmp"}
    for name in [leftover.name, *kept]:
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path) == [leftover]
    assert set(os.listdir(tmp_path)) == kept
