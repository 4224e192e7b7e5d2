"""What watching gradients costs inside a Lightning run of an ordinary module, by tool.

All monitors train the same network on the same rows in one process, one after the other in each round. What is timed is
an epoch of a fit, between two of a callback's hooks behind all the others, so that neither the start of a fit nor its
end counts; what a monitor does at the end of an epoch does. Where a fit's memory lies makes several per cent of
difference, so fits begin anew in another order several times.
"""

import logging
import math
import os
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import grad_norm
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import ratio
from unitgain.train import GradientFlow

T = TypeVar("T")
TITLE = "Time of a step of a Lightning run with a monitor / without"
STEPS = 50
"""Steps of an epoch."""
SETS, ROUNDS = 10, 12
"""How often fits begin anew, and the epochs of each."""
ROUNDS_SLOW = 4


@dataclass(frozen=True)
class Size:
    """A ReLU network of ``depth`` hidden layers."""

    depth: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.depth} x {self.width}, batch {self.batch}"


SIZES = (Size(50, 64, 64), Size(20, 256, 128))
BARS = {
    SIZES[0]: {"light, every step": 1.08, "full, every 10": 1.06, "full, every 50": 1.02},
    SIZES[1]: {"light, every step": 1.04, "full, every 10": 1.06, "full, every 50": 1.02},
}


class Network(pl.LightningModule):
    """What a tutorial shows."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        torch.manual_seed(0)
        hidden = [m for _ in range(size.depth) for m in (linear(size.width, size.width), nn.ReLU())]
        self.net = nn.Sequential(*hidden, linear(size.width, 10))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-4)


class Recipe(Network):
    """The recipe of Lightning's documentation."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.log_dict(grad_norm(self.net, norm_type=2))


class WithWandb(pl.Callback):
    """wandb.watch at every step, offline."""

    def __init__(self, log: str, folder: Path) -> None:
        # Lightning puts a method called log on callbacks.
        self.what, self.folder = log, folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        import wandb

        self.run = wandb.init(mode="offline", dir=self.folder, settings=wandb.Settings(silent=True))
        wandb.watch(pl_module, log=self.what, log_freq=1)

    def on_train_batch_end(self, *arguments: Any) -> None:
        # What the hooks gathered is handed over with the next row.
        self.run.log({"step": 0})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.run.unwatch(pl_module)
        self.run.finish()


class Turns(pl.Callback):
    """Lets a fit go on by one epoch when it is asked to, and tells how much time of its thread that took."""

    def __init__(self) -> None:
        self.asked: Queue[bool] = Queue()
        self.seconds: Queue[float] = Queue()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = not self.asked.get()
        self._start = time.thread_time()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds.put(time.thread_time() - self._start)


class Fit:
    """A fit in a thread of its own, of which an epoch is run at a time."""

    def __init__(self, size: Size, monitor: "Monitor", folder: Path) -> None:
        self._turns = Turns()
        self._size, self._monitor, self._folder = size, monitor, folder
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def epoch(self) -> float:
        self._turns.asked.put(True)
        seconds = self._turns.seconds.get()
        if math.isnan(seconds):
            raise RuntimeError(f"the fit with {self._monitor.name} has failed")
        return seconds

    def end(self) -> None:
        self._turns.asked.put(False)
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(1)
        size = self._size
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(STEPS * size.batch, size.width, generator=generator)
        y = torch.randint(0, 10, (len(x),), generator=generator)
        trainer = pl.Trainer(
            max_epochs=10**6,
            accelerator="cpu",
            logger=CSVLogger(self._folder),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*self._monitor.callbacks(self._folder), self._turns],
        )
        try:
            trainer.fit(self._monitor.module(size), DataLoader(TensorDataset(x, y), size.batch))
        finally:
            self._turns.seconds.put(math.nan)


@dataclass(frozen=True)
class Monitor:
    """A tool, as it is put into a run."""

    name: str
    callbacks: Callable[[Path], list[pl.Callback]] = lambda _: []
    module: Callable[[Size], Network] = Network
    slow: bool = False


def flow(name: str, *, slow: bool = False, **arguments: Any) -> Monitor:
    return Monitor(
        name, lambda folder: [GradientFlow(directory=folder / "flow", **arguments)], slow=slow
    )


NONE = Monitor("none")
MONITORS = (
    flow("light, every step", probe="light", every=1),
    flow("full, every 10", every=10),
    flow("full, every 50", every=50),
    flow("full, every step", slow=True, every=1),
    Monitor("log_dict(grad_norm), every step", module=Recipe, slow=True),
    Monitor("wandb.watch gradients", lambda f: [WithWandb("gradients", f)], slow=True),
    Monitor("wandb.watch all", lambda f: [WithWandb("all", f)], slow=True),
)


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def measured(
    size: Size, monitors: tuple[Monitor, ...], sets: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each epoch, by monitor; the fits of a set live beside each other, and one at a time runs."""
    all_monitors = (NONE, *monitors)
    seconds: dict[str, list[float]] = {monitor.name: [] for monitor in all_monitors}
    for first in range(sets):
        with tempfile.TemporaryDirectory() as folder:
            fits = {}
            for monitor in turned(all_monitors, first):
                own = Path(folder) / str(len(fits))
                own.mkdir()
                fits[monitor.name] = Fit(size, monitor, own)
                fits[monitor.name].epoch()
            for round_ in range(rounds):
                for name in turned(tuple(fits), round_):
                    seconds[name].append(fits[name].epoch())
            for fit in fits.values():
                fit.end()
    return seconds


def turned(items: tuple[T, ...], by: int) -> tuple[T, ...]:
    """The items in turn, from another one on."""
    start = by % len(items)
    return items[start:] + items[:start]


def run() -> dict[str, Any]:
    os.environ["WANDB_SILENT"] = "true"
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    quick = tuple(m for m in MONITORS if not m.slow)
    result: dict[str, Any] = {"steps_an_epoch": STEPS}
    for size in SIZES:
        rows: dict[str, Any] = {}
        for monitors, sets, rounds in (
            (quick, SETS, ROUNDS),
            *(((m,), 1, ROUNDS_SLOW) for m in MONITORS if m.slow),
        ):
            seconds = measured(size, monitors, sets, rounds)
            for monitor in monitors:
                rows[monitor.name] = ratio(seconds[monitor.name], seconds[NONE.name])
                if bar := BARS[size].get(monitor.name):
                    reached = rows[monitor.name]["median"] <= bar
                    rows[monitor.name] |= {"at_most": bar, "reached": reached}
                print(size.name, monitor.name, rows[monitor.name], flush=True)
            if monitors is quick:
                median = statistics.median(seconds[NONE.name]) / STEPS
                rows["milliseconds_a_step_without"] = round(median * 1e3, 3)
        result[size.name] = rows
    return result
