"""TableDataModule: the same tables for LightningModules of one's own."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from unitgain.data import open_data
from unitgain.errors import ConfigError
from unitgain.pack.batches import PackData
from unitgain.spec import parse
from unitgain.train import GradientFlow, TableDataModule

IRIS = {"_target_": "unitgain.data.sources.iris", "task": "classification", "batch_size": 20}


class Plain(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
        )

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(x), y), batch_size=len(x))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def test_an_epoch_holds_every_training_row_once_and_the_next_has_another_order():
    module = TableDataModule(IRIS)
    loader = module.train_dataloader()
    first, second = (torch.cat([x for x, _ in loader]) for _ in range(2))
    train = torch.from_numpy(module.table.x[module.table.split.train]).float()
    assert sorted(first.tolist()) == sorted(train.tolist()) == sorted(second.tolist())
    assert not torch.equal(first, second)
    assert len(loader) == len(list(loader)) == 5


def test_the_order_is_that_of_a_packed_run_with_the_same_seed():
    spec = parse({"data": IRIS, "seed": 3})
    table = open_data(spec)
    packed = PackData([table], [3], batch_size=20)
    for batch, (x, y) in zip(
        packed.epoch(0), TableDataModule(IRIS, seed=3).train_dataloader(), strict=True
    ):
        packed_x, packed_y = packed.gather(batch.index)
        assert torch.equal(packed_x[0, : len(x)], x)
        assert torch.equal(packed_y[0, : len(y)], y)


def test_validation_and_test_keep_the_rows_order():
    module = TableDataModule(IRIS)
    y = torch.cat([y for _, y in module.test_dataloader()])
    assert y.tolist() == module.table.y[module.table.split.test].tolist()
    assert sum(len(y) for _, y in module.val_dataloader()) == len(module.table.split.val)


def test_a_users_module_trains_on_it_with_gradient_flow(tmp_path):
    module, flow = Plain(), GradientFlow(every=2, directory=tmp_path)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[flow],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=TableDataModule(IRIS))
    assert flow.verdict is not None
    assert (tmp_path / "gradients.parquet").exists()


def test_a_wrong_node_is_one_clear_line():
    with pytest.raises(ConfigError, match=r"data\.batch_size: must be at least 1, got 0"):
        TableDataModule({**IRIS, "batch_size": 0})
