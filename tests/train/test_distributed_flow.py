"""Two processes on halves of a batch record what one records on the whole."""

import os
import runpy
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from unitgain.probe import QUANTITIES
from unitgain.runs import read_gradients

SCRIPT = Path(__file__).with_name("distributed_flow.py")
OF_A_PART = {
    "silent_fraction",
    "dead_fraction",
    "activation_correlation",
    "gradient_noise_scale",
    "gradient_snr",
}
"""Quantities of a process's own part of the batch, averaged."""


def started(folder, rank, size, port):
    torchrun = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "test",
    }
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment |= {name: str(value) for name, value in torchrun.items()}
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], env=environment)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [started(together, rank, 2, port) for rank in (0, 1)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = runpy.run_path(str(SCRIPT))
            script["fit"](alone)
            script["loop"](alone)
        assert [process.wait(200) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return alone, together


@pytest.mark.parametrize("run", ["callback_full", "callback_light", "loop"])
def test_two_processes_record_what_one_records(folders, run):
    alone, together = (read_gradients(folder / run / "gradients.parquet") for folder in folders)
    assert together.names == alone.names
    assert run != "callback_full" or set(alone.names) == set(QUANTITIES)
    for name in set(alone.names) - OF_A_PART:
        steps, expected = alone.grid(name)
        same_steps, recorded = together.grid(name)
        assert same_steps.tolist() == steps.tolist() == [0, 1, 2]
        np.testing.assert_allclose(recorded, expected, rtol=2e-5, atol=1e-9, err_msg=name)
