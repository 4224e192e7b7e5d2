"""One run in several processes: which commands can be, and what the processes besides the first do."""

from typing import Any

from unitgain.cli._command import Exit, exit_of_signal
from unitgain.errors import ConfigError
from unitgain.runs import launched

_BY_SLURM = "SlurmLauncher"


def check_launched(devices: object, *, multirun: bool) -> None:
    """Refuse what torchrun started several times, unless the processes are to share one run.

    Tasks of srun may well train a run each, or a sweep together.

    Args:
        devices: ``trainer.devices``.
        multirun: whether many runs are asked for.

    Raises:
        ConfigError: each process would do all of the work.
    """
    started = launched()
    if started is None or started.by != "torchrun" or (devices != 1 and not multirun):
        return
    remedy = "leave torchrun out, and spread a sweep by hydra/launcher=packed"
    if not multirun:
        remedy = "set trainer=ddp to train the run in all of them, or leave torchrun out"
    raise ConfigError(
        f"unitgain train: must be started as one process, but torchrun started {started.size}, each of "
        f"which would train everything; {remedy}"
    )


def check_one_a_job(devices: object, launcher: Any) -> None:
    """Refuse to train the jobs of a multirun in several processes each, unless Slurm gives each job its own machine.

    Args:
        devices: ``trainer.devices`` of a job.
        launcher: Hydra's configuration of it.

    Raises:
        ConfigError: the launcher is local, or Slurm would start each job several times.
    """
    if devices == 1:
        return
    if not str(launcher["_target_"]).endswith(f".{_BY_SLURM}"):
        raise ConfigError(
            f"trainer.devices: must be 1 in a multirun on one machine, got {devices}: trainer=ddp is for one large "
            "run; leave -m out, or train many runs at a time by hydra/launcher=packed with trainer=default"
        )
    tasks = int(launcher.get("tasks_per_node") or 1) * int(launcher.get("nodes") or 1)
    if tasks > 1:
        raise ConfigError(
            f"hydra.launcher.tasks_per_node: must be 1 with trainer=ddp, on one node, got {tasks} tasks: each job "
            "starts its own processes; set tasks_per_node=1, nodes=1 and gpus_per_node"
        )


def is_follower(devices: object) -> bool:
    """Whether this process takes part in a run that another one leads.

    Args:
        devices: ``trainer.devices``.
    """
    started = launched()
    return devices != 1 and started is not None and started.rank > 0


def followed() -> int:
    """Take part, and give the exit status; what becomes of the run, the first process tells."""
    from unitgain.train import follow

    number = follow()
    return exit_of_signal(number) if number else Exit.FINISHED
