"""The verdict on records written by hand, whose faults are known, and on small networks in plain torch."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unitgain.probe import Course, Expected, Fault, Record, judge, slope_per_layer
from unitgain.probe.verdict import SEVERITY
from unitgain.theory.bands import HEALTHY_DECADES, SEVERE_DECADES


def norms(slope, layers=10):
    """Gradients whose log10 changes by ``slope`` a layer towards the input, which comes first; then the output's."""
    return [*(10.0 ** (slope * np.arange(layers)[::-1])), 1.0]


def record(rows, every=10, **values):
    """Measured steps: gradients by row, and other quantities (S, L)."""
    rows = np.array(rows, dtype=float)
    facts = {k: values.pop(k) for k in list(values) if k in Record.__dataclass_fields__}
    steps = [every * i for i in range(len(rows))]
    return Record(steps, {"grad_preactivation": rows, **values}, **facts)


def everywhere(value, rows=8, layers=5):
    """A quantity of hidden layers; the output layer has none."""
    value_SL = np.full((rows, layers), float(value))
    value_SL[:, -1] = np.nan
    return value_SL


def flat(rows=8, layers=4):
    return [norms(0.0, layers)] * rows


def labels(verdict):
    return [finding.label for finding in verdict.findings]


@pytest.mark.parametrize("slope", [-2.0, -0.3, 0.0, 0.01, 0.7])
@pytest.mark.parametrize("layers", [2, 3, 30])
def test_slope_of_an_exact_line(slope, layers):
    assert slope_per_layer(np.array(norms(slope, layers)[:-1])) == pytest.approx(slope, abs=1e-9)


def test_slope_is_the_least_squares_fit():
    rng = np.random.default_rng(0)
    decades = 0.2 * np.arange(20) + rng.normal(0, 0.5, 20)
    expected = -np.polyfit(np.arange(20), decades, 1)[0]
    assert slope_per_layer(10.0**decades) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_slope_leaves_out_what_has_no_logarithm_but_not_its_place(bad):
    broken = np.array(norms(-0.5, 6)[:-1])
    broken[2] = bad
    assert slope_per_layer(broken) == pytest.approx(-0.5)


@pytest.mark.parametrize("few", [[], [1.0], [0.0, 1.0], [0.0, 0.0], [np.nan, 1.0]])
def test_slope_of_too_few_is_zero(few):
    assert slope_per_layer(np.array(few)) == 0.0


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
@pytest.mark.parametrize("rows", [1, 8])
def test_label_by_the_decades_across_depth(decades, label, words, layers, rows):
    slope = decades / (layers - 1)
    verdict = judge(record([norms(slope, layers)] * rows))
    assert verdict.label == label
    assert verdict.text.startswith(words)
    assert verdict.slope == pytest.approx(slope, abs=1e-9)
    assert verdict.ratio == pytest.approx(10.0**decades, rel=1e-6)
    assert verdict.step == 0
    assert f"of layer {layers}'s" in verdict.text
    assert "at step 0" in verdict.text
    assert ("Try a " in verdict.text) == (label != "healthy")
    assert verdict.confidence >= 0.5


def test_the_sentence_has_layer_step_number_theory_and_remedy():
    expected = Expected(-0.139, "sigmoid with xavier", 0.01)
    verdict = judge(
        record([norms(-0.142, 48)]), expected, lambda label: "init=critical or norm=layer"
    )
    assert verdict.text == (
        "gradients vanish: layer 1 gets 2.1e-07 of layer 48's; slope -0.142 decades a layer "
        "(theory -0.139: sigmoid with xavier) at step 0. Try init=critical or norm=layer."
    )


def test_remedies_are_the_other_way_about():
    assert "larger gain" in judge(record([norms(-1.0)])).text
    assert "smaller gain" in judge(record([norms(1.0)])).text


def test_confidence_grows_with_the_distance_from_the_border():
    values = [judge(record([norms(-d / 9)])) for d in (0.1, 1.0, 1.4, 2.0, 5.0)]
    assert [v.label for v in values] == ["healthy", "healthy", *["vanishing"] * 3]
    sure = [v.confidence for v in values]
    assert sure[0] > sure[1] >= 0.5
    assert sure[2] < sure[3] < sure[4]


# What happens after the first step.


def test_a_gradient_that_comes_back_is_no_fault_but_is_told():
    rows = [norms(-0.5)] * 3 + [norms(0.02)] * 17
    verdict = judge(record(rows))
    assert verdict.label == "healthy"
    assert verdict.text.startswith("gradients flow since step 30; at first they vanished: layer 1 ")
    [finding] = verdict.findings
    assert (finding.label, finding.recovered, finding.step) == ("vanishing", 30, 0)
    assert verdict.slope == pytest.approx(-0.5)


def test_one_that_comes_back_only_now_and_then_still_vanishes():
    rows = [norms(-0.5)] * 12 + [norms(0.0), norms(-0.4)] * 4
    assert judge(record(rows)).label == "vanishing"


def test_a_gradient_that_goes_later_is_seen():
    rows = [norms(0.0)] * 10 + [norms(-0.6)] * 10
    verdict = judge(record(rows))
    assert verdict.label == "vanishing"
    assert "at step 170" in verdict.text
    assert verdict.slope == pytest.approx(0.0, abs=1e-12)
    # What a network learns makes for some decades: less than the severe border is none of it.
    assert judge(record([norms(0.0)] * 10 + [norms(-0.2)] * 10)).label == "healthy"


# Traps.


def test_zero_bias_relu_with_level_weight_gradients_vanishes():
    """Weights of half of He's variance: 0.15 decades a layer at the activations, none at the weights."""
    torch.manual_seed(0)
    layers, width = 20, 200
    linears = [nn.Linear(width, width, bias=False) for _ in range(layers)]
    for linear in linears:
        nn.init.normal_(linear.weight, std=width**-0.5)
    h, z = torch.randn(64, width), []
    for linear in linears:
        z.append(linear(h))
        h = torch.relu(z[-1])
    loss = nn.functional.mse_loss(h, torch.randn(64, width))
    gradients = torch.autograd.grad(loss, [*z, *(m.weight for m in linears)])
    own = [float(g.norm()) for g in gradients]
    weights = np.array(own[layers:])
    assert abs(slope_per_layer(weights[:-1])) * (layers - 2) < 0.5, "the weights' look level"
    verdict = judge(record([own[:layers]], grad_weight=weights[None]))
    assert verdict.label == "vanishing"
    assert verdict.slope == pytest.approx(-0.15, abs=0.02)


def test_silent_units_of_collapsed_inputs_are_not_dead():
    """Deep He networks: 42 % silent on a batch, since all inputs have become one direction (cosine .985)."""
    silent, cosine = everywhere(0.42), everywhere(0.985)
    for dead in (everywhere(0.0), everywhere(0.42), everywhere(0.8)):
        verdict = judge(
            record(
                flat(), silent_fraction=silent, dead_fraction=dead, activation_correlation=cosine
            )
        )
        assert verdict.label == "rank collapse"
        assert "dead units" not in labels(verdict)
    assert "mean cosine between two examples is 0.985" in verdict.text


def test_silent_units_alone_are_no_fault():
    verdict = judge(record(flat(), silent_fraction=everywhere(0.8)))
    assert verdict.label == "healthy"


def test_units_that_stay_silent_in_a_layer_that_tells_inputs_apart_are_dead():
    dead = everywhere(0.1)
    dead[-4:, 2] = 0.75
    verdict = judge(record(flat(), dead_fraction=dead, activation_correlation=everywhere(0.4)))
    assert verdict.label == "dead units"
    assert verdict.findings[0].layer == 3
    assert verdict.text.startswith("units are dead: 75% of layer 3 are silent on every example")


def test_a_layer_that_is_silent_as_a_whole_is_dead_without_being_asked_for_its_units():
    silent = everywhere(0.2)
    silent[3:, 1] = 1.0
    rows = [norms(0.0, 4)] * 3 + [[0.0, 0.0, 0.0, 0.0, 1.0]] * 5
    verdict = judge(record(rows, silent_fraction=silent))
    assert verdict.label == "dead units"
    assert verdict.findings[0].layer == 2
    # Its gradients are lost as well; that is the lesser news.
    assert "vanishing" in labels(verdict)


def test_a_sigmoids_common_mean_is_not_collapse():
    """A shallow sigmoid layer's activations lie about 1/2: their cosine is near one whatever the inputs are."""
    rng = np.random.default_rng(0)
    h = 1 / (1 + np.exp(-rng.standard_normal((200, 500)) * 0.3))
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    cosine = (unit.sum(0) @ unit.sum(0) - 200) / (200 * 199)
    assert cosine > 0.97
    moments = {
        "activation_mean": everywhere(h.mean()),
        "activation_second_moment": everywhere((h**2).mean()),
    }
    fine = judge(record(flat(), activation_correlation=everywhere(cosine), **moments))
    assert fine.label == "healthy"
    alike = judge(record(flat(), activation_correlation=everywhere(0.9999), **moments))
    assert alike.label == "rank collapse"


@pytest.mark.parametrize("rows", [1, 8])
def test_float32_underflow_is_vanishing(rows):
    """True norms of 1e-50 read exactly zero: layers next to the input get nothing at all."""
    row = np.float32(norms(-1.2, 50)).astype(float)
    assert row[0] == 0
    assert row[-2] == 1
    verdict = judge(record([row] * rows))
    assert verdict.label == "vanishing"
    assert verdict.confidence > 0.9
    lost = int(np.flatnonzero(row == 0).max()) + 1
    assert f"none at all reaches layer {lost}" in verdict.text
    assert verdict.slope == pytest.approx(-1.2, abs=0.01)


@pytest.mark.parametrize("row", [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]])
def test_zeros_anywhere_are_a_loss(row):
    assert judge(record([row])).label == "vanishing"


def test_biases_before_batch_norm_do_not_count():
    """Their gradient is zero by construction; nothing of it enters the verdict."""
    bias = np.zeros((8, 5))
    assert judge(record(flat(), grad_bias=bias)) == judge(record(flat()))


def test_an_output_layer_of_zeros_hides_the_first_step_only():
    nothing = [0.0] * 4 + [1.0]
    update = np.full((8, 5), 1e-3)
    update[0] = [0, 0, 0, 0, 1.0]
    verdict = judge(record([nothing, *flat(7)], update_ratio=update))
    assert (verdict.label, verdict.step) == ("healthy", 10)
    early = judge(record([nothing]))
    assert early.label == "unknown"
    assert early.text == "no verdict on gradient flow: the output layer passes nothing back yet."
    # If no step ever brings more, that is a fault indeed.
    assert judge(record([nothing] * 4)).label == "vanishing"


def test_a_run_that_diverged_says_where():
    fault = Fault(412, 3, "pre-activation")
    verdict = judge(record([norms(0.4)], fault=fault))
    assert verdict.label == "diverged"
    assert verdict.confidence > 0.9
    assert verdict.text.startswith(
        "training diverged: the pre-activation at layer 3 was not finite at step 412. Try "
    )
    assert "Also: exploding (layer 1: 3.6)." in verdict.text


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_divergence(bad):
    rows = [norms(0.0, 3), norms(0.0, 3)]
    rows[1][1] = bad
    verdict = judge(record(rows))
    assert verdict.label == "diverged"
    assert (verdict.findings[0].layer, verdict.findings[0].step) == (2, 10)


def test_a_finite_loss_that_has_grown_is_divergence():
    losses = [2.3, 40.0, 1e3, 1e5]
    grown = judge(record(flat(), losses=losses, first_loss=2.3, steps_per_epoch=17))
    assert grown.label == "diverged"
    assert grown.findings[0].step == 68
    fallen = judge(record(flat(), losses=losses[::-1], first_loss=1e6, steps_per_epoch=17))
    assert fallen.label == "healthy"


# Each other rule, on either side of its border.


@pytest.mark.parametrize(("share", "label"), [(0.65, "healthy"), (0.75, "saturated")])
def test_saturation(share, label):
    saturated = everywhere(0.1)
    saturated[:, 1] = share
    verdict = judge(record(flat(), saturated_fraction=saturated))
    assert verdict.label == label
    if label != "healthy":
        assert "75% of layer 2's lie within 5 % of an asymptote at step 70" in verdict.text.replace(
            "activations saturate: ", ""
        )


@pytest.mark.parametrize(
    ("ratio", "planned", "label"),
    [
        (1e-3, 1000, "healthy"),
        (1e-3, None, "healthy"),
        (2e-6, None, "update too small"),
        (2e-6, 1000, "update too small"),
        # So many steps get somewhere.
        (2e-6, 1_000_000, "healthy"),
        # A run that is cut short isn't at fault for it.
        (1e-3, 5, "healthy"),
        (0.2, 1000, "update too large"),
    ],
)
def test_updates(ratio, planned, label):
    update = np.full((8, 5), ratio)
    verdict = judge(record(flat(), update_ratio=update, planned_steps=planned))
    assert verdict.label == label


def test_one_step_that_replaces_the_weights_is_too_large():
    update = np.full((8, 5), 1e-3)
    update[0] = 0.8
    verdict = judge(record(flat(), update_ratio=update))
    assert verdict.label == "update too large"
    assert "step 0 alone changed the weights of layer" in verdict.text
    # One layer that begins with zeros is replaced by its first step, and well so.
    update[0] = [1e-3, 1e-3, 1e-3, 1e-3, 1.0]
    assert judge(record(flat(), update_ratio=update)).label == "healthy"


def test_oscillation_and_descent():
    falling = list(2.0 * 0.8 ** np.arange(16))
    swinging = [1.0 + 0.5 * (-1) ** i for i in range(16)]
    small = [2.0, 1.0, 0.1, *(0.01 + 0.004 * (-1) ** i for i in range(13))]
    said = {
        name: judge(record(flat(), losses=losses, first_loss=2.0, steps_per_epoch=17)).label
        for name, losses in (("falling", falling), ("swinging", swinging), ("small", small))
    }
    assert said == {"falling": "healthy", "swinging": "oscillating", "small": "healthy"}


@pytest.mark.parametrize(
    ("slope", "label"), [(-0.125, "healthy"), (-0.09, "healthy"), (0.0, "out of theory")]
)
def test_beside_theory(slope, label):
    """Eleven layers, so that the slope's own spread of .01 and two tenths of a decade over depth make .022."""
    verdict = judge(record([norms(slope, 11)]), Expected(-0.11, "relu with he", 0.01))
    assert verdict.label == label


def test_without_a_spread_theory_is_held_to_a_wide_one():
    expected = Expected(-0.06, "relu with he")
    assert judge(record([norms(0.0, 11)]), expected).label == "healthy"
    assert judge(record([norms(0.1, 11)]), expected).label == "out of theory"


def test_theory_is_of_the_start_alone():
    rows = [[0.0] * 11 + [1.0], *([norms(0.1, 11)] * 7)]
    assert judge(record(rows), Expected(-0.1, "relu with he", 0.001)).label == "healthy"


# What is missing stays silent.


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Record([]), "nothing was measured"),
        (Record([0], {"weight_norm": [[1.0, 1.0]]}), "grad_preactivation was not measured"),
        (
            Record([0], {"grad_preactivation": [[0.5, 1.0]]}),
            "fewer than two hidden layers",
        ),
        (Record([0], {"grad_preactivation": [[1.0]]}), "fewer than two hidden layers"),
    ],
)
def test_nothing_to_judge(made, text):
    verdict = judge(made)
    assert (verdict.label, verdict.confidence) == ("unknown", 0.0)
    assert verdict.text == f"no verdict on gradient flow: {text}."


def test_one_hidden_layer_can_be_dead_all_the_same():
    values = {"grad_preactivation": [[0.0, 1.0]] * 8, "dead_fraction": [[1.0, np.nan]] * 8}
    assert judge(Record(range(8), values)).label == "dead units"


def test_layers_without_a_gradient_of_their_own_are_left_out():
    rows = np.array([norms(-0.5)] * 4)
    rows = np.insert(rows, 3, np.nan, axis=1)
    verdict = judge(record(rows))
    assert verdict.label == "vanishing"
    assert verdict.slope == pytest.approx(-0.5)


def test_the_gravest_fault_gives_the_label():
    everything = {
        "saturated_fraction": everywhere(0.9),
        "dead_fraction": everywhere(0.9),
        "update_ratio": np.full((8, 5), 0.3),
    }
    swinging = [1.0 + 0.5 * (-1) ** i for i in range(16)]
    facts = {"losses": swinging, "first_loss": 1.0, "steps_per_epoch": 5}
    made = record([norms(-1.0, 4)] * 8, **everything, **facts)
    verdict = judge(made)
    found = labels(verdict)
    assert found == sorted(found, key=SEVERITY.index)
    assert found == [
        "update too large",
        "dead units",
        "vanishing",
        "saturated",
        "oscillating",
    ]
    assert verdict.label == "update too large"
    assert judge(replace(made, fault=Fault(7, 1, "loss"))).label == "diverged"


# Form and cost.


def test_verdict_is_plain_types():
    made = record([norms(-1.0)] * 8, update_ratio=np.full((8, 11), np.float32(0.3)))
    content = judge(made).as_dict()
    assert {key: type(value) for key, value in content.items()} == {
        "label": str,
        "confidence": float,
        "text": str,
        "findings": list,
        "slope": float,
        "ratio": float,
        "step": int,
    }
    for finding in content["findings"]:
        plain = (str, float, int, type(None))
        assert all(type(value) in plain for value in finding.values()), finding
    assert json.loads(json.dumps(content)) == content


def test_course_gives_what_was_appended():
    course = Course()
    rows = np.array([norms(-0.2)] * 6)
    other = {"weight_norm": np.ones((2, 11))}
    for i in range(3):
        course.append(
            [20 * i, 20 * i + 10], {"grad_preactivation": rows[2 * i : 2 * i + 2], **other}
        )
    made = course.record(planned_steps=60)
    assert list(made.steps) == [0, 10, 20, 30, 40, 50]
    np.testing.assert_array_equal(made.values["grad_preactivation"], rows)
    # What no rule reads isn't kept for the length of a run.
    assert list(made.values) == ["grad_preactivation"]
    # A layer that is called later on is not a number before.
    course.append([60], {"grad_preactivation": np.ones((1, 12))})
    assert math.isnan(course.record().values["grad_preactivation"][0, 11])
