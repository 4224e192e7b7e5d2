"""Writing files in the background, while the pack goes on."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor

_THREADS = 16
"""A disk takes as long to keep one file as to keep many at once, and a thread that waits for it costs nothing."""


@final
class Saver:
    """Runs functions that write files in threads of its own, and raises what went wrong when it is asked to wait."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "unitgain-saver")
        self._pending: list[Future[None]] = []

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Begin with some tasks, once earlier ones are done."""
        self.wait()
        self._pending = [self._threads.submit(task) for task in tasks]

    def wait(self) -> None:
        """Wait until all tasks are done.

        Raises:
            Exception: the first that a task raised; the others have been tried nevertheless.
        """
        pending, self._pending = self._pending, []
        errors = [error for task in pending if (error := task.exception()) is not None]
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Let the tasks finish, and end the threads."""
        self._threads.shutdown()


@final
class Snapshot:
    """Tensors as they are now, on the host as soon as somebody asks; the device isn't waited for before.

    Args:
        tensors: what to copy.
        still: whether nobody will change them; then they serve themselves where they are on the host.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, still: bool = False) -> None:
        self._copied: torch.cuda.Event | None = None
        # In device memory first: that is quick, and training may go on over the original.
        copies = {name: tensor if still else tensor.clone() for name, tensor in tensors.items()}
        if not any(tensor.is_cuda for tensor in tensors.values()):
            self._tensors = copies
            return
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._tensors = {
                name: torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(
                    tensor, non_blocking=True
                )
                for name, tensor in copies.items()
            }
            for tensor in copies.values():
                tensor.record_stream(stream)
            self._copied = stream.record_event()

    def tensors(self) -> dict[str, Tensor]:
        """The copies, on the host."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensors
