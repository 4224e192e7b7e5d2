"""``hydra/launcher=packed``: jobs of one shape train as one pack.

Hydra imports this module at each start, so it imports nothing heavy.
"""

from collections.abc import Sequence
from typing import final

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class PackedLauncher(Launcher):
    """Hands a sweep's jobs to the command ``unitgain train``.

    Args:
        workers: processes; None is one a GPU, or one for every ``trainer.threads`` cores.
        max_members: of one pack; None leaves it to memory and caches.
        memory: the share of the free memory that all workers together may take.
        hang_s: a worker that takes no step for so long is ended; None waits for ever.
    """

    def __init__(
        self,
        workers: int | None,
        max_members: int | None,
        memory: float,
        hang_s: float | None = 3600.0,
    ) -> None:
        super().__init__()
        self.workers, self.max_members, self.memory = workers, max_members, memory
        self.hang_s = hang_s

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
            ConfigError: the task isn't that of ``unitgain train``, or an option can't be.
            KeyboardInterrupt: the user has ended the sweep.
        """
        from unitgain.cli._batch import launch

        return launch(self.task, self.config, job_overrides, initial_job_idx)
