"""How each member of a pack stands: its best epoch, its patience, its end.

Shapes: K members.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Status = Literal["running", "finished", "diverged", "interrupted"]


@final
class Tracker:
    """The best value of the monitored metric of each member, and the state that had it.

    Args:
        members: K.
        mode: whether less or more of the metric is better.
        patience: epochs without improvement after which a member stops, None for never.
        min_delta: how much counts as improvement.
    """

    def __init__(
        self, members: int, mode: Literal["min", "max"], patience: int | None, min_delta: float
    ) -> None:
        self.sign = 1.0 if mode == "min" else -1.0
        self.patience, self.min_delta = patience, min_delta
        self.best_K = np.full(members, np.inf)
        self.best_epoch_K = np.full(members, -1)
        self.reference_K = np.full(members, np.inf)
        self.wait_K = np.zeros(members, dtype=np.int64)
        self.status: list[Status] = ["running"] * members
        self.best_state: dict[str, Tensor] | None = None

    @property
    def running(self) -> list[int]:
        """The members that go on."""
        return [k for k, status in enumerate(self.status) if status == "running"]

    def update(
        self, epoch: int, value_K: NDArray[np.float64], state: Mapping[str, Tensor]
    ) -> list[int]:
        """Take in an epoch's values; returns the members whose patience has run out.

        Args:
            epoch: that just ended.
            value_K: the monitored metric.
            state: the network's tensors, (K, ...) each; those of members that improved are copied.
        """
        score_K = self.sign * value_K
        going_K = np.isin(np.arange(len(value_K)), self.running)
        better_K = going_K & (score_K < self.best_K)
        enough_K = going_K & (score_K < self.reference_K - self.min_delta)
        self.wait_K[going_K] += 1
        self.wait_K[enough_K] = 0
        self.reference_K[enough_K] = score_K[enough_K]
        self.best_K[better_K] = score_K[better_K]
        self.best_epoch_K[better_K] = epoch
        self._keep(better_K, state)
        return [k for k in self.running if self.out_of_patience(k)]

    def take(self, rows: Sequence[int]) -> "Tracker":
        """How some members stand."""
        other = Tracker(len(rows), "min", self.patience, self.min_delta)
        other.sign = self.sign
        other.status = [self.status[k] for k in rows]
        index = np.asarray(rows, dtype=np.int64)
        for name in ("best_K", "best_epoch_K", "reference_K", "wait_K"):
            setattr(other, name, getattr(self, name)[index])
        if self.best_state is not None:
            other.best_state = {n: t[torch.from_numpy(index)] for n, t in self.best_state.items()}
        return other

    def out_of_patience(self, k: int) -> bool:
        """Whether member ``k`` has gone long enough without improvement."""
        return self.patience is not None and bool(self.wait_K[k] >= self.patience)

    def best_value(self, k: int) -> float | None:
        """The best value of member ``k``, None before there is one."""
        return None if self.best_epoch_K[k] < 0 else float(self.sign * self.best_K[k])

    def facts(self, k: int) -> dict[str, Any]:
        """What a checkpoint must keep of member ``k``, in plain types."""
        return {
            "best_value": self.best_value(k),
            "best_epoch": int(self.best_epoch_K[k]),
            "patience_value": float(self.sign * self.reference_K[k]),
            "epochs_without_improvement": int(self.wait_K[k]),
        }

    def restore(self, k: int, facts: Mapping[str, Any]) -> None:
        """The inverse of ``facts``."""
        if facts["best_value"] is not None:
            self.best_K[k] = self.sign * facts["best_value"]
        self.best_epoch_K[k] = facts["best_epoch"]
        self.reference_K[k] = self.sign * facts["patience_value"]
        self.wait_K[k] = facts["epochs_without_improvement"]

    def _keep(self, better_K: NDArray[np.bool_], state: Mapping[str, Tensor]) -> None:
        if not better_K.any():
            return
        if self.best_state is None or better_K.all():
            self.best_state = {name: tensor.clone() for name, tensor in state.items()}
            return
        for name, tensor in state.items():
            chosen = (
                torch.from_numpy(better_K).to(tensor.device).view(-1, *[1] * (tensor.dim() - 1))
            )
            torch.where(chosen, tensor, self.best_state[name], out=self.best_state[name])
