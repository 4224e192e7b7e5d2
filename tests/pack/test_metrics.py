"""Packed metrics against torchmetrics and scikit-learn, one member after another."""

import warnings
from functools import partial

import pytest
import sklearn.metrics
import torch
import torchmetrics
import torchmetrics.functional as tm

from unitgain.errors import ConfigError
from unitgain.pack import metrics
from unitgain.pack.metrics import MemberwiseMetric, as_metric, higher_is_better

CLASSIFICATION = [metrics.accuracy, metrics.f1_macro, metrics.auroc, metrics.ece, metrics.log_loss]
REGRESSION = [metrics.mae, metrics.mse, metrics.rmse, metrics.r2]


def drawn(members, rows, classes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(members, rows, classes, generator=generator, dtype=dtype)
    target = torch.randint(0, classes, (members, rows), generator=generator)
    return logits.softmax(-1), target


def with_ties(members, rows, classes):
    """Probabilities in tenths, rows that tie within and between them."""
    probabilities, target = drawn(members, rows, classes, seed=1)
    tenths = (10 * probabilities).round() + 1
    return tenths / tenths.sum(-1, keepdim=True), target


def with_absent_classes(members, rows, classes):
    """No row of the last class, and none of them predicted as it either."""
    probabilities, target = drawn(members, rows, classes, seed=2)
    probabilities[..., -1] = 0
    return probabilities / probabilities.sum(-1, keepdim=True), target % max(classes - 1, 1)


def saturated(members, rows, classes):
    """Probabilities of exactly 0 and 1."""
    probabilities, target = drawn(members, rows, classes, seed=3)
    return torch.nn.functional.one_hot(probabilities.argmax(-1), classes).float(), target


def one_class_only(members, rows, classes):
    probabilities, target = drawn(members, rows, classes, seed=4)
    return probabilities, torch.zeros_like(target)


DRAWS = [drawn, with_ties, with_absent_classes, saturated, one_class_only]


def expected_of(function, probabilities, target):
    """One member's metric by torchmetrics, or by scikit-learn for the one that it lacks."""
    classes = probabilities.shape[-1]
    if function is metrics.accuracy:
        return tm.classification.multiclass_accuracy(
            probabilities, target, classes, average="micro"
        )
    if function is metrics.f1_macro:
        return tm.classification.multiclass_f1_score(
            probabilities, target, classes, average="macro"
        )
    if function is metrics.auroc and classes == 2:
        return tm.classification.binary_auroc(probabilities[:, 1], target)
    if function is metrics.auroc:
        return tm.classification.multiclass_auroc(probabilities, target, classes, average="macro")
    if function is metrics.ece:
        return tm.classification.multiclass_calibration_error(
            probabilities, target, classes, n_bins=15, norm="l1"
        )
    loss = sklearn.metrics.log_loss(
        target.numpy(), probabilities.numpy(), labels=list(range(classes))
    )
    return torch.tensor(loss)


@pytest.mark.parametrize("function", CLASSIFICATION)
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("rows", "classes"), [(1, 3), (37, 2), (360, 10), (50, 40)])
def test_classification_equals_its_witness(function, draw, rows, classes):
    probabilities, target = draw(4, rows, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns of absent classes
        expected = torch.stack(
            [expected_of(function, p, y) for p, y in zip(probabilities, target, strict=True)]
        )
    packed = function(probabilities, target)
    assert packed.dtype == torch.float32
    assert packed.shape == (4,)
    torch.testing.assert_close(packed, expected.float(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_auroc_is_exact_where_all_is_tied(classes):
    target = torch.arange(12).remainder(classes).expand(3, 12)
    flat = torch.full((3, 12, classes), 1 / classes)
    assert metrics.auroc(flat, target).tolist() == [0.5] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_auroc_tells_neighbouring_numbers_apart(dtype):
    p = torch.tensor(0.3, dtype=dtype)
    above = torch.nextafter(p, torch.tensor(1.0, dtype=dtype))
    second = torch.stack([p, above]).view(1, 2, 1)
    probabilities = torch.cat([1 - second, second], -1)
    assert metrics.auroc(probabilities, torch.tensor([[0, 1]])).item() == 1.0
    assert metrics.auroc(probabilities, torch.tensor([[1, 0]])).item() == 0.0


def test_auroc_in_chunks_has_the_same_bits(monkeypatch):
    probabilities, target = with_ties(3, 60, 7)
    whole = metrics.auroc(probabilities, target)
    monkeypatch.setattr(metrics, "_CHUNK", 2 * 3 * 60)
    assert torch.equal(metrics.auroc(probabilities, target), whole)


def test_auroc_of_half_precision_ranks_its_values():
    probabilities, target = drawn(3, 60, 4)
    half = probabilities.bfloat16()
    assert torch.equal(metrics.auroc(half, target), metrics.auroc(half.float(), target))


@pytest.mark.parametrize("function", CLASSIFICATION)
def test_inputs_are_left_as_they_are(function):
    probabilities, target = drawn(2, 30, 3)
    before = probabilities.clone(), target.clone()
    function(probabilities, target)
    assert torch.equal(probabilities, before[0])
    assert torch.equal(target, before[1])


def regression_case(members, rows, targets, offset=0.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    target = torch.randn(members, rows, targets, generator=generator, dtype=dtype) + offset
    noise = torch.randn(members, rows, targets, generator=generator, dtype=dtype)
    return target + 0.5 * noise, target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (metrics.mae, tm.mean_absolute_error),
        (metrics.mse, tm.mean_squared_error),
        (metrics.rmse, partial(tm.mean_squared_error, squared=False)),
        (metrics.r2, tm.r2_score),
    ],
)
def test_regression_equals_torchmetrics(function, expected, targets, dtype):
    prediction, target = regression_case(4, 101, targets, dtype=dtype)
    one_by_one = torch.stack([expected(p, y) for p, y in zip(prediction, target, strict=True)])
    packed = function(prediction, target)
    assert packed.dtype == dtype
    torch.testing.assert_close(packed, one_by_one.to(dtype), rtol=2e-6, atol=1e-7)


def test_r2_of_constant_targets_equals_torchmetrics():
    target = torch.full((3, 20, 2), 0.1)
    target[2, :, 0] = torch.linspace(0, 1, 20)
    prediction = target.clone()
    prediction[1:, 0] += 1
    expected = torch.stack([tm.r2_score(p, y) for p, y in zip(prediction, target, strict=True)])
    torch.testing.assert_close(metrics.r2(prediction, target), expected)
    assert metrics.r2(prediction, target)[:2].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1.0, 1e4)])
def test_r2_holds_in_small_units_and_far_from_zero(scale, offset):
    prediction, target = regression_case(2, 50, 1, dtype=torch.float64)
    prediction, target = (scale * prediction + offset).float(), (scale * target + offset).float()
    expected = [
        sklearn.metrics.r2_score(y.double(), p.double())
        for p, y in zip(prediction, target, strict=True)
    ]
    torch.testing.assert_close(metrics.r2(prediction, target), torch.tensor(expected).float())


@pytest.mark.parametrize("members", [3, 16])
@pytest.mark.parametrize("rows", [1, 33, 361])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("function", CLASSIFICATION)
def test_classification_of_a_member_equals_it_alone_bitwise(function, members, rows, classes):
    probabilities, target = drawn(members, rows, classes)
    packed = function(probabilities, target)
    alone = [function(probabilities[k : k + 1], target[k : k + 1]) for k in range(members)]
    assert torch.equal(packed, torch.cat(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [2, 33, 361])
@pytest.mark.parametrize("targets", [1, 3, 17])
@pytest.mark.parametrize("function", REGRESSION)
def test_regression_of_a_member_equals_it_alone_bitwise(function, targets, rows, dtype):
    prediction, target = regression_case(16, rows, targets, dtype=dtype)
    packed = function(prediction, target)
    alone = [function(prediction[k : k + 1], target[k : k + 1]) for k in range(16)]
    assert torch.equal(packed, torch.cat(alone))


def binary_f1():
    return as_metric(torchmetrics.F1Score(task="binary"))


def kappa():
    return as_metric(torchmetrics.CohenKappa(task="multiclass", num_classes=3))


@pytest.mark.parametrize("spread", ["a row", "all rows"])
@pytest.mark.parametrize(
    ("function", "classes"),
    [*((f, c) for f in CLASSIFICATION for c in (2, 3)), (kappa(), 3), (binary_f1(), 2)],
)
def test_a_diverged_classifier_is_nan_and_leaves_its_neighbours(function, classes, spread):
    probabilities, target = drawn(4, 20, classes)
    before = function(probabilities, target)
    probabilities[1, 3 if spread == "a row" else slice(None)] = torch.nan
    after = function(probabilities, target)
    assert after[1].isnan()
    assert torch.equal(after[[0, 2, 3]], before[[0, 2, 3]])


@pytest.mark.parametrize("function", [*REGRESSION, as_metric(torchmetrics.ExplainedVariance())])
def test_a_diverged_regression_is_nan_and_leaves_its_neighbours(function):
    prediction, target = regression_case(4, 20, 1)
    target[1] = 2.0  # a constant target takes r2's other branch
    before = function(prediction, target)
    prediction[1, 3] = torch.nan
    prediction[2, 5] = torch.nan
    after = function(prediction, target)
    assert after[[1, 2]].isnan().all()
    assert torch.equal(after[[0, 3]], before[[0, 3]])


def test_as_metric_gives_multiclass_metrics_all_probabilities():
    probabilities, target = drawn(3, 40, 4)
    metric = torchmetrics.MatthewsCorrCoef(task="multiclass", num_classes=4)
    expected = [
        tm.matthews_corrcoef(p, y, "multiclass", num_classes=4)
        for p, y in zip(probabilities, target, strict=True)
    ]
    torch.testing.assert_close(as_metric(metric)(probabilities, target), torch.stack(expected))


def test_as_metric_gives_binary_metrics_the_second_class():
    probabilities, target = drawn(3, 40, 2)
    metric = as_metric(torchmetrics.AveragePrecision(task="binary"))
    expected = [
        sklearn.metrics.average_precision_score(y.numpy(), p[:, 1].numpy())
        for p, y in zip(probabilities, target, strict=True)
    ]
    torch.testing.assert_close(metric(probabilities, target), torch.tensor(expected).float())
    with pytest.raises(
        ConfigError, match="BinaryAveragePrecision needs two classes, the data has 3"
    ):
        metric(*drawn(1, 10, 3))


@pytest.mark.parametrize("targets", [1, 2])
def test_as_metric_takes_regression_metrics(targets):
    prediction, target = regression_case(3, 40, targets)
    metric = as_metric(torchmetrics.ExplainedVariance())
    expected = [tm.explained_variance(p, y) for p, y in zip(prediction, target, strict=True)]
    torch.testing.assert_close(metric(prediction, target), torch.stack(expected))
    assert torch.equal(metric(prediction, target), metric(prediction, target))


def test_a_metric_of_many_numbers_is_refused():
    metric = as_metric(torchmetrics.F1Score(task="multiclass", num_classes=3, average=None))
    with pytest.raises(
        ConfigError,
        match="MulticlassF1Score must give one number, got 3 numbers; choose an average",
    ):
        metric(*drawn(1, 10, 3))


def test_as_metric_passes_functions_and_refuses_the_rest():
    assert as_metric(metrics.mae) is metrics.mae
    assert isinstance(as_metric(torchmetrics.MeanSquaredError()), MemberwiseMetric)
    with pytest.raises(
        ConfigError, match="must be a metric of torchmetrics or a function, got str"
    ):
        as_metric("accuracy")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("val/loss", False),
        ("loss", False),
        ("val/accuracy", True),
        ("val/f1_macro", True),
        ("val/auroc", True),
        ("val/ece", False),
        ("val/log_loss", False),
        ("mae", False),
        ("mse", False),
        ("rmse", False),
        ("test/r2", True),
        (metrics.auroc, True),
        (metrics.rmse, False),
        (torchmetrics.MatthewsCorrCoef(task="binary"), True),
        (as_metric(torchmetrics.MeanAbsolutePercentageError()), False),
    ],
)
def test_higher_is_better(metric, expected):
    assert higher_is_better(metric) is expected


def test_higher_is_better_refuses_to_guess():
    with pytest.raises(ConfigError, match=r"must name one of loss, accuracy, .* got val/glory"):
        higher_is_better("val/glory")
    with pytest.raises(ConfigError, match=r"needs a metric that says .* MeanMetric doesn't"):
        higher_is_better(torchmetrics.MeanMetric())
    with pytest.raises(ConfigError, match="binary_f1 doesn't"):
        higher_is_better(binary_f1)
