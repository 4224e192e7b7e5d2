"""The remedies that a verdict quotes."""

import pytest

from unitgain.forecast import brief_remedies, forecast_of, remedies
from unitgain.spec import parse


def spec(activation="Tanh", depth=40, **keys):
    return parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": depth},
            "activation": {"_target_": f"torch.nn.{activation}"},
            **keys,
        }
    )


@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid", "ReLU"])
def test_they_are_remedies_of_two_groups(activation):
    sick = spec(activation, init={"_target_": "unitgain.nn.init.torch_default"})
    brief = brief_remedies(sick)
    assert len(brief) == 2
    assert {" ".join(each.overrides) for each in remedies(sick)} >= set(brief)
    first, second = (text.partition("=")[0].partition(".")[0] for text in brief)
    assert first != second


def test_fewer_layers_come_last():
    sick = spec(init={"_target_": "unitgain.nn.init.mean_field", "sigma_w": 4.0})
    assert forecast_of(sick).label == "exploding"
    typed = [" ".join(each.overrides) for each in remedies(sick)]
    assert any(text.startswith("model.depth") for text in typed)
    assert not any(text.startswith("model.depth") for text in brief_remedies(sick))


def test_runs_that_they_are_the_same_for_share_them():
    init = {"_target_": "unitgain.nn.init.torch_default"}
    one = brief_remedies(spec(init=init))
    other = spec(init=init, seed=3, optimizer={"_target_": "unitgain.pack.optim.Adam", "lr": 0.1})
    assert brief_remedies(other) is one
