"""Two-sample tests: level, power, and slow twins."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from unitgain.errors import ConfigError, DataError
from unitgain.shift import MMD, ClassifierTest, KolmogorovSmirnov, Portfolio
from unitgain.shift._mmd import permuted_mmd

TESTS = {
    "ks": KolmogorovSmirnov(),
    "ks_bonferroni": KolmogorovSmirnov(correction="bonferroni"),
    "mmd": MMD(permutations=39),
    "mmd_random_features": MMD(permutations=39, random_features=50),
    "classifier_linear": ClassifierTest(),
    "classifier_quadratic": ClassifierTest(features="quadratic"),
    "classifier_mlp": ClassifierTest(features="mlp", width=4),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(rows, features, seed):
    return torch.randn(rows, features, generator=generator(seed), dtype=torch.float64)


def test_mmd_agrees_with_a_loop_over_pairs():
    rows = normal(13, 2, 0)
    found = permuted_mmd(rows, 5, 3, 0, generator(1))
    width = float(torch.pdist(rows).median())
    kernel = (-0.5 * torch.cdist(rows, rows).square() / width**2).exp()

    def pairs(one, other):
        values = [kernel[i, j] for i in one for j in other if i != j]
        return float(sum(values)) / len(values)

    first, second = range(5), range(5, 13)
    slow = pairs(first, first) + pairs(second, second) - 2 * pairs(first, second)
    assert float(found[0]) == pytest.approx(slow, abs=1e-6)
    assert found.shape == (4,)


def test_random_features_tend_to_the_exact_kernel():
    rows = torch.cat([normal(60, 2, 0), normal(60, 2, 1) + 0.7])
    exact = float(permuted_mmd(rows, 60, 1, 0, generator(1))[0])
    random = float(permuted_mmd(rows, 60, 1, 20_000, generator(1))[0])
    assert random == pytest.approx(exact, abs=0.01)
    assert exact > 0.05


def test_mmd_is_unbiased_under_the_null_hypothesis():
    statistics = permuted_mmd(normal(60, 2, 3), 20, 4000, 0, generator(0))[1:]
    error = float(statistics.std()) / math.sqrt(4000)
    assert float(statistics.mean()) == pytest.approx(0, abs=4 * error)


def test_kolmogorov_smirnov_is_scipys():
    source, target = normal(50, 3, 0), normal(80, 3, 1) + torch.tensor([0.0, 0.5, 0.0])
    found = KolmogorovSmirnov(correction="bonferroni")(source, target, generator())
    raw = [ks_2samp(source[:, d], target[:, d]) for d in range(3)]
    assert found.p_values_D == pytest.approx([min(1, 3 * r.pvalue) for r in raw])
    assert found.effects_D == pytest.approx([r.statistic for r in raw])
    assert found.p_value == min(found.p_values_D)
    assert int(np.argmin(found.p_values_D)) == 1


@pytest.mark.parametrize("name", TESTS)
def test_level_is_kept(name):
    """At most 5 %, and where p-values are nearly continuous not much less."""
    repetitions = 120
    rejected = sum(
        TESTS[name](normal(40, 2, 2 * s), normal(30, 2, 2 * s + 1), generator(s)).p_value <= 0.05
        for s in range(repetitions)
    )
    # Four standard errors above: 0.05 + 4 * sqrt(0.05 * 0.95 / 120) = 0.13.
    assert rejected / repetitions <= 0.13


@pytest.mark.parametrize("name", TESTS)
def test_a_large_shift_is_seen_and_p_is_above_zero(name):
    found = TESTS[name](normal(300, 3, 0), normal(200, 3, 1) + 3.0, generator())
    assert 0 < found.p_value <= 0.025
    assert found.effect > 0.2


@pytest.mark.parametrize("name", TESTS)
def test_order_of_rows_does_not_matter_in_the_statistic(name):
    source, target = normal(40, 2, 0), normal(50, 2, 1) + 0.4
    order = torch.randperm(40, generator=generator(2))
    one = TESTS[name](source, target, generator())
    other = TESTS[name](source[order], target, generator())
    assert other.statistic == pytest.approx(one.statistic, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", TESTS)
def test_constant_rows(name):
    rows = torch.ones(30, 2)
    assert TESTS[name](rows, rows[:20], generator()).p_value == pytest.approx(1.0, abs=0.51)


def test_each_kind_of_shift_has_its_test():
    """Scale is for quadratic features, correlation too; means are for all."""
    source = normal(1000, 3, 0)
    wide = 1.5 * normal(1000, 3, 1)
    assert TESTS["classifier_quadratic"](source, wide, generator()).p_value < 0.01
    assert TESTS["classifier_linear"](source, wide, generator()).p_value > 0.01
    related = normal(1000, 3, 2)
    related[:, 1] = 0.6 * related[:, 0] + 0.8 * related[:, 1]
    assert TESTS["classifier_quadratic"](source, related, generator()).p_value < 0.01
    assert TESTS["ks"](source, related, generator()).p_value > 0.01


def test_portfolio_keeps_one_level_for_all():
    portfolio = Portfolio(tests=(KolmogorovSmirnov(), ClassifierTest()))
    result = portfolio(normal(300, 2, 0), normal(300, 2, 1) + 0.6, generator())
    raw = sorted(detection.p_value for detection in result.detections)
    assert result.p_value == pytest.approx(2 * raw[0])
    assert all(a >= d.p_value for a, d in zip(result.adjusted, result.detections, strict=True))
    assert [d.name for d in result.detections] == ["kolmogorov_smirnov", "classifier_linear"]


def test_effect_does_not_grow_with_rows():
    """A difference too small to matter is significant with many rows, and its effect stays small."""
    found = KolmogorovSmirnov()(normal(200_000, 1, 0), normal(200_000, 1, 1) + 0.03, generator())
    assert found.p_value < 1e-6
    assert found.effect < 0.02


def test_faults_are_one_line():
    rows = normal(10, 2, 0)
    for test in TESTS.values():
        with pytest.raises(DataError, match="source: a test must have at least 4 rows"):
            test(rows[:3], rows, generator())
        with pytest.raises(DataError, match="target: must have 2 features, has 1"):
            test(rows, rows[:, :1], generator())
    for wrong in (
        lambda: MMD(permutations=0),
        lambda: MMD(random_features=-1),
        lambda: KolmogorovSmirnov(correction="none"),
        lambda: ClassifierTest(ridge=-1.0),
        lambda: Portfolio(tests=()),
    ):
        with pytest.raises(ConfigError, match="must"):
            wrong()
