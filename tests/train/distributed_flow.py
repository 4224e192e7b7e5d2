"""Run by test_distributed_flow.py in each of two processes, and alone: a loop and a Lightning run of one module.

Usage: ``python distributed_flow.py FOLDER``, with torchrun's variables. Without them, ``fit`` and ``loop`` take whole
batches.
"""

import os
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from unitgain.probe import QUANTITIES, watch
from unitgain.train import GradientFlow

SIZE, BATCH = int(os.environ.get("WORLD_SIZE", "1")), 16
RANK = int(os.environ.get("RANK", "0"))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def rows():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(48, 4, generator=generator)
    return x, torch.randint(0, 3, (48,), generator=generator)


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = network()

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        # Rank r gets every second row of each batch, as a distributed sampler would give it.
        x, y = rows()
        return DataLoader(TensorDataset(x[RANK::SIZE], y[RANK::SIZE]), BATCH // SIZE)


def fit(folder):
    for probe in ("full", "light"):
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=SIZE,
            strategy="ddp" if SIZE > 1 else "auto",
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[
                GradientFlow(1, folder / f"callback_{probe}", tuple(QUANTITIES), probe=probe)
            ],
        )
        trainer.fit(Module())


def loop(folder):
    if SIZE > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
    model = DistributedDataParallel(network()) if SIZE > 1 else network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = rows()
    chosen = ("grad_preactivation", "grad_weight", "update_ratio", "activation_variance")
    with watch(model, optimizer, every=1, directory=folder / "loop", quantities=chosen) as watched:
        for batch in torch.arange(48).split(BATCH):
            mine = batch[RANK::SIZE]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[mine]), y[mine]).backward()
            optimizer.step()
    assert watched.verdict is not None


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    fit(Path(sys.argv[1]))
    loop(Path(sys.argv[1]))
    if SIZE > 1:
        distributed.destroy_process_group()
