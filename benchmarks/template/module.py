"""A classifier that logs its loss and its accuracy."""

from collections.abc import Callable

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """A ReLU network with ``depth`` hidden layers."""
    modules: list[nn.Module] = []
    for fan_in in [inputs, *[width] * (depth - 1)]:
        modules += [nn.Linear(fan_in, width), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(width, outputs))


class Classifier(pl.LightningModule):
    """A network with its optimizer, and an accuracy a part."""

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.net, self.optimizer = net, optimizer
        self.loss = nn.CrossEntropyLoss()
        self.train_acc = MulticlassAccuracy(classes, average="micro")
        self.val_acc = MulticlassAccuracy(classes, average="micro")
        self.test_acc = MulticlassAccuracy(classes, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step("train", batch, self.train_acc)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step("val", batch, self.val_acc)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step("test", batch, self.test_acc)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())

    def _step(
        self, part: str, batch: tuple[Tensor, Tensor], accuracy: MulticlassAccuracy
    ) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = self.loss(logits, y)
        accuracy(logits.argmax(1), y)
        self.log(f"{part}/loss", loss, on_step=False, on_epoch=True)
        self.log(f"{part}/acc", accuracy, on_step=False, on_epoch=True)
        return loss
