"""Waits for tasks of a scheduler: counts their runs, submits again those that were lost, and says what went wrong."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, final

from unitgain.errors import UnitgainError
from unitgain.sweep import slurm
from unitgain.sweep.job import Ending, Job, start_of
from unitgain.sweep.slurm import Element, Ended, Queued
from unitgain.sweep.tasks import TaskFolder

SETTLES_S = 15.0
"""So long a shared folder may take to show what a task on another machine wrote as it ended."""


@final
@dataclass(eq=False)
class Follow:
    """A task that is waited for.

    Args:
        folder: of its files.
        task: its number there.
        element: what Slurm calls it.
        name: of the Slurm job.
        jobs: those of its runs that are asked for, by directory name.
        tries: how often it may be submitted again.
        absent: since when it isn't in the queue.
    """

    folder: TaskFolder
    task: int
    element: Element
    name: str
    jobs: Mapping[str, Job]
    tries: int
    absent: float | None = None


class Watcher(Protocol):
    """What is told while tasks are waited for."""

    def ended(self, job: Job, ending: Ending) -> None:
        """A run has ended."""

    def tasks(self, states: Mapping[str, int], reason: str) -> None:
        """How many tasks are in each state, and why one waits."""

    def note(self, text: str) -> None:
        """A line for the user."""


@final
class Follower:
    """Waits until all tasks have ended.

    Args:
        followed: the tasks.
        watcher: is told of what happens.
        poll_s: seconds between two looks.
        again: submits tasks of one folder once more, and gives the array's number and name.
    """

    def __init__(
        self,
        followed: list[Follow],
        watcher: Watcher,
        poll_s: float,
        again: Callable[[TaskFolder, list[int]], tuple[str, str]],
    ) -> None:
        self._followed, self._watcher = followed, watcher
        self._poll_s, self._again = poll_s, again
        self._told: set[int] = set()

    def run(self) -> None:
        """Wait.

        Raises:
            KeyboardInterrupt: the user waits no longer; the tasks go on.
        """
        while self._followed:
            queue = slurm.queue(each.name for each in self._followed)
            if queue is None:
                self._watcher.note("Slurm doesn't answer; it is asked again")
            else:
                self._look(queue)
            if self._followed:
                time.sleep(self._poll_s)

    def _look(self, queue: Mapping[Element, Queued]) -> None:
        lost = []
        states, reason = Counter[str](), ""
        for each in list(self._followed):
            self._take(each)
            if all(job.number in self._told for job in each.jobs.values()):
                self._followed.remove(each)  # what it does now is to end
            elif (queued := queue.get(each.element)) is not None:
                each.absent = None
                states[queued.state] += 1
                reason = queued.reason if queued.state == "PENDING" else reason
            elif (end := self._end_of(each)) is not None:
                self._followed.remove(each)
                if not self._is_settled(each, end):
                    lost.append(each)
        self._watcher.tasks(states, reason)
        self._submit_again(lost)

    def _take(self, each: Follow) -> None:
        """Pass on which runs a task says to have ended; those that were interrupted may go on."""
        for name, ending in each.folder.report(each.task).endings.items():
            if ending.status != "interrupted":
                self._tell(each, name, ending)

    def _tell(self, each: Follow, name: str, ending: Ending) -> None:
        job = each.jobs.get(name)
        if job is not None and job.number not in self._told:
            self._told.add(job.number)
            self._watcher.ended(job, ending)

    def _end_of(self, each: Follow) -> Ended | None:
        """How a task ended that is in the queue no longer; None where that can't be said yet."""
        now = time.monotonic()
        if each.absent is None:
            each.absent = now  # between two states a task may be nowhere
            return None
        end = slurm.ended_as(each.element)
        settled = end.signal or each.folder.report(each.task).done
        return end if settled or now - each.absent > SETTLES_S else None

    def _is_settled(self, each: Follow, end: Ended) -> bool:
        """Whether each run of a task has ended, or must be left as it is; says so where not."""
        self._take(each)
        left = [name for name, job in each.jobs.items() if job.number not in self._told]
        for name in left:
            # What a task that was killed had no time to say.
            if (ending := _found(each.jobs[name])) is not None:
                self._tell(each, name, ending)
        left = [name for name, job in each.jobs.items() if job.number not in self._told]
        if not left:
            return True
        what = f"task {each.element} {end}, {len(left)} of its {len(each.jobs)} runs not done"
        if each.tries and end.by_force:
            self._watcher.note(f"{what}; it is submitted again")
            return False
        self._watcher.note(f"{what}; its log is {each.folder.log(each.task)}")
        for name in left:
            cause = f"task {each.element} {end}; the same command goes on with it"
            self._tell(each, name, Ending("interrupted", cause=cause))
        return True

    def _submit_again(self, lost: list[Follow]) -> None:
        folders = {each.folder: [one for one in lost if one.folder == each.folder] for each in lost}
        for folder, tasks in folders.items():
            array, name = self._again(folder, [each.task for each in tasks])
            for each in tasks:
                each.element, each.name = Element(array, each.task), name
                each.tries, each.absent = each.tries - 1, None
                self._followed.append(each)


def _found(job: Job) -> Ending | None:
    """How a run ended by its own directory, if it did."""
    try:
        return start_of(job.spec, job.directory).ending
    except UnitgainError as error:
        return Ending.of_error(error)
