"""Forecasts of unusual configurations: none is refused, and none says something that isn't a number unawares."""

import math
from itertools import product

import numpy as np
import pytest

from unitgain.errors import ConfigError
from unitgain.forecast import brief_remedies, forecast_of
from unitgain.spec import parse

INITS = {
    "zeros": {},
    "constant": {"value": 1e6},
    "normal": {"std": 1e-12},
    "uniform": {"bound": 1e8},
    "identity": {"gain": 50.0},
    "orthogonal": {"gain": 1e5},
    "mean_field": {"sigma_w": 30.0, "sigma_b": 5.0},
    "lsuv": {"target_std": 100.0},
    "critical": {},
    "scaled_residual": {},
}
NORMS = ["torch.nn.Identity", "unitgain.nn.BatchNorm", "unitgain.nn.LayerNorm"]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("activation", ["ReLU", "Softplus", "SELU", "Tanh"])
def test_every_configuration_has_a_forecast(activation, init):
    told = 0
    for norm, residual, q_0 in product(NORMS, (False, True), (1.0, 1e-9)):
        model = {"_target_": "unitgain.nn.MLP", "depth": 30, "residual": residual}
        config = {
            "model": model,
            "activation": {"_target_": f"torch.nn.{activation}"},
            "init": {"_target_": f"unitgain.nn.init.{init}", **INITS[init]},
            "norm": {"_target_": norm},
        }
        try:
            spec = parse(config)
        except ConfigError:
            continue
        forecast = forecast_of(spec, inputs=64, outputs=10, q_0=q_0)
        told += 1
        if forecast.label in ("healthy", "vanishing", "exploding"):
            finite = np.isfinite(forecast.log10_gradient_L)
            assert finite.all() or forecast.label == "vanishing"
            assert forecast.label != "healthy" or math.isfinite(forecast.slope)
            brief_remedies(spec, inputs=64, outputs=10, q_0=q_0)
        else:
            assert forecast.caveats
    assert told
