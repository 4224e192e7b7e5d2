"""Packed losses against torch.nn.functional, and members of a pack against members alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as fn

from unitgain.errors import ConfigError
from unitgain.nn.losses import (
    MAE,
    MSE,
    BinaryCrossEntropy,
    CrossEntropy,
    FunctionLoss,
    Huber,
    Loss,
    ModuleLoss,
    as_loss,
    probabilities,
)

SMOOTHINGS = [0.0, 0.1, 0.0, 0.3]
DELTAS = [0.5, 1.0, 0.1, 2.0]
# loss class, the arguments that members have in turn, number of outputs
CASES = [
    (MSE, [{}], 1),
    (MSE, [{}], 3),
    (MAE, [{}], 1),
    (MAE, [{}], 3),
    (Huber, [{"delta": 0.7}], 1),
    (Huber, [{"delta": d} for d in DELTAS], 1),
    (Huber, [{"delta": d} for d in DELTAS], 3),
    (CrossEntropy, [{"label_smoothing": 0.0}], 2),
    (CrossEntropy, [{"label_smoothing": 0.0}], 10),
    (CrossEntropy, [{"label_smoothing": 0.2}], 10),
    (CrossEntropy, [{"label_smoothing": s} for s in SMOOTHINGS], 3),
    (CrossEntropy, [{"label_smoothing": s} for s in SMOOTHINGS], 10),
    (CrossEntropy, [{"label_smoothing": s} for s in SMOOTHINGS], 17),
    (BinaryCrossEntropy, [{"label_smoothing": 0.0}], 1),
    (BinaryCrossEntropy, [{"label_smoothing": 0.2}], 1),
    (BinaryCrossEntropy, [{"label_smoothing": s} for s in SMOOTHINGS], 1),
]


def members_of(patterns, members):
    return [patterns[k % len(patterns)] for k in range(members)]


def draw(cls, members, rows, outputs, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    output = 3 * torch.randn(members, rows, outputs, generator=generator, dtype=dtype)
    if cls.task == "regression":
        return output, torch.randn(members, rows, outputs, generator=generator, dtype=dtype)
    return output, torch.randint(0, max(outputs, 2), (members, rows), generator=generator)


def run(loss, output, target, weight):
    """The losses and the gradient of their weighted sum."""
    output = output.clone().requires_grad_()
    value = loss(output, target)
    (gradient,) = torch.autograd.grad(value, output, weight)
    return value.detach(), gradient


def witness(cls, arguments, output, target):
    """One member's losses by torch.nn.functional: output (B, T) to (B,)."""
    if cls is CrossEntropy:
        return fn.cross_entropy(output, target, reduction="none", **arguments)
    if cls is BinaryCrossEntropy:
        s = arguments["label_smoothing"]
        soft = target.to(output.dtype) * (1 - s) + s / 2
        return fn.binary_cross_entropy_with_logits(output[:, 0], soft, reduction="none")
    function = {MSE: fn.mse_loss, MAE: fn.l1_loss, Huber: fn.huber_loss}[cls]
    return function(output, target, reduction="none", **arguments).mean(-1)


@pytest.mark.parametrize(("cls", "patterns", "outputs"), CASES)
def test_values_and_gradients_equal_torch(cls, patterns, outputs):
    arguments = members_of(patterns, 5)
    output, target = draw(cls, 5, 33, outputs, torch.float64)
    weight = torch.rand(5, 33, dtype=torch.float64)
    value, gradient = run(cls.stack(arguments, dtype=torch.float64), output, target, weight)
    for k, own in enumerate(arguments):
        expected, expected_gradient = run(
            lambda o, y, own=own: witness(cls, own, o, y), output[k], target[k], weight[k]
        )
        torch.testing.assert_close(value[k], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient[k], expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 33, 64])
@pytest.mark.parametrize(("cls", "patterns", "outputs"), CASES)
def test_member_of_a_pack_equals_it_alone_bitwise(cls, patterns, outputs, rows, dtype):
    arguments = members_of(patterns, 16)
    output, target = draw(cls, 16, rows, outputs, dtype)
    weight = torch.rand(16, rows, dtype=dtype)
    value, gradient = run(cls.stack(arguments, dtype=dtype), output, target, weight)
    for k, own in enumerate(arguments):
        at = slice(k, k + 1)
        alone = run(cls.stack([own], dtype=dtype), output[at], target[at], weight[at])
        assert torch.equal(value[at], alone[0])
        assert torch.equal(gradient[at], alone[1])


def test_huber_has_the_same_bits_mixed_and_alone_where_the_pieces_meet():
    error = torch.tensor([-2.0, -1.0, -0.0, 1e-20, 0.5, 1.0, 3.0]).repeat(2, 1).unsqueeze(-1)
    target, weight = torch.zeros_like(error), torch.rand(2, 7)
    value, gradient = run(Huber(torch.tensor([1.0, 0.5])), error, target, weight)
    for k, delta in enumerate([1.0, 0.5]):
        at = slice(k, k + 1)
        alone = run(Huber(delta), error[at], target[at], weight[at])
        assert torch.equal(value[at], alone[0])
        assert torch.equal(gradient[at], alone[1])


def test_huber_with_mixed_deltas_has_right_second_derivatives():
    loss = Huber(torch.tensor([0.5, 1.5], dtype=torch.float64))
    output, target = draw(Huber, 2, 5, 2, torch.float64)
    assert torch.autograd.gradgradcheck(lambda o: loss(o, target), output.requires_grad_())


@pytest.mark.parametrize(("cls", "patterns", "outputs"), CASES)
def test_a_member_of_nan_leaves_its_neighbours(cls, patterns, outputs):
    loss = cls.stack(members_of(patterns, 4))
    output, target = draw(cls, 4, 9, outputs, torch.float32)
    weight = torch.rand(4, 9)
    value, gradient = run(loss, output, target, weight)
    output[1] = torch.nan
    value_with, gradient_with = run(loss, output, target, weight)
    others = [0, 2, 3]
    assert torch.equal(value_with[others], value[others])
    assert torch.equal(gradient_with[others], gradient[others])
    assert value_with[1].isnan().all()


@pytest.mark.parametrize("cls", [CrossEntropy, BinaryCrossEntropy])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_outputs_give_finite_losses(cls, smoothing):
    outputs = 2 if cls is CrossEntropy else 1
    output = torch.full((1, 2, outputs), 1e4)
    output[..., 0] = -1e4
    loss, gradient = run(cls(smoothing), output, torch.tensor([[0, 1]]), torch.ones(1, 2))
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert loss.max() > 9e3


@pytest.mark.parametrize(
    ("given", "stacked"),
    [
        (CrossEntropy(0.1), CrossEntropy.stack([{"label_smoothing": 0.1}] * 3)),
        (BinaryCrossEntropy(0.1), BinaryCrossEntropy.stack([{"label_smoothing": 0.1}] * 3)),
        (Huber(0.3), Huber.stack([{"delta": 0.3}] * 3)),
    ],
)
def test_one_number_for_all_members_keeps_the_type_of_the_outputs(given, stacked):
    outputs = 1 if isinstance(given, BinaryCrossEntropy) else 4
    output, target = draw(type(given), 3, 8, outputs, torch.float32)
    assert given(output, target).dtype == torch.float32
    assert torch.equal(given(output, target), stacked(output, target))


def test_smoothing_is_validated():
    with pytest.raises(
        ConfigError, match=r"loss\.label_smoothing: must be in \[0, 1\), got 1\.2; "
    ):
        CrossEntropy(1.2)
    with pytest.raises(ConfigError, match=r"got -0\.5 in member 1"):
        BinaryCrossEntropy.stack([{"label_smoothing": 0.0}, {"label_smoothing": -0.5}])


@pytest.mark.parametrize("delta", [0.0, -1.0, float("inf"), float("nan")])
def test_delta_is_validated(delta):
    with pytest.raises(ConfigError, match=r"loss\.delta: must be above 0"):
        Huber(delta)


class Tilted(Loss):
    """A loss of a user's own with a number a member and a word for all."""

    task = "regression"

    def __init__(self, tilt, kind="plain"):
        self.tilt, self.kind = tilt, kind

    def __call__(self, output_KBT, target):
        error = (output_KBT - target)[..., 0]
        return error.abs() + self.tilt.view(-1, 1) * error

    def n_outputs(self, size):
        return size


def test_stack_gives_a_users_loss_its_numbers_as_tensors():
    loss = Tilted.stack([{"tilt": 0, "kind": "a"}, {"tilt": 0.5, "kind": "a"}], torch.float64)
    assert loss.tilt.tolist() == [0.0, 0.5]
    assert loss.tilt.dtype == torch.float64
    assert loss.kind == "a"
    assert loss(torch.ones(2, 1, 1), torch.zeros(2, 1, 1)).flatten().tolist() == [1.0, 1.5]


def test_stack_refuses_members_that_cannot_share_a_pack():
    with pytest.raises(
        ConfigError, match=r"loss\.kind: .* got 'a' in member 0 and 'b' in member 1"
    ):
        Tilted.stack([{"tilt": 1.0, "kind": "a"}, {"tilt": 1.0, "kind": "b"}])
    with pytest.raises(ConfigError, match=r"loss\.tilt: .* member 1 doesn't"):
        Tilted.stack([{"tilt": 1.0}, {}])


def test_outputs_needed():
    assert [loss.n_outputs(10) for loss in (MSE(), MAE(), Huber(), CrossEntropy())] == [10] * 4
    assert BinaryCrossEntropy().n_outputs(2) == 1
    with pytest.raises(
        ConfigError, match="needs two classes, the data has 10; choose loss=cross_entropy"
    ):
        BinaryCrossEntropy().n_outputs(10)


def test_as_loss_takes_losses_of_the_data_s_task():
    loss = MSE()
    assert as_loss(loss, "regression") is loss
    with pytest.raises(
        ConfigError, match="must be one for the data's task, classification, got MSE"
    ):
        as_loss(loss, "classification")
    with pytest.raises(ConfigError, match="must be a loss or a function, got float"):
        as_loss(0.5, "regression")


def test_as_loss_wraps_a_function():
    loss = as_loss(lambda o, y: (o - y).abs().amax(-1), "regression")
    assert isinstance(loss, FunctionLoss)
    assert loss.task == "regression"
    assert loss.n_outputs(3) == 3
    output, target = draw(MSE, 2, 4, 3, torch.float64)
    assert torch.equal(loss(output, target), (output - target).abs().amax(-1))


def test_a_function_that_reduces_over_examples_is_refused():
    output, target = draw(MSE, 2, 4, 3, torch.float64)
    with pytest.raises(
        ConfigError, match=r"shape \(2, 4\), got \(\); reduce over the outputs alone"
    ):
        as_loss(lambda o, y: (o - y).abs().mean(), "regression")(output, target)


@pytest.mark.parametrize(
    ("module", "twin"),
    [
        (nn.SmoothL1Loss(reduction="none", beta=0.5), Huber),
        (nn.MSELoss(reduction="none"), MSE),
    ],
)
def test_as_loss_wraps_regression_losses_of_torch(module, twin):
    output, target = draw(MSE, 3, 7, 2, torch.float64)
    loss = as_loss(module, "regression")
    assert isinstance(loss, ModuleLoss)
    # Smooth L1 is Huber's loss over beta.
    expected = Huber(0.5)(output, target) / 0.5 if twin is Huber else MSE()(output, target)
    torch.testing.assert_close(loss(output, target), expected, rtol=0, atol=1e-12)
    assert loss.n_outputs(2) == 2


@pytest.mark.parametrize(
    ("module", "outputs"),
    [
        (nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1), 4),
        (nn.MultiMarginLoss(reduction="none"), 4),
    ],
)
def test_as_loss_wraps_classification_losses_of_torch(module, outputs):
    output, target = draw(CrossEntropy, 3, 7, outputs, torch.float64)
    loss = as_loss(module, "classification")
    expected = torch.stack([module(output[k], target[k]) for k in range(3)])
    torch.testing.assert_close(loss(output, target), expected, rtol=0, atol=1e-12)
    assert loss.n_outputs(outputs) == outputs


def test_as_loss_gives_torch_s_binary_loss_one_output():
    output, target = draw(BinaryCrossEntropy, 3, 7, 1, torch.float64)
    loss = as_loss(nn.BCEWithLogitsLoss(reduction="none"), "classification")
    torch.testing.assert_close(
        loss(output, target), BinaryCrossEntropy()(output, target), rtol=0, atol=1e-12
    )
    assert loss.n_outputs(2) == 1
    with pytest.raises(ConfigError, match="needs two classes"):
        loss.n_outputs(3)


def test_a_loss_of_torch_that_reduces_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"loss\.reduction: must be none, .* got mean; add reduction: none to L1Loss",
    ):
        as_loss(nn.L1Loss(), "regression")


def test_probabilities():
    output, _ = draw(CrossEntropy, 3, 7, 4, torch.float64)
    torch.testing.assert_close(probabilities(output), output.softmax(-1))
    log_odds = output[..., :1]
    expected = torch.cat([1 - log_odds.sigmoid(), log_odds.sigmoid()], -1)
    torch.testing.assert_close(probabilities(log_odds), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_probabilities_of_a_member_equal_it_alone_bitwise(outputs):
    output, _ = draw(CrossEntropy, 16, 33, outputs, torch.float32)
    packed = probabilities(output)
    for k in range(16):
        assert torch.equal(packed[k : k + 1], probabilities(output[k : k + 1]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, torch.tensor([0.0, 0.2]).double()], ids=str)
@pytest.mark.parametrize("classes", [2, 5])
def test_the_slope_of_cross_entropy_is_that_of_autograd(smoothing, classes):
    draw = torch.Generator().manual_seed(0)
    output = 30 * torch.randn(2, 7, classes, generator=draw, dtype=torch.float64)
    target = torch.randint(classes, (2, 7), generator=draw)
    weight = torch.rand(2, 7, generator=draw, dtype=torch.float64)
    loss = CrossEntropy(smoothing)
    before = output.clone()
    found, slope = loss.with_slope(output, target, weight)
    leaf = output.clone().requires_grad_()
    expected = loss(leaf, target)
    (gradient,) = torch.autograd.grad(expected, leaf, weight)
    assert torch.equal(output, before)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, gradient, rtol=1e-12, atol=1e-14)


def test_the_slope_of_any_other_loss_is_autograd_s():
    output, target = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[0.0], [1.0]]])
    found, slope = MSE().with_slope(output, target, torch.tensor([[0.5, 0.25]]))
    assert found.tolist() == [[1.0, 4.0]]
    assert slope.tolist() == [[[1.0], [1.0]]]
