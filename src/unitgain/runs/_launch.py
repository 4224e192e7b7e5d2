"""What torchrun or srun say of a process that they started as one of several."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final


@final
@dataclass(frozen=True)
class Launched:
    """One of several processes that a launcher started with one command line.

    Args:
        by: the launcher.
        rank: which of them, from 0.
        size: how many there are, on all machines.
        local_rank: which of this machine's, from 0.
        local_size: how many there are on this machine; None where the launcher doesn't say.
    """

    by: Literal["torchrun", "srun"]
    rank: int
    size: int
    local_rank: int
    local_size: int | None


def launched(environment: Mapping[str, str] | None = None) -> Launched | None:
    """How this process was started; None if it is alone.

    Tasks of ``srun`` count by their step, not by their job: a batch script is one process, whatever it was granted.

    Args:
        environment: variables to look at; None: those of this process.

    Example:
        >>> launched({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
        Launched(by='torchrun', rank=3, size=4, local_rank=1, local_size=2)
        >>> launched({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None
        True
    """
    variables = os.environ if environment is None else environment

    def number(name: str) -> int | None:
        text = variables.get(name, "")
        return int(text) if text.isdecimal() else None

    size, local_rank = number("WORLD_SIZE"), number("LOCAL_RANK")
    if size is not None and size > 1 and local_rank is not None:
        rank = number("RANK")
        local_size = number("LOCAL_WORLD_SIZE")
        return Launched(
            "torchrun", local_rank if rank is None else rank, size, local_rank, local_size
        )
    size, rank, local_rank = (
        number(f"SLURM_{name}") for name in ("STEP_NUM_TASKS", "PROCID", "LOCALID")
    )
    if size is not None and size > 1 and rank is not None and local_rank is not None:
        return Launched("srun", rank, size, local_rank, _tasks_here(variables))
    return None


def _tasks_here(variables: Mapping[str, str]) -> int | None:
    """The tasks of this step on each machine, where all have as many: ``2`` or ``2(x3)``."""
    found = re.fullmatch(r"(\d+)(?:\(x\d+\))?", variables.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return int(found[1]) if found else None
