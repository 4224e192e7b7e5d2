"""Claims: one process a run, whoever comes at once, and whoever is gone."""

import json
import multiprocessing
import os
import time

import pytest

from unitgain.errors import ConfigError
from unitgain.runs import ClaimLostError, Claims, Patience, RunDirectory, holder_of


def _elsewhere(folder, **facts):
    """Make the newest claim that of a process on another machine."""
    path = holder_of(folder).path
    text = path.read_text()
    stamp = path.stat().st_mtime_ns
    path.write_text(json.dumps(json.loads(text) | {"machine": "other", "host": "other", **facts}))
    os.utime(path, ns=(stamp, stamp))


def _compete(folders, barrier, results):
    """Claim what can be claimed, say which, and hold it until all have tried."""
    claims = Claims()
    barrier.wait()
    won = [k for k, folder in enumerate(folders) if claims.take(folder) is None]
    barrier.wait()
    results.put(won)
    results.close()
    results.join_thread()
    claims.close()


def _die(folder):
    Claims().take(folder)
    os._exit(0)


@pytest.mark.parametrize("first", ["nobody", "dead"])
def test_of_processes_that_come_at_once_one_has_each_run(tmp_path, first):
    context = multiprocessing.get_context("fork")
    folders = [tmp_path / str(k) for k in range(200)]
    if first == "dead":
        for folder in folders:
            Claims(lease=1).take(folder)
            path = folder / "claim-0.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"began": "before"}))
    barrier, results = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=_compete, args=(folders, barrier, results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    won = [k for _ in processes for k in results.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(won) == list(range(200))
    assert not any(folder.exists() for folder in folders)


def test_a_process_of_this_machine_that_is_gone_is_known_at_once(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_die, args=(tmp_path / "run",))
    process.start()
    deadline = time.monotonic() + 30
    while not (holder := holder_of(tmp_path / "run")) or not holder.dead:
        # It isn't waited for: until then it is a zombie, whose number there still is.
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Patience().expired(holder)
    assert RunDirectory(tmp_path / "run").status == "stale"
    claims = Claims()
    assert claims.take(tmp_path / "run") is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["claim-1.json"]
    process.join()
    claims.close()


def test_the_number_of_a_process_alone_isnt_the_process(tmp_path):
    claims = Claims(lease=60)
    claims.take(tmp_path)
    path = tmp_path / "claim-0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"began": "12"}))
    assert holder_of(tmp_path).dead


@pytest.mark.parametrize("skew", [-7200, 0, 7200])
def test_silence_is_measured_by_the_own_clock(tmp_path, skew):
    """A holder elsewhere, whose clock is two hours off: its signs of life count, not their times."""
    theirs = Claims(lease=0.5)
    theirs.take(tmp_path)
    theirs.close()  # its thread is to be silent; the claim is made again by hand
    theirs = Claims(lease=60)
    theirs.take(tmp_path)
    _elsewhere(tmp_path, lease_s=0.4)
    mine, patience = Claims(), Patience()
    path = holder_of(tmp_path).path

    def beat(at):
        os.utime(path, (at, at))

    start = time.time() + skew
    for k in range(5):
        beat(start + 0.2 * k)
        assert not patience.expired(holder_of(tmp_path))
        assert mine.take(tmp_path) is not None
        time.sleep(0.2)
    deadline, began = time.monotonic() + 10, time.monotonic()
    while not patience.expired(holder := holder_of(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert time.monotonic() - began >= 0.15
    assert mine.take(tmp_path, expired="another") is not None
    assert mine.take(tmp_path, expired=holder.token) is None
    assert holder_of(tmp_path).number == 1
    # The one before wakes up: it notices, and leaves the claim of its successor alone.
    theirs._beat()
    with pytest.raises(ClaimLostError):
        theirs.check()
    theirs.release(tmp_path)
    assert holder_of(tmp_path).number == 1
    mine.close()


def test_a_claim_is_kept_alive(tmp_path):
    claims = Claims(lease=0.5)
    claims.take(tmp_path)
    first = holder_of(tmp_path).touched_ns
    deadline = time.monotonic() + 10
    while holder_of(tmp_path).touched_ns == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    claims.check()
    claims.close()
    assert holder_of(tmp_path) is None


def test_a_process_that_stood_still_looks_before_it_goes_on(tmp_path, monkeypatch):
    claims = Claims(lease=60)
    claims.take(tmp_path)
    _elsewhere(tmp_path, token="somebody else's")
    claims.check()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr("unitgain.runs._claims._clock", lambda: now + 61)
    with pytest.raises(ClaimLostError, match="was taken over by another process"):
        claims.check()


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_a_file_system_without_links(tmp_path, monkeypatch, error):
    def link(*_paths):
        raise error(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    mine, theirs = Claims(), Claims()
    assert mine.take(tmp_path) is None
    assert theirs.take(tmp_path).token == holder_of(tmp_path).token
    mine.close()


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    real = os.link

    def link(*paths):
        real(*paths)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "link", link)
    claims = Claims()
    assert claims.take(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["claim-0.json"]
    claims.close()


def test_a_claim_that_cant_be_read_is_somebodys(tmp_path):
    (tmp_path / "claim-0.json").write_text("{")
    assert Claims().take(tmp_path).host == "an unknown machine"


def test_waiting_refuses_a_run_that_is_being_trained(tmp_path):
    theirs, mine = Claims(), Claims()
    theirs.take(tmp_path)
    with pytest.raises(ConfigError, match=f"but process {os.getpid()} on .* trains it; wait"):
        mine.wait(tmp_path)
    theirs.close()


def test_waiting_outlasts_a_machine_that_is_gone(tmp_path, capsys):
    theirs, mine = Claims(lease=60), Claims()
    theirs.take(tmp_path)
    _elsewhere(tmp_path, lease_s=0.3)
    time.sleep(0.2)
    mine.wait(tmp_path)
    assert holder_of(tmp_path).number == 1
    assert "process" in capsys.readouterr().out
    mine.close()
