"""Scoring a finished run again from its best checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from unitgain.runs import RunDirectory
from unitgain.spec import RunSpec, parse
from unitgain.train.checkpoint import check_belongs, read_checkpoint
from unitgain.train.exponent import settle
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.scores import Scores
from unitgain.train.settings import accelerator, process_settings


def evaluate(directory: Path) -> dict[str, float]:
    """The losses and metrics of a run's best checkpoint on every part, such as "test/accuracy".

    The same numbers as in summary.json, bit for bit where the numerics fingerprint is the same.

    Args:
        directory: of the run.

    Raises:
        ConfigError: the run was on a GPU, and none is there.
        CheckpointError: best.ckpt is missing, damaged or another configuration's.
        DataError: the data can't be read again.
    """
    with opened(directory) as (spec, module):
        return Scores(spec).of_parts(module.pack)


@contextmanager
def opened(directory: Path) -> Iterator[tuple[RunSpec, PackedModule]]:
    """A run's configuration, and its tables and network as of its best checkpoint, under its process settings.

    Args:
        directory: of the run.

    Raises:
        ConfigError: the run was on a GPU, and none is there.
        CheckpointError: best.ckpt is missing, damaged or another configuration's.
        DataError: the data can't be read again.
    """
    run = RunDirectory(Path(directory))
    spec = parse(run.read_config())
    device = torch.device("cuda" if accelerator(spec) == "gpu" else "cpu")
    content = read_checkpoint(run.best_checkpoint)
    check_belongs(content, spec, run.best_checkpoint)
    with process_settings(spec):
        module = PackedModule([spec], PackedDataModule([spec]).tables)
        module.tables = settle([spec], module.tables, [content])
        module.resumed = True
        module.to(device)
        module.pack.mlp.load_member_state(0, content["state_dict"])
        yield spec, module
