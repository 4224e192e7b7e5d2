"""The callback on a LightningModule of plain torch layers, against autograd on the same batches."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitgain.errors import ConfigError
from unitgain.runs import read_gradients
from unitgain.train import GradientFlow

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*LeafSpec.*is deprecated:FutureWarning",
    "ignore:.*Consider using .*persistent_workers:UserWarning",
)


class Plain(pl.LightningModule):
    """A user's module: layers, a loss among its children, and an optimizer."""

    def __init__(self, depth=3, activation=nn.Tanh, lr=0.1):
        super().__init__()
        torch.manual_seed(0)
        hidden = [m for _ in range(depth - 1) for m in (nn.Linear(8, 8), activation())]
        self.net = nn.Sequential(nn.Linear(4, 8), activation(), *hidden, nn.Linear(8, 3))
        self.loss = nn.CrossEntropyLoss()
        self.lr = lr

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


def rows(n=48):
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)
    )


def trained(path, callback, module=None, epochs=2, **arguments):
    module = module or Plain()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
        callbacks=[callback],
        **arguments,
    )
    trainer.fit(module, DataLoader(rows(), batch_size=8))
    return module


def expected(steps, lr=0.1, clip=None):
    """(S, L) of three quantities by a plain loop over the same batches."""
    module = Plain()
    linears = [m for m in module.net if isinstance(m, nn.Linear)]
    optimizer = torch.optim.SGD(module.parameters(), lr)
    result = {"grad_preactivation": [], "grad_weight": [], "update_ratio": []}
    batches = list(DataLoader(rows(), batch_size=8)) * 9
    for x, y in batches[:steps]:
        z, h = [], x
        for linear in linears:
            z.append(linear(h))
            h = torch.tanh(z[-1])
        loss = nn.functional.cross_entropy(z[-1], y)
        gradients = torch.autograd.grad(loss, z, retain_graph=True)
        optimizer.zero_grad()
        loss.backward()
        norms = [m.weight.grad.norm().item() for m in linears]
        before = [m.weight.detach().clone() for m in linears]
        if clip:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        after = [m.weight.detach() for m in linears]
        result["grad_preactivation"].append([8**0.5 * g.norm().item() for g in gradients])
        result["grad_weight"].append(norms)
        result["update_ratio"].append(
            [((a - b).norm() / a.norm()).item() for a, b in zip(after, before, strict=True)]
        )
    return {name: np.array(values) for name, values in result.items()}


@pytest.mark.parametrize("clip", [None, 0.01])
def test_against_autograd(tmp_path, clip):
    trained(tmp_path, GradientFlow(every=1), gradient_clip_val=clip)
    gradients = read_gradients(tmp_path / "gradients.parquet")
    for name, values in expected(12, clip=clip).items():
        steps, recorded = gradients.grid(name)
        assert steps.tolist() == list(range(12))
        # Norms are those before clipping; the update is what clipping left of it.
        np.testing.assert_allclose(recorded, values, rtol=2e-4, err_msg=name)


@pytest.mark.parametrize("every", [5, 12, 100])
def test_every_so_many_steps(tmp_path, every):
    callback = GradientFlow(every=every, directory=tmp_path / "flow")
    module = trained(tmp_path, callback)
    steps, values = read_gradients(tmp_path / "flow" / "gradients.parquet").grid("grad_weight")
    assert steps.tolist() == list(range(0, 12, every))
    np.testing.assert_allclose(values, expected(12)["grad_weight"][::every], rtol=2e-4)
    assert not any(m._forward_hooks for m in module.modules()), "no hook may stay"
    assert callback.verdict.label == "healthy"
    assert callback.verdict.step == 0


def test_training_is_not_touched(tmp_path):
    watched = trained(tmp_path, GradientFlow(every=1))
    alone = trained(tmp_path, pl.Callback())
    for one, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_accumulated_batches_are_one_step(tmp_path):
    trained(tmp_path, GradientFlow(every=2), epochs=1, accumulate_grad_batches=2)
    gradients = read_gradients(tmp_path / "gradients.parquet")
    steps, weight = gradients.grid("grad_weight")
    # 6 batches make 3 steps, of which the first and the third are measured.
    assert steps.tolist() == [0, 2]
    module = Plain()
    data = rows()
    x, y = data.tensors[0][:16], data.tensors[1][:16]
    nn.functional.cross_entropy(module.net(x), y).backward()
    norms = [m.weight.grad.norm().item() for m in module.net if isinstance(m, nn.Linear)]
    np.testing.assert_allclose(weight[0], norms, rtol=1e-4)
    # RMS over the examples of their own losses' gradients: of the size that single batches give.
    _, flow = gradients.grid("grad_preactivation")
    np.testing.assert_allclose(flow[0], expected(2)["grad_preactivation"].mean(0), rtol=0.3)


def test_vanishing_gradients_are_called_so(tmp_path):
    callback = GradientFlow(every=100)
    trained(tmp_path, callback, Plain(depth=12, activation=nn.Sigmoid), epochs=1)
    assert callback.verdict.label == "vanishing"
    assert callback.verdict.slope < -0.3


def test_quantities_can_be_chosen(tmp_path):
    callback = GradientFlow(every=4, quantities=("weight_norm",))
    trained(tmp_path, callback, epochs=1)
    assert read_gradients(tmp_path / "gradients.parquet").names == ("weight_norm",)
    assert callback.verdict.label == "unknown"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"every": 0}, "every: must be at least 1 step, got 0"),
        ({"quantities": ["grad_wait"]}, "quantities: must be of .* got grad_wait"),
    ],
)
def test_arguments_that_make_no_sense(arguments, text):
    with pytest.raises(ConfigError, match=text):
        GradientFlow(**arguments)


def test_an_error_leaves_no_hook(tmp_path):
    class Failing(Plain):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            raise RuntimeError("in the midst")

    module = Failing()
    with pytest.raises(RuntimeError, match="in the midst"):
        trained(tmp_path, GradientFlow(every=1), module)
    assert not any(m._forward_hooks for m in module.modules())


def test_a_second_fit_gets_a_verdict_of_its_own_and_no_linear_layer_is_said(tmp_path):
    class Plain(pl.LightningModule):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def training_step(self, batch, batch_idx):
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    def deep(activation):
        return nn.Sequential(
            *(m for _ in range(6) for m in (nn.Linear(8, 8), activation())), nn.Linear(8, 1)
        )

    def fit_with(callback, net):
        loader = DataLoader(TensorDataset(torch.randn(32, 8)), batch_size=16)
        pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Plain(net), loader)

    callback = GradientFlow(every=1, directory=tmp_path)
    fit_with(callback, deep(nn.Tanh))
    first = callback.verdict
    fit_with(callback, deep(nn.Sigmoid))
    assert callback.verdict is not None
    assert first is not None
    assert callback.verdict.slope < first.slope - 0.2
    with pytest.warns(UserWarning, match="in layers with weights, but Plain has none"):
        fit_with(callback, nn.LayerNorm(8))
    assert callback.verdict is None
