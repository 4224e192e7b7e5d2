"""What the probe costs at depth 50, width 64, batch 64."""

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

TITLE = "Time of a step with the probe / without, depth 50, width 64, batch 64, digits, Adam"
ROUNDS = 60


def pack(activation: str, **probe: Any) -> Pack:
    """The pack of one run with such a probe."""
    spec = parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 50, "width": 64},
            "activation": {"_target_": f"torch.nn.{activation}"},
            "init": {"_target_": "unitgain.nn.init.orthogonal"},
            "probe": probe,
        }
    )
    tables = [open_data(spec.data, spec.split)]
    return build_pack([spec], tables, build_mlp([spec], tables), torch.device("cpu"))


def epochs_of(trained: Pack) -> Callable[[], float]:
    """Times an epoch, the copy of what was measured to the host included."""

    def timed() -> float:
        start = time.perf_counter()
        steps = trained.train_epoch(0)
        if steps is not None and steps.probe_QKL:
            torch.stack(steps.probe_QKL).double().cpu().numpy()
        return time.perf_counter() - start

    return timed


def run() -> dict[str, Any]:
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "bar": "at most 1.05 at the default (every 10 steps), at most 1.10 every step",
        "steps_an_epoch": 17,
    }
    probes: dict[str, dict[str, Any]] = {
        "off": {"every": None},
        "every_10": {"every": 10},
        "every_1": {"every": 1},
    }
    for activation in ("ReLU", "Tanh"):
        timed = {name: epochs_of(pack(activation, **probe)) for name, probe in probes.items()}
        seconds = interleaved(timed, ROUNDS)
        result[activation] = {
            name: ratio(seconds[name], seconds["off"]) for name in probes if name != "off"
        }
        microseconds = statistics.median(seconds["off"]) / 17 * 1e6
        result[activation]["microseconds_a_step_without"] = round(microseconds, 1)
    return result
