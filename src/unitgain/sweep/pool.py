"""Worker processes: started early, handed the longest packs first, and replaced when they die."""

import math
import os
import re
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, final

from unitgain.errors import ConfigError
from unitgain.runs import (
    LOOK_S,
    Claims,
    EndingSignals,
    InterruptedBySignal,
    Patience,
    RunDirectory,
    holder_of,
)
from unitgain.sweep.job import Ending, Job, mark_failed
from unitgain.sweep.plan import Pack
from unitgain.sweep.worker import Done, Ended, Epoch, Held, Message, Note, Order, Ready, serve

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

START_S = 60.0
"""Seconds that a worker may take to begin, where ``hang_s`` is less."""
_LOST = 255
"""What multiprocessing takes for the exit code of a fork whose server was killed, whether or not the fork lives."""
MOST_DEATHS = 12
"""After so many workers died in a sweep it is the machine, and not a member of a pack."""


def default_workers(threads: int) -> int:
    """How many workers of so many threads this process may keep busy."""
    cores = len(os.sched_getaffinity(0)) if os.name == "posix" else os.cpu_count() or 1
    return max(1, cores // threads)


def visible_gpus() -> list[str]:
    """The CUDA devices that there may be, by the names that CUDA_VISIBLE_DEVICES takes."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is not None:
        return [name.strip() for name in wanted.split(",") if name.strip() not in ("", "-1")]
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return sorted((match[1] for match in found if match), key=int)


class Listener(Protocol):
    """What is told of a sweep as it goes."""

    def started(self, pack: Pack) -> None:
        """A pack went to a worker."""

    def epoch(self, pack: Pack, epoch: Epoch) -> None:
        """A pack has trained an epoch."""

    def ended(self, job: Job, ending: Ending) -> None:
        """A job has ended."""

    def done(self, pack: Pack) -> None:
        """A pack has ended."""

    def note(self, text: str) -> None:
        """Something the user should know."""


@final
@dataclass(eq=False)
class _Worker:
    """A process, what it is at, and when it was last seen to go on."""

    process: BaseProcess
    connection: "Connection[Any, Any]"
    log: Path
    gpu: str | None
    pulse: Any
    ready: bool = False
    task: "_Task | None" = None
    felt: int = 0
    felt_at: float = field(default_factory=time.monotonic)
    hung: bool = False

    def kill(self) -> None:
        """End it at once, also where multiprocessing takes it for dead."""
        self.process.kill()
        if self.process.exitcode == _LOST and self.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)


@final
@dataclass(eq=False)
class _Task:
    """Members of a pack that are still to end; and claims of the dead on them."""

    pack: Pack
    left: dict[int, Job]
    expired: dict[Path, str] = field(default_factory=dict)

    def order(self, memory: float) -> Order:
        """What a worker is sent; its members are numbered anew."""
        jobs = list(self.left.values())
        self.left = dict(enumerate(jobs))
        return Order(
            tuple(job.spec for job in jobs),
            tuple(job.directory for job in jobs),
            tuple(job.overrides for job in jobs),
            memory,
            self.expired,
        )


@final
class Pool:
    """Worker processes that live as long as the sweep.

    On CPU they are forks of one server, where the system has such, which imports torch once for all. A process that is
    to use CUDA starts afresh.

    Args:
        workers: how many at most.
        threads: of each.
        gpus: a worker each for these; none for workers that train on the CPU.
        memory: the share of a GPU's free memory that a pack may take.
        hang_s: a worker that takes no step for so long hangs, and is ended; None waits for ever.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        gpus: Sequence[str] = (),
        memory: float = 0.5,
        hang_s: float | None = None,
    ) -> None:
        self._most, self._threads, self._gpus = workers, threads, list(gpus)
        self._memory, self._hang_s = memory, hang_s
        self._held: list[tuple[Pack, Job]] = []
        self._patience = Patience()
        self._looked_at = 0.0
        self._forks = not gpus and "forkserver" in get_all_start_methods()
        self._context: Any = get_context("forkserver" if self._forks else "spawn")
        self._stop = self._context.RawValue("i", 0)
        self._logs = tempfile.TemporaryDirectory(prefix="unitgain-workers-")
        self._workers: list[_Worker] = []
        self._count = self._false_starts = self._deaths = 0

    def start(self, count: int) -> None:
        """Start workers, up to so many, and return while they import what they need."""
        if self._forks:
            self._start_server()
        else:
            self._fill(count)

    def _start_server(self) -> None:
        from multiprocessing import forkserver

        self._context.set_forkserver_preload(["unitgain.train"])
        with _environment(self._settings(None)):
            forkserver.ensure_running()

    def _fill(self, count: int) -> None:
        """Start workers, up to so many; forks are asked for only once they are needed: the first one is waited for."""
        while len(self._workers) < min(count, self._most):
            used = [worker.gpu for worker in self._workers]
            free = [gpu for gpu in self._gpus if gpu not in used]
            self._workers.append(self._spawn(free[0] if free else None))

    def finds_gpu(self) -> bool:
        """Whether torch finds a GPU in a worker; it waits until one has imported torch."""
        self._fill(1)
        worker = self._workers[0]
        try:
            while not isinstance(message := worker.connection.recv(), Ready):
                pass
        except EOFError:
            return False
        worker.ready = True
        return message.gpu

    def run(self, packs: Sequence[Pack], listener: Listener) -> None:
        """Train packs.

        Raises:
            InterruptedBySignal: at the first Ctrl-C or the like, after the workers have saved what they were at.
            KeyboardInterrupt: at the second Ctrl-C, at once.
            ConfigError: workers can't be started.
        """
        waiting = deque(_Task(pack, dict(enumerate(pack.jobs))) for pack in packs)
        self._held.clear()
        with EndingSignals(self._stop_at):
            while any(worker.task for worker in self._workers) or (
                (waiting or self._held) and not self._stopped
            ):
                self._look_at_held(waiting, listener)
                self._end_hung()
                if waiting and not self._stopped:
                    self._hand_out(waiting, listener)
                sources = {worker.connection: worker for worker in self._workers}
                # A timeout, because a signal's handler doesn't end the waiting.
                for connection in wait(list(sources), timeout=0.2):
                    self._hear(sources[connection], waiting, listener)  # type: ignore[index]
        if self._stopped:
            raise InterruptedBySignal(self._stop.value)

    def close(self) -> None:
        """End the workers: those that are at work at once."""
        for worker in self._workers:
            if worker.task is None and worker.ready:
                worker.connection.close()
            else:
                worker.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()
        self._logs.cleanup()

    @property
    def _stopped(self) -> bool:
        return bool(self._stop.value)

    def _spawn(self, gpu: str | None) -> _Worker:
        ours, theirs = self._context.Pipe()
        pulse = self._context.RawValue("L", 0)
        log = Path(self._logs.name) / f"{self._count}.txt"
        self._count += 1
        settings = self._settings(gpu)
        process = self._context.Process(
            target=serve,
            args=(theirs, self._stop, pulse, log, {**os.environ, **settings}),
            name=f"unitgain-{self._count}",
            daemon=True,
        )
        try:
            with _environment(settings):
                process.start()
        except (EOFError, ConnectionError):
            # The server of forks was killed; the next worker has another one started.
            ours.close()
            self._false_start("lost the server that was to start it")
            return self._spawn(gpu)
        finally:
            theirs.close()
        return _Worker(process, ours, log, gpu, pulse)

    def _settings(self, gpu: str | None) -> dict[str, str]:
        """The environment variables of a worker that differ from this process's."""
        settings = dict.fromkeys(THREAD_VARIABLES, str(self._threads))
        return settings if gpu is None else {**settings, "CUDA_VISIBLE_DEVICES": gpu}

    def _hand_out(self, waiting: deque[_Task], listener: Listener) -> None:
        """Give packs to whoever has none, and start workers in the place of those that died."""
        self._fill(len(waiting) + sum(worker.task is not None for worker in self._workers))
        for worker in self._workers:
            if worker.ready and worker.task is None and waiting:
                worker.task, worker.felt_at = waiting.popleft(), time.monotonic()
                worker.connection.send(worker.task.order(self._memory))
                listener.started(worker.task.pack)

    def _hear(self, worker: _Worker, waiting: deque[_Task], listener: Listener) -> None:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker, waiting, listener)
            return
        task, worker.felt_at = worker.task, time.monotonic()
        match message:
            case Ready():
                worker.ready, self._false_starts = True, 0
            case Note(text):
                listener.note(text)
            case Epoch() if task:
                listener.epoch(task.pack, message)
            case Ended(member, ending) if task:
                listener.ended(task.left.pop(member), ending)
            case Held(member, holder) if task:
                self._held.append((task.pack, task.left.pop(member)))
                listener.note(f"{holder} trains runs of this sweep, too; they are waited for")
            case Done() if task:
                worker.task = None
                listener.done(task.pack)

    def _look_at_held(self, waiting: deque[_Task], listener: Listener) -> None:
        """Take up the runs that other processes have ended or left; one that failed there isn't tried again."""
        if not self._held or time.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = time.monotonic()
        held, free = self._held, dict[int, _Task]()
        self._held = []
        for pack, job in held:
            holder = holder_of(job.directory)
            if holder is not None and not self._patience.expired(holder):
                self._held.append((pack, job))
                continue
            status, cause = RunDirectory(job.directory).standing()
            if holder is None and status == "failed":
                listener.ended(job, Ending("failed", cause=cause))
                continue
            task = free.setdefault(id(pack), _Task(pack, {}))
            task.left[len(task.left)] = job
            if holder is not None:
                task.expired[job.directory] = holder.token
        waiting.extend(free.values())

    def _end_hung(self) -> None:
        """Kill workers that take no step; what becomes of their packs is as of any that died."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.pulse.value != worker.felt:
                worker.felt, worker.felt_at = worker.pulse.value, now
            elif self._hang_s and now - worker.felt_at > self._patience_with(worker):
                worker.hung = True
                worker.kill()

    def _patience_with(self, worker: _Worker) -> float:
        """For how many seconds it may take no step."""
        if worker.task is None and worker.ready:
            return math.inf
        hang_s = self._hang_s or math.inf
        return hang_s if worker.ready else max(hang_s, START_S)

    def _bury(self, worker: _Worker, waiting: deque[_Task], listener: Listener) -> None:
        """Go on without a worker that died: its pack is tried again in halves, down to one member."""
        worker.process.join()
        self._workers.remove(worker)
        how, task = _how_it_ended(worker), worker.task
        if worker.hung:
            how = f"took no step for {self._hang_s:g} s, as hydra.launcher.hang_s allows, and was ended"
        if not worker.ready:
            self._false_start(how)
        if task is None:
            return
        left = list(task.left.values())
        if not left:
            listener.done(task.pack)
            return
        self._deaths += 1
        if len(left) == 1 or self._deaths > MOST_DEATHS or self._stopped:
            cause = (
                f"a worker must live until its pack is trained, but it {how}; if memory ran out, "
                "lower hydra.launcher.max_members or hydra.launcher.workers"
            )
            for job in left:
                self._fail(task.pack, job, cause, listener)
            listener.done(task.pack)
            return
        listener.note(f"a worker {how}; its pack of {len(left)} is tried again in halves")
        middle = (len(left) + 1) // 2
        for half in (left[middle:], left[:middle]):
            if half:
                waiting.appendleft(_Task(task.pack, dict(enumerate(half)), task.expired))

    def _false_start(self, how: str) -> None:
        """Count a worker that died as it began; one may, two in a row are no accident."""
        self._false_starts += 1
        if self._false_starts > 1:
            raise ConfigError(
                "hydra/launcher: packed must be able to start worker processes, but two of them died as "
                f"they began: the last one {how}; try hydra.launcher.workers=1"
            )

    def _fail(self, pack: Pack, job: Job, cause: str, listener: Listener) -> None:
        """Leave in a run's directory that it failed, unless another process goes on with it."""
        claims = Claims()
        try:
            if claims.take(job.directory) is not None:
                self._held.append((pack, job))
                return
            mark_failed(job.directory, cause)
        except OSError as error:
            cause = f"{cause}; and {job.directory} can't be written: {error.strerror}"
        finally:
            claims.close()
        listener.ended(job, Ending("failed", cause=cause, expected=False))

    def _stop_at(self, number: int) -> None:
        self._stop.value = number


def _how_it_ended(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    try:
        lines = worker.log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how} ({last})" if last else how


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Environment variables as a child process is to find them."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
