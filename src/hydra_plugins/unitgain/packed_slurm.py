"""``hydra/launcher=packed_slurm``: jobs of one shape train as packs, each a task of an array."""

from typing import Any, final

from hydra_plugins.unitgain._packs import PackLauncher


@final
class PackedSlurmLauncher(PackLauncher):
    """Trains packs by tasks of an array.

    Args:
        options: those of ``conf/hydra/launcher/packed_slurm.yaml``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
