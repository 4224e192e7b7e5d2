import json

import numpy as np
import pytest

from unitgain.probe import judge, slope_per_layer
from unitgain.probe.verdict import HEALTHY_DECADES, SEVERE_DECADES


def gradients(slope, layers=10):
    """Norms whose log10 changes by ``slope`` a layer towards the input, which comes first."""
    return 10.0 ** (slope * np.arange(layers)[::-1])


@pytest.mark.parametrize("slope", [-2.0, -0.3, 0.0, 0.01, 0.7])
@pytest.mark.parametrize("layers", [2, 3, 30])
def test_slope_of_an_exact_line(slope, layers):
    assert slope_per_layer(gradients(slope, layers)) == pytest.approx(slope, abs=1e-9)


def test_slope_is_the_least_squares_fit():
    rng = np.random.default_rng(0)
    decades = 0.2 * np.arange(20) + rng.normal(0, 0.5, 20)
    depth = np.arange(20) - 9.5
    expected = -(depth * decades).sum() / (depth**2).sum()
    assert slope_per_layer(10.0**decades) == pytest.approx(expected, rel=1e-10)


def test_slope_leaves_out_what_has_no_logarithm_but_not_its_place():
    norms = gradients(-0.5, 6)
    for bad in (0.0, np.nan, np.inf):
        broken = norms.copy()
        broken[2] = bad
        assert slope_per_layer(broken) == pytest.approx(-0.5)


@pytest.mark.parametrize("norms", [[], [1.0], [0.0, 1.0], [0.0, 0.0], [np.nan, 1.0]])
def test_slope_of_too_few_is_zero(norms):
    assert slope_per_layer(np.array(norms)) == 0.0


@pytest.mark.parametrize(
    ("decades", "label", "words"),
    [
        (0.0, "healthy", "gradients flow:"),
        (-HEALTHY_DECADES + 0.01, "healthy", "gradients flow:"),
        (HEALTHY_DECADES - 0.01, "healthy", "gradients flow:"),
        (-HEALTHY_DECADES - 0.01, "vanishing", "gradients vanish mildly:"),
        (HEALTHY_DECADES + 0.01, "exploding", "gradients explode mildly:"),
        (-SEVERE_DECADES - 0.01, "vanishing", "gradients vanish:"),
        (SEVERE_DECADES + 0.01, "exploding", "gradients explode:"),
        (-20.0, "vanishing", "gradients vanish:"),
        (20.0, "exploding", "gradients explode:"),
    ],
)
@pytest.mark.parametrize("layers", [2, 7, 50])
def test_label_by_the_decades_across_depth(decades, label, words, layers):
    slope = decades / (layers - 1)
    verdict = judge(gradients(slope, layers), 40)
    assert verdict.label == label
    assert verdict.text.startswith(words)
    assert verdict.slope == pytest.approx(slope, abs=1e-9)
    assert verdict.ratio == pytest.approx(10.0**decades, rel=1e-6)
    assert verdict.step == 40
    assert f"of layer {layers}'s" in verdict.text
    assert "at step 40" in verdict.text
    assert ("Try a " in verdict.text) == (label != "healthy")


def test_remedies_are_the_other_way_about():
    assert "larger init gain" in judge(gradients(-1.0), 0).text
    assert "smaller init gain" in judge(gradients(1.0), 0).text


def test_gradient_that_is_exactly_zero_has_vanished():
    norms = np.ones(6)
    norms[:3] = 0.0
    verdict = judge(norms, 0)
    assert verdict.label == "vanishing"
    assert verdict.ratio == 0.0
    assert verdict.text.startswith("gradients vanish:")
    assert "none at all reaches layer 3" in verdict.text


@pytest.mark.parametrize("norms", [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0, 1.0]])
def test_zeros_anywhere_are_a_loss(norms):
    verdict = judge(np.array(norms), 0)
    assert verdict.label == "vanishing"
    assert verdict.ratio >= 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_not_judged(bad):
    verdict = judge(np.array([1.0, bad, 1.0]), 3)
    assert verdict.label == "unknown"
    assert verdict.text == "no verdict on gradient flow: gradients are not finite."


def test_one_hidden_layer_is_not_judged():
    verdict = judge(np.array([0.5]), 0)
    assert verdict.label == "unknown"
    assert "fewer than two hidden layers" in verdict.text


def test_verdict_is_plain_types():
    content = judge(gradients(-1.0).astype(np.float32), 7).as_dict()
    assert {key: type(value) for key, value in content.items()} == {
        "label": str,
        "text": str,
        "slope": float,
        "ratio": float,
        "step": int,
    }
    assert json.loads(json.dumps(content)) == content
