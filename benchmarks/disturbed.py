"""Sweeps as processes that faults are done to, and what is kept of them."""

import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bits import Results, differences, results_of

SWEEP = [
    "data=digits",
    "model.width=16",
    "model.depth=2,3",
    "optimizer.lr=0.003,0.01,1e30",
    "dropout=dropout",
    "dropout.p=0.1",
    "seed=0,1",
    "trainer.max_epochs=60",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "callbacks.early_stopping.patience=60",
    "callbacks.checkpoint.every_s=0.3",
    "figures=false",
]
"""12 runs of two shapes, of which 4 diverge at once."""
LAUNCHER = ["hydra/launcher=packed", "hydra.launcher.max_members=3", "hydra.launcher.workers=2"]
DIVERGED = 3
USUAL_S = 20.0
"""What the sweep takes when it is left alone, on two cores with other work to do."""
HANG_S = 20.0
DEADLINE_S = 300.0
WAYS = ("truncated", "emptied", "bit flipped")


@dataclass(frozen=True)
class Damage:
    """One file that was damaged, and where in the logs its notice is to be looked for.

    Args:
        path: the file.
        way: how.
        logged: how much had been logged before.
    """

    path: Path
    way: str
    logged: int


@dataclass
class Campaign:
    """What is done to sweeps, and the counts of it.

    Args:
        folder: where the sweeps go.
        temporary: ``TMPDIR`` of their processes, on another filesystem.
        random: draws moments and victims.
        slowness: of the machine, by which the limits of time grow.
    """

    folder: Path
    temporary: Path
    random: random.Random
    slowness: float = 1.0
    faults: "collections.Counter[str]" = field(default_factory=collections.Counter)
    outcomes: "collections.Counter[str]" = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    log: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the campaign began."""
        return time.monotonic() - self.began

    def start(self, sweep: Path, *words: str) -> "Start":
        """Start a sweep in a process group of its own."""
        self.faults["starts with TMPDIR on another filesystem"] += 1
        return Start(self, sweep, words)

    def finish(self, sweep: Path, reference: Results, what: str) -> None:
        """Start a sweep until it is done, and hold its results against the reference."""
        for _ in range(3):
            code = self.start(sweep).wait()
            if code == DIVERGED:
                break
        else:
            self.found(f"{what}: the sweep ended with status {code} three times")
        found = differences(reference, results_of(sweep))
        for line in found:
            self.found(f"{what}: {line}")
        same = len(reference) - len({line.partition(":")[0] for line in found})
        self.outcomes["runs with the bits of an undisturbed one"] += same
        self.outcomes["runs lost or different"] += len(reference) - same

    def found(self, line: str) -> None:
        """Keep what is wrong, and say so at once."""
        self.wrong.append(line)
        print(f"WRONG  {line}", flush=True)

    def damage(self, path: Path, way: str | None = None) -> Damage:
        """Cut a file short, empty it, or flip one of its bits."""
        changed, way = bytearray(path.read_bytes()), way or self.random.choice(WAYS)
        if way == "emptied" or len(changed) < 2:
            changed.clear()
        elif way == "truncated":
            del changed[self.random.randrange(1, len(changed)) :]
        else:
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        path.write_bytes(changed)
        kind = (
            "claim"
            if path.name.startswith("claim")
            else "plan"
            if path.parent.name == ".plan"
            else path.name
        )
        self.faults[f"{kind} {way}"] += 1
        return Damage(path, way, len(self.log))

    def judge(self, damages: Sequence[Damage]) -> None:
        """Whether what was damaged was told of; results are compared elsewhere."""
        for each in damages:
            run = (
                each.path.parent
                if each.path.parent.name != "checkpoints"
                else each.path.parent.parent
            )
            told = any(
                run.name in line and each.path.name in line
                for line in self.log[each.logged :].splitlines()
            )
            self.outcomes[
                "damaged files that were told of"
                if told
                else "damaged files written anew before anyone read them"
            ] += 1


class Start:
    """A sweep's processes.

    Args:
        campaign: keeps what they print.
        sweep: its folder.
        words: further overrides.
    """

    def __init__(self, campaign: Campaign, sweep: Path, words: Sequence[str]) -> None:
        self.campaign, self.began = campaign, time.time()
        self._out = tempfile.TemporaryFile(mode="w+", dir=campaign.folder, encoding="utf-8")  # noqa: SIM115
        command = [sys.executable, "-m", "unitgain", "train", "-m", *LAUNCHER, *SWEEP, *words]
        self.process = subprocess.Popen(
            [
                *command,
                f"hydra.launcher.hang_s={HANG_S * campaign.slowness:.1f}",
                f"hydra.sweep.dir={sweep}",
            ],
            cwd=campaign.folder,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "TMPDIR": str(campaign.temporary),
                "OMP_NUM_THREADS": "1",
                "UNITGAIN_LEASE_S": "5",
                "COLUMNS": "1000",
            },
        )

    @property
    def running(self) -> bool:
        """Whether the command itself lives."""
        return self.process.poll() is None

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        try:
            code = self.process.wait(DEADLINE_S * self.campaign.slowness)
        except subprocess.TimeoutExpired as error:
            self.campaign.found(f"a sweep hung for {error.timeout:.0f} s")
            os.killpg(self.process.pid, signal.SIGKILL)
            code = self.process.wait()
        self._read()
        return code

    def kill(self, victim: str) -> bool:
        """Send SIGKILL to a part of it; False where that isn't there (any more)."""
        processes = in_session(self.process.pid)
        server = [
            p
            for p, (parent, text) in processes.items()
            if parent == self.process.pid and "forkserver" in text
        ]
        workers = [p for p, (parent, _) in processes.items() if parent in server]
        chosen = {"command": [self.process.pid], "server": server, "worker": workers}
        if victim == "group":
            pids = list(processes)
        else:
            pids = chosen[victim] and [self.campaign.random.choice(chosen[victim])]
        if not pids or (victim in ("command", "group") and not self.running):
            return False
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim in ("command", "group"):
            self.process.wait()
            self._read()
        self.campaign.kills += 1
        return True

    def stop_worker(self) -> bool:
        """Let a worker hang: it lives, and does nothing more."""
        processes = in_session(self.process.pid)
        server = [
            p
            for p, (parent, text) in processes.items()
            if parent == self.process.pid and "forkserver" in text
        ]
        for pid, (parent, _) in processes.items():
            if parent in server:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    return True
        return False

    def _read(self) -> None:
        self._out.seek(0)
        text = self._out.read()
        self._out.close()
        self.campaign.log += text
        if "Traceback (most recent call last)" in text:
            self.campaign.found(f"a traceback: {text[text.index('Traceback') :][-600:]}")


def in_session(session: int) -> dict[int, tuple[int, str]]:
    """The living processes of a session: parent and command line of each."""
    found = {}
    for pid, fields in _processes(session):
        if fields[0] not in "ZX":
            with suppress(OSError):
                text = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
                found[pid] = int(fields[1]), text
    return found


def wait_for_session(session: int, limit_s: float) -> None:
    """Until those that were left of a sweep have seen that nobody listens; what hangs can't, and is killed."""
    end = time.monotonic() + limit_s
    while in_session(session) and time.monotonic() < end:
        for pid, fields in _processes(session):
            if fields[0] == "T":
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _processes(session: int) -> Iterator[tuple[int, list[str]]]:
    """The processes of a session, each with its state, its parent and so on as in ``/proc/PID/stat``."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                yield int(folder.name), fields
