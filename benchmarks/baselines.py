"""What unitgain is compared with. Each gives the wall-clock seconds of some epochs, preparations left out.

Shapes: K members, B examples, N rows, I inputs and O outputs of a layer.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.template.data import DigitsDataModule
from benchmarks.template.module import Classifier, mlp
from benchmarks.work import INPUTS, MOMENTUM, OUTPUTS, Work, training_rows

CPU = torch.device("cpu")


def synchronize(device: torch.device) -> None:
    """Wait for a device that runs on its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def torch_optimizer(work: Work) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer of one run."""
    [lr] = work.rates(1)
    if work.optimizer == "adam":
        return partial(torch.optim.Adam, lr=lr)
    return partial(torch.optim.SGD, lr=lr, momentum=MOMENTUM)


def template(work: Work, epochs: int, device: torch.device = CPU) -> float:
    """A whole fit of the usual template, one run: validation, metrics, CSV file, checkpoints."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        model = Classifier(mlp(INPUTS, work.width, work.depth, OUTPUTS), torch_optimizer(work))
        trainer = pl.Trainer(
            accelerator=device.type,
            devices=1,
            max_epochs=epochs,
            logger=CSVLogger(folder),
            callbacks=[ModelCheckpoint(folder, monitor="val/acc", mode="max", save_last=True)],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, DigitsDataModule(work.batch))
        synchronize(device)
        return time.perf_counter() - start


def with_loader(work: Work, epochs: int) -> float:
    """The raw loop over a DataLoader."""
    x, y = training_rows()
    loader = DataLoader(TensorDataset(x, y), work.batch, shuffle=True)
    return _raw(work, epochs, CPU, lambda: loader)


def in_memory(work: Work, epochs: int, device: torch.device = CPU) -> float:
    """The raw loop over index-selects of a shuffled table on the device."""
    x, y = training_rows(device)

    def batches() -> list[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(x), device=device)
        return [(x[i], y[i]) for i in order.split(work.batch)]

    return _raw(work, epochs, device, batches)


def _raw(
    work: Work,
    epochs: int,
    device: torch.device,
    batches: Callable[[], DataLoader | list[tuple[Tensor, Tensor]]],
) -> float:
    model = mlp(INPUTS, work.width, work.depth, OUTPUTS).to(device)
    optimizer = torch_optimizer(work)(model.parameters())
    synchronize(device)
    start = time.perf_counter()
    for _ in range(epochs):
        for x, y in batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    synchronize(device)
    return time.perf_counter() - start


class Bare:
    """K members in a packed loop as one writes it by hand: weights (K, I, O), autograd, nothing else.

    Every member has its own rate and its own order through the rows.

    Args:
        work: what each of them trains.
        members: K.
    """

    def __init__(self, work: Work, members: int) -> None:
        self.work, self.members = work, members
        self.x, self.y = training_rows()
        self.rate_K11 = torch.tensor(work.rates(members)).view(-1, 1, 1)
        self.parameters: list[Tensor] = []
        for fan_in, fan_out in work.layers:
            weight = torch.randn(members, fan_in, fan_out) * (2 / fan_in) ** 0.5
            self.parameters += [weight, torch.zeros(members, 1, fan_out)]
        self.states = [[torch.zeros_like(p) for p in self.parameters] for _ in range(work.states)]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.step = 0

    def seconds(self, epochs: int) -> float:
        """Train for some epochs."""
        start = time.perf_counter()
        for _ in range(epochs):
            orders = [torch.randperm(len(self.x)) for _ in range(self.members)]
            for index_KB in torch.stack(orders).split(self.work.batch, 1):
                gradients = torch.autograd.grad(self._loss(index_KB), self.parameters)
                self._update(gradients)
        return time.perf_counter() - start

    def _loss(self, index_KB: Tensor) -> Tensor:
        h = self.x[index_KB]
        last = len(self.parameters) - 2
        for i in range(0, last, 2):
            h = torch.baddbmm(self.parameters[i + 1], h, self.parameters[i]).relu()
        output = torch.baddbmm(self.parameters[last + 1], h, self.parameters[last])
        loss = nn.functional.cross_entropy(
            output.flatten(0, 1), self.y[index_KB].flatten(), reduction="sum"
        )
        return loss / index_KB.shape[1]

    @torch.no_grad()
    def _update(self, gradients: tuple[Tensor, ...]) -> None:
        self.step += 1
        if self.work.optimizer == "sgd":
            for p, g, m in zip(self.parameters, gradients, *self.states, strict=True):
                m.mul_(MOMENTUM).add_(g)
                p.addcmul_(m, self.rate_K11, value=-1)
            return
        rate_K11 = self.rate_K11 / (1 - 0.9**self.step)
        correction = (1 - 0.999**self.step) ** 0.5
        for p, g, m, v in zip(self.parameters, gradients, *self.states, strict=True):
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.addcdiv_(m * rate_K11, v.sqrt().div_(correction).add_(1e-8), value=-1)


class Products:
    """The matrix products of K members' epoch, forward and backward, and nothing else.

    Three a layer, but for the gradient of the first layer's input. Results go into memory that is there already.

    Args:
        work: what each of them trains.
        members: K.
    """

    def __init__(self, work: Work, members: int) -> None:
        self.sizes = work.batches()
        self.calls: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        weights = [torch.randn(members, *fans) for fans in work.layers]
        for rows in set(self.sizes):
            forward, backward = [], []
            for i, ((fan_in, fan_out), weight) in enumerate(zip(work.layers, weights, strict=True)):
                h = torch.randn(members, rows, fan_in)
                gradient = torch.randn(members, rows, fan_out)
                forward.append((h, weight, torch.empty(members, rows, fan_out)))
                backward.append((h.mT, gradient, torch.empty_like(weight)))
                if i > 0:
                    backward.append((gradient, weight.mT, torch.empty_like(h)))
            self.calls[rows] = forward + backward[::-1]

    def seconds(self, epochs: int) -> float:
        """Run the products of some epochs."""
        start = time.perf_counter()
        for _ in range(epochs):
            for rows in self.sizes:
                for a, b, out in self.calls[rows]:
                    torch.bmm(a, b, out=out)
        return time.perf_counter() - start
