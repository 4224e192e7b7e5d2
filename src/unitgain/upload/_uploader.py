"""The side of the process that trains: it starts the one that uploads, leaves notes, and waits for so long."""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from unitgain.errors import ConfigError, UnitgainWarning
from unitgain.runs import atomic_write

INBOX = "UNITGAIN_UPLOADS"
"""The environment variable that tells worker processes where to leave notes."""
TIMEOUT = "UNITGAIN_UPLOAD_TIMEOUT"
"""The environment variable for the seconds without any progress after which uploads are given up."""
SECONDS = 30.0
_HOLD = "hold"
THREADS = 16
_POLL = 0.05


@final
@dataclass(frozen=True)
class Report:
    """What became of uploads.

    Args:
        done: the W&B page of each run that has arrived.
        left: why not, for each one that hasn't.
    """

    done: dict[Path, str]
    left: dict[Path, str]


@final
class Uploader:
    """Starts a process that uploads runs, and never waits for a server that does nothing.

    Args:
        threads: how many runs are uploaded at a time.

    Raises:
        ConfigError: the environment's time limit isn't one.
    """

    def __init__(self, threads: int = THREADS) -> None:
        timeout = _timeout()
        self.inbox = Path(tempfile.mkdtemp(prefix="unitgain-uploads-"))
        self._said, self._timeout = self.inbox / "said.jsonl", timeout
        # The client gives up first, and says why.
        arguments = [str(self.inbox), f"{0.8 * timeout:g}", str(threads)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "unitgain.upload", *arguments],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for training: what has been computed is still uploaded.
                start_new_session=True,
            )

    def close(self, heard: Callable[[Path, str], None] | None = None) -> Report:
        """Say that no more runs come, and wait until all have arrived or nothing gets on any more.

        Args:
            heard: called with each run that has arrived, and its page.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        done: dict[Path, str] = {}
        failed: dict[Path, str] = {}
        why = f"the server did nothing for {self._timeout:g} s"
        try:
            for message in self._messages():
                run, text = Path(message["run"]), message["text"]
                if message["what"] == "done":
                    done[run] = text
                    failed.pop(run, None)
                    if heard is not None:
                        heard(run, text)
                elif message["what"] == "failed":
                    done.pop(run, None)
                    failed[run] = text
        except KeyboardInterrupt:
            # Nothing is lost by not waiting.
            why = "interrupted"
        finally:
            self._end()
        noted = (json.loads(path.read_bytes()) for path in sorted(self.inbox.glob("*.json")))
        left = {Path(note["run"]): why for note in noted} | failed
        shutil.rmtree(self.inbox, ignore_errors=True)
        return Report(done, {run: each for run, each in left.items() if run not in done})

    def _messages(self) -> Iterator[dict[str, str]]:
        """What the process says, until it has ended or says nothing for too long."""
        heard = time.monotonic()
        with self._said.open("rb") as said:
            while True:
                ended = self._process.poll() is not None
                at = said.tell()
                line = said.readline()
                if line.endswith(b"\n"):
                    heard = time.monotonic()
                    yield json.loads(line)
                    continue
                said.seek(at)
                if ended or time.monotonic() - heard > self._timeout:
                    return
                time.sleep(_POLL)

    def _end(self) -> None:
        """End the process and the client's own service, at once if they are still at work."""
        if os.name == "posix":
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()


_private: tuple[Uploader, set[Path]] | None = None
"""The uploader of this process alone, where nobody outside has started one, and its runs under way."""


def announce(run: Path, *, ended: bool = False) -> None:
    """Have a run uploaded while it trains, from its beginning to its end.

    Inside `uploading` this costs a small file; otherwise a process is started, and the end of the last run
    waits for it.

    Args:
        run: the directory; `identify` has been there.
        ended: whether it is the end.
    """
    global _private  # noqa: PLW0603
    run, inbox = run.resolve(), os.environ.get(INBOX)
    if inbox is not None:
        if not (ended and (Path(inbox) / _HOLD).exists()):
            note(Path(inbox), run, ended=ended)
        return
    uploader, under_way = _private or (Uploader(), set())
    _private = uploader, under_way
    note(uploader.inbox, run, ended=ended)
    (under_way.discard if ended else under_way.add)(run)
    if not under_way:
        _private = None
        warn_of(uploader.close())


def note(inbox: Path, run: Path, *, ended: bool) -> None:
    """Tell an uploading process of a run's beginning or end.

    Args:
        inbox: of the process.
        run: the directory, absolute.
        ended: which of the two.
    """
    name = f"{time.time_ns():020}-{secrets.token_hex(4)}.json"
    # A folder that is gone belonged to an upload that was given up: the run's files are still there.
    with contextlib.suppress(FileNotFoundError):
        atomic_write(
            inbox / name, json.dumps({"run": str(run), "ended": ended}).encode(), durable=False
        )


@contextmanager
def uploading(*, wanted: bool = True, hold: bool = False) -> Iterator[None]:
    """Have all runs that train inside, in worker processes too, uploaded by one process; the end waits for it.

    Args:
        wanted: whether any run is to be uploaded; without that nothing is started.
        hold: no run has ended before the end: what follows training, such as a figure, belongs to it.
    """
    if not wanted or INBOX in os.environ:
        yield
        return
    uploader = Uploader()
    if hold:
        (uploader.inbox / _HOLD).touch()
    os.environ[INBOX] = str(uploader.inbox)
    try:
        yield
    finally:
        del os.environ[INBOX]
        warn_of(uploader.close())


def warn_of(report: Report) -> None:
    """Say in a line what has not been uploaded, and how it will be."""
    if not report.left:
        return
    runs, total = list(report.left), len(report.left) + len(report.done)
    what = near(runs[0]) if len(runs) == 1 else near(runs[0].parent)
    many = "the run was" if total == 1 else f"{len(runs)} of {total} runs were"
    warnings.warn(
        f"W&B: {many} not uploaded in full ({report.left[runs[0]]}); all numbers are in {what}, and "
        f"unitgain sync {shlex.quote(what)} uploads them later",
        UnitgainWarning,
        stacklevel=3,
    )


def _timeout() -> float:
    text = os.environ.get(TIMEOUT) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{TIMEOUT}: must be a number of seconds above 0, got {text}")
    return seconds


def near(path: Path) -> str:
    """A path as short as it can be written from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
