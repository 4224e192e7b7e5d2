"""Runs whose state is known by other means than the verdict's: their configurations, grouped into packs.

Two studies. *Depth*: an activation, a depth, and weights from far too small to far too large, so that gradients vanish
or explode by theory. *Rate*: networks that would train, and learning rates over ten orders of magnitude.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, ClassVar, final

import lightning.pytorch as pl
import numpy as np

from unitgain.spec import RunSpec, parse
from unitgain.train.module import PackedModule

EPOCHS = 16
WIDTH = 64
ADAM, SGD, RMSPROP = (f"unitgain.pack.optim.{name}" for name in ("Adam", "SGD", "RMSprop"))
TORCH = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
}
DIGITS = {"_target_": "unitgain.data.sources.digits"}
AIRFOIL = {"_target_": "unitgain.data.sources.airfoil", "task": "regression"}
FACTORS = (0.3, 0.5, 0.7, 1.0, 1.15, 1.4, 2.0, 4.0)
"""Of the weights' critical standard deviation."""


@final
class EpochLosses(pl.Callback):
    """Each run's loss on the whole training part, without dropout, at the end of each epoch."""

    latest: ClassVar[dict[int, list[float]]] = {}
    """By the run's seed, of the last fit that began."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        EpochLosses.latest = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PackedModule) -> None:
        """Evaluate who is still there."""
        loss_K = pl_module.pack.predict("train").loss_K.tolist()
        for spec, loss in zip(pl_module.specs, loss_K, strict=True):
            self.latest.setdefault(spec.seed, []).append(loss)


@dataclass(frozen=True)
class Pack:
    """Runs of one shape.

    Args:
        name: of the pack.
        study: "depth" or "rate".
        specs: by the name of the run.
    """

    name: str
    study: str
    specs: Mapping[str, RunSpec]


@dataclass(frozen=True)
class Net:
    """What the runs of a pack share.

    Args:
        activation: a name in conf/activation.
        depth: hidden layers.
        data: the data node.
        norm: a class of unitgain.nn, or None.
        after: whether the norm stands behind the activation.
        residual: as in the configuration.
        optimizer: its target.
        batch: examples of a step.
        epochs: of training.
    """

    activation: str
    depth: int
    data: Mapping[str, Any] = field(default_factory=lambda: DIGITS)
    norm: str | None = None
    after: bool = False
    residual: bool = False
    optimizer: str = ADAM
    batch: int = 64
    epochs: int = EPOCHS

    @property
    def name(self) -> str:
        """The parts that are not at their default."""
        parts = [self.activation, f"depth {self.depth}", self.data["_target_"].rpartition(".")[2]]
        parts += [f"{self.norm}{' after' * self.after}"] * bool(self.norm)
        parts += ["residual"] * self.residual
        parts += [f"batch {self.batch}"] * (self.batch != 64)
        return ", ".join([*parts, self.optimizer.rpartition(".")[2]])

    def spec(self, seed: int, lr: float, **keys: Any) -> RunSpec:
        """One run."""
        torch_name = TORCH.get(self.activation)
        activation = f"torch.nn.{torch_name}" if torch_name else "unitgain.nn.Erf"
        metric = "accuracy" if self.data is DIGITS else "r2"
        config = {
            "seed": seed,
            "model": {
                "_target_": "unitgain.nn.MLP",
                "depth": self.depth,
                "width": WIDTH,
                "residual": self.residual,
                "norm_position": "after_activation" if self.after else "before_activation",
            },
            "activation": {"_target_": activation},
            "optimizer": {"_target_": self.optimizer, "lr": lr},
            "data": {**self.data, "batch_size": self.batch},
            "probe": {"every": 10},
            "trainer": {"max_epochs": self.epochs, "accelerator": "cpu", "progress": False},
            "metrics": {metric: {"_target_": f"unitgain.pack.metrics.{metric}"}},
            "callbacks": {"extra": {"truth": {"_target_": "benchmarks.labelled.EpochLosses"}}},
            "figures": False,
            "logger": {},
            **keys,
        }
        if self.norm:
            config["norm"] = {"_target_": f"unitgain.nn.{self.norm}"}
        return parse(config)


DEPTH_NETS = (
    # With the critical standard deviation of weights (times the square root of fan_in) and of biases, or near it.
    (Net("tanh", 30), 1.15, 0.1),
    (Net("tanh", 12, AIRFOIL), 1.15, 0.1),
    (Net("relu", 30), 2**0.5, 0.0),
    (Net("relu", 40), 2**0.5, 0.0),
    (Net("relu", 20, optimizer=SGD), 2**0.5, 0.0),
    (Net("leaky_relu", 20, AIRFOIL), 2**0.5, 0.0),
    (Net("elu", 20, AIRFOIL), 1.23, 0.1),
    (Net("selu", 25), 1.0, 0.0),
    (Net("gelu", 20), 1.408, 0.416),
    (Net("silu", 20), 1.5, 0.4),
    (Net("erf", 20, AIRFOIL), 1.0, 0.1),
    (Net("softplus", 15, AIRFOIL), 1.4, 0.1),
    (Net("sigmoid", 10), 4.0, 0.1),
    (Net("sigmoid", 3), 4.0, 0.1),
    (Net("tanh", 3, AIRFOIL), 4.0, 0.1),
    (Net("relu", 20, norm="BatchNorm"), 2**0.5, 0.0),
    (Net("relu", 20, norm="LayerNorm"), 2**0.5, 0.0),
    (Net("tanh", 20, AIRFOIL, norm="RMSNorm", after=True), 1.2, 0.0),
    (Net("relu", 20, residual=True), 2**0.5, 0.0),
    (Net("tanh", 20, AIRFOIL, residual=True), 1.0, 0.0),
)
RATE_NETS = (
    # With the least and the greatest learning rate.
    (Net("relu", 4), 1e-8, 10.0),
    (Net("relu", 4, optimizer=SGD), 1e-7, 100.0),
    (Net("tanh", 4, AIRFOIL, optimizer=SGD), 1e-7, 100.0),
    (Net("tanh", 6), 1e-8, 10.0),
    (Net("gelu", 5, AIRFOIL), 1e-8, 10.0),
    (Net("selu", 6, AIRFOIL, optimizer=SGD), 1e-7, 100.0),
    (Net("relu", 8, norm="BatchNorm", optimizer=SGD), 1e-7, 100.0),
    (Net("relu", 6, AIRFOIL, norm="LayerNorm"), 1e-8, 10.0),
    (Net("sigmoid", 2), 1e-8, 10.0),
    (Net("elu", 4, optimizer=RMSPROP), 1e-8, 10.0),
    # All rows in a step: rates too high for the curvature, which make the loss swing.
    (Net("tanh", 3, optimizer=SGD, batch=1078, epochs=64), 0.3, 60.0),
    (Net("relu", 3, optimizer=SGD, batch=1078, epochs=64), 0.05, 10.0),
)
RATES = 12
DROPOUTS = (0.0, 0.1, 0.3, 0.5)
BIASES = (0.0, -0.3, -1.0, -2.0, -4.0, -8.0)
NAMED = ("xavier", "he", "torch_default", "orthogonal")
USUAL = {ADAM: 1e-3, SGD: 0.05}


def packs(first_seed: int = 0) -> Iterator[Pack]:
    """All runs.

    Args:
        first_seed: what seeds begin with: other networks, batches and masks of the same configurations.
    """
    # For the callback.
    os.environ["UNITGAIN_ALLOW"] = "benchmarks"
    for pack in _packs():
        specs = {
            name: spec.model_copy(update={"seed": spec.seed + first_seed})
            for name, spec in pack.specs.items()
        }
        yield replace(pack, specs=specs)


def _packs() -> Iterator[Pack]:
    for net, sigma_w, sigma_b in DEPTH_NETS:
        yield Pack(net.name, "depth", dict(_by_depth(net, sigma_w, sigma_b)))
    for net, least, greatest in RATE_NETS:
        rates = [float(lr) for lr in np.geomspace(least, greatest, RATES)]
        specs = {f"lr={lr:.1e}": net.spec(100 + i, lr) for i, lr in enumerate(rates)}
        yield Pack(f"{net.name}, rates", "rate", specs)
    yield Pack("relu, dropout", "depth", dict(_by_dropout()))
    yield Pack("relu, biases", "depth", dict(_by_bias()))


def _mean_field(sigma_w: float, sigma_b: float) -> dict[str, Any]:
    return {"_target_": "unitgain.nn.init.mean_field", "sigma_w": sigma_w, "sigma_b": sigma_b}


def _by_depth(net: Net, sigma_w: float, sigma_b: float) -> Iterator[tuple[str, RunSpec]]:
    lr = USUAL[net.optimizer]
    for seed, factor in enumerate(FACTORS):
        # Where biases are critical too, they go with the weights: the fixed point stays.
        init = _mean_field(round(factor * sigma_w, 4), sigma_b)
        yield f"sigma_w={factor * sigma_w:.2f}", net.spec(seed, lr, init=init)
    for seed, name in enumerate(NAMED, len(FACTORS)):
        yield name, net.spec(seed, lr, init={"_target_": f"unitgain.nn.init.{name}"})
    zeros = {"_target_": "unitgain.nn.init.zeros"}
    yield "output zeros", net.spec(20, lr, init=_mean_field(sigma_w, sigma_b), output_init=zeros)


def _by_dropout() -> Iterator[tuple[str, RunSpec]]:
    net = Net("relu", 20)
    for seed, (p, gain) in enumerate((q, gain) for q in DROPOUTS for gain in (1.0, (1 - q) ** 0.5)):
        dropout = {"_target_": "unitgain.nn.Dropout", "p": p}
        init = _mean_field(2**0.5 * gain, 0.0)
        yield f"p={p} gain={gain:.2f}", net.spec(seed, 1e-3, init=init, dropout=dropout)


def _by_bias() -> Iterator[tuple[str, RunSpec]]:
    for seed, (bias, lr) in enumerate(product(BIASES, (1e-3, 3e-2))):
        bias_init = {"_target_": "unitgain.nn.init.bias_constant", "value": bias}
        yield f"bias={bias} lr={lr}", Net("relu", 4).spec(seed, lr, bias_init=bias_init)
