"""What is the user's own is tried before a run directory is there: a line instead of a traceback halfway."""

import sys
from types import ModuleType

import pytest

from unitgain.errors import ConfigError

SOURCE = """
import torch
from unitgain.probe import QUANTITIES


def raising(*args):
    raise KeyError("inside")


def flat(tensors):
    return QUANTITIES["grad_weight"](tensors)[0]


def transposed(tensors):
    return QUANTITIES["grad_weight"](tensors).T


def biases(tensors):
    return QUANTITIES["grad_bias"](tensors)


def no_tensor(*args):
    return 0.5


def mean(prediction, target):
    return prediction.mean()


def detached(output, target):
    return output.detach().square().sum(-1)


def random(prediction, target):
    return torch.rand(len(prediction))
"""
TRACE = r"\(HYDRA_FULL_ERROR=1 shows where\)$"
BLEU = {"_target_": "torchmetrics.text.BLEUScore"}
SQUARES = {"_target_": "torchmetrics.MeanSquaredError"}
POSITIVE = {"_target_": "torchmetrics.regression.TweedieDevianceScore", "power": 1.5}
BINARY = {"_target_": "torchmetrics.classification.BinaryAccuracy"}


@pytest.fixture(autouse=True)
def own_module(monkeypatch):
    module = ModuleType("ownparts")
    exec(SOURCE, module.__dict__)
    monkeypatch.setitem(sys.modules, "ownparts", module)
    monkeypatch.setenv("UNITGAIN_ALLOW", "ownparts")


def own(name):
    return {"_target_": f"ownparts.{name}"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"probe": {"extra": {"mine": own("raising")}}},
            r"^probe\.extra\.mine: must be a function of a step's LayerTensors, but "
            rf"ownparts\.raising raised KeyError: 'inside'; see unitgain\.probe.* {TRACE}",
        ),
        (
            {"probe": {"extra": {"mine": {"_target_": "torch.nn.ReLU"}}}},
            r"^probe\.extra\.mine: must give one number a member and layer, here a tensor of shape "
            r"\(2, 3\), but torch\.nn\.ReLU gave a ReLU; reduce over the other axes alone$",
        ),
        ({"probe": {"extra": {"mine": own("flat")}}}, r"\(2, 3\), but .*flat gave shape \(3,\);"),
        (
            {
                "model": {"_target_": "unitgain.nn.MLP", "depth": 1},
                "probe": {"extra": {"mine": own("transposed")}},
            },
            r"\(3, 2\), but .*transposed gave shape \(2, 3\);",
        ),
        ({"probe": {"extra": {"mine": own("no_tensor")}}}, r"no_tensor gave a float;"),
        (
            {"metrics": {"mine": BLEU}},
            r"^metrics\.mine: must judge probabilities \(N, C\) and classes \(N,\), but "
            rf"torchmetrics\.text\.BLEUScore raised \w+: .*; choose one of torchmetrics\."
            rf"classification, or metrics=auto {TRACE}",
        ),
        ({"metrics": {"mine": SQUARES}}, r"^metrics\.mine: .*MeanSquaredError raised \w+: "),
        (
            {"metrics": {"mine": own("mean")}},
            r"^metrics\.mine: must give one number a member, here a tensor of shape \(2,\), but "
            r"ownparts\.mean gave shape \(\); reduce over the other axes alone$",
        ),
        ({"metrics": {"mine": own("no_tensor")}}, r"no_tensor gave a float;"),
        ({"metrics": {"mine": BINARY}}, "needs two classes, the data has 3"),
        (
            {"loss": {**own("raising"), "_partial_": True}},
            r"^loss: must give one number an example that gradients pass through, but "
            rf"ownparts\.raising raised KeyError: 'inside'; mend it, or choose loss=auto {TRACE}",
        ),
        ({"loss": {**own("detached"), "_partial_": True}}, r"^loss: .*detached cuts them off;"),
    ],
)
def test_one_line_and_no_directory(train, tmp_path, changes, match):
    with pytest.raises(ConfigError, match=match) as caught:
        train(**changes)
    [line] = caught.value.lines
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 8, "bias": False},
            "probe": {"extra": {"mine": own("biases")}},
        },
        {"metrics": {"mine": own("random")}},
    ],
    ids=["of no layer", "random"],
)
def test_what_can_be_used_is_left_alone(train, changes):
    assert train(**changes).status == "finished"


def test_metrics_of_regression_see_targets_in_their_own_units(train, diabetes):
    assert train(data=diabetes, metrics={"mine": SQUARES}).status == "finished"
    with pytest.raises(ConfigError, match=r"^metrics\.mine: must judge predictions and targets"):
        train("other", data=diabetes, metrics={"mine": BLEU})


def test_a_metric_that_refuses_what_training_gives_it_is_a_line_too(train, diabetes):
    start = {"output_init": {"_target_": "unitgain.nn.init.normal", "std": 10.0}}
    with pytest.raises(ConfigError, match=r"^metrics\.mine: .*raised ValueError: For power=1\.5"):
        train(data=diabetes, metrics={"mine": POSITIVE}, **start)
