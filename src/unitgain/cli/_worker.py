"""``unitgain worker FOLDER``: what a task of a Slurm array runs: it trains the packs that it was given."""

import argparse
import gc
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

from unitgain.cli._command import Command, Exit, exit_of_signal, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.sweep.job import Ending, Job
    from unitgain.sweep.machine import Machine
    from unitgain.sweep.plan import Pack
    from unitgain.sweep.progress import Progress
    from unitgain.sweep.tasks import Reporter, TaskOrder
    from unitgain.sweep.worker import Epoch

TASK, ARRAY = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_JOB_ID"


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain worker`` is asked for."""
    from unitgain.runs import InterruptedBySignal
    from unitgain.sweep.tasks import Reporter, TaskFolder
    from unitgain.upload import uploading, wants_upload

    given = _arguments(argv)
    folder = TaskFolder(given.folder.absolute())
    order = folder.order(given.task)
    work = _Work(order, Reporter(folder, given.task))
    try:
        with uploading(wanted=any(wants_upload(job.spec.resolved()) for job in order.jobs)):
            work.train()
    except InterruptedBySignal as error:
        work.reporter.write()
        if error.number == getattr(signal, "SIGUSR1", None):
            _start_again(given.task, progressed=work.progressed)
        return exit_of_signal(error.number)
    work.reporter.write(done=True)
    return work.exit


COMMAND = Command("worker", "train what a task of hydra/launcher=packed_slurm is to train", run)


@final
@dataclass
class _Work:
    """The packs of a task, and what becomes of them.

    Args:
        order: what to train.
        reporter: keeps how runs ended.
        progressed: whether any run has come further.
        endings: of the jobs, by their numbers.
    """

    order: "TaskOrder"
    reporter: "Reporter"
    progressed: bool = False
    endings: dict[int, "Ending"] = field(default_factory=dict)

    @property
    def exit(self) -> int:
        """The exit status: that of the worst run."""
        statuses = {ending.status for ending in self.endings.values()}
        if "failed" in statuses:
            expected = all(e.expected for e in self.endings.values() if e.status == "failed")
            return Exit.USER_ERROR if expected else Exit.UNEXPECTED
        return Exit.DIVERGED if "diverged" in statuses else Exit.FINISHED

    def train(self) -> None:
        """Train what isn't done yet.

        Raises:
            InterruptedBySignal: a signal asked to end, and what is trained is saved.
            ConfigError: workers can't be started.
        """
        from unitgain.sweep.machine import Machine
        from unitgain.sweep.progress import Progress

        order = self.order
        machine = Machine(order.workers, order.memory, order.hang_s)
        packs = self._packs(machine)
        jobs = [job for pack in packs for job in pack.jobs]
        self.reporter.write()
        if not packs:
            return
        pool = machine.pool(jobs)
        try:
            with Progress(packs, lambda job: " ".join(job.overrides), self.endings) as progress:
                pool.start(len(packs))
                gc.enable()
                pool.run(packs, _Listener(self, progress))
        finally:
            pool.close()

    def ended(self, job: "Job", ending: "Ending") -> None:
        """Keep how a job ended."""
        self.endings[job.number] = ending
        self.progressed = self.progressed or ending.status != "interrupted"
        self.reporter.add(job, ending)

    def _packs(self, machine: "Machine") -> list["Pack"]:
        """What is left of each pack; jobs that go on from different epochs can't train together."""
        from unitgain.sweep.job import Ending, start_of
        from unitgain.sweep.plan import Limits, Tables, granted_memory, plan

        order, tables, packs = self.order, Tables(), list["Pack"]()
        gpus, _ = machine.places(order.jobs)
        share = order.memory * granted_memory() / order.workers
        limits = Limits(1, None, order.memory, bool(gpus), None if gpus else share)
        for jobs in order.packs:
            starts = {}
            for job in jobs:
                try:
                    starts[job.number] = start_of(job.spec, job.directory)
                    ending = starts[job.number].ending
                except Exception as error:
                    ending = Ending.of_error(error)
                if ending is not None:
                    self.ended(job, ending)
            left = [job for job in jobs if job.number not in self.endings]
            chosen = plan(left, starts, limits, tables)
            for job, ending in chosen.failed:
                self.ended(job, ending)
            packs += chosen.packs
        return sorted(packs, key=lambda pack: -pack.flops)


@final
class _Listener:
    """Passes on what happens to the log, and to the task's report."""

    def __init__(self, work: _Work, progress: "Progress") -> None:
        self._work, self._progress = work, progress
        self.started, self.done, self.note = progress.started, progress.done, progress.note

    def epoch(self, pack: "Pack", epoch: "Epoch") -> None:
        """An epoch is over."""
        self._work.progressed = True
        self._progress.epoch(pack, epoch)

    def ended(self, job: "Job", ending: "Ending") -> None:
        """A run has ended."""
        self._progress.ended(job, ending)
        self._work.ended(job, ending)


def _start_again(task: int, *, progressed: bool) -> None:
    """Have Slurm start this task again, whose time is nearly over, if that is of any use."""
    from unitgain.sweep.slurm import Element, requeue

    if ARRAY not in os.environ:
        return
    if not progressed:
        print("not started again: no epoch was over in the time that it had; ask for more")
        return
    fault = requeue(Element(os.environ[ARRAY], task))
    print("started again by Slurm" if fault is None else f"not started again: {fault}", flush=True)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or isn't a number.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain worker [-h] [--task N] FOLDER",
        description="Train the packs of a task, as the script that hydra/launcher=packed_slurm "
        "submits does it. By hand it trains a task here and now.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="*", type=Path, metavar="FOLDER", help="SWEEP/.slurm/1")
    parser.add_argument("--task", type=int, metavar="N", help=f"which; without it, as {TASK} says")
    given = parsed(parser, argv, "worker")
    if len(given.folder) != 1:
        got = " ".join(map(str, given.folder)) or "nothing"
        raise ConfigError(f"unitgain worker: must be given one folder, got {got}; write FOLDER")
    given.folder = given.folder[0]
    if given.task is None:
        text = os.environ.get(TASK, "")
        if not text.isdecimal():
            raise ConfigError(
                f"--task: must be given where Slurm doesn't set {TASK}, got {text or 'nothing'}"
            )
        given.task = int(text)
    return given
