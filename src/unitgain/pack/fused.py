"""Adam's step by torch's fused kernel, over the members of a pack.

Shapes: K members, P parameters of a member, S steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.nn.layout import ALIGNMENT

Array = NDArray[np.float64]


@final
class Fused:
    """Torch's fused kernel over the rows of a pack; what has the same hyperparameters shares a call.

    A member's numbers don't depend on that: the kernel takes one tensor after the other. A row whose rates have factors
    is cut where they change, which is at multiples of the alignment.

    Args:
        kernel: ``torch._fused_adam_`` or ``torch._fused_adamw_``.
        blocks_KP: parameters and both moments.
        members: hyperparameters.
        lr_SK: rates of the steps to come.
        beta1_SK: likewise.
        factor_KP: of the rates, or None.
    """

    def __init__(
        self,
        kernel: Callable[..., None],
        blocks_KP: Sequence[Tensor],
        members: Sequence[Mapping[str, Any]],
        lr_SK: Array,
        beta1_SK: Array,
        factor_KP: Tensor | None,
    ) -> None:
        self._kernel = kernel
        self._count = torch.zeros(())
        self._gradient: Tensor | None = None
        groups: dict[object, list[_Run]] = {}
        for k, m in enumerate(members):
            key = (m["betas"][1], m["eps"], lr_SK[:, k].tobytes(), beta1_SK[:, k].tobytes())
            for run in _runs(blocks_KP[0], k, factor_KP):
                groups.setdefault((*key, m["weight_decay"], run.factor), []).append(run)
        self._groups = [
            (
                runs,
                [[block[r.k, r.start : r.end] for r in runs] for block in blocks_KP],
                (lr_SK[:, runs[0].k] * runs[0].factor).tolist(),
                beta1_SK[:, runs[0].k].tolist(),
                members[runs[0].k],
            )
            for runs in groups.values()
        ]

    def step(self, gradient_KP: Tensor, index: int, first_step: int) -> None:
        """Take the step ``first_step + index``."""
        self._count.fill_(first_step + index + 1)
        if gradient_KP is not self._gradient:
            self._gradient = gradient_KP
            self._parts = [
                [gradient_KP[r.k, r.start : r.end] for r in runs] for runs, *_ in self._groups
            ]
        for gradients, (runs, (theta, m, v), lr, beta1, given) in zip(
            self._parts, self._groups, strict=True
        ):
            decay = given["weight_decay"]
            self._kernel(
                theta,
                gradients,
                m,
                v,
                [],
                [self._count] * len(runs),
                lr=lr[index],
                beta1=beta1[index],
                beta2=given["betas"][1],
                # AdamW's kernel multiplies decay and rate.
                weight_decay=decay / runs[0].factor if self._decoupled else decay,
                eps=given["eps"],
                amsgrad=False,
                maximize=False,
            )

    @property
    def _decoupled(self) -> bool:
        return self._kernel is torch._fused_adamw_


@final
@dataclass(frozen=True)
class _Run:
    """Neighbouring parameters of member ``k`` whose rates have one factor."""

    k: int
    start: int
    end: int
    factor: float


def _runs(theta_KP: Tensor, k: int, factor_KP: Tensor | None) -> list[_Run]:
    """The runs of a member's row, each a multiple of the alignment."""
    size = theta_KP.shape[1]
    if factor_KP is None:
        return [_Run(k, 0, size, 1.0)]
    # The padding behind a tensor belongs to it: no boundary but at the beginning of one.
    factors = factor_KP[k, ::ALIGNMENT].tolist()
    starts = [i for i in range(len(factors)) if i == 0 or factors[i] != factors[i - 1]]
    ends = [*starts[1:], len(factors)]
    return [
        _Run(k, a * ALIGNMENT, min(b * ALIGNMENT, size), factors[a])
        for a, b in zip(starts, ends, strict=True)
    ]
