"""When to measure: a plain function of the step."""

import math
from collections.abc import Container


def due(
    step: int, *, every: int | None = None, per_decade: int | None = None, at: Container[int] = ()
) -> bool:
    r"""Whether a step is measured: one of every so many, one of a logarithmic grid, or one of a list.

    The grid has step 0 and the steps $10^{j / n}$, rounded, for j = 0, 1, ... and n steps a decade: many where training
    changes much, at its beginning.

    Args:
        step: optimizer steps taken before.
        every: distance of steps, from 0 on; None for none.
        per_decade: n; None for no grid.
        at: further steps.

    Example:
        >>> [step for step in range(30) if due(step, every=10)]
        [0, 10, 20]
        >>> [step for step in range(1001) if due(step, per_decade=3)]
        [0, 1, 2, 5, 10, 22, 46, 100, 215, 464, 1000]
        >>> [step for step in range(1000) if due(step, every=400, at=(3, 7))]
        [0, 3, 7, 400, 800]
    """
    if every and step % every == 0:
        return True
    if step in at:
        return True
    return bool(per_decade) and _on_grid(step, per_decade or 1)


def _on_grid(step: int, per_decade: int) -> bool:
    if step < 1:
        return True
    nearest = round(per_decade * math.log10(step))
    # Rounding moves a point of the grid by half a step, which is more than its neighbour's distance near 1.
    return any(round(10 ** (j / per_decade)) == step for j in range(nearest - 1, nearest + 2))
