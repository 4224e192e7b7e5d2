"""What a member of a pack costs, and how many suit a machine; plain arithmetic, without torch."""

from dataclasses import dataclass
from itertools import pairwise
from typing import final

from unitgain.spec import RunSpec

_CACHE = 12 * 2**20
"""Bytes of a step's working set at which packs are quickest on CPU: what a core finds near itself (see benchmarks)."""
_FEWEST, _MOST = 8, 128
_MOMENTS = {"SGD": 1, "Adam": 2, "AdamW": 2, "RMSprop": 2}


@final
@dataclass(frozen=True)
class Cost:
    """What one member takes.

    Args:
        parameters: numbers trained.
        bytes: memory while it trains: parameters, gradient and optimizer state, their copies of the epoch's start and
            of the best epoch, and the activations of a batch.
        step_bytes: of these, what every step touches.
        flops: floating-point operations of a step, those of matrix products.
    """

    parameters: int
    bytes: int
    step_bytes: int
    flops: float


def member_cost(spec: RunSpec, n_features: int, n_outputs: int) -> Cost:
    """The cost of a member of a run's shape.

    Args:
        spec: the run.
        n_features: what its table has.
        n_outputs: classes or targets.

    Example:
        >>> from unitgain.spec import parse
        >>> cost = member_cost(parse({}), 64, 10)
        >>> cost.parameters, cost.flops
        (25610, 9682944.0)
    """
    widths = (n_features, *spec.model.widths, n_outputs)
    weights = sum(a * b for a, b in pairwise(widths))
    normed = 2 * sum(spec.model.widths) if spec.norm.target.startswith("unitgain.") else 0
    parameters = weights + (sum(widths[1:]) if spec.model.bias else 0) + normed
    number = 8 if spec.trainer.precision == "64" else 4
    state = 1 + _MOMENTS.get(spec.optimizer.target.rpartition(".")[2], 2)
    activations = spec.data.batch_size * sum(widths) * (2 if normed or _drops(spec) else 1)
    widest = 2 * spec.data.batch_size * max(widths)
    step = number * (parameters * (state + 1) + activations + widest)
    copies = number * parameters * (state + 1)
    measured = number * (2 * parameters + activations) if spec.probe.measures else 0
    return Cost(
        parameters=parameters,
        bytes=step + copies + measured,
        step_bytes=step,
        flops=6.0 * spec.data.batch_size * weights,
    )


def members_on_cpu(cost: Cost) -> int:
    """The size of pack at which a member's step is quickest on a CPU.

    With fewer, the calls weigh; with more, a step no longer finds its numbers in the caches.
    """
    return max(_FEWEST, min(_MOST, _CACHE // cost.step_bytes))


def _drops(spec: RunSpec) -> bool:
    return bool(spec.dropout.arguments().get("p"))
