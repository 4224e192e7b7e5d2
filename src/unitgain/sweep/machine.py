"""The worker processes that this machine may hold: one a GPU, or one for every so many cores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from unitgain.sweep.job import Job
from unitgain.sweep.pool import Pool, default_workers, visible_gpus


@final
@dataclass
class Machine:
    """The one that the sweep runs on, as far as it may be used.

    Args:
        workers: processes; None is one a GPU, or one for every ``trainer.threads`` cores.
        memory: the share of the free memory that all workers together may take.
        hang_s: a worker that takes no step for so many seconds is ended; None waits for ever.
    """

    workers: int | None
    memory: float
    hang_s: float | None
    _without_gpu: bool = False

    def places(self, jobs: Sequence[Job]) -> tuple[list[str], int]:
        """The GPUs that the jobs may use, and the number of workers."""
        wanted = any(job.spec.trainer.accelerator != "cpu" for job in jobs)
        gpus = visible_gpus() if wanted and not self._without_gpu else []
        threads = max((job.spec.trainer.threads for job in jobs), default=1)
        workers = self.workers or len(gpus) or default_workers(threads)
        return gpus, workers

    def pool(self, jobs: Sequence[Job]) -> Pool:
        """Workers for these jobs; on the CPU where torch can't use the GPUs that are there."""
        gpus, workers = self.places(jobs)
        threads = max(job.spec.trainer.threads for job in jobs)
        pool = Pool(workers, threads, gpus, self.memory, self.hang_s)
        if not gpus or pool.finds_gpu():
            return pool
        pool.close()
        self._without_gpu = True
        return self.pool(jobs)
