"""What quantities make of earlier steps: units that stay silent, and gradients that turn."""

import numpy as np
import pytest
import torch

from unitgain.probe import QUANTITIES, Layers, LayerTensors, measure
from unitgain.probe.history import WINDOW, History

NAMES = ("dead_fraction", "gradient_cosine")
CHOSEN = {name: QUANTITIES[name] for name in NAMES}
NONE = Layers(3, ())


def tensors(h, gradient, history):
    """Two hidden layers of one width, and an output layer."""
    hidden = Layers(3, (((0, 1), h),))
    weights = Layers(3, (((0, 1), gradient),))
    return LayerTensors(NONE, hidden, NONE, weights, weights, NONE, NONE, history=history)


def begun(h, gradient, names=NAMES):
    return History.of(names, Layers(3, (((0, 1), h),)), Layers(3, (((0, 1), gradient),)))


def walk(seed=0, members=3, count=40):
    """Random steps: activations (2, K, B, D) where units fall silent for long, and gradients (2, K, N)."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.rand(count, 2, members, 4, 8, generator=generator) + 0.1
    awake = torch.rand(count, 2, members, 1, 8, generator=generator) > 0.93
    h = h * awake.float()
    return h, torch.randn(count, 2, members, 6, generator=generator)


def measured(h, gradient):
    history = begun(h[0], gradient[0])
    rows = []
    for each in zip(h, gradient, strict=True):
        t = tensors(*each, history)
        rows.append(measure(t, CHOSEN))
        t.remember()
    return torch.stack(rows)


def test_dead_units_were_silent_on_each_step_of_the_window():
    h, gradient = walk()
    dead = measured(h, gradient)[:, 0]
    silent = (h == 0).all(3)
    assert dead[: WINDOW - 1].isnan().all()
    for step in range(WINDOW - 1, len(h)):
        expected = silent[step - WINDOW + 1 : step + 1].all(0).float().mean(2)
        torch.testing.assert_close(dead[step, :, :2], expected.T)
    assert 0 < dead[WINDOW:, :, :2].mean() < 1
    assert dead[:, :, 2].isnan().all()


def test_cosine_with_the_last_measured_gradient():
    h, gradient = walk()
    cosine = measured(h, gradient)[:, 1]
    assert cosine[0].isnan().all()
    expected = torch.cosine_similarity(gradient[1:], gradient[:-1], dim=3)
    torch.testing.assert_close(cosine[1:, :, :2], expected.transpose(1, 2))


@pytest.mark.parametrize("scale", [1e-35, 1e35])
def test_cosines_of_gradients_at_any_scale(scale):
    h, gradient = walk(count=3)
    torch.testing.assert_close(
        measured(h, gradient * scale)[1:, 1], measured(h, gradient)[1:, 1], equal_nan=True
    )


def test_a_gradient_of_zero_has_no_cosine():
    h, gradient = walk(count=3)
    gradient[1, 0, 0] = 0.0
    cosine = measured(h, gradient)[:, 1]
    assert cosine[1:, 0, 0].isnan().all()
    assert cosine[1:, 1:, :2].isfinite().all()


def test_members_have_histories_of_their_own():
    h, gradient = walk()
    together = measured(h, gradient)
    for k in range(3):
        alone = measured(h[:, :, k : k + 1].clone(), gradient[:, :, k : k + 1].clone())
        np.testing.assert_array_equal(together[:, :, k], alone[:, :, 0])


def test_a_history_goes_on_from_its_tensors():
    h, gradient = walk()
    whole = measured(h, gradient)
    first = begun(h[0], gradient[0])
    for each in zip(h[:17], gradient[:17], strict=True):
        tensors(*each, first).remember()
    second = begun(h[0], gradient[0])
    for name, tensor in first.tensors().items():
        assert tensor.shape[0] == 3, name
        second.tensors()[name].copy_(tensor.clone())
    t = tensors(h[17], gradient[17], second)
    np.testing.assert_array_equal(measure(t, CHOSEN), whole[17])


def test_only_what_is_asked_for_is_kept():
    h, gradient = walk(count=1)
    assert begun(h[0], gradient[0], ["grad_weight"]) is None
    dead = begun(h[0], gradient[0], ["dead_fraction"])
    assert sorted(dead.tensors()) == ["measured", "silent_runs.0"]
    cosine = begun(h[0], gradient[0], ["gradient_cosine"])
    assert sorted(cosine.tensors()) == ["gradients.0", "measured"]
