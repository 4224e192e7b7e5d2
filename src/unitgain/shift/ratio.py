r"""Density ratios :math:`w(x) = p_{target}(x) / p_{source}(x)`: what an estimator is, and what it gives.

An `Estimator` is a frozen set of hyperparameters; `Estimator.fit` takes the rows of both parts and a random generator
and gives a `DensityRatio`, a function of rows whose mean over the source is one. All arithmetic is float64, on the
device of the rows. Nothing depends on the order of rows: random choices are made on sorted ones.
Shapes: N source rows, M target rows, R rows of any kind, D features.
"""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unitgain.errors import DataError
from unitgain.shift._rows import Scaler, check_parts, check_rows, chunks
from unitgain.shift.diagnostics import Diagnostics, check_weights, diagnose

RatioFunction = Callable[[Tensor], Tensor]
"""Rows (R, D) to ratios (R,) of 0 or above, up to a common factor."""


@final
@dataclass(frozen=True)
class DensityRatio:
    r"""An estimated density ratio, with mean one over the source rows that it was fitted on.

    Attributes:
        function: the ratio, before normalising.
        features: the number D of columns that rows have.
        scale: the factor that makes the mean over the source rows one.
        source_weight_N: the weights of the source rows of the fit.
        details: what was chosen by cross-validation and how well it did, by name.
    """

    function: RatioFunction
    features: int
    scale: float
    source_weight_N: Tensor
    details: Mapping[str, float]

    def __call__(self, rows_RD: Tensor) -> Tensor:
        """The weights of rows (R,), float64, on their device.

        Raises:
            DataError: rows aren't a finite matrix with as many columns as those of the fit.
        """
        rows = check_rows("rows", rows_RD, self.features)
        return self.scale * _evaluate(self.function, rows)

    def diagnostics(self) -> Diagnostics:
        """What the weights of the source rows leave of them."""
        return diagnose(self.source_weight_N)


class Estimator(abc.ABC):
    """Hyperparameters of a way to estimate density ratios.

    A new one is a frozen dataclass with `_ratio`, and a row in ``tests/shift/test_ratio.py``.
    """

    @torch.no_grad()
    def fit(self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator) -> DensityRatio:
        """Estimate the ratio of the densities that two sets of rows were drawn from.

        Args:
            source_ND: rows to be weighted, those of training.
            target_MD: rows of the distribution that counts.
            generator: draws folds and centres.

        Raises:
            DataError: a part is empty or not finite, columns differ, or the ratio is zero at every
                source row.
        """
        source, target = check_parts(source_ND, target_MD)
        function, details = self._ratio(source, target, generator)
        weight_N = _evaluate(function, source)
        mean = float(weight_N.mean())
        if not mean > 0:
            raise DataError(
                "target: must overlap the source, the estimated ratio is zero at every source row; "
                "use Uniform, or a wider kernel"
            )
        return DensityRatio(function, source.shape[1], 1 / mean, weight_N / mean, details)

    @abc.abstractmethod
    def _ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        """The ratio as a function of rows, up to a factor, and details of the fit."""


class ScaledEstimator(Estimator):
    """An estimator that sees features centred and scaled by both parts."""

    def _ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        scaler = Scaler.of(source_ND, target_MD)
        function, details = self._scaled_ratio(scaler(source_ND), scaler(target_MD), generator)
        return _OfScaled(function, scaler), details

    @abc.abstractmethod
    def _scaled_ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        """The ratio as a function of scaled rows, up to a factor, and details of the fit."""


@final
@dataclass(frozen=True)
class _OfScaled:
    function: RatioFunction
    scaler: Scaler

    def __call__(self, rows_RD: Tensor) -> Tensor:
        return self.function(self.scaler(rows_RD))


def _evaluate(function: RatioFunction, rows_RD: Tensor) -> Tensor:
    return torch.cat([function(rows) for rows in chunks(rows_RD)])


@final
@dataclass(frozen=True)
class Uniform(Estimator):
    """The ratio one everywhere: no correction.

    Example:
        >>> rows = torch.zeros(2, 1)
        >>> Uniform().fit(rows, rows + 1, torch.Generator())(rows)
        tensor([1., 1.], dtype=torch.float64)
    """

    def _ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        return _ones, {}


def _ones(rows_RD: Tensor) -> Tensor:
    return rows_RD.new_ones(len(rows_RD))


@final
@dataclass(frozen=True)
class Oracle(Estimator):
    """The true ratio, normalised to mean one over the source rows.

    Args:
        function: rows (R, D) in float64 to ratios (R,) of 0 or above.

    Raises:
        DataError: in `fit`, the function gives something else.

    Example:
        >>> shifted = Oracle(lambda rows: (rows[:, 0] - 0.5).exp())  # N(0, 1) to N(1, 1)
        >>> ratio = shifted.fit(torch.zeros(3, 1), torch.ones(2, 1), torch.Generator())
        >>> ratio(torch.ones(1, 1))
        tensor([2.7183], dtype=torch.float64)
    """

    function: Callable[[Tensor], Tensor]

    def _ratio(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> tuple[RatioFunction, dict[str, float]]:
        weight_N = check_weights(self.function(source_ND), len(source_ND))
        return self.function, {"mean": float(weight_N.mean())}
