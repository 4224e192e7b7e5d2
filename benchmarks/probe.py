"""What the probe costs in the pack's own step, at depth 50, width 64, batch 64 and at 20 x 256, batch 128."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import interleaved, ratio
from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.pack.engine import Pack
from unitgain.spec import parse

TITLE = "Time of a step with the probe / without, digits, Adam"
ROUNDS = 60
LIGHT = {"every": 1, "quantities": ["grad_preactivation", "grad_weight"]}
PROBES: dict[str, dict[str, Any]] = {
    "off": {"every": None},
    "light, every step": LIGHT,
    "full, every 50": {"every": 50},
    "full, every 10": {"every": 10},
    "full, every step": {"every": 1},
}
BARS = {
    "light, every step": 1.08,
    "full, every 50": 1.02,
    "full, every 10": 1.05,
    "full, every step": 1.10,
}
WIDE_BARS = {"light, every step": 1.04}
# Critical for ReLU; for ReLU an initialization under which activations vanish, which takes second looks; for tanh.
NETWORKS = (("ReLU", "he"), ("ReLU", "orthogonal"), ("Tanh", "orthogonal"))


def pack(
    activation: str, init: str, probe: dict[str, Any], depth: int, width: int, batch: int
) -> Pack:
    """The pack of one run with such a probe."""
    spec = parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": depth, "width": width},
            "data": {"_target_": "unitgain.data.sources.digits", "batch_size": batch},
            "activation": {"_target_": f"torch.nn.{activation}"},
            "init": {"_target_": f"unitgain.nn.init.{init}"},
            "probe": probe,
        }
    )
    tables = [open_data(spec)]
    return build_pack([spec], tables, build_mlp([spec], tables), torch.device("cpu"))


def steps_of(trained: Pack, epochs: int) -> Callable[[], float]:
    """Times a step of some epochs, the copy of what was measured to the host included."""

    def timed() -> float:
        start = time.perf_counter()
        # Not the first epoch: 51 steps from step 0 on would hold two of those that are measured every 50.
        for epoch in range(1, epochs + 1):
            steps = trained.train_epoch(epoch)
            if steps is not None and steps.probe_QKL:
                torch.stack(steps.probe_QKL).double().cpu().numpy()
        return (time.perf_counter() - start) / (epochs * trained.steps_per_epoch)

    return timed


def compared(
    activation: str, init: str, shape: tuple[int, int, int], bars: dict[str, float], rounds: int
) -> dict[str, Any]:
    """The ratio of each kind of probe to none, beside its bar."""
    # As many steps as there are between two measurements at every 50, or one of them would count for all.
    epochs = max(round(50 * shape[2] / 1078), 1)
    timed = {
        name: steps_of(pack(activation, init, PROBES[name], *shape), epochs)
        for name in ("off", *bars)
    }
    seconds = interleaved(timed, rounds)
    result: dict[str, Any] = {
        name: {**ratio(seconds[name], seconds["off"]), "of_least": least(seconds, name), "bar": bar}
        for name, bar in bars.items()
    }
    result["microseconds_a_step_without"] = round(statistics.median(seconds["off"]) * 1e6, 1)
    return result


def least(seconds: dict[str, list[float]], name: str) -> float:
    """The ratio of the quickest rounds: what is left where the machine's other work does not weigh."""
    return round(min(seconds[name]) / min(seconds["off"]), 4)


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    result = {
        f"50 x 64, batch 64, {activation}, {init}": compared(
            activation, init, (50, 64, 64), BARS, ROUNDS
        )
        for activation, init in NETWORKS
    }
    result["20 x 256, batch 128, ReLU, he"] = compared(
        "ReLU", "he", (20, 256, 128), WIDE_BARS, ROUNDS // 3
    )
    return result
