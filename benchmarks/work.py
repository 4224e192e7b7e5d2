"""What is trained: a shape on the digits, as runs of unitgain and as plain tensors, and its arithmetic.

Shapes: K members, B examples, P parameters of a member.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.pack.engine import Pack
from unitgain.spec import RunSpec, parse

INPUTS, OUTPUTS = 64, 10
MOMENTUM = 0.9
OFF: dict[str, Any] = {"every": None, "quantities": []}


@dataclass(frozen=True)
class Work:
    """A ReLU network on the digits, trained with SGD with momentum or Adam.

    Args:
        depth: hidden layers.
        width: units of each.
        batch: examples of a step.
        optimizer: "sgd" or "adam".
    """

    depth: int
    width: int
    batch: int
    optimizer: str

    @property
    def name(self) -> str:
        """Depth, width, batch, optimizer."""
        return f"{self.depth}, {self.width}, {self.batch}, {self.optimizer}"

    @property
    def layers(self) -> list[tuple[int, int]]:
        """The inputs and outputs of each linear map."""
        return list(pairwise([INPUTS, *[self.width] * self.depth, OUTPUTS]))

    @property
    def parameters(self) -> int:
        """P."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self.layers)

    @property
    def states(self) -> int:
        """Numbers that the optimizer keeps for a parameter."""
        return {"sgd": 1, "adam": 2}[self.optimizer]

    @property
    def activations(self) -> int:
        """Numbers that a step's backward pass needs: a batch of inputs, of each layer's outputs."""
        return self.batch * (INPUTS + sum(fan_out for _, fan_out in self.layers))

    def rates(self, members: int) -> list[float]:
        """A learning rate a member: a tenfold range in which training is stable."""
        low, high = {"sgd": (1e-3, 1e-2), "adam": (2e-4, 2e-3)}[self.optimizer]
        return [float(lr) for lr in np.geomspace(low, high, members)]

    def specs(
        self, members: int, epochs: int = 1, accelerator: str = "cpu", **keys: Any
    ) -> list[RunSpec]:
        """Runs that differ in seed and learning rate, everything else at its default."""
        kind: dict[str, Any] = {
            "sgd": {"_target_": "unitgain.pack.optim.SGD", "momentum": MOMENTUM},
            "adam": {"_target_": "unitgain.pack.optim.Adam"},
        }[self.optimizer]
        return [
            parse(
                {
                    "seed": seed,
                    "model": {
                        "_target_": "unitgain.nn.MLP",
                        "depth": self.depth,
                        "width": self.width,
                    },
                    "optimizer": {**kind, "lr": lr},
                    "data": {
                        "_target_": "unitgain.data.sources.digits",
                        "batch_size": self.batch,
                    },
                    "trainer": {"max_epochs": epochs, "accelerator": accelerator},
                    **keys,
                }
            )
            for seed, lr in enumerate(self.rates(members))
        ]

    def pack(self, members: int, device: torch.device, epochs: int, **keys: Any) -> Pack:
        """The runs as what unitgain trains inside of Lightning, on the device."""
        return pack_of(self.specs(members, epochs, **keys), device)

    def batches(self) -> list[int]:
        """The examples of each step of an epoch."""
        full, rest = divmod(len(training_rows()[0]), self.batch)
        return [self.batch] * full + [rest] * (rest > 0)


def pack_of(specs: Sequence[RunSpec], device: torch.device) -> Pack:
    """Runs of one shape and one table as a pack."""
    tables = [open_data(specs[0])] * len(specs)
    return build_pack(specs, tables, build_mlp(specs, tables).to(device), device)


def training_rows(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The training part of the digits as unitgain prepares it."""
    spec = parse({})
    table = open_data(spec)
    rows = table.split.train
    x, y = torch.from_numpy(table.x[rows]).float(), torch.from_numpy(table.y[rows])
    return x.to(device), y.to(device)
