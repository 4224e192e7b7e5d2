import json
import math
import sys

import numpy as np
import pytest
import torch

from unitgain.cli import main
from unitgain.forecast import _forecast as module
from unitgain.forecast import forecast_of, maps_of, remedies, sentence
from unitgain.spec import parse
from unitgain.theory.mean_field import Phase


def init(name, **arguments):
    return {"_target_": f"unitgain.nn.init.{name}", **arguments}


def spec(activation="torch.nn.Tanh", init_=None, depth=50, width=64, **keys):
    model = {"_target_": "unitgain.nn.MLP", "depth": depth, "width": width, **keys.pop("model", {})}
    return parse(
        {
            "activation": {"_target_": activation},
            "init": init_ or init("he"),
            "model": model,
            **keys,
        }
    )


CHAOTIC = spec(init_=init("mean_field", sigma_w=math.sqrt(2.5), sigma_b=math.sqrt(0.05)))


def test_a_chaotic_network():
    forecast = forecast_of(CHAOTIC)
    assert forecast.phase is Phase.CHAOTIC
    assert forecast.slope == pytest.approx(0.0272, abs=5e-4)
    assert forecast.label == "exploding"
    assert forecast.ratio == pytest.approx(10 ** (49 * forecast.slope), rel=0.3)
    assert forecast.trainable_depth == pytest.approx(6 * forecast.xi_c)
    assert forecast.name == "tanh with mean_field"


def test_an_ordered_network_has_the_published_depth():
    ordered = spec(init_=init("mean_field", sigma_w=1.0, sigma_b=math.sqrt(0.05)))
    assert forecast_of(ordered).trainable_depth == pytest.approx(21.8, abs=0.1)


@pytest.mark.parametrize(
    ("depth", "label", "severe"),
    [
        (2, "healthy", False),
        (5, "vanishing", False),
        (20, "vanishing", True),
        (1, "unknown", False),
    ],
)
def test_the_bands(depth, label, severe):
    forecast = forecast_of(spec("torch.nn.ReLU", init("torch_default"), depth))
    assert (forecast.label, forecast.severe) == (label, severe)


def test_runs_that_differ_in_nothing_it_depends_on_share_a_forecast():
    module._forecast.cache_clear()
    first = forecast_of(CHAOTIC, q_0=0.9)
    other = CHAOTIC.model_copy(update={"seed": 3, "l2_penalty": 0.1, "monitor": "val/accuracy"})
    assert forecast_of(other, q_0=0.9) is first
    batches = CHAOTIC.data.model_copy(update={"batch_size": 7})
    assert forecast_of(CHAOTIC.model_copy(update={"data": batches}), q_0=0.9) is first
    for changed in (
        forecast_of(CHAOTIC, q_0=1.0),
        forecast_of(CHAOTIC, q_0=0.9, inputs=10),
        forecast_of(spec(init_=CHAOTIC.init.model_dump(by_alias=True), depth=49), q_0=0.9),
    ):
        assert changed is not first
    assert module._forecast.cache_info().misses == 4


def test_plain_types():
    text = json.dumps(forecast_of(spec("torch.nn.ReLU")).as_dict(), allow_nan=False)
    content = json.loads(text)
    assert content["phase"] == "critical"
    assert content["xi_c"] is None
    assert len(content["q_L"]) == len(content["log10_gradient_L"]) == 51
    assert len(content["activation_mean_L"]) == 50


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"init_": init("constant")}, "keeps all units of a layer equal"),
        ({"init_": init("sparse")}, "leaves a unit 6 inputs"),
        ({"output_init": init("zeros")}, "the first step gives the hidden layers nothing"),
        ({"activation": "torch.nn.ReLU"}, "inputs become alike"),
        (
            {
                "norm": {"_target_": "unitgain.nn.BatchNorm"},
                "data": {"_target_": "unitgain.data.sources.digits", "batch_size": 4},
            },
            "statistics of 4 examples",
        ),
        ({"init_": init("normal", std=10.0), "activation": "torch.nn.ReLU"}, "overflow float32"),
    ],
)
def test_caveats(keys, words):
    assert any(words in caveat for caveat in forecast_of(spec(**keys)).caveats)


def test_where_theory_is_silent_it_says_so():
    forecast = forecast_of(spec(init_=init("constant")))
    assert forecast.label == "unknown"
    assert math.isnan(forecast.slope)
    assert forecast.as_dict()["slope"] is None
    assert sentence(forecast) == "no verdict: theory doesn't speak of this network"
    assert remedies(spec(init_=init("constant")))


def test_a_network_that_passes_nothing_on_vanishes():
    forecast = forecast_of(spec(init_=init("zeros")))
    assert forecast.label == "vanishing"
    assert sentence(forecast) == "gradients vanish: some hidden layers get none at all"


def test_a_norm_has_no_maps_and_a_phase_all_the_same():
    normed = spec("torch.nn.ReLU", norm={"_target_": "unitgain.nn.BatchNorm"})
    assert maps_of(normed) is None
    forecast = forecast_of(normed)
    assert forecast.phase is Phase.CHAOTIC
    assert forecast.chi_1 == pytest.approx(math.pi / (math.pi - 1), rel=0.05)
    assert forecast.trainable_depth == pytest.approx(
        1.3 / (0.5 * math.log10(forecast.chi_1)), rel=0.01
    )


def test_biases_all_equal_move_the_activation():
    constant = {"_target_": "unitgain.nn.init.bias_constant", "value": 0.5}
    forecast = forecast_of(spec(init_=init("lecun"), bias_init=constant))
    assert forecast.q_star == pytest.approx(forecast.q_L[-2], rel=1e-6)


def test_an_activation_and_an_initializer_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(
        "import torch\n"
        "def bent(x):\n    return torch.tanh(x)\n"
        "def wide(weight, generator):\n"
        "    torch.nn.init.normal_(weight, std=(2.5 / weight.shape[1]) ** 0.5, generator=generator)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("UNITGAIN_ALLOW", "own_parts")
    own = spec(
        init_={"_target_": "own_parts.wide", "_partial_": True},
        activation="own_parts.bent",
        bias_init=init("bias_normal", std=math.sqrt(0.05)),
    )
    own = parse(
        {
            **own.resolved(),
            "activation": {"_target_": "own_parts.bent", "_partial_": True},
        }
    )
    forecast = forecast_of(own)
    # One draw of 64 x 64 weights has their variance to 2 %.
    assert forecast.slope == pytest.approx(forecast_of(CHAOTIC).slope, abs=0.006)
    assert forecast.name == "bent with wide"
    assert any("measured on one draw" in caveat for caveat in forecast.caveats)
    sys.modules.pop("own_parts")


def test_every_remedy_parses_and_is_healthy(capsys):
    cases = {
        "activation=tanh init=torch_default": "init=mean_field",
        "activation=relu norm=batch": "norm=none",
        "model.residual=true init=lecun activation=gelu": "init=critical",
    }
    for line, first in cases.items():
        words = [*line.split(), "model.depth=40"]
        assert main(["predict", "--json", *words]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["label"] in ("vanishing", "exploding")
        found = content["remedies"]
        assert found[0]["overrides"][0] == first
        for remedy in found:
            assert main(["predict", "--json", *words, *remedy["overrides"]]) == 0
            healed = json.loads(capsys.readouterr().out)
            assert healed["label"] == "healthy", (words, remedy)
            assert healed["slope"] == pytest.approx(remedy["slope"], abs=1e-9)


def test_the_critical_remedy_has_the_published_number():
    ordered = spec(init_=init("mean_field", sigma_w=1.0, sigma_b=math.sqrt(0.05)))
    [override] = remedies(ordered)[0].overrides
    assert override == f"init.sigma_w={math.sqrt(1.76095):.4g}"


def test_layers_are_as_the_network_has_them():
    """Lengths of the forecast against those of the packed network itself, for whatever bears on them."""
    from types import SimpleNamespace

    from unitgain.nn.mlp import Trace
    from unitgain.pack.build import build_mlp

    keys = {
        "init_": init("he", mode="fan_out"),
        "first_init": init("torch_default"),
        "output_init": init("xavier"),
        "bias_init": init("bias_normal", std=0.3),
        "width": [100, 300, 200],
        "depth": 3,
    }
    run = spec("torch.nn.ReLU", **keys)
    seeds = [run.model_copy(update={"seed": seed}) for seed in range(20)]
    table = SimpleNamespace(task="classification", n_features=40, n_classes=400, n_outputs=0)
    mlp = build_mlp(seeds, [table] * 20)
    trace = Trace()
    x = torch.randn(20, 200, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mlp(x, trace=trace)
    measured = np.array([float(z.square().mean()) for z in trace.preactivations])
    np.testing.assert_allclose(forecast_of(run, inputs=40, outputs=400).q_L, measured, rtol=0.06)
