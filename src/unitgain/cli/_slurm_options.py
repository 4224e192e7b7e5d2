"""The options of ``hydra/launcher=packed_slurm``: what a task asks of Slurm, and what a pack keeps to."""

import math
import re
import shlex
import sys
from dataclasses import dataclass
from typing import Any, final

from omegaconf import DictConfig, OmegaConf

from unitgain.cli._batch import packing_faults, shared_process_faults
from unitgain.errors import ConfigError
from unitgain.sweep.plan import Limits
from unitgain.sweep.tasks import TaskFolder

WHOLE = ("max_members", "max_parallel", "max_tasks", "cpus_per_task", "workers")
WORDS = ("partition", "account", "qos", "constraint", "time", "mem")
_GPUS = re.compile(r"(?:[\w.-]+:)?([1-9]\d*)")
_MEMORY = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
_TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}")


@final
@dataclass(frozen=True)
class SlurmOptions:
    """The options of ``hydra/launcher=packed_slurm``, checked.

    Args:
        requests: partition, account, qos, constraint, time and mem, where they are given, as Slurm takes them.
        gpus: of a task, as Slurm takes them, such as 4 or a100:4; None for none.
        cpus_per_task: None is ``trainer.threads`` for each worker.
        workers: packs that a task trains at a time; None is one a GPU, else one.
        max_parallel: tasks that run at a time; None is as many as there is room for.
        max_tasks: of an array; None is one for each pack that has a worker, up to what Slurm takes.
        max_members: of one pack; None leaves it to memory and caches.
        gpu_memory: of one GPU, in GB; None: each task's worker cuts its pack to what it finds.
        memory: the share of the free memory that a task's packs may take.
        hang_s: a worker that takes no step for so many seconds is ended; None waits for ever.
        save_s: seconds before the time limit at which a task saves and has itself started again.
        resubmit: how often a task that was lost is submitted again, as long as the command waits.
        poll_s: seconds between two looks at the queue.
        wait: whether the command waits for the tasks.
        setup: lines of shell that a task runs first.
        sbatch: more options of sbatch.
    """

    requests: dict[str, str]
    gpus: str | None
    cpus_per_task: int | None
    workers: int | None
    max_parallel: int | None
    max_tasks: int | None
    max_members: int | None
    gpu_memory: float | None
    memory: float
    hang_s: float | None
    save_s: int
    resubmit: int
    poll_s: float
    wait: bool
    setup: tuple[str, ...]
    sbatch: tuple[str, ...]

    @classmethod
    def of(cls, config: DictConfig) -> "SlurmOptions":
        """Those of a configuration, together with what packed jobs can't have.

        Raises:
            ConfigError: with each fault.
        """
        given = config.hydra.launcher
        lines = packing_faults(given, *WHOLE) + _faults(given) + shared_process_faults(config)
        if lines:
            raise ConfigError(*lines)
        content: dict[str, Any] = OmegaConf.to_container(given, resolve=True)  # type: ignore[assignment]
        del content["_target_"]
        requests = {key: str(value) for key in WORDS if (value := content.pop(key)) is not None}
        content["gpus"] = str(content["gpus"]) if content["gpus"] else None
        for key in ("setup", "sbatch"):
            content[key] = tuple(content[key] or ())
        return cls(requests=requests, **content)

    @property
    def slots(self) -> int:
        """The packs that a task trains at a time."""
        return self.workers or self._gpu_count or 1

    def limits(self) -> Limits:
        """What packs keep to: the memory of a task, not of this machine."""
        bound = math.inf
        if self.gpus and self.gpu_memory is not None:
            bound = self.memory * self.gpu_memory * 1e9
        elif not self.gpus and "mem" in self.requests:
            bound = self.memory * _bytes(self.requests["mem"]) / self.slots
        parallel = self.slots * (self.max_parallel or 1)
        return Limits(parallel, self.max_members, self.memory, bool(self.gpus), bound)

    def script(self, folder: TaskFolder, name: str, threads: int) -> str:
        """What Slurm runs as each task.

        Args:
            folder: of the tasks' files.
            name: of the job.
            threads: of each worker.
        """
        options = {
            "job-name": name,
            "output": f'"{folder.log("%a")}"',
            "nodes": "1",
            "ntasks": "1",
            "cpus-per-task": str(self.cpus_per_task or threads * self.slots),
            **({"gpus-per-node": self.gpus} if self.gpus else {}),
            **self.requests,
            "signal": f"B:USR1@{self.save_s}",
        }
        lines = [f"--{key}={value}" for key, value in options.items()]
        lines += ["--requeue", "--open-mode=append", *self.sbatch]
        # The process takes the shell's place, so that signals reach it.
        command = shlex.join([sys.executable, "-m", "unitgain", "worker", str(folder.path)])
        parts = ["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), *self.setup]
        return "\n".join([*parts, f"exec {command}"]) + "\n"

    @property
    def _gpu_count(self) -> int:
        found = _GPUS.fullmatch(self.gpus or "")
        return int(found[1]) if found else 0


def _faults(given: DictConfig) -> list[str]:
    """What is wrong with the options of this launcher alone: a line each."""
    at = "hydra.launcher."
    lines = [
        f"{at}{key}: must be one word or null, got {given[key]!r}"
        for key in ("partition", "account", "qos", "constraint")
        if given[key] is not None and not re.fullmatch(r"\S+", str(given[key]))
    ]
    for key, pattern, need in (
        ("gpus", _GPUS, "a number of GPUs, a type and a number as in a100:4, or null"),
        ("time", _TIME, "minutes, HH:MM:SS, D-HH:MM:SS, or null"),
        ("mem", _MEMORY, "megabytes, a number with a unit as in 32G, or null"),
    ):
        value = given[key]
        if value is not None and (type(value) is bool or not pattern.fullmatch(str(value))):
            lines.append(f"{at}{key}: must be {need}, got {value}")
    for key, least, kinds in (
        ("gpu_memory", 0.1, (int, float)),
        ("poll_s", 0.1, (int, float)),
        ("save_s", 10, (int,)),
        ("resubmit", 0, (int,)),
    ):
        value, kind = given[key], "a whole number" if kinds == (int,) else "a number"
        fine = type(value) in kinds and least <= value < math.inf
        if not (fine or (key == "gpu_memory" and value is None)):
            lines.append(f"{at}{key}: must be {kind} of at least {least}, got {value}")
    if type(given.wait) is not bool:
        lines.append(f"{at}wait: must be true or false, got {given.wait}")
    lines += [
        f"{at}{key}: must be a list of lines, got {given[key]}"
        for key in ("setup", "sbatch")
        if not all(type(line) is str and "\n" not in line for line in given[key] or ())
    ]
    lines += [
        f"{at}sbatch: must list options that begin with --, got {line}"
        for line in given.sbatch or ()
        if not str(line).startswith("--")
    ]
    return lines


def _bytes(text: str) -> float:
    """Memory as Slurm writes it; without a unit it is megabytes.

    Example:
        >>> _bytes("2G"), _bytes("500")
        (2147483648.0, 524288000.0)
    """
    found = _MEMORY.fullmatch(text)
    assert found is not None
    return float(found[1]) * 1024.0 ** ("KMGT".index((found[2] or "M").upper()) + 1)
