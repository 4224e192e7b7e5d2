"""The process that uploads: ``python -m unitgain.upload INBOX TIMEOUT THREADS``.

Notes in the folder INBOX name run directories that begin and end; the end of standard input says that
there will be no more. Each thing that is done is a line of JSON on standard output.
"""

import json
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, final

from unitgain.errors import raised
from unitgain.upload._identity import members_of

if TYPE_CHECKING:
    from unitgain.upload._client import RunUpload
    from unitgain.upload._multirun import MultirunUpload

_POLL = 0.1
_FOLLOW = 2.0


@final
class _Process:
    """Follows the runs that the inbox names, each in a thread.

    Args:
        inbox: the folder of notes.
        timeout: seconds that the beginning and the end of an upload may take.
        threads: how many runs are followed at a time.
    """

    def __init__(self, inbox: Path, timeout: float, threads: int) -> None:
        self._inbox, self._timeout = inbox, timeout
        self._ended: dict[Path, threading.Event] = {}
        self._read: set[Path] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)
        self._scratch = inbox / "scratch"
        self._scratch.mkdir()
        self._heard = time.monotonic()
        self._parent = os.getppid()

    def serve(self) -> None:
        """Upload until no more is to come and everything is done."""
        threading.Thread(target=self._wait_for_close, daemon=True).start()
        while not self._closed.is_set():
            self._read_notes()
            self._closed.wait(_POLL)
        self._read_notes()
        for ended in self._ended.values():
            ended.set()
        threading.Thread(target=self._watch, daemon=True).start()
        self._pool.shutdown()
        self._leave(0)

    def _wait_for_close(self) -> None:
        sys.stdin.read()
        self._closed.set()

    def _watch(self) -> None:
        """End the process when nothing has got on for long: whoever started it may be gone."""
        while time.monotonic() - self._heard < 2 * self._timeout + 5:
            time.sleep(1)
        self._leave(1)

    def _leave(self, status: int) -> None:
        """End at once: what the client may still wait for is of no use any more."""
        if os.getppid() != self._parent:
            shutil.rmtree(self._inbox, ignore_errors=True)
        os._exit(status)

    def _read_notes(self) -> None:
        for path in sorted(self._inbox.glob("*.json")):
            if path in self._read:
                continue
            self._read.add(path)
            note = json.loads(path.read_bytes())
            run = Path(note["run"])
            # A run that is resumed in one process begins twice.
            if run not in self._ended or (not note["ended"] and self._ended[run].is_set()):
                self._ended[run] = threading.Event()
                self._pool.submit(self._follow, run, self._ended[run])
            if note["ended"]:
                self._ended[run].set()

    def _follow(self, run: Path, ended: threading.Event) -> None:
        """Upload a run until its end; a server that isn't there at its beginning is asked again then."""
        for last in (ended.is_set(), True):
            upload = None
            try:
                upload = _upload(run, self._scratch, self._timeout)
                self._say(run, "begun")
                while not ended.wait(_FOLLOW):
                    upload.advance()
                upload.finish()
                self._say(run, "done", upload.url)
                return
            # Whatever goes wrong with one run must be told, and leave the others alone.
            except Exception as error:
                self._say(run, "failed", raised(error))
                if last or upload is not None:
                    return
                ended.wait()

    def _say(self, run: Path, what: str, text: str = "") -> None:
        with self._lock:
            self._heard = time.monotonic()
            sys.stdout.write(json.dumps({"run": str(run), "what": what, "text": text}) + "\n")
            sys.stdout.flush()


def _upload(directory: Path, scratch: Path, timeout: float) -> "RunUpload | MultirunUpload":
    """That of a run, or of a multirun's folder as one run; the client is imported with the first."""
    if members_of(directory):
        from unitgain.upload._multirun import MultirunUpload

        return MultirunUpload(directory, scratch, timeout)
    from unitgain.upload._client import RunUpload

    return RunUpload(directory, scratch, timeout)


if __name__ == "__main__":
    if os.name == "posix":
        # Training comes first.
        os.nice(19)
    _Process(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])).serve()
