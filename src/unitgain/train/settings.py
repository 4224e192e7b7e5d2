"""Where a run trains, and what the process is set to meanwhile."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from unitgain.errors import ConfigError
from unitgain.spec import RunSpec


def accelerator(spec: RunSpec) -> Literal["cpu", "gpu"]:
    """Where a run trains: ``auto`` means CUDA where it is there, else CPU (Apple's GPUs lack float64).

    Raises:
        ConfigError: a GPU is asked for, and none is there.
    """
    if spec.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator: gpu needs a CUDA device, and none is there; use trainer=cpu"
        )
    return "gpu" if spec.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def process_settings(spec: RunSpec) -> Iterator[None]:
    """Threads, determinism and quiet libraries, as the run wants them and for as long as it lasts."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    torch.set_num_threads(spec.trainer.threads)
    # Kernels here write all that they allocate; filling it first would cost a pass over memory.
    memory.fill_uninitialized_memory = False
    # What cuBLAS needs in order to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*`LightningModule.configure_optimizers` returned `None`.*"
            )
            # Lightning asks torch a question that torch wants to be asked otherwise.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = fill
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
