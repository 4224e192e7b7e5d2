"""The Slurm launcher's work: a batch of jobs as packs, each for a task of an array, which is then waited for."""

import math
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from unitgain.cli._batch import Batch, BatchSweep
from unitgain.cli._job import Task
from unitgain.cli._show import near
from unitgain.cli._slurm_options import SlurmOptions
from unitgain.runs import atomic_write
from unitgain.sweep import slurm
from unitgain.sweep.follow import Follow, Follower
from unitgain.sweep.job import Job
from unitgain.sweep.plan import Limits, Pack, Plan, Tables, plan, shared_out
from unitgain.sweep.slurm import Element
from unitgain.sweep.tasks import Submission, TaskFolder, TaskOrder
from unitgain.sweep.waiting import Waiting


@final
@dataclass
class SlurmSweep(BatchSweep):
    """Submits what is to be trained, and waits for it.

    Args:
        composer: makes the jobs' configurations.
        options: of the launcher.
    """

    options: SlurmOptions
    _tables: Tables = field(default_factory=Tables)

    def plan(self, batch: Batch) -> tuple[Plan, Limits]:
        return self._plan(batch, batch.left)

    def tasks(self, chosen: Plan) -> list[list[Pack]]:
        """The packs of each task: no more tasks than packs fill, and than an array may have."""
        options, packs = self.options, chosen.packs
        most = min(options.max_tasks or math.inf, slurm.largest_array())
        return shared_out(packs, int(min(math.ceil(len(packs) / options.slots), most)))

    def close(self) -> None:
        """Leave the tasks to Slurm."""

    def _plan(self, batch: Batch, jobs: Sequence[Job]) -> tuple[Plan, Limits]:
        limits = self.options.limits()
        return plan(jobs, batch.starts, limits, self._tables), limits

    def _train(self, batch: Batch, task: Task) -> None:
        slurm.check_there()
        sweep = Path(os.path.abspath(task.sweep_dir or "."))
        followed = self._at_work(sweep, batch.left)
        taken = {job.number for each in followed for job in each.jobs.values()}
        chosen, _ = self._plan(batch, [job for job in batch.left if job.number not in taken])
        batch.endings.update((job.number, ending) for job, ending in chosen.failed)
        if chosen.packs:
            followed += self._submitted(sweep, self.tasks(chosen))
        if not self.options.wait:
            return
        names = {job.number: " ".join(task.own(job.overrides)) for job in batch.left}
        with Waiting(names, batch.endings) as waiting:
            try:
                Follower(followed, waiting, self.options.poll_s, self._again).run()
            except KeyboardInterrupt:
                arrays = " ".join(dict.fromkeys(each.element.job for each in followed))
                waiting.note(
                    f"the tasks go on without this command; it waits for them when it is started "
                    f"again, and scancel {arrays} ends them"
                )
                raise

    def _at_work(self, sweep: Path, jobs: Sequence[Job]) -> list[Follow]:
        """The tasks of earlier commands that wait or run, and train some of these jobs."""
        earlier = [
            (folder, each) for folder in TaskFolder.all_in(sweep) for each in folder.submissions()
        ]
        queue = slurm.queue(each.name for _, each in earlier)
        by_directory, found = {job.directory: job for job in jobs}, []
        for folder, submission in earlier:
            for number in submission.tasks:
                element = Element(submission.job, number)
                if queue is None or element not in queue:
                    continue
                mine = {
                    run.relative_to(sweep).as_posix(): by_directory.pop(run)
                    for run in folder.runs(number)
                    if run in by_directory
                }
                if mine:
                    tries = self.options.resubmit
                    found.append(Follow(folder, number, element, submission.name, mine, tries))
        if found:
            arrays = ", ".join(dict.fromkeys(each.element.job for each in found))
            print(f"{len(found)} tasks of array {arrays} are at it already", flush=True)
        return found

    def _submitted(self, sweep: Path, orders: Sequence[Sequence[Pack]]) -> list[Follow]:
        """Submit tasks of packs."""
        options, folder = self.options, TaskFolder.create(sweep)
        for number, mine in enumerate(orders):
            folder.write_order(
                number,
                TaskOrder([p.jobs for p in mine], options.slots, options.memory, options.hang_s),
            )
        packs = [pack for mine in orders for pack in mine]
        threads = max(job.spec.trainer.threads for pack in packs for job in pack.jobs)
        name = re.sub(r"[^\w.-]", "_", sweep.name) + f"-{secrets.token_hex(4)}"
        atomic_write(folder.script, options.script(folder, name, threads).encode())
        array = self._submit(folder, name, list(range(len(orders))))
        runs = sum(len(pack.jobs) for pack in packs)
        print(
            f"array {array}: {runs} runs in {_count(len(packs), 'pack')}, "
            f"{_count(len(orders), 'task')}; logs in {near(folder.path)}",
            flush=True,
        )
        return [
            Follow(
                folder, number, Element(array, number), name, _named(sweep, mine), options.resubmit
            )
            for number, mine in enumerate(orders)
        ]

    def _submit(self, folder: TaskFolder, name: str, tasks: list[int]) -> str:
        array = slurm.submit(folder.script, tasks, self.options.max_parallel)
        folder.add_submission(Submission(array, name, tuple(tasks)))
        return array

    def _again(self, folder: TaskFolder, tasks: list[int]) -> tuple[str, str]:
        name = folder.submissions()[-1].name
        return self._submit(folder, name, tasks), name


def _named(sweep: Path, packs: Sequence[Pack]) -> dict[str, Job]:
    jobs = (job for pack in packs for job in pack.jobs)
    return {job.directory.relative_to(sweep).as_posix(): job for job in jobs}


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
