"""Claims: of all processes that want to train a run, one does.

A claim is a small file in the run directory, ``claim-N.json``. It is made under another name and linked to its own, so
that it appears whole and at most once, on NFS too. Whoever takes over from a dead holder links ``claim-(N+1).json``:
of several that try, one succeeds, and looks again whether a claim that it didn't know of is there. The holder touches
the file as long as it lives. A holder on this machine is dead once its process is; one on another machine, once the
file hasn't changed for a lease as this process's own clock measures it: no two clocks are ever compared.
"""

import contextlib
import json
import math
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from unitgain.errors import ConfigError, UnitgainError
from unitgain.runs._atomic import discard, write_temporary

LEASE_S = 120.0
"""Without a sign of life for so long, a holder counts as dead."""
LOOK_S = 0.5
"""Seconds between two looks at a claim of somebody else."""
_BEATS = 4
"""Signs of life in a lease."""
_NAME = re.compile(r"claim-(\d+)\.json")
_UNKNOWN = "unknown"


def lease_s() -> float:
    """The lease of this process's claims, in seconds: ``UNITGAIN_LEASE_S``, else `LEASE_S`.

    Raises:
        ConfigError: the variable is no number of at least 0.5.
    """
    text = os.environ.get("UNITGAIN_LEASE_S")
    if text is None:
        return LEASE_S
    with contextlib.suppress(ValueError):
        if 0.5 <= float(text) < math.inf:
            return float(text)
    raise ConfigError(
        f"UNITGAIN_LEASE_S: must be a number of seconds of at least 0.5, got {text}; unset it"
    )


@final
@dataclass(frozen=True)
class Holder:
    """Who holds a claim.

    Args:
        path: the claim.
        number: how many takers it had before.
        host: the machine's name.
        machine: what tells machines, restarts and process namespaces apart.
        pid: of the process.
        began: of the process, in the kernel's own measure; what tells it from a later one with its number.
        token: a random name of this one claim.
        lease_s: without a sign of life for so long, it counts as dead.
        touched_ns: when the last sign of life was, by the clock of whoever keeps the files.
    """

    path: Path
    number: int
    host: str
    machine: str
    pid: int
    began: str
    token: str
    lease_s: float
    touched_ns: int

    @property
    def dead(self) -> bool:
        """Whether it is known to be dead: its process was on this machine, and is gone."""
        return self.machine == _machine() and _began(self.pid) not in (self.began, _UNKNOWN)

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign of life, by this machine's clock: for people, not for taking over."""
        return max(0.0, time.time() - self.touched_ns / 1e9)

    @property
    def stale(self) -> bool:
        """Whether it is dead, or seems so from its last sign of life: for people, not for taking over."""
        return self.dead or (self.machine != _machine() and self.silent_s > self.lease_s)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def holder_of(folder: Path) -> Holder | None:
    """Who has claimed a run directory, alive or not; None where nobody has."""
    return next(iter(_holders_in(folder)), None)


@final
class Patience:
    """Watches holders by their signs of life, with one clock: that of this process."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[str, int, float]] = {}

    def expired(self, holder: Holder) -> bool:
        """Whether a holder is dead; ask again and again, for one elsewhere it takes a lease to know."""
        if holder.dead:
            return True
        if holder.machine == _machine():
            return False
        token, touched, since = self._seen.get(holder.path, ("", 0, 0.0))
        now = time.monotonic()
        if (token, touched) != (holder.token, holder.touched_ns):
            self._seen[holder.path] = holder.token, holder.touched_ns, now
            return False
        return now - since > holder.lease_s


class ClaimLostError(UnitgainError):
    """Another process has taken a run over, since this one was silent for a lease."""


@final
class Claims:
    """The claims of this process, which a thread keeps alive.

    Args:
        lease: of the claims, in seconds; None takes `lease_s`.

    Example:
        >>> import tempfile
        >>> mine, theirs, run = Claims(), Claims(), Path(tempfile.mkdtemp()) / "run"
        >>> mine.take(run) is None, str(theirs.take(run)) == f"process {os.getpid()} on {platform.node()}"
        (True, True)
        >>> mine.release(run)
        >>> theirs.take(run) is None, theirs.release(run), run.exists()
        (True, None, False)
    """

    def __init__(self, lease: float | None = None) -> None:
        self._lease_s = lease_s() if lease is None else lease
        self._held: dict[Path, Holder] = {}
        self._lost: set[Path] = set()
        self._lock = threading.Lock()
        self._beaten = _clock()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def take(self, folder: Path, expired: str | None = None) -> Holder | None:
        """Claim a run directory, which is made if need be.

        Args:
            folder: the directory.
            expired: the token of a holder of whom `Patience` says that it is dead.

        Returns:
            None if it is this process's now; else who holds it.

        Raises:
            OSError: the directory can't be written.
        """
        if folder in self._held:
            return None
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            known = _holders_in(folder)
            for holder in known:
                if not holder.dead and holder.token != expired:
                    return holder
            number = max((holder.number for holder in known), default=-1) + 1
            try:
                mine = self._link(folder, number)
            except FileNotFoundError:
                continue  # somebody has removed the empty folder again
            if mine is None:
                continue  # somebody was quicker: look who
            tokens = {holder.token for holder in (*known, mine)}
            if all(holder.token in tokens for holder in _holders_in(folder)):
                break
            discard(mine.path)  # somebody came from another state of the folder
            time.sleep(0.01 + secrets.randbelow(100) / 1000)
        for holder in known:
            discard(holder.path)
        with self._lock:
            if not self._held:
                self._beaten = _clock()
            self._held[folder] = mine
        self._start()
        return None

    def wait(self, folder: Path) -> None:
        """Claim a run directory; where its holder is on another machine and silent, once that lasts a lease.

        Raises:
            ConfigError: another process trains the run.
        """
        patience, first = Patience(), True
        expired: str | None = None
        while (holder := self.take(folder, expired)) is not None:
            if patience.expired(holder):
                expired = holder.token
                continue
            if holder.machine == _machine() or holder.silent_s < holder.lease_s / 2:
                raise ConfigError(
                    f"{folder}: must be trained by one process at a time, but {holder} trains it; "
                    "wait until it ends, or end it"
                )
            if first:
                print(f"{holder} has been silent; waiting {holder.lease_s:g} s for a sign of life")
            first = False
            time.sleep(min(LOOK_S, holder.lease_s / 20))

    def outlast(self, folder: Path) -> None:
        """Claim a run directory as soon as its holder has ended or is dead."""
        patience = Patience()
        expired: str | None = None
        while (holder := self.take(folder, expired)) is not None:
            if patience.expired(holder):
                expired = holder.token
            else:
                time.sleep(LOOK_S)

    def release(self, folder: Path) -> None:
        """Give a claim back, if this process has it, and the folder too where nothing is in it."""
        with self._lock:
            mine = self._held.pop(folder, None)
            lost = folder in self._lost
            self._lost.discard(folder)
        if mine is not None and not lost:
            now = _read(mine.path, mine.number)
            if now is not None and now.token == mine.token:
                discard(mine.path)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def release_all(self) -> None:
        """Give all claims back."""
        for folder in list(self._held):
            self.release(folder)

    def release_lost(self) -> None:
        """Forget the claims that others have taken over."""
        for folder in list(self._lost):
            self.release(folder)

    def check(self) -> None:
        """Refuse to go on with runs that others have taken over; quick enough for each step.

        Raises:
            ClaimLostError: naming one of them.
        """
        if self._held and _clock() - self._beaten > self._lease_s / 2:
            self._beat()  # this process stood still: its thread did, too
        if self._lost:
            raise ClaimLostError(
                f"{next(iter(self._lost))}: must be trained by a process that gives a sign of life "
                f"every {self._lease_s:g} s, but this one stood still, and the run was taken over "
                "by another process; leave it to that one"
            )

    def close(self) -> None:
        """Give all claims back, and end the thread."""
        self.release_all()
        self._end.set()

    def _link(self, folder: Path, number: int) -> Holder | None:
        """Make a claim, if there is none of that number."""
        token, path = secrets.token_hex(8), folder / f"claim-{number}.json"
        pid, machine, host = os.getpid(), _machine(), platform.node()
        facts = {"host": host, "machine": machine, "pid": pid, "began": _began(pid)}
        text = json.dumps({**facts, "token": token, "lease_s": self._lease_s}) + "\n"
        temporary = write_temporary(path, text.encode())
        try:
            if not _linked(temporary, path):
                return None
            return _read(path, number)
        finally:
            discard(temporary)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="unitgain-claims", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        while not self._end.wait(self._lease_s / _BEATS):
            self._beat()

    def _beat(self) -> None:
        with self._lock:
            for folder, mine in self._held.items():
                now = holder_of(folder)
                if now is None or now.token != mine.token:
                    self._lost.add(folder)
                    continue
                with contextlib.suppress(OSError):
                    os.utime(mine.path)
            self._beaten = _clock()


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file a second name, unless that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise
    except OSError:
        # An answer that a network lost, or a file system without links.
        if os.stat(temporary).st_nlink == 1:
            return _created(path, temporary.read_bytes())
    return os.stat(temporary).st_nlink == 2


def _created(path: Path, data: bytes) -> bool:
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _holders_in(folder: Path) -> list[Holder]:
    """The claims in a folder, the newest first."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = {int(match[1]): folder / match[0] for name in names if (match := _NAME.fullmatch(name))}
    holders = (_read(found[number], number) for number in sorted(found, reverse=True))
    return [holder for holder in holders if holder is not None]


def _read(path: Path, number: int) -> Holder | None:
    """A claim; None where it is gone. One that can't be read yet is somebody's."""
    try:
        # Opened, not looked up: NFS then asks the server.
        with open(path, "rb") as file:
            touched, data = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(data)
        names = ("host", "machine", "pid", "began", "token", "lease_s")
        host, machine, pid, began, token, lease = (facts[name] for name in names)
        return Holder(path, number, host, machine, pid, began, token, float(lease), touched)
    except (ValueError, KeyError, TypeError):
        return Holder(path, number, "an unknown machine", "", 0, "", "", lease_s(), touched)


def _machine() -> str:
    """What two processes have in common that see each other's numbers."""
    parts = [platform.node()]
    reads: tuple[Callable[[], str], ...] = (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    )
    for read in reads:
        with contextlib.suppress(OSError):
            parts.append(read())
    return " ".join(parts)


def _began(pid: int) -> str:
    """When a process of this machine began; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _alive(pid)
    # Behind the name, which may hold anything: the state, and 19 fields on the start.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _alive(pid: int) -> str:
    """Where the kernel doesn't say when a process began: whether there is one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return _UNKNOWN


def _clock() -> float:
    """Seconds, those counted in which the machine slept."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
