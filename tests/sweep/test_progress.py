"""What is shown of a sweep while it goes."""

import io
import re
import sys
from types import SimpleNamespace

import pytest

from unitgain.sweep.job import Ending, Start
from unitgain.sweep.plan import Limits, Tables, plan
from unitgain.sweep.progress import NAMED, Progress
from unitgain.sweep.worker import Epoch


@pytest.fixture
def sweep(desk, tmp_path):
    """A pack of fourteen, and how a sweep of it is told."""
    jobs = desk.jobs(tmp_path, *(desk.spec(seed=k) for k in range(14)))
    [pack] = plan(jobs, {job.number: Start() for job in jobs}, Limits(1), Tables()).packs

    def tell():
        endings = {}
        with Progress([pack], lambda job: f"seed={job.number}", endings) as progress:
            progress.started(pack)
            progress.epoch(pack, Epoch(1, 2, 14, 28))
            for job in jobs[:12]:
                progress.ended(job, Ending("diverged", cause="at step 7"))
            for _ in range(2):
                progress.note("no room for a checkpoint")
            progress.epoch(pack, Epoch(2, 2, 2, 4))
            for job in jobs[12:]:
                progress.ended(job, Ending("finished", 0.5))
            progress.done(pack)
        return endings

    return SimpleNamespace(tell=tell)


def test_where_there_is_no_terminal_each_pack_is_a_line(sweep, capsys):
    endings = sweep.tell()
    assert len(endings) == 14
    captured = capsys.readouterr()
    assert re.fullmatch(r"pack 1/1: 12 diverged, 2 finished, \d\.\d s\n", captured.out)
    *faults, further, note = captured.err.splitlines()
    assert faults == [f"job {k + 1} (seed={k}) diverged: at step 7" for k in range(NAMED)]
    assert further.startswith("further ones are named")
    assert note == "note: no room for a checkpoint"


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_terminal_has_bars_and_the_first_faults_above_them(sweep, monkeypatch, columns):
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    sweep.tell()
    text = screen.getvalue()
    assert "pack 1, 14 runs" in text
    assert "14/14 runs, 12 not finished" in text
    assert text.count("diverged: at step 7") == NAMED
    assert text.count("further ones are named") == 1
    assert text.count("note: no room for a checkpoint") == 1
