"""``hydra/launcher=packed``: jobs of one shape train as one pack."""

from typing import final

from hydra_plugins.unitgain._packs import PackLauncher


@final
class PackedLauncher(PackLauncher):
    """Trains packs by processes of this machine.

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
