"""Writing files in the background, while the pack goes on."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor

from unitgain.runs import Batch


@final
class Saver:
    """Puts files in place in a thread of its own, and raises what went wrong when it is asked to wait."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "unitgain-saver")
        self._pending: Future[None] | None = None

    def run(self, tasks: Sequence[Callable[[Batch], None]]) -> None:
        """Let each task add its files to one batch, once earlier ones are in place.

        Raises:
            Exception: what an earlier task raised.
        """
        self.wait()
        self._pending = self._thread.submit(_commit, tasks)

    def wait(self) -> None:
        """Wait until all files are in place.

        Raises:
            Exception: what a task raised; then no file of its batch has been put in place.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Let the tasks finish, and end the thread."""
        self._thread.shutdown()


def _commit(tasks: Sequence[Callable[[Batch], None]]) -> None:
    with Batch() as batch:
        for task in tasks:
            task(batch)


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
