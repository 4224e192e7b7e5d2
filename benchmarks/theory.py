"""Forecasts against wide networks: slopes of log10 gradient norm at initialization, width 1000, depth 50.

What is measured is the probe's `grad_preactivation` for a random gradient at each output, on Gaussian inputs of unit
variance, batches of 128.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unitgain.forecast import forecast_of
from unitgain.nn.initialize import initialize_from_data
from unitgain.nn.propagate import Propagation
from unitgain.pack.build import build_mlp, member_init
from unitgain.probe import slope_per_layer
from unitgain.spec import RunSpec, parse

TITLE = "Slope of log10 gradient norm a layer, measured - forecast; width 1000, depth 50, batch 128"
WIDTH, DEPTH, BATCH = 1000, 50, 128
DRAWS = 10
AGAIN = 0.002
"""The deviation from which a case is drawn again."""

ACTIVATIONS = {
    "relu": {"_target_": "torch.nn.ReLU"},
    "leaky_relu": {"_target_": "torch.nn.LeakyReLU", "negative_slope": 0.1},
    "elu": {"_target_": "torch.nn.ELU"},
    "selu": {"_target_": "torch.nn.SELU"},
    "gelu": {"_target_": "torch.nn.GELU"},
    "silu": {"_target_": "torch.nn.SiLU"},
    "tanh": {"_target_": "torch.nn.Tanh"},
    "sigmoid": {"_target_": "torch.nn.Sigmoid"},
    "softplus": {"_target_": "torch.nn.Softplus"},
    "erf": {"_target_": "unitgain.nn.Erf"},
    "identity": {"_target_": "torch.nn.Identity"},
}
NORMS = {
    "none": "torch.nn.Identity",
    "batch": "unitgain.nn.BatchNorm",
    "layer": "unitgain.nn.LayerNorm",
    "rms": "unitgain.nn.RMSNorm",
}
INITS: dict[str, dict[str, Any]] = {
    "normal": {"std": 0.05},
    "uniform": {"bound": 0.08},
    "xavier": {},
    "he": {},
    "he fan_out uniform": {"mode": "fan_out", "distribution": "uniform"},
    "lecun": {},
    "orthogonal": {"gain": 1.3},
    "truncated_normal": {"std": 0.05},
    "sparse": {"std": 0.15},
    "mean_field": {"sigma_w": 1.5, "sigma_b": 0.3},
    "torch_default": {},
    "lsuv": {},
    "identity": {},
}
BATCH_NORM_BAR = ("relu", "leaky_relu", "tanh")
"""The activations for which batch norm over 128 examples has a bar of its own."""


@dataclass(frozen=True)
class Case:
    """One configuration; whatever isn't named is at its default.

    Args:
        family: what it is counted under.
        name: of it.
        keys: of the configuration.
        inputs: features of an example.
    """

    family: str
    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    inputs: int | None = None

    def spec(self, width: int, depth: int, batch: int) -> RunSpec:
        """The run, of such a size where it doesn't say another."""
        model = {"_target_": "unitgain.nn.MLP", "depth": depth, "width": width}
        data = {"_target_": "unitgain.data.sources.digits", "batch_size": batch}
        keys = {**self.keys, "model": {**model, **self.keys.get("model", {})}, "data": data}
        return parse(keys)


def init(name: str, **arguments: Any) -> dict[str, Any]:
    """The node of an initializer."""
    return {"_target_": f"unitgain.nn.init.{name.partition(' ')[0]}", **arguments}


def cases() -> Iterator[Case]:
    """Every activation, norm, dropout and initializer, and what else bears on the gradient."""
    plain = init("mean_field", sigma_w=1.3, sigma_b=0.2)
    for activation, node in ACTIVATIONS.items():
        for norm, target in NORMS.items():
            for place in ("before", "after") if norm != "none" else ("before",):
                for rate in (0.0, 0.1, 0.5):
                    words = [activation, *([] if norm == "none" else [norm, place])]
                    own = norm == "batch" and activation not in BATCH_NORM_BAR
                    family = "no norm" if norm == "none" else f"norm={norm}"
                    yield Case(
                        f"{family}, other activations" if own else family,
                        " ".join([*words, f"p={rate:g}"]),
                        {
                            "activation": node,
                            "norm": {"_target_": target},
                            "model": {"norm_position": f"{place}_activation"},
                            "dropout": {"_target_": "unitgain.nn.Dropout", "p": rate},
                            "init": plain,
                        },
                    )
    for name, arguments in INITS.items():
        for activation in ("relu", "tanh"):
            yield Case(
                "init",
                f"{name} {activation}",
                {"activation": ACTIVATIONS[activation], "init": init(name, **arguments)},
            )
    yield from _others()


def _others() -> Iterator[Case]:
    relu, tanh, gelu = (ACTIVATIONS[name] for name in ("relu", "tanh", "gelu"))
    selu = ACTIVATIONS["selu"]
    for rate in (0.1, 0.5):
        dropout = {"_target_": "unitgain.nn.AlphaDropout", "p": rate}
        keys = {"activation": selu, "dropout": dropout, "init": init("lecun")}
        yield Case("alpha dropout", f"selu p={rate:g}", keys)
    for scale in (1.0, 0.2):
        for name, node in (("relu", relu), ("tanh", tanh), ("gelu", gelu)):
            for norm in ("none", "batch", "layer"):
                yield Case(
                    "residual",
                    f"{name} {norm} scale={scale:g}",
                    {
                        "activation": node,
                        "norm": {"_target_": NORMS[norm]},
                        "model": {"residual": True, "branch_scale": scale},
                        "init": init("lecun"),
                    },
                )
    for name in ("bias_constant", "bias_normal", "bias_uniform"):
        bias = init(name, **({"std": 0.3} if name == "bias_normal" else {}))
        for activation in ("relu", "tanh"):
            keys = {"activation": ACTIVATIONS[activation], "bias_init": bias}
            yield Case("bias_init", f"{name} {activation}", keys)
    yield Case("first and output layer", "first_init=lecun", {"first_init": init("lecun")})
    yield Case("first and output layer", "output_init=zeros", {"output_init": init("zeros")})
    yield Case("first and output layer", "64 inputs", {"activation": tanh}, inputs=64)


def norms_of(spec: RunSpec, seeds: Sequence[int], inputs: int | None) -> NDArray[np.float64]:
    """What `grad_preactivation` is of each seed's network at each layer, (K, L)."""
    features = inputs or spec.model.widths[0]
    specs = [spec.model_copy(update={"seed": seed}) for seed in seeds]
    table: Any = SimpleNamespace(
        task="classification", n_features=features, n_outputs=0, n_classes=10
    )
    mlp = build_mlp(specs, [table] * len(specs))
    generator = torch.Generator().manual_seed(seeds[0])
    x = torch.randn(len(specs), spec.data.batch_size, features, generator=generator)
    initialize_from_data(mlp, [member_init(s) for s in specs], x)
    propagation = Propagation(mlp)
    keys = mlp.mask_keys(0, 1)
    output = propagation.forward(x, None if keys is None else keys[0], None)
    propagation.backward(torch.randn(output.shape, generator=generator), keep=True)
    norm_KL = np.zeros((len(specs), mlp.depth + 1))
    for layers, gradient in propagation.preactivation_gradients:
        for layer, g_KBD in zip(layers, gradient, strict=True):
            norm_KL[:, layer] = torch.linalg.vector_norm(g_KBD.flatten(1).double(), dim=1)
    return norm_KL


def deviation(case: Case, width: int, depth: int, batch: int) -> dict[str, Any]:
    """A case, measured and forecast; where one draw is far off, more tell chance from fault."""
    spec = case.spec(width, depth, batch)
    forecast = forecast_of(spec, inputs=case.inputs).slope
    slopes: list[float] = []
    for seeds in ([k] for k in range(DRAWS)):
        slopes += [slope_per_layer(n_L) for n_L in norms_of(spec, seeds, case.inputs)[:, :-1]]
        if len(slopes) == 1 and abs(slopes[0] - forecast) <= AGAIN:
            break
    measured = float(np.mean(slopes))
    return {
        "measured": round(measured, 5),
        "forecast": round(forecast, 5),
        "deviation": round(measured - forecast, 5),
        "draws": len(slopes),
    }


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for case in cases():
        result = deviation(case, WIDTH, DEPTH, BATCH)
        found.setdefault(case.family, {})[case.name] = result
        print(f"{case.family}: {case.name}: {result}", flush=True)
        gc.collect()
    return {
        "bar": "at most .003 a layer, .005 with batch norm of relu, leaky_relu and tanh",
        "inputs": "Gaussian of unit variance; a random gradient at each output",
        "worst": {family: _worst(of_family) for family, of_family in found.items()},
        "cases": found,
    }


def _worst(of_family: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name = max(of_family, key=lambda each: abs(of_family[each]["deviation"]))
    return {"cases": len(of_family), "case": name, **of_family[name]}
