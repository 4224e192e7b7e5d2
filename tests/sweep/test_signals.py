"""What schedulers send before they take a machine away: a checkpoint, an honest end, and the same bits later."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import unitgain
from unitgain.cli import main
from unitgain.runs import EndingSignals, RunDirectory
from unitgain.spec import parse
from unitgain.train import fit

QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "dropout=dropout",
    "dropout.p=0.1",
    "trainer.max_epochs=600",
    "callbacks.early_stopping.patience=600",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
]


def _wait_for(pattern, folder, process=None):
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _started(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "unitgain", "train", *words, *QUICK],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(unitgain.__file__).parents[1])},
    )


def _same_as_undisturbed(run, desk):
    alone = run.path.parent.parent / "alone" / run.path.name
    fit([parse(run.read_config())], [alone], overrides=[run.read_overrides()])
    desk.same_run(run.path, alone)


def test_a_run_that_gets_sigterm_is_saved_and_goes_on_to_the_same_bits(tmp_path, desk):
    process = _started(tmp_path, "hydra.run.dir=r/one")
    _wait_for("r/one/metrics.csv", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM == 143, err
    assert "interrupted: preempted by SIGTERM in epoch" in out
    run = RunDirectory(tmp_path / "r" / "one")
    assert run.status == "interrupted"
    assert run.standing()[1].startswith("preempted by SIGTERM after ")
    assert run.last_checkpoint.exists()
    assert not list(run.path.glob("claim-*"))
    assert main(["resume", str(run.path)]) == 0
    _same_as_undisturbed(run, desk)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize("mode", ["single", "multirun"])
def test_signals_of_a_scheduler(tmp_path, number, mode):
    def send():
        _wait_for("r/**/metrics.csv", tmp_path)
        os.kill(os.getpid(), number)

    where = ["hydra.run.dir=r/one"] if mode == "single" else ["-m", "hydra.sweep.dir=r", "seed=1,2"]
    before = signal.getsignal(number)
    sender = threading.Thread(target=send)
    sender.start()
    assert main(["train", *where, *QUICK]) == 128 + number
    sender.join()
    assert signal.getsignal(number) is before
    [summary] = [RunDirectory(p.parent).read_summary() for p in tmp_path.glob("r/*/config.yaml")]
    assert summary["status"] == "interrupted"
    assert summary["cause"] == f"preempted by {number.name}"


def test_a_packed_sweep_that_is_preempted_is_saved_and_goes_on_to_the_same_bits(tmp_path, desk):
    words = ["-m", "hydra/launcher=packed", "hydra.launcher.workers=1", "seed=1,2"]
    words += ["hydra.sweep.dir=s"]
    process = _started(tmp_path, *words)
    _wait_for("s/*/metrics.csv", tmp_path, process)
    for _ in range(3):  # as a scheduler does: to all processes, and more than once
        os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "0 of 2 jobs finished, 2 interrupted" in out
    assert "go on by the same command with hydra.sweep.dir=s" in out
    runs = [RunDirectory(path.parent) for path in tmp_path.glob("s/*/config.yaml")]
    assert [run.read_summary()["cause"] for run in runs] == ["preempted by SIGTERM"] * 2
    assert main(["train", *words, *QUICK]) == 0
    for run in runs:
        _same_as_undisturbed(run, desk)


def test_somebody_elses_handler_comes_last():
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: seen.append(number))
    try:
        with EndingSignals() as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert signals.received == signal.SIGUSR2
            assert seen == []
        assert seen == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_second_ctrl_c_and_an_ignored_signal():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with EndingSignals() as signals:
            signal.raise_signal(signal.SIGUSR1)
            assert signals.received == 0
            signal.raise_signal(signal.SIGINT)
            assert signals.received == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGINT, usual)
