"""A Slurm of this machine, and commands that use it: `make test-slurm` runs these tests, `make test` doesn't."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import unitgain

WANTED = "UNITGAIN_TEST_SLURM"
SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_local.sh"

collect_ignore_glob = [] if os.environ.get(WANTED) else ["test_*.py"]


@pytest.fixture(scope="session")
def slurm():
    """A Slurm with four CPUs, and what its commands find it by."""
    state = Path(
        tempfile.mkdtemp(prefix="unitgain-slurm-")
    )  # pytest's own are closed to a database
    environment = {**os.environ, "SLURM_LOCAL": str(state)}
    try:
        subprocess.run([SCRIPT, "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
        yield {"SLURM_CONF": str(state / "slurm.conf")}
    finally:
        subprocess.run([SCRIPT, "down"], env=environment, check=True)


@pytest.fixture
def start(tmp_path, slurm):
    """Starts a command in the folder of the test, its output in a file; ends what is left of it."""
    environment = {
        **os.environ,
        **slurm,
        "PYTHONPATH": str(Path(unitgain.__file__).parents[1]),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }
    begun = []
    # What runs in the background of a shell ignores Ctrl-C, and would hand that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*words, output="output.txt"):
        with open(tmp_path / output, "w") as file:
            process = subprocess.Popen(
                words,
                cwd=tmp_path,
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(["scancel", "--user=root"], env=environment, check=False)


@pytest.fixture
def run(start, tmp_path):
    """Runs a command to its end, and gives its exit status and what it printed."""

    def run(*words, timeout=900):
        status = start(*words, output="run.txt").wait(timeout)
        return status, (tmp_path / "run.txt").read_text()

    return run


@pytest.fixture(scope="session")
def until():
    """Waits until something is true, and gives it."""

    def until(true, what, timeout=300):
        deadline = time.monotonic() + timeout
        while not (value := true()):
            assert time.monotonic() < deadline, f"waited {timeout} s until {what}"
            time.sleep(0.2)
        return value

    return until
