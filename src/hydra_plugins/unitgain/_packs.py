"""What the launchers have in common that train packs.

Hydra imports them at each start, so nothing heavy is imported here.
"""

from abc import abstractmethod
from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PackLauncher(Launcher):
    """Hands a sweep's jobs to the command ``unitgain train``."""

    @abstractmethod
    def __init__(self) -> None:
        """Take the options, which the command reads and checks by itself."""
        super().__init__()

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
            ConfigError: the task isn't that of ``unitgain train``, it can't be begun, or Slurm refuses it.
            KeyboardInterrupt: the user has ended the sweep, or waits no longer for tasks that go on.
        """
        from unitgain.cli._batch import launch

        return launch(self.task, self.config, job_overrides, initial_job_idx)
