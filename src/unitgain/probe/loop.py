"""Gradient flow in a plain PyTorch loop."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from unitgain.errors import ConfigError
from unitgain.probe.flow import USUAL, Flow, Plan
from unitgain.probe.verdict import Verdict


@final
class Watched:
    """A loop under `watch`: it counts the steps as its optimizers take them.

    Attributes:
        step: steps that were taken. With several optimizers, a step is over when each has taken one.
    """

    def __init__(
        self, flow: Flow, optimizers: Sequence[Optimizer], scaler: GradScaler | None
    ) -> None:
        self.step = 0
        self._flow, self._optimizers, self._scaler = flow, list(optimizers), scaler
        self._stepped: set[Optimizer] = set()

    @property
    def verdict(self) -> Verdict | None:
        """The judgement of what was recorded, None before the first of it was looked at."""
        return self._flow.verdict

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers, in the order of their numbers in gradients.parquet, from 1."""
        return self._flow.layer_names

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """Clip all gradients by their norm, in place of ``torch.nn.utils.clip_grad_norm_``.

        The norms are taken once, for clipping and for the record, which holds them as they were before. With a gradient
        scaler, call its ``unscale_`` first, as for torch's.
        """
        return self._flow.clip_grad_norm_(self.step, max_norm)

    def flush(self) -> None:
        """Write and judge what was recorded so far; in a distributed run, all processes at once."""
        self._flow.flush()

    def _attach(self) -> Iterator[Any]:
        for optimizer in self._optimizers:
            yield optimizer.register_step_pre_hook(self._before)
            yield optimizer.register_step_post_hook(self._after)

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not _closure(args, kwargs):
            self._keep(optimizer)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if _closure(args, kwargs):
            self._keep(optimizer)
        self._stepped.add(optimizer)
        if len(self._stepped) == len(self._optimizers):
            self._stepped.clear()
            self._flow.after_step(self.step)
            self.step += 1
            self._flow.begin(self.step)

    def _keep(self, optimizer: Optimizer) -> None:
        alone = len(self._optimizers) == 1
        of = None if alone else [p for group in optimizer.param_groups for p in group["params"]]
        self._flow.before_step(self.step, of, scale_of(self._scaler))


@contextmanager
def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    directory: str | Path | None = None,
    probe: Literal["light", "full"] = "full",
    every: int | None = 10,
    per_decade: int | None = None,
    at: Collection[int] = (),
    quantities: Sequence[str] = USUAL,
    scaler: GradScaler | None = None,
) -> Iterator[Watched]:
    """Record how gradients flow through a model while a loop of one's own trains it, and judge it.

    The loop needs no further line: the optimizer's steps are counted as it takes them. Whatever passes there are before
    a step belong to it, several if gradients are accumulated. Hooks live during measured steps only, and none is left
    behind. In a distributed run, call it in every process, with the model that ``DistributedDataParallel`` made.

    Args:
        model: any module; the layers are those of `layer_groups`.
        optimizer: what trains it, or several of them.
        directory: where gradients.parquet and layers.json go; None for no files.
        probe: "light" for the norms of the weights' gradients alone, "full" for ``quantities``.
        every: optimizer steps between two measurements; None for none.
        per_decade: measurements in each power of ten of steps.
        at: further steps to measure.
        quantities: names from ``QUANTITIES``; by default those that the verdict needs and cheap ones.
        scaler: the gradient scaler, if there is one.

    Raises:
        ConfigError: arguments that make no sense.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> with watch(net, sgd) as watched:
        ...     for _ in range(20):
        ...         sgd.zero_grad()
        ...         net(torch.randn(16, 4)).square().mean().backward()
        ...         sgd.step()
        >>> watched.layer_names, watched.step
        (('0', '2', '4'), 20)
        >>> watched.verdict is None
        False
    """
    plan = Plan(probe, every, per_decade, at, quantities)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    if not optimizers:
        raise ConfigError("optimizer: must be one or several, got none; their steps are counted")
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    flow = Flow(inner, plan, None if directory is None else Path(directory))
    watched = Watched(flow, optimizers, scaler)
    failed = True
    with ExitStack() as undo:
        for handle in watched._attach():
            undo.callback(handle.remove)
        try:
            flow.begin(0)
            yield watched
            failed = False
        finally:
            flow.close(failed=failed)


def scale_of(scaler: GradScaler | None) -> float | Tensor | None:
    """The factor of a gradient scaler, without waiting for the device that it is on."""
    if scaler is None or not scaler.is_enabled():
        return None
    scale: Tensor | None = scaler._get_scale_async()
    # The scaler writes its next factor into the same tensor.
    return scaler.get_scale() if scale is None else scale.clone()


def _closure(args: Any, kwargs: Any) -> bool:
    """Whether an optimizer is given a function that computes the gradients inside of its step."""
    given = [*args[1:], kwargs.get("closure")]
    return any(callable(x) and not isinstance(x, torch.nn.Module) for x in given)
