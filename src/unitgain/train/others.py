"""Starting the other processes of a run, finding them, and noticing that one is gone."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, final

from torch import distributed

from unitgain.errors import LostProcessError
from unitgain.runs import Launched

JOIN_S: Final = 300.0
"""How long processes wait for one another at the beginning."""

_NOTICE_S: Final = 10.0
"""How long a process is given to notice by itself that another is gone, before it is ended."""

_END_S: Final = 30.0
"""How long others may take to end behind the first one."""

_LOOK_S: Final = 0.2


@final
class Others:
    """The processes that this one has started, which end when it does.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._started: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()

    def start(self, port: int) -> None:
        """Start them; they find this one at a port of this machine."""
        size = self.count + 1
        common = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        # What a torchrun of one process said isn't true of these.
        environment = {n: v for n, v in os.environ.items() if not n.startswith("TORCHELASTIC_")}
        for rank in range(1, size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            self._started.append(
                subprocess.Popen(
                    [sys.executable, "-c", "from unitgain.train import follower; follower.main()"],
                    env=environment | common | own,
                    # It ends when this pipe does, however this process ends.
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    # Ctrl-C is for the first process, which tells the others.
                    start_new_session=True,
                )
            )
        threading.Thread(target=self._watch, daemon=True).start()

    def wait_for_all(self, store: Any, rank: int, size: int) -> None:
        """Wait until every process has found the store.

        Raises:
            LostProcessError: one ended, or took too long.
        """
        store.set(f"here/{rank}", "")
        last = time.monotonic() + JOIN_S
        for other in range(size):
            while not store.check([f"here/{other}"]):
                if lost := self.lost():
                    raise LostProcessError(lost)
                if time.monotonic() > last:
                    raise LostProcessError(
                        f"process {other} of {size} must have come within {JOIN_S:.0f} s, but hasn't; "
                        "see its log, and whether machines reach one another"
                    )
                time.sleep(_LOOK_S / 4)

    def lost(self) -> str:
        """What is to be said of one that has failed; nothing if none has."""
        for rank, process in enumerate(self._started, start=1):
            code = process.poll()
            if code:
                how = f"with status {code}" if code > 0 else f"by {signal.Signals(-code).name}"
                return (
                    f"process {rank} of {self.count + 1} ended {how} before the run did; "
                    "go on from the last checkpoint with unitgain resume RUN"
                )
        return ""

    def release(self) -> None:
        """What becomes of them no longer matters to this process."""
        self._ended.set()

    def end(self) -> None:
        """Wait until they have ended, which they do when this process has."""
        self.release()
        for process in self._started:
            assert process.stdin is not None
            process.stdin.close()
        last = time.monotonic() + _END_S
        for process in self._started:
            try:
                process.wait(max(last - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _watch(self) -> None:
        """End this process where another is gone and it waits for that one's numbers, as GPUs do."""
        while not self._ended.wait(_LOOK_S):
            if (lost := self.lost()) and not self._ended.wait(_NOTICE_S):
                print(f"error: {lost}", file=sys.stderr, flush=True)
                os._exit(1)


def store_of(rank: int, size: int, others: Others, started: Launched | None) -> Any:
    """Where the processes of a run find one another.

    Raises:
        LostProcessError: the first one isn't there.
    """
    wait = timedelta(seconds=JOIN_S)
    if others.count:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=wait
        )
        others.start(store.port)
        return store
    try:
        if started is not None and started.by == "torchrun":
            found = distributed.rendezvous("env://", rank, size, timeout=wait)  # type: ignore[attr-defined]
            return next(found)[0]
        host, port = address_of_step(os.environ)
        return distributed.TCPStore(  # type: ignore[attr-defined]
            host, port, is_master=rank == 0, wait_for_workers=False, timeout=wait
        )
    except distributed.DistError as error:
        raise LostProcessError(
            f"process 0 of {size} must have come within {JOIN_S:.0f} s, but hasn't; see its log, "
            "and whether machines reach one another"
        ) from error


def address_of_step(environment: Mapping[str, str]) -> tuple[str, int]:
    """The first machine of a step of Slurm, and a port that another step is unlikely to take.

    Args:
        environment: of a task; ``MASTER_ADDR`` and ``MASTER_PORT`` count where they are given.

    Example:
        >>> address_of_step({"SLURM_STEP_NODELIST": "gpu[017-020,3],login", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"})
        ('gpu017', 15195)
    """
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "127.0.0.1")
    first = re.sub(r"\[(\d+)[^\]]*\]", r"\1", nodes).split(",")[0].strip()
    job, step = (int(environment.get(f"SLURM_{name}", "0")) for name in ("JOB_ID", "STEP_ID"))
    port = 15000 + (job * 16 + step) % 16384
    return environment.get("MASTER_ADDR", first), int(environment.get("MASTER_PORT", port))
