"""What several processes measured, each on its own part of a batch, as one process would have on the whole.

Shapes: S measured steps, Q quantities, L layers.
"""

from collections.abc import Sequence

from torch import Tensor, distributed

_SQUARES = frozenset({"grad_preactivation"})
"""Quantities whose squares are means over the examples. The gradients of parameters are everywhere the same."""


def several_processes() -> bool:
    """Whether others train the same module on other parts of the batch."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def over_processes(value_SQL: Tensor, quantities: Sequence[str]) -> Tensor:
    r"""One row out of those of all processes, whose parts of the batch are equally large.

    Means over the examples are averaged, and so are squares where the square is such a mean. A variance is
    $E[\mathrm{var}] + \mathrm{var}[E]$ over the processes. What depends on pairs of examples or on a whole batch
    (correlation, silent and dead units, noise) is averaged too, and is then a statement about a process's part of it.

    Args:
        value_SQL: this process's rows; every process has as many.
        quantities: their names. ``activation_variance`` needs ``activation_mean`` beside it.
    """
    names = list(quantities)
    total = value_SQL.double()
    variance, mean = _place(names, "activation_variance"), _place(names, "activation_mean")
    squares = [q for q, name in enumerate(names) if name in _SQUARES]
    total[:, squares] = total[:, squares].square()
    if variance is not None and mean is not None:
        total[:, variance] += total[:, mean].square()
    distributed.all_reduce(total)
    total /= distributed.get_world_size()
    total[:, squares] = total[:, squares].sqrt()
    if variance is not None and mean is not None:
        total[:, variance] -= total[:, mean].square()
    return total


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return not (distributed.is_available() and distributed.is_initialized()) or (
        distributed.get_rank() == 0
    )


def _place(names: Sequence[str], name: str) -> int | None:
    return names.index(name) if name in names else None
