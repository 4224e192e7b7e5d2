"""What the probe costs at depth 50, width 64, batch 64."""

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import interleaved, ratio
from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.pack.engine import Pack
from unitgain.spec import parse

TITLE = "Time of a step with the probe / without, depth 50, width 64, batch 64, digits, Adam"
ROUNDS = 25
EPOCHS = 2


def pack(every: int | None, activation: str) -> Pack:
    """The pack of one run that measures all quantities every so many steps."""
    spec = parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 50, "width": 64},
            "activation": {"_target_": f"torch.nn.{activation}"},
            "init": {"_target_": "unitgain.nn.init.orthogonal"},
            "probe": {"every": every},
        }
    )
    tables = [open_data(spec.data, spec.split)]
    return build_pack([spec], tables, build_mlp([spec], tables), torch.device("cpu"))


def epochs_of(trained: Pack) -> Callable[[], float]:
    """Times some epochs, the copy of what was measured to the host included."""

    def timed() -> float:
        start = time.perf_counter()
        for epoch in range(EPOCHS):
            steps = trained.train_epoch(epoch)
            if steps is not None and steps.probe_QKL:
                torch.stack(steps.probe_QKL).double().cpu().numpy()
        return time.perf_counter() - start

    return timed


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "bar": "at most 1.05 at the default (every 10 steps), at most 1.10 every step"
    }
    for activation in ("ReLU", "Tanh"):
        cases = {"off": None, "every_10": 10, "every_1": 1}
        seconds = interleaved(
            {name: epochs_of(pack(every, activation)) for name, every in cases.items()}, ROUNDS
        )
        result[activation] = {
            name: ratio(seconds[name], seconds["off"]) for name in ("every_10", "every_1")
        }
        steps = EPOCHS * 17
        result[activation]["microseconds_a_step_without"] = round(
            sorted(seconds["off"])[ROUNDS // 2] / steps * 1e6, 1
        )
    return result
