"""``hydra/sweeper=optuna``: trials that Optuna proposes, in batches.

Hydra imports this module at each start, so it imports nothing heavy.
"""

from typing import Any, final

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@final
class OptunaSweeper(Sweeper):
    """Hands a search to the command ``unitgain train``.

    Args:
        options: those of ``conf/hydra/sweeper/optuna.yaml``, which the command has read and checked.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Make the launcher, and keep what the search needs."""
        self.task, self.config = task_function, config
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search.

        Raises:
            ConfigError: the task isn't that of ``unitgain train``, or the study can't be opened.
            KeyboardInterrupt: the user has ended the sweep.
        """
        from unitgain.cli._search import search

        assert self.config is not None
        assert self.launcher is not None
        search(self.task, self.config, self.launcher)
