"""``hydra/launcher=packed_slurm``: jobs of one shape train as packs, each by a task of a Slurm array.

Hydra imports this module at each start, so it imports nothing heavy.
"""

from collections.abc import Sequence
from typing import Any, final

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class PackedSlurmLauncher(Launcher):
    """Hands a sweep's jobs to the command ``unitgain train``.

    Args:
        options: those of ``conf/hydra/launcher/packed_slurm.yaml``, which the command has read and checked.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what the launch needs."""
        self.task, self.config = task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train a batch of jobs.

        Raises:
            ConfigError: the task isn't that of ``unitgain train``, or Slurm refuses what is submitted.
            KeyboardInterrupt: the user waits no longer; the tasks go on.
        """
        from unitgain.cli._batch import launch

        return launch(self.task, self.config, job_overrides, initial_job_idx)
