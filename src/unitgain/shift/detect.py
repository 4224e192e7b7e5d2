r"""Two-sample tests: does the target come from the source's distribution? P-values are valid and never 0.

With many rows any difference is significant: effect sizes stand beside p-values.
Shapes: N source rows, M target rows, D features.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp, mannwhitneyu  # type: ignore[attr-defined]
from torch import Tensor

from unitgain.errors import ConfigError, DataError
from unitgain.shift._mmd import permuted_mmd
from unitgain.shift._rows import check_parts, shuffled
from unitgain.shift.classifier import Classifier, Kind, check_kinds
from unitgain.stats.intervals import bonferroni, holm, permutation_p_value

_TINY = 1e-300


@final
@dataclass(frozen=True)
class Detection:
    """What a test found.

    Attributes:
        name: of the test.
        p_value: above 0.
        statistic: what was tested.
        effect: how large the difference is, whatever the number of rows: see each test.
        p_values_D: adjusted p-values of the features, where the test is one of features.
        effects_D: their effects.
    """

    name: str
    p_value: float
    statistic: float
    effect: float
    p_values_D: tuple[float, ...] = ()
    effects_D: tuple[float, ...] = ()


class TwoSampleTest(abc.ABC):
    """Hyperparameters of a test of whether two sets of rows have one distribution.

    A new one is a frozen dataclass with `_test`, and a row in ``tests/shift/test_detect.py``.
    """

    @torch.no_grad()
    def __call__(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> Detection:
        """Test two sets of rows: inputs, hidden representations or predictions.

        Args:
            source_ND: rows of the source that nothing was trained on.
            target_MD: rows of the target.
            generator: draws permutations, halves and features.

        Raises:
            DataError: a part isn't finite or has fewer than four rows, or columns differ.
        """
        source, target = check_parts(source_ND, target_MD)
        for name, rows in (("source", source), ("target", target)):
            if len(rows) < 4:
                raise DataError(
                    f"{name}: a test must have at least 4 rows a part, it has {len(rows)}; add rows"
                )
        return self._test(source, target, generator)

    @abc.abstractmethod
    def _test(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> Detection: ...


@final
@dataclass(frozen=True)
class KolmogorovSmirnov(TwoSampleTest):
    """The Kolmogorov-Smirnov test of each feature, with one level for all.

    The effect is the largest distance between distribution functions, in [0, 1].

    Args:
        correction: ``holm`` or ``bonferroni``; they differ in the p-values of the features after the first.

    Raises:
        ConfigError: another correction.

    Example:
        >>> rows = torch.linspace(0, 1, 100)[:, None]
        >>> KolmogorovSmirnov()(rows, rows + 0.5, torch.Generator()).effect
        0.5

    Reference:
        Rabanser, Guennemann and Lipton (2019), arXiv 1810.11953, section 3.2.
    """

    correction: Literal["holm", "bonferroni"] = "holm"

    def __post_init__(self) -> None:
        if self.correction not in ("holm", "bonferroni"):
            raise ConfigError(
                f"correction: must be holm or bonferroni, got {self.correction}; choose one"
            )

    def _test(self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator) -> Detection:
        pairs = zip(source_ND.T.cpu().numpy(), target_MD.T.cpu().numpy(), strict=True)
        exact = len(source_ND) * len(target_MD) <= 10_000
        results = [_ks(one, other, "exact" if exact else "asymp") for one, other in pairs]
        effects = [distance for distance, _ in results]
        raw_D = np.array([max(p, _TINY) for _, p in results])
        adjusted = (holm if self.correction == "holm" else bonferroni)(raw_D).tolist()
        return Detection(
            "kolmogorov_smirnov",
            min(adjusted),
            max(effects),
            max(effects),
            tuple(adjusted),
            tuple(effects),
        )


def _ks(
    one_N: NDArray[np.float64], other_M: NDArray[np.float64], method: str
) -> tuple[float, float]:
    found = ks_2samp(one_N, other_M, method=method)
    return float(found.statistic), float(found.pvalue)


@final
@dataclass(frozen=True)
class MMD(TwoSampleTest):
    r"""The maximum mean discrepancy under a Gaussian kernel, by permutations of all rows.

    The unbiased :math:`MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)`, of the data and of all permutations in one pass:
    each block of the kernel is multiplied by the matrix of all permutations. With random features the kernel is that of
    :math:`\cos(\omega \cdot x + b)`, and time is linear in rows instead of quadratic: the choice
    from some 20,000 rows a part on. The effect is :math:`MMD^2`, in units of the kernel's value at
    0; the width is the median distance of the pool.

    Args:
        permutations: B; p-values are multiples of 1 / (1 + B).
        random_features: how many; 0 is the exact kernel.

    Raises:
        ConfigError: no permutations, or features below 0.

    Reference:
        Gretton et al. (2012), JMLR 13, equation 3; Rahimi and Recht (2007), NeurIPS 20, algorithm 1.
    """

    permutations: int = 199
    random_features: int = 0

    def __post_init__(self) -> None:
        if self.permutations < 1 or self.random_features < 0:
            raise ConfigError(
                "MMD: must have permutations and no fewer than 0 random features, "
                f"got {self.permutations} and {self.random_features}; 199 and 0 are the defaults"
            )

    def _test(self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator) -> Detection:
        statistics_B = permuted_mmd(
            torch.cat([source_ND, target_MD]),
            len(source_ND),
            self.permutations,
            self.random_features,
            generator,
        ).cpu()
        observed = float(statistics_B[0])
        p_value = permutation_p_value(observed, statistics_B[1:].numpy())
        return Detection("mmd", p_value, observed, observed)


@final
@dataclass(frozen=True)
class ClassifierTest(TwoSampleTest):
    r"""Can a classifier that was trained on half of the rows tell the parts in the other half?

    Its scores there are compared by the Mann-Whitney test, one-sided. The effect is the area under the ROC curve, 0.5
    where nothing can be told.

    Args:
        features: what the classifier sees: see `Classifier`.
        ridge: of its parameters.
        width: hidden units of ``mlp``.

    Raises:
        ConfigError: no such features, the ridge is below 0, or no hidden units.

    Reference:
        Lopez-Paz and Oquab (2017), arXiv 1610.06545, section 3; with the area in the place of the accuracy.
    """

    features: Kind = "linear"
    ridge: float = 1.0
    width: int = 32

    def __post_init__(self) -> None:
        check_kinds((self.features,), self.width)
        if self.ridge < 0:
            raise ConfigError(f"ridge: must be 0 or above, got {self.ridge:g}; 1 is usual")

    def _test(self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator) -> Detection:
        halves = [shuffled(rows, generator).tensor_split(2) for rows in (source_ND, target_MD)]
        classifier = Classifier(
            features=(self.features,), ridges=(self.ridge,), folds=1, width=self.width
        )
        ratio = classifier.fit(halves[0][0], halves[1][0], generator)
        one, other = (ratio(half[1]).cpu().numpy() for half in halves)
        found = mannwhitneyu(other, one, alternative="greater", method="asymptotic")
        area = float(found.statistic) / (len(one) * len(other))
        p_value = float(found.pvalue)
        name = f"classifier_{self.features}"
        return Detection(name, 1.0 if math.isnan(p_value) else max(p_value, _TINY), area, area)


@final
@dataclass(frozen=True)
class PortfolioResult:
    """What several tests found together.

    Attributes:
        detections: what each found by itself.
        adjusted: their p-values, adjusted by Holm for one family-wise level.
        p_value: the least of these: that of no shift at all.
    """

    detections: tuple[Detection, ...]
    adjusted: tuple[float, ...]
    p_value: float


@final
@dataclass(frozen=True)
class Portfolio:
    """Several tests at one family-wise level: no single test sees every kind of shift.

    Args:
        tests: run one after another.

    Raises:
        ConfigError: no tests.

    Example:
        >>> rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> result = Portfolio()(rows[:50], rows[50:] + 1, torch.Generator().manual_seed(0))
        >>> result.p_value < 0.05
        True

    Reference:
        Holm (1979), Scandinavian Journal of Statistics 6, section 2.
    """

    tests: Sequence[TwoSampleTest] = (
        KolmogorovSmirnov(),
        MMD(),
        ClassifierTest(),
        ClassifierTest(features="quadratic"),
    )

    def __post_init__(self) -> None:
        if not self.tests:
            raise ConfigError("tests: must name at least one test, got none; leave the default")

    def __call__(
        self, source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
    ) -> PortfolioResult:
        """Run all tests on two sets of rows.

        Raises:
            DataError: a part isn't finite or has fewer than four rows, or columns differ.
        """
        found = tuple(test(source_ND, target_MD, generator) for test in self.tests)
        adjusted = holm(np.array([detection.p_value for detection in found])).tolist()
        return PortfolioResult(found, tuple(adjusted), min(adjusted))
