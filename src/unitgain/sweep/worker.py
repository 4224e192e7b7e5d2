"""A worker process: trains one pack after another, and says what happens.

This module imports torch only once the process serves.
"""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unitgain.data import DataWarning, Table
from unitgain.errors import UnitgainError
from unitgain.runs import SIGNALS, ClaimLostError, Claims
from unitgain.spec import RunSpec
from unitgain.sweep.job import Ending, Start, mark_failed, ready, start_of

if TYPE_CHECKING:
    from unitgain.train import RunResult


@final
@dataclass(frozen=True)
class Order:
    """A pack to train.

    Args:
        specs: of the members.
        directories: one a member.
        overrides: what the user asked for, one a member.
        memory: the share of a GPU's free memory that a pack may take.
        expired: by directory, the claims whose holders are known to be dead.
    """

    specs: tuple[RunSpec, ...]
    directories: tuple[Path, ...]
    overrides: tuple[tuple[str, ...], ...]
    memory: float = 0.5
    expired: Mapping[Path, str] = field(default_factory=dict)

    def part(self, members: Sequence[int]) -> "Order":
        """The order for some of the members."""
        return Order(
            tuple(self.specs[k] for k in members),
            tuple(self.directories[k] for k in members),
            tuple(self.overrides[k] for k in members),
        )


@final
@dataclass(frozen=True)
class Ready:
    """The worker has imported what it needs.

    Args:
        gpu: whether torch finds a GPU.
    """

    gpu: bool


@final
@dataclass(frozen=True)
class Epoch:
    """An epoch is over.

    Args:
        done: how many are.
        epochs: how many there will be.
        running: how many members still train.
        member_steps: optimizer steps of this epoch, all members' together.
    """

    done: int
    epochs: int
    running: int
    member_steps: int


@final
@dataclass(frozen=True)
class Ended:
    """A member has ended, and its directory is complete.

    Args:
        member: which, as in the order.
        ending: how.
    """

    member: int
    ending: Ending


@final
@dataclass(frozen=True)
class Held:
    """A member isn't trained, since another process trains it.

    Args:
        member: which, as in the order.
        holder: the process, in words.
    """

    member: int
    holder: str


@final
@dataclass(frozen=True)
class Note:
    """A line for the user."""

    text: str


@final
@dataclass(frozen=True)
class Done:
    """The order is done; each member has ended, or is held by another process."""


_MOST_TABLES = 8
"""That a worker keeps from one pack to the next."""

Message = Ready | Epoch | Ended | Held | Note | Done


def serve(
    connection: "Connection[Any, Any]",
    stop: Any,
    pulse: Any,
    log: Path,
    environment: dict[str, str],
) -> None:
    """Train what is asked for until nothing more is.

    Args:
        connection: orders come in, messages go out.
        stop: a shared number, of the signal that asks to end; once it isn't 0, runs are saved and end as interrupted.
        pulse: a shared number that changes with each step, so that the process is seen to go on.
        log: where everything goes that is printed.
        environment: of the process that asks, which may have changed since a server of forks began.
    """
    os.environ.clear()
    os.environ.update(environment)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the parent says when to stop
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())

    def stopped() -> int:
        pulse.value += 1
        return int(stop.value)

    worker = _Worker(connection, stopped)
    warnings.showwarning = worker.show_warning
    import torch

    import unitgain.train  # noqa: F401  # so that the first order finds it imported

    try:
        connection.send(Ready(torch.cuda.is_available()))
        while (order := connection.recv()) is not None:
            worker.train(order)
            connection.send(Done())
    except (EOFError, BrokenPipeError):
        pass  # the sweep is over, or the parent is gone
    # All runs are on disk; to take torch apart properly would be seconds of waiting.
    os._exit(0)


@final
class _Watch:
    """Passes on what happens in a fit of some members of an order."""

    def __init__(self, worker: "_Worker", order: Order, members: Sequence[int]) -> None:
        self._worker, self._order, self._members = worker, order, members
        self.left = list(members)

    def stop(self) -> int:
        """The number of the signal that asks to end, else 0.

        Raises:
            ClaimLostError: this process was silent for so long that another one has taken a member over.
        """
        self._worker.claims.check()
        return self._worker.stop()

    def epoch(self, done: int, epochs: int, running: int, member_steps: int) -> None:
        """An epoch is over."""
        self._worker.connection.send(Epoch(done, epochs, running, member_steps))

    def ended(self, k: int, result: "RunResult") -> None:
        """A member's summary.json is there."""
        member = self._members[k]
        self.left.remove(member)
        self._worker.ended(self._order, member, Ending.of_result(result))


@final
class _Worker:
    """Trains orders, and finds the members of a pack that break it.

    Args:
        connection: messages go out.
        stop: the number of the signal that asks to end, else 0.
    """

    def __init__(self, connection: "Connection[Any, Any]", stop: Callable[[], int]) -> None:
        self.connection, self.stop = connection, stop
        self.claims = Claims()
        self._loaded: dict[str, Table] = {}

    def train(self, order: Order) -> None:
        """Train an order, but for the members that other processes train."""
        try:
            self._train(order, range(len(order.specs)))
        finally:
            self.claims.release_all()

    def ended(self, order: Order, member: int, ending: Ending) -> None:
        """A member's directory is complete: nobody needs to keep others away from it."""
        self.claims.release(order.directories[member])
        self.connection.send(Ended(member, ending))

    def _train(self, order: Order, members: Sequence[int]) -> None:
        """Train some members of an order as packs that memory holds; halve a pack that raises.

        A member that raises alone has failed; the others aren't touched by it.
        """
        starts = self._starts(order, members)
        packs = [(start, pack) for start, each in starts for pack in self._that_fit(order, each)]
        for start, pack in packs:
            if self.stop():
                return
            watch = _Watch(self, order, pack)
            error = self._fit(order.part(pack), start.resume, watch)
            if error is None:
                continue
            if isinstance(error, ClaimLostError):
                self.claims.release_lost()
                self._train(order, watch.left)
                continue
            if len(pack) == 1:
                self._fail(order, pack[0], error)
                continue
            middle = (len(watch.left) + 1) // 2
            for half in (watch.left[:middle], watch.left[middle:]):
                if half:
                    self._train(order, half)

    def show_warning(
        self, message: Warning | str, category: type[Warning], *_where: object, **_more: object
    ) -> None:
        """Pass a warning on; of tables the parent, which opens them too, has warned already."""
        if not issubclass(category, DataWarning):
            self.connection.send(Note(str(message)))

    def _that_fit(self, order: Order, members: Sequence[int]) -> list[list[int]]:
        """Members in packs that memory holds: on a GPU that is tried out, on a CPU the plan has seen to it."""
        import torch

        from unitgain.train.capacity import members_that_fit

        spec = order.specs[members[0]]
        if len(members) == 1 or spec.trainer.accelerator == "cpu" or not torch.cuda.is_available():
            return [list(members)]
        try:
            count = -(-len(members) // members_that_fit(spec, order.memory))
        except Exception:
            # What is wrong with these runs, the fit itself will say.
            return [list(members)]
        return [list(members[i::count]) for i in range(count)]

    def _starts(self, order: Order, members: Sequence[int]) -> list[tuple[Start, list[int]]]:
        """The members that this process may train, by where they go on from.

        Since the sweep was planned others may have trained some, or have saved but some of those they trained.
        """
        packs: dict[Start, list[int]] = {}
        for k in members:
            folder = order.directories[k]
            try:
                holder = self.claims.take(folder, order.expired.get(folder))
                start = Start()
                if holder is None:
                    start = start_of(order.specs[k], folder, thorough=True)
                    if start.fault is not None:
                        self.connection.send(Note(f"{start.fault}; {start.remedy}"))
                    start = ready(start, folder)
            except (UnitgainError, OSError) as error:
                self._fail(order, k, error)
                continue
            if holder is not None:
                self.connection.send(Held(k, str(holder)))
            elif start.ending is None:
                packs.setdefault(start, []).append(k)
            else:
                self.ended(order, k, start.ending)
        return list(packs.items())

    def _fit(self, part: Order, resume: bool, watch: _Watch) -> Exception | None:
        """Train a pack; what it raised, without the tensors that its traceback holds."""
        from unitgain.train import fit

        while len(self._loaded) > _MOST_TABLES:
            self._loaded.pop(next(iter(self._loaded)))
        try:
            fit(
                part.specs,
                part.directories,
                overrides=part.overrides,
                resume=resume,
                watch=watch,
                loaded=self._loaded,
            )
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            failure = error.with_traceback(None)
        else:
            return None
        gc.collect()
        return failure

    def _fail(self, order: Order, member: int, error: Exception) -> None:
        ending = Ending.of_error(error)
        mark_failed(order.directories[member], ending.cause or "")
        self.ended(order, member, ending)
