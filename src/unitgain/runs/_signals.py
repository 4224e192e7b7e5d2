"""Signals that ask a process to end: the first is noted, so that work is saved before it ends."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, final

SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if name in signal.Signals.__members__
)
"""Ctrl-C, and what schedulers send before they take a job's machine away."""


@final
class InterruptedBySignal(KeyboardInterrupt):
    """A signal asked this process to end, and its work is saved.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@final
class EndingSignals:
    """While it is entered, the first signal that asks to end is noted, and doesn't end the process.

    A second Ctrl-C raises KeyboardInterrupt as usual; other signals are expected to come again and change nothing. Any
    other signal that the process ignores stays ignored. Where somebody else handles a signal, as submitit does to have
    a job started again, that is done at the end, once all is saved. In another thread than the main one nothing is
    noted.

    Args:
        first: is called with the first signal's number.

    Example:
        >>> with EndingSignals() as signals:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     signals.received == signal.SIGTERM
        True
    """

    def __init__(self, first: Callable[[int], None] | None = None) -> None:
        self.received = 0
        self._first = first
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        theirs = self._before.get(signal.Signals(self.received)) if self.received else None
        if callable(theirs) and theirs is not signal.default_int_handler:
            os.kill(os.getpid(), self.received)

    def install(self) -> None:
        """Take the signals, again where a library has taken them meanwhile."""
        for number, before in self._before.items():
            # Shells let commands behind an & ignore Ctrl-C, though a kill -INT is meant for them.
            ignored = before == signal.SIG_IGN and number != signal.SIGINT
            signal.signal(number, before if ignored else self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self.received:
            self.received = number
            if self._first is not None:
                self._first(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])


def cause_of_signal(number: int) -> str | None:
    """Why a run ended that a signal asked to end, beyond that somebody interrupted it.

    Example:
        >>> cause_of_signal(signal.SIGTERM), cause_of_signal(signal.SIGINT)
        ('preempted by SIGTERM', None)
    """
    if number in (0, signal.SIGINT):
        return None
    return f"preempted by {signal.Signals(number).name}"
