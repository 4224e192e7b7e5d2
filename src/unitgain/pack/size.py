"""How large a member of a pack is, and how many suit the processor's caches: arithmetic alone, without torch."""

from dataclasses import dataclass
from itertools import pairwise

from unitgain.spec import RunSpec

_COPIES = 8
"""Of the parameters: themselves, gradient, two of the optimizer's, the best, and those at the epoch's boundary."""
_CACHE = 4 * 2**20
_FEWEST, _MOST = 8, 128


@dataclass(frozen=True)
class Cost:
    """What one member costs.

    Args:
        parameters: numbers trained.
        bytes: of memory while it trains.
        flops: of one optimizer step.
    """

    parameters: int
    bytes: int
    flops: float


def member_cost(spec: RunSpec, n_features: int, n_outputs: int) -> Cost:
    """What a member costs, from the shape of its network.

    Example:
        >>> from unitgain.spec import parse
        >>> member_cost(parse({"model": {"_target_": "unitgain.nn.MLP", "depth": 2}}), 64, 10).parameters
        8970
    """
    sizes = [n_features, *spec.model.widths, n_outputs]
    products = sum(before * after for before, after in pairwise(sizes))
    parameters = products + sum(sizes[1:])
    batch, itemsize = spec.data.batch_size, 8 if spec.trainer.precision == "64" else 4
    bytes_ = itemsize * (_COPIES * parameters + 4 * batch * sum(sizes))
    return Cost(parameters, bytes_, 6.0 * batch * products)


def members_on_cpu(cost: Cost) -> int:
    """How many members one pack should have on a CPU: as many as its caches hold, within bounds."""
    return max(_FEWEST, min(_MOST, _CACHE // max(cost.bytes // 4, 1)))
