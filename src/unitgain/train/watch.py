"""How whoever runs a pack follows it and stops it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        directory: where everything is.
        status: finished, diverged or interrupted.
        metrics: of the best checkpoint, such as "test/accuracy".
        verdict: what the gradients say, in a line.
        monitor: the best value of the monitored metric.
        message: why the run isn't finished.
        signal: the number of the one that interrupted it, else 0.
    """

    directory: Path
    status: str
    metrics: dict[str, float]
    verdict: str
    monitor: float | None
    message: str | None
    signal: int = 0


class Watch(Protocol):
    """Follows a pack in training."""

    def stop(self) -> int:
        """Asked before each optimizer step: the number of the signal that asks to end, else 0.

        Once it isn't 0, the epoch is abandoned and the runs end as interrupted.
        """
        ...

    def epoch(self, done: int, epochs: int, running: int, member_steps: int) -> None:
        """Called after each epoch.

        Args:
            done: epochs behind the pack.
            epochs: of a whole run.
            running: members that go on.
            member_steps: optimizer steps of the epoch, those of all members counted.
        """
        ...

    def ended(self, k: int, result: RunResult) -> None:
        """Called when run ``k`` of the pack has ended and all its files are on disk."""
        ...
