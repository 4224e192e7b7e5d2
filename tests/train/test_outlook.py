"""What a run's outlook advises: theory's remedies where they apply, and never what is in place already."""

from pathlib import Path

import pytest
import yaml

from unitgain.train.outlook import Outlook

CONF = Path(__file__).parents[2] / "conf"
SMALL = {"_target_": "unitgain.nn.init.normal", "std": 0.01}
LAYER = {"_target_": "unitgain.nn.LayerNorm"}


def option(group, name):
    return {group: yaml.safe_load((CONF / group / f"{name}.yaml").read_text())}


@pytest.fixture
def outlook(make_spec):
    def of(**changes):
        return Outlook(make_spec(**changes), inputs=4, outputs=3, q_0=1.0)

    return of


def test_a_start_that_vanishes_gets_what_theory_finds(outlook):
    advice = outlook(model={"depth": 20}, init=SMALL).remedy("vanishing")
    assert advice.startswith("init=")
    assert "optimizer.lr" not in advice


def test_what_vanishes_behind_a_healthy_start_is_the_steps_doing(outlook):
    """Layer norm lets gradients pass whatever the weights' size, and Adam's steps are large for small weights."""
    deep = {"depth": 20, "width": 32}
    given = outlook(model=deep, init=SMALL, norm=LAYER)
    assert given.forecast.label == "healthy"
    assert given.remedy("vanishing") == "a lower optimizer.lr or model.residual=true"
    residual = outlook(model=deep | {"residual": True}, init=SMALL, norm=LAYER)
    assert residual.remedy("vanishing") == "a lower optimizer.lr"


def test_what_explodes_behind_a_healthy_start_wants_smaller_steps(outlook):
    """A residual branch would only add to it."""
    assert outlook().forecast.label == "healthy"
    advice = "a lower optimizer.lr or trainer.gradient_clip_norm=1"
    assert outlook().remedy("exploding") == advice


@pytest.mark.parametrize(
    ("label", "setting", "changes"),
    [
        ("saturated", "norm=layer", option("norm", "layer")),
        ("rank collapse", "norm=batch", option("norm", "batch")),
        ("rank collapse", "model.residual=true", {"model": {"residual": True}}),
        ("dead units", "activation=leaky_relu", option("activation", "leaky_relu")),
        ("oscillating", "scheduler=cosine", option("scheduler", "cosine")),
        ("diverged", "trainer.gradient_clip_norm=1", {"trainer": {"gradient_clip_norm": 1}}),
    ],
)
def test_what_is_in_place_is_not_advised(outlook, label, setting, changes):
    assert setting in outlook().remedy(label)
    advice = outlook(**changes).remedy(label)
    assert setting not in advice
    assert advice  # there is another one


def test_there_may_be_nothing_left_to_advise(outlook):
    both = option("norm", "batch") | {"model": {"residual": True}}
    assert outlook(**both).remedy("rank collapse") == ""


def test_a_fault_without_a_setting_gets_the_general_remedy(outlook):
    assert outlook().remedy("out of theory").startswith("to look at the initial weights")
