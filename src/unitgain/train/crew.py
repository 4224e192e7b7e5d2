"""The processes that train one run together: what they hand one another, and when they stop."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, final

import torch
from torch import Tensor, distributed

from unitgain.errors import ConfigError, LostProcessError
from unitgain.nn.share import WHOLE, Share
from unitgain.runs import Launched, launched
from unitgain.spec import RunSpec
from unitgain.train.others import Others, store_of
from unitgain.train.settings import accelerator

_TENSORS_S: Final = 600.0
"""How long a GPU waits for the others' part of a sum."""

_WORDS_S: Final = 86400.0
"""How long a process waits for the first one's word, which may be writing files or choosing weights."""

_ASK_S = (0.1, 0.4)
"""Between two questions whether somebody was asked to end there is at least, and at most, about so much time."""


@final
class Crew:
    """The processes of one run, of which the first leads: it alone has the run directory.

    Args:
        rank: which of them this is, from 0.
        size: how many there are.
        others: those that this process started.
    """

    def __init__(self, rank: int = 0, size: int = 1, others: Others | None = None) -> None:
        self.rank, self.size, self.share = rank, size, WHOLE
        self.device_index = 0
        self._others = others
        self._every, self._left, self._asked_at = 1, 1, time.monotonic()

    def settle(self, spec: RunSpec, local_rank: int) -> None:
        """Take a device each, and set up what tensors go through.

        Raises:
            ConfigError: some have GPUs and some haven't, or two have the same.
        """
        unique, faults = str(self.rank), tuple[str, ...]()
        try:
            place = accelerator(spec)
        except ConfigError as error:
            place, faults = "cpu", error.lines
        self.all_ready(faults)
        if place == "gpu":
            # srun may show each task its own GPU alone.
            self.device_index = local_rank % torch.cuda.device_count()
            torch.cuda.set_device(self.device_index)
            unique = str(torch.cuda.get_device_properties(self.device_index).uuid)
        found = self.gathered((place, socket.gethostname(), unique))
        if len({place for place, _, _ in found}) > 1:
            raise ConfigError(
                "trainer.accelerator: must be the same in all processes of a run, but some have a GPU and some "
                "haven't; set trainer.accelerator=cpu, or leave machines without GPUs out"
            )
        if len(set(found)) < self.size:
            raise ConfigError(
                f"trainer.devices: must be at most the GPUs there are, but {self.size} processes have "
                f"{len(set(found))}; start one process a GPU"
            )
        group = None
        if place == "gpu":
            group = distributed.new_group(backend="nccl", timeout=timedelta(seconds=_TENSORS_S))
        self.share = Share(self.rank, self.size, group)

    def gathered(self, value: Any) -> list[Any]:
        """What each process gives, in their order."""
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def word(self, value: Any = None) -> Any:
        """What the first process gives."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def all_ready(self, faults: Sequence[str] = ()) -> None:
        """Go on once all processes are ready to train.

        Args:
            faults: why this one isn't.

        Raises:
            ConfigError: why one isn't.
        """
        if self.size == 1:
            return
        of_each = self.gathered(tuple(faults))
        if lines := [
            f"process {rank} of {self.size}: {line}"
            for rank, each in enumerate(of_each)
            for line in each
        ]:
            raise ConfigError(*lines)

    def share_first_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.size == 1:
            return
        for tensor in tensors:
            # As bytes: not every backend knows every type.
            flat = tensor.detach().reshape(-1).clone().view(torch.uint8)
            distributed.broadcast(flat, src=0, group=self.share.group)
            tensor.detach().copy_(flat.view(tensor.dtype).view(tensor.shape))

    def part(self) -> None:
        """Go on alone: nothing more is asked of the others."""
        if self._others is not None:
            self._others.release()

    def stop(self, number: int) -> int:
        """Whether some process was asked to end, which all know at the same step: its signal's number, else 0.

        They ask one another a few times a second only.

        Args:
            number: of the signal that this process was sent, else 0.
        """
        if self.size == 1:
            return number
        self._left -= 1
        if self._left > 0:
            return 0
        now = time.monotonic()
        least, most = _ASK_S
        if now - self._asked_at < least:
            self._every = min(2 * self._every, 2**20)
        elif now - self._asked_at > most:
            self._every = max(self._every // 2, 1)
        self._asked_at = now
        # The first process's clock says for all when to ask again.
        asked = torch.tensor([number, 0 if self.rank else self._every])
        distributed.all_reduce(asked, op=distributed.ReduceOp.MAX)
        number, self._every = (int(value) for value in asked)
        self._left = self._every
        return number


@contextmanager
def crew_of(specs: Sequence[RunSpec]) -> Iterator[Crew]:
    """The processes that train a run, which this one leads; the others are started, unless a launcher did that.

    Raises:
        ConfigError: a pack, more processes than there are devices, or another number than a launcher started.
        LostProcessError: another process ended before the run did.
    """
    spec, started = specs[0], launched()
    count = 1 if spec.trainer.devices == 1 else _count(specs, started)
    if count == 1:
        yield Crew()
        return
    if started is not None and started.rank:
        raise ConfigError(
            f"fit: must be called by the first process, but {started.by} started this one as number "
            f"{started.rank}; call unitgain.train.follow() there"
        )
    others = Others(0 if started else count - 1)
    crew = Crew(0, count, others)
    local_rank = started.local_rank if started else 0
    try:
        with joined(crew, others, started):
            crew.word(spec)
            crew.settle(spec, local_rank)
            yield crew
    except RuntimeError as error:
        if lost := others.lost():
            raise LostProcessError(lost) from error
        if is_lost_connection(error):
            raise LostProcessError(
                f"one of the {count} processes ended before the run did; what it said is above, or in its own log"
            ) from error
        raise
    finally:
        others.end()


@contextmanager
def joined(crew: Crew, others: Others, started: Launched | None) -> Iterator[None]:
    """Have the processes know each other, until the block ends.

    Raises:
        LostProcessError: one of them doesn't come.
    """
    store = store_of(crew.rank, crew.size, others, started)
    others.wait_for_all(store, crew.rank, crew.size)
    distributed.init_process_group(
        "gloo",
        store=distributed.PrefixStore("unitgain", store),  # type: ignore[attr-defined]
        rank=crew.rank,
        world_size=crew.size,
        timeout=timedelta(seconds=_WORDS_S),
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def _count(specs: Sequence[RunSpec], started: Launched | None) -> int:
    devices = specs[0].trainer.devices
    if len(specs) > 1:
        raise ConfigError(
            f"trainer.devices: must be 1 where runs train as a pack, got {devices} for {len(specs)} runs; "
            "choose trainer=default, or train them one by one"
        )
    if started is not None:
        if devices not in ("auto", started.local_size or devices):
            raise ConfigError(
                f"trainer.devices: must be as many as {started.by} started on a machine, "
                f"{started.local_size}, got {devices}; set trainer.devices=auto"
            )
        return started.size
    gpus = torch.cuda.device_count() if accelerator(specs[0]) == "gpu" else None
    if devices == "auto":
        return gpus or 1
    if gpus is not None and devices > gpus:
        raise ConfigError(
            f"trainer.devices: must be at most the {gpus} GPUs of this machine, got {devices}; "
            "set trainer.devices=auto"
        )
    return devices
