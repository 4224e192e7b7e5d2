"""What weighted metrics in torchmetrics' interface have in common.

Shapes: N rows of a batch, C classes, T targets.
"""

import abc
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from unitgain.errors import ConfigError, DataError
from unitgain.pack import weighted_sums as sums
from unitgain.pack.weighted_sums import Sums

Kind = Literal["classification", "regression", "any"]
Merge = Callable[[Tensor], Tensor]


def add(stacked: Tensor) -> Tensor:
    """The sum of several sets of rows."""
    return stacked.sum(0)


def least(stacked: Tensor) -> Tensor:
    """The least of several sets of rows."""
    return stacked.amin(0)


def most(stacked: Tensor) -> Tensor:
    """The largest of several sets of rows."""
    return stacked.amax(0)


class WeightedMetric(Metric, abc.ABC):
    """A metric of rows that have weights.

    Args:
        validate_args: whether each batch is checked, which waits for the device.
        kwargs: those of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    kind: Kind = "classification"

    def __init__(self, *, validate_args: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validate_args = validate_args
        self.set_dtype(torch.float64)

    def update(self, preds: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Take in a batch.

        Args:
            preds: probabilities (N, C), or predictions as the targets are.
            target: class numbers (N,), or values (N,) or (N, T).
            weight: (N,) how much each row counts; None: once each.

        Raises:
            DataError: shapes don't belong together, or weights aren't finite numbers of 0 or above.
        """
        if weight is None:
            weight = torch.ones(len(target), dtype=torch.float64, device=target.device)
        if self.validate_args:
            _check(preds, target, weight, self.kind)
        if len(target):
            self._add(preds.detach(), target, weight.detach())

    @abc.abstractmethod
    def compute(self) -> Tensor:
        """The metric of all rows so far, of all processes.

        Raises:
            DataError: no row has a weight above 0.
        """

    @abc.abstractmethod
    def _add(self, preds: Tensor, target: Tensor, weight_N: Tensor) -> None:
        """Take in a checked batch of at least one row."""


class AdditiveMetric(WeightedMetric):
    """A metric that follows from sums over rows.

    A collection shares the state of metrics whose states have the same names: so each has its own.
    """

    def __init__(self, *, prefix: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._prefix = prefix or type(self).__name__
        self._merges: dict[str, Merge] = {}

    def _state(self, name: str, *shape: int, start: float = 0.0, merge: Merge = add) -> None:
        """Declare a sum: where it begins, and how those of batches and processes become one."""
        self._merges[name] = merge
        zero = torch.full(shape, start, dtype=torch.float64)
        self.add_state(f"{self._prefix}_{name}", zero, dist_reduce_fx=merge)

    def _add(self, preds: Tensor, target: Tensor, weight_N: Tensor) -> None:
        found = self._sums(preds.unsqueeze(0), target.unsqueeze(0), weight_N.unsqueeze(0))
        for name, merge in self._merges.items():
            key = f"{self._prefix}_{name}"
            setattr(self, key, merge(torch.stack([getattr(self, key), found[name][0]])))

    def compute(self) -> Tensor:
        """The metric of all rows so far, of all processes.

        Raises:
            DataError: no row has a weight above 0.
        """
        found = {name: getattr(self, f"{self._prefix}_{name}")[None] for name in self._merges}
        check_total(self._weight(found))
        return self._finish(found)[0]

    def _weight(self, found: Sums) -> Tensor:
        """The weight of all rows (1,)."""
        return found["weight"]

    @abc.abstractmethod
    def _sums(self, preds: Tensor, target: Tensor, weight_KN: Tensor) -> Sums:
        """The sums of a batch, with a leading dimension of 1."""

    @abc.abstractmethod
    def _finish(self, found: Sums) -> Tensor:
        """The metric (1,)."""


class RowMean(AdditiveMetric):
    """The weighted mean of a number that each row has."""

    higher_is_better: bool | None = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._state("total")
        self._state("weight")

    def _sums(self, preds: Tensor, target: Tensor, weight_KN: Tensor) -> Sums:
        return sums.mean_sums(self._values(preds, target), weight_KN)

    def _finish(self, found: Sums) -> Tensor:
        return sums.mean(found)

    @abc.abstractmethod
    def _values(self, preds: Tensor, target: Tensor) -> Tensor:
        """The number of each row (1, N)."""


def _check(preds: Tensor, target: Tensor, weight: Tensor, kind: Kind) -> None:
    """Refuse a batch that doesn't hang together.

    Raises:
        DataError: so it is.
    """
    shapes = f"{tuple(preds.shape)} and {tuple(target.shape)}"
    if kind == "classification":
        _check_classes(preds, target, shapes)
    elif kind == "regression" and (preds.shape != target.shape or preds.dim() not in (1, 2)):
        raise DataError(
            f"preds: must have the target's shape, (N,) or (N, T), got {shapes}; reshape one of them"
        )
    if weight.shape != target.shape[:1]:
        raise DataError(
            f"weight: must be one number a row, ({len(target)},), got {tuple(weight.shape)}; give one weight a row"
        )
    wrong = int((~(weight.isfinite() & (weight >= 0))).sum())
    if wrong:
        raise DataError(
            f"weight: must be finite numbers of 0 or above, {wrong} of {len(weight)} aren't; mend the weights"
        )


def _check_classes(preds: Tensor, target: Tensor, shapes: str) -> None:
    if preds.dim() != 2 or preds.shape[:1] != target.shape or not preds.is_floating_point():
        raise DataError(
            f"preds: must be probabilities (N, C) of targets (N,), got {shapes}; give a column a class"
        )
    if target.is_floating_point():
        raise DataError(f"target: must be class numbers, got {target.dtype}; convert them to int64")
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < preds.shape[1]:
        raise DataError(
            f"target: must be class numbers below {preds.shape[1]}, got {int(target.min())} to {int(target.max())}; "
            "give a probability for each class"
        )


def check_width(preds: Tensor, columns: int, name: str) -> None:
    """Refuse another number of columns than was declared."""
    if preds.shape[-1] != columns:
        raise DataError(
            f"preds: must have {columns} columns, got {preds.shape[-1]}; set {name}={preds.shape[-1]}"
        )


def check_total(weight: Tensor) -> None:
    """Refuse rows of which none counts; NaN is left to the result."""
    if bool((weight <= 0).all()):
        raise DataError(
            "weight: must have a positive sum, but no row has a weight above 0; update with rows that count"
        )


def at_least_two(classes: int) -> int:
    """A number of classes that can be told apart."""
    if classes < 2:
        raise ConfigError(f"num_classes: must be at least 2, got {classes}; count the columns")
    return classes
