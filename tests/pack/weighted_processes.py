"""Run by test_weighted.py in each of two processes, and alone: weighted metrics of rows that the processes share.

Usage: ``python weighted_processes.py FOLDER``, with torchrun's variables.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

from unitgain.pack import weighted

SIZE, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
CLASSES, ROWS = 3, 37


def classification():
    g = torch.Generator().manual_seed(2)
    p = torch.randn(ROWS, CLASSES, generator=g).double().mul(2).round().div(2).softmax(-1)
    return (
        p,
        torch.randint(0, CLASSES, (ROWS,), generator=g),
        torch.rand(ROWS, generator=g).double(),
    )


def regression():
    g = torch.Generator().manual_seed(3)
    y = 10 + torch.randn(ROWS, generator=g).double()
    return y + torch.randn(ROWS, generator=g).double(), y, torch.rand(ROWS, generator=g).double()


def collections():
    """Every metric with its rows, by task."""
    of_classes = MetricCollection(
        [
            weighted.WeightedAccuracy(),
            weighted.WeightedBalancedAccuracy(CLASSES),
            weighted.WeightedF1Score(CLASSES),
            weighted.WeightedLogLoss(),
            weighted.WeightedBrierScore(),
            weighted.WeightedCalibrationError(),
            weighted.WeightedAUROC(CLASSES),
        ]
    )
    of_values = MetricCollection(
        {
            "mse": weighted.WeightedMeanSquaredError(),
            "rmse": weighted.WeightedMeanSquaredError(squared=False),
            "mae": weighted.WeightedMeanAbsoluteError(),
            "r2": weighted.WeightedR2Score(),
            "huber": weighted.WeightedMean(nn.HuberLoss(reduction="none")),
        }
    )
    return (of_classes, classification()), (of_values, regression())


def parts(cut):
    """This process's batches of uneven size: the first process has ``cut`` rows, the second all others."""
    mine = torch.arange(ROWS)
    if SIZE > 1:
        mine = mine[:cut] if RANK == 0 else mine[cut:]
    return mine.split(5 if RANK else 7)


def computed(cut):
    values = {}
    for metrics, rows in collections():
        for batch in parts(cut):
            if len(batch):
                metrics.update(*(each[batch] for each in rows))
        values |= {name: float(value) for name, value in metrics.compute().items()}
    return values


class Module(pl.LightningModule):
    """Logs metrics the ordinary way."""

    def __init__(self):
        super().__init__()
        self.accuracy, self.area = weighted.WeightedAccuracy(), weighted.WeightedAUROC(CLASSES)

    def validation_step(self, batch, batch_idx):
        self.accuracy.update(*batch)
        self.area.update(*batch)
        self.log("accuracy", self.accuracy)
        self.log("area", self.area)

    def val_dataloader(self):
        rows = classification()
        mine = torch.cat(parts(12))
        return DataLoader(TensorDataset(*(each[mine] for each in rows)), 4)


def logged():
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=SIZE,
        strategy="ddp" if SIZE > 1 else "auto",
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
    )
    [values] = trainer.validate(Module(), verbose=False)
    return {f"logged/{name}": value for name, value in values.items()}


def everything():
    """By which split of the rows, then by name."""
    return {"lightning": logged()} | {str(cut): computed(cut) for cut in (20, 1, 0)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    (Path(sys.argv[1]) / f"{RANK}.json").write_text(json.dumps(everything()))
    if SIZE > 1:
        distributed.destroy_process_group()
