import math

import pytest
import torch

from unitgain.errors import ConfigError, DataError
from unitgain.shift import (
    balance,
    clip,
    diagnose,
    effective_sample_size,
    flatten,
    normalise,
    pareto_k,
    relative_error,
    should_correct,
)


def gaussian_weights(rows, length, seed=0):
    """The weights of a Gaussian mean shift of that length, at source rows."""
    x = torch.randn(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (length * x - length**2 / 2).exp()


@pytest.mark.parametrize("length", [0.3, 0.6, 1.0])
def test_effective_share_of_a_gaussian_mean_shift(length):
    share = effective_sample_size(gaussian_weights(400_000, length)) / 400_000
    # Var w^2 is finite: E w^4 = exp(6 |mu|^2), so the mean square has a relative error of this size.
    error = math.sqrt((math.exp(4 * length**2) - 1) / 400_000)
    assert share == pytest.approx(math.exp(-(length**2)), rel=4 * error)


def test_effective_size_of_the_sinc_problem():
    """x from N(1, .5^2) to N(2, .25^2): E w^2 = 14.866."""
    x = torch.linspace(-2, 4, 200_001, dtype=torch.float64)
    source = (-2 * (x - 1) ** 2).exp() / 0.5
    target = (-8 * (x - 2) ** 2).exp() / 0.25
    second = float((target**2 / source).sum() * (x[1] - x[0]) / math.sqrt(2 * math.pi))
    assert second == pytest.approx(14.866, abs=5e-4)
    assert 1 / second == pytest.approx(0.0673, abs=5e-5)


def test_effective_size_between_one_and_all():
    assert effective_sample_size(torch.full((7,), 3.0)) == pytest.approx(7)
    assert effective_sample_size(
        torch.tensor([0.0, 0.0, 1e300], dtype=torch.float64)
    ) == pytest.approx(1)


def test_error_of_weights_that_are_all_alike():
    """With mean one the truth's mean square is 1 / share, and the difference's is that less one."""
    truth = gaussian_weights(1000, 0.8)
    share = effective_sample_size(truth) / 1000
    assert relative_error(torch.full((1000,), 5.0), truth) == pytest.approx(math.sqrt(1 - share))


def test_error_of_weights_does_not_depend_on_their_scale():
    truth, other = gaussian_weights(1000, 0.8), gaussian_weights(1000, 0.7)
    found = relative_error(other, truth)
    assert found == pytest.approx(0.2, abs=0.1)
    assert relative_error(3 * other, 7 * truth) == pytest.approx(found, rel=1e-12)


def test_error_of_weights_of_other_rows():
    with pytest.raises(DataError, match="must be of the same rows, got 2 and 3"):
        relative_error(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize(("variance", "expected"), [(1.5, 1 / 3), (2.0, 0.5), (4.0, 0.75)])
def test_tail_of_a_growing_variance(variance, expected):
    """N(0, 1) to N(0, s^2): P(w > t) falls like t^(-1/k), k = 1 - 1 / s^2, up to logarithms."""
    found = []
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(20_000, generator=g, dtype=torch.float64)
        found.append(pareto_k((x.square() * (1 - 1 / variance) / 2).exp()))
    assert sum(found) / 5 == pytest.approx(expected, abs=0.12)


def test_diagnose_agrees_with_its_parts():
    weights = gaussian_weights(500, 0.8)
    found = diagnose(weights)
    assert found.rows == 500
    assert found.ess == effective_sample_size(weights)
    assert found.ess_share == pytest.approx(found.ess / 500)
    assert found.pareto_k == pytest.approx(pareto_k(weights), abs=1e-12)
    assert found.max_share == pytest.approx(float(weights.max() / weights.sum()))


def test_balance_of_exact_weights():
    g = torch.Generator().manual_seed(0)
    source = torch.randn(50_000, 2, generator=g, dtype=torch.float64)
    target = torch.randn(50_000, 2, generator=g, dtype=torch.float64)
    target[:, 0] += 0.7
    table = balance(source, target, (0.7 * source[:, 0] - 0.245).exp())
    assert table.before_D.tolist() == pytest.approx([0.7, 0.0], abs=0.03)
    assert table.after_D.tolist() == pytest.approx([0.0, 0.0], abs=0.03)
    assert torch.allclose(table.target_D - table.source_D, table.before_D, atol=0.02)


def test_balance_of_constant_features():
    rows = torch.ones(3, 1)
    assert float(balance(rows, rows, torch.ones(3)).after_D) == 0
    assert float(balance(rows, 2 * rows, torch.ones(3)).after_D) == math.inf


def test_flattening_runs_from_no_correction_to_all_of_it():
    weights = gaussian_weights(1000, 1.0)
    assert torch.allclose(flatten(weights, 0.0), torch.ones(1000, dtype=torch.float64))
    assert torch.allclose(flatten(weights, 1.0), normalise(weights))
    sizes = [effective_sample_size(flatten(weights, e)) for e in (1.0, 0.7, 0.5, 0.2, 0.0)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("largest", [1.0, 1.5, 4.0, 1e6])
def test_clipping_keeps_the_mean_and_the_bound(largest):
    weights = gaussian_weights(1000, 1.0)
    clipped = clip(weights, largest)
    assert float(clipped.mean()) == pytest.approx(1.0, abs=1e-12)
    assert float(clipped.max()) <= largest + 1e-12
    below = clipped < largest
    assert torch.allclose(
        (clipped / weights)[below], (clipped / weights)[below][:1].expand(int(below.sum()))
    )


def test_clipping_where_few_weights_are_above_zero():
    assert clip(torch.tensor([0.0, 0.0, 0.0, 5.0]), 2.0).tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize(
    "transform", [normalise, lambda w: flatten(w, 0.5), lambda w: clip(w, 3.0)]
)
def test_transforms_have_mean_one_at_any_scale(transform):
    weights = gaussian_weights(50, 1.0)
    for factor in (1e-200, 1.0, 1e200):
        result = transform(factor * weights)
        assert float(result.mean()) == pytest.approx(1.0, abs=1e-12)
        assert torch.allclose(result, transform(weights))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (torch.tensor([1.0, -1.0]), "must be 0 or above"),
        (torch.zeros(3), "must have a positive sum"),
        (torch.tensor([]), "must be a vector of at least one number"),
        (torch.tensor([1.0, math.nan]), "must be finite"),
    ],
)
def test_weights_are_checked(weights, words):
    for function in (effective_sample_size, pareto_k, diagnose, normalise):
        with pytest.raises(DataError, match=words):
            function(weights)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="exponent: must be in"):
        flatten(torch.ones(2), 1.5)
    with pytest.raises(ConfigError, match="largest: must be"):
        clip(torch.ones(2), 0.5)
    with pytest.raises(DataError, match="must hold 3 numbers, holds 2"):
        balance(torch.zeros(3, 1), torch.zeros(2, 1), torch.ones(2))


def test_a_tail_that_there_is_not_is_said_in_words():
    weight_N = torch.rand(200, generator=torch.Generator().manual_seed(0)).pow(-0.3)
    found = diagnose(weight_N)
    assert float(found.tail) == pytest.approx(found.pareto_k, abs=0.005)
    assert diagnose(torch.ones(200)).tail == "none"
    assert diagnose(weight_N[:5]).tail == "unknown"
    said = should_correct(torch.ones(200), torch.full((200,), 0.5), torch.ones(200)).text
    assert said.endswith("200 effective rows of 200, tail index none.")
