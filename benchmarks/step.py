"""One training run with everything on, against a raw PyTorch loop over a DataLoader with nothing on."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import interleaved, ratio
from unitgain.data import open_data
from unitgain.spec import RunSpec, parse
from unitgain.train import fit

TITLE = "Time of a step, MLP 64-64 on digits, batch 64, Adam: unitgain / raw loop over a DataLoader"
SHORT, LONG = 10, 60
ROUNDS = 9


def spec(epochs: int) -> RunSpec:
    """The run with its default probe, metrics, files and checkpoints."""
    return parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 64},
            "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
        }
    )


def unitgain(epochs: int) -> float:
    """Wall-clock seconds of a whole fit."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit([spec(epochs)], [Path(folder) / "run"])
        return time.perf_counter() - start


def raw(epochs: int) -> float:
    """Wall-clock seconds of the loop that a tutorial shows: no metric, no validation, no logging, no checkpoint."""
    table = open_data(spec(1))
    rows = table.split.train
    x, y = torch.from_numpy(table.x[rows]).float(), torch.from_numpy(table.y[rows])
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(epochs):
        for batch, target in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), target).backward()
            optimizer.step()
    return time.perf_counter() - start


def run() -> dict[str, Any]:
    """The cost of a step is what 50 further epochs take: everything that happens every epoch is in it."""
    torch.set_num_threads(1)
    steps = (LONG - SHORT) * 17
    seconds = interleaved(
        {
            "unitgain": lambda: unitgain(LONG) - unitgain(SHORT),
            "raw": lambda: raw(LONG) - raw(SHORT),
        },
        ROUNDS,
    )
    microseconds = {
        name: round(sorted(s)[len(s) // 2] / steps * 1e6, 1) for name, s in seconds.items()
    }
    return {
        "bar": "at most 1.0",
        "ratio": ratio(seconds["unitgain"], seconds["raw"]),
        "microseconds_a_step": microseconds,
    }
