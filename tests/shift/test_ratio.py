"""What holds for every estimator of density ratios."""

import math

import pytest
import torch

from unitgain.errors import ConfigError, DataError
from unitgain.shift import (
    KLIEP,
    KMM,
    ULSIF,
    Classifier,
    NearestNeighbour,
    Oracle,
    RuLSIF,
    Uniform,
)

ESTIMATORS = {
    "classifier": Classifier(ridges=(10.0, 1.0), folds=3),
    "linear": Classifier(features=("linear",), calibrate=False),
    "calibrated": Classifier(features=("linear",), ridges=(1.0,), calibrate=True, folds=3),
    "quadratic": Classifier(features=("quadratic",), ridges=(10.0, 1.0), folds=2),
    "mlp": Classifier(features=("mlp",), ridges=(1.0,), folds=2, width=4),
    "kmm": KMM(),
    "kliep": KLIEP(widths=(0.25, 1.0), centres=50, folds=2),
    "ulsif": ULSIF(),
    "rulsif": RuLSIF(),
    "neighbour": NearestNeighbour(),
    "oracle": Oracle(lambda rows: (rows[:, 0] - 0.5).clamp(max=50).exp()),
    "uniform": Uniform(),
}
CORRECTING = [name for name in ESTIMATORS if name != "uniform"]
ESTIMATED = [name for name in CORRECTING if name != "oracle"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def parts(source=200, target=200, features=1, shift=1.0, seed=1):
    """Rows of N(0, 1) and of N(shift, 1) in the first feature."""
    g = generator(seed)
    first = torch.randn(source, features, generator=g, dtype=torch.float64)
    second = torch.randn(target, features, generator=g, dtype=torch.float64)
    second[:, 0] += shift
    return first, second


@pytest.mark.parametrize("name", CORRECTING)
@pytest.mark.parametrize(("n_source", "n_target"), [(300, 300), (400, 100), (100, 400)])
def test_weights_point_from_source_to_target(name, n_source, n_target):
    source, target = parts(n_source, n_target)
    ratio = ESTIMATORS[name].fit(source, target, generator())
    weighted = float((ratio.source_weight_N @ source[:, 0]) / n_source)
    # A relative ratio is a flattened one, and so are sums of few kernels.
    assert 0.6 < weighted < 1.4
    assert float(ratio(torch.tensor([[1.5]]))) > 1 > float(ratio(torch.tensor([[-0.5]])))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(("n_source", "n_target"), [(90, 60), (40, 70), (1, 1), (1, 5), (5, 1)])
def test_mean_is_one_under_the_source(name, n_source, n_target):
    source, target = parts(n_source, n_target, features=2)
    ratio = ESTIMATORS[name].fit(source, target, generator())
    weights = ratio(source)
    assert weights.shape == (n_source,)
    assert weights.dtype == torch.float64
    assert bool((weights >= 0).all())
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-9)
    assert torch.allclose(weights, ratio.source_weight_N, atol=1e-9)
    assert 1 <= ratio.diagnostics().ess <= n_source + 1e-9


@pytest.mark.parametrize("name", ESTIMATORS)
def test_order_of_rows_does_not_matter(name):
    source, target = parts(60, 50, features=3)
    order = torch.randperm(60, generator=generator(2))
    back = torch.randperm(50, generator=generator(3))
    one = ESTIMATORS[name].fit(source, target, generator())
    other = ESTIMATORS[name].fit(source[order], target[back], generator())
    assert torch.allclose(one.source_weight_N[order], other.source_weight_N, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_generator_is_all_that_is_random(name):
    source, target = parts(40, 40)
    one, other = (ESTIMATORS[name].fit(source, target, generator(5)) for _ in range(2))
    assert torch.equal(one.source_weight_N, other.source_weight_N)


@pytest.mark.parametrize("name", ESTIMATED)
def test_duplicated_rows_and_constant_features(name):
    source, target = parts(60, 60)
    constant = torch.full((120, 2), 1e6 + 0.1, dtype=torch.float64)
    ratio = ESTIMATORS[name].fit(
        torch.cat([source.repeat(2, 1), constant], 1),
        torch.cat([target.repeat(2, 1), constant], 1),
        generator(),
    )
    weights = ratio.source_weight_N
    assert torch.allclose(weights[:60], weights[60:], rtol=1e-9)
    assert float(weights @ source.repeat(2, 1)[:, 0] / 120) > 0.3


@pytest.mark.parametrize("name", ESTIMATORS)
def test_all_rows_equal(name):
    rows = torch.ones(10, 2, dtype=torch.float64)
    weights = ESTIMATORS[name].fit(rows, rows[:7], generator()).source_weight_N
    assert torch.allclose(weights, torch.ones_like(weights), atol=1e-6)


@pytest.mark.parametrize("name", ESTIMATED)
def test_fewer_rows_than_features(name):
    source, target = parts(12, 15, features=40, shift=3.0)
    ratio = ESTIMATORS[name].fit(source, target, generator())
    assert bool(ratio.source_weight_N.isfinite().all())
    assert bool(ratio(target).isfinite().all())


@pytest.mark.parametrize("name", ESTIMATED)
def test_parts_without_overlap_give_finite_weights_or_say_so(name):
    source, target = parts(40, 40, shift=100.0)
    try:
        weights = ESTIMATORS[name].fit(source, target, generator()).source_weight_N
    except DataError as caught:
        weights, error = torch.ones(40), str(caught)
    else:
        error = "must overlap"
    assert bool(weights.isfinite().all())
    assert "must overlap" in error


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (torch.zeros(0, 2), torch.zeros(3, 2), "source: must hold at least one row, holds none"),
        (torch.zeros(3, 2), torch.zeros(0, 2), "target: must hold at least one row, holds none"),
        (torch.full((3, 2), math.nan), torch.zeros(3, 2), "source: must be finite, 3 of 3 rows"),
        (torch.zeros(3, 2), torch.full((3, 2), math.inf), "target: must be finite, 3 of 3 rows"),
        (torch.zeros(3, 2), torch.zeros(3, 1), "target: must have 2 features, has 1"),
        (torch.zeros(3), torch.zeros(3, 1), r"source: must be a matrix .* has shape \(3,\)"),
    ],
)
def test_faults_are_one_line(name, source, target, words):
    with pytest.raises(DataError, match=words) as caught:
        ESTIMATORS[name].fit(source, target, generator())
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_rows_of_a_ratio_are_checked():
    ratio = Uniform().fit(torch.zeros(3, 2), torch.zeros(3, 2), generator())
    with pytest.raises(DataError, match="rows: must have 2 features, has 3"):
        ratio(torch.zeros(1, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Classifier(features=()),
        lambda: Classifier(ridges=(-1.0,)),
        lambda: Classifier(features=("mlp",), width=0),
        lambda: Classifier(features=("cubic",)),
        lambda: KMM(bound=1.0),
        lambda: ULSIF(widths=()),
        lambda: ULSIF(centres=0),
        lambda: RuLSIF(alpha=1.0),
        lambda: KLIEP(widths=(0.0,)),
        lambda: NearestNeighbour(()),
    ],
)
def test_hyperparameters_are_checked(wrong):
    with pytest.raises(ConfigError, match=r"must be|must have"):
        wrong()


def test_integers_and_float32_are_taken():
    source, target = parts(30, 30)
    ratio = Classifier().fit(source.float(), (10 * target).long().float(), generator())
    assert ratio.source_weight_N.dtype == torch.float64


def test_logistic_error_falls_like_the_root_of_n():
    """The slope of the log error in log n is -1/2: a scaling law of any parametric fit."""
    errors = []
    sizes = [250, 1000, 4000]
    for n in sizes:
        squares = []
        for seed in range(8):
            source, target = parts(n, n, seed=seed)
            fitted = Classifier(features=("linear",), ridges=(1e-3,), calibrate=False, folds=2)
            weights = fitted.fit(source, target, generator()).source_weight_N
            truth = (source[:, 0] - 0.5).exp()
            squares.append(float((weights - truth).square().mean() / truth.square().mean()))
        errors.append(sum(squares) / len(squares))
    slope = math.log(errors[-1] / errors[0]) / math.log(sizes[-1] / sizes[0]) / 2
    assert -0.75 < slope < -0.3


def test_calibration_undoes_what_a_strong_ridge_flattens():
    source, target = parts(1000, 1000)
    truth = (source[:, 0] - 0.5).exp()
    errors = []
    for calibrate in (False, True):
        estimator = Classifier(features=("linear",), ridges=(1000.0,), calibrate=calibrate)
        ratio = estimator.fit(source, target, generator())
        errors.append(float((ratio.source_weight_N - truth).square().mean()))
    assert ratio.details["slope"] > 1.5
    assert errors[1] < 0.3 * errors[0]


def test_kernel_mean_matching_solves_its_primal():
    """The conditions of Karush, Kuhn and Tucker, with all rows as centres: enough for a convex problem."""
    source, target = parts(20, 15, shift=1.0)
    ridge, bound = 1e-2, 2.5
    estimator = KMM(centres=1000, bound=bound, widths=(1.0,), ridges=(ridge,), folds=1)
    ratio = estimator.fit(source, target, generator())
    w = ratio.source_weight_N
    mean = (source.mean(0) + target.mean(0)) / 2
    spread = (((source - mean).square().mean(0) + (target - mean).square().mean(0)) / 2).sqrt()
    width = ratio.details["width"] * spread
    within, across = (
        (-0.5 * torch.cdist(source, rows).square() / width**2).exp() for rows in (source, target)
    )
    slope = within @ w / 20 - across.mean(1) + ridge * (w - 1)
    free = (w > 1e-9) & (w < bound - 1e-9)
    level = slope[free].mean()
    assert 2 <= int(free.sum()) < 20
    assert float(w.max()) == pytest.approx(bound)
    assert torch.allclose(slope[free], level.expand(int(free.sum())), atol=1e-7)
    assert bool((slope[w <= 1e-9] >= level - 1e-7).all())
    assert bool((slope[w >= bound - 1e-9] <= level + 1e-7).all())
