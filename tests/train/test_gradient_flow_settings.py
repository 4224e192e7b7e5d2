"""The callback beside what a Trainer and a module of one's own may be set to."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.amp import GradScaler
from torch.utils.data import DataLoader, TensorDataset

from unitgain.errors import ConfigError
from unitgain.probe.groups import layer_groups
from unitgain.runs import read_gradients
from unitgain.train import GradientFlow

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*LeafSpec.*is deprecated:FutureWarning",
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def rows():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(48, 4, generator=generator)
    return TensorDataset(x, torch.randint(0, 3, (48,), generator=generator))


class Module(pl.LightningModule):
    def __init__(self, net=None):
        super().__init__()
        self.net = network() if net is None else net
        self.met = []

    def training_step(self, batch, batch_idx):
        self.met.append(sum(len(m._forward_hooks) for m in self.modules()))
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fitted(folder, module, callback=None, batch=8, **arguments):
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[callback or GradientFlow(every=1)],
        **arguments,
    ).fit(module, DataLoader(rows(), batch))
    return read_gradients(folder / "gradients.parquet")


def same(one, other, rtol, names=None, atol=1e-8):
    assert set(one.names) == set(other.names)
    for name in names or one.names:
        (steps, expected), (found, values) = other.grid(name), one.grid(name)
        assert steps.tolist() == found.tolist()
        np.testing.assert_allclose(values, expected, rtol=rtol, atol=atol, err_msg=name)


def test_accumulated_steps_equal_those_of_whole_batches(tmp_path):
    whole = fitted(tmp_path / "whole", Module(), batch=16)
    parts = fitted(tmp_path / "parts", Module(), batch=8, accumulate_grad_batches=2)
    same(parts, whole, 1e-3, atol=1e-6)


def test_hooks_are_there_in_measured_steps_alone(tmp_path):
    module = Module()
    fitted(tmp_path / "full", module, GradientFlow(every=4))
    assert [count > 0 for count in module.met] == [True, False, False, False, True, False]
    module = Module()
    fitted(tmp_path / "light", module, GradientFlow(every=1, probe="light"))
    assert not any(module.met)


def test_logarithmic_and_listed_steps(tmp_path):
    callback = GradientFlow(every=None, per_decade=3, at=(4,))
    steps, _ = fitted(tmp_path, Module(), callback).grid("grad_weight")
    assert steps.tolist() == [0, 1, 2, 4, 5]


def test_light_equals_full(tmp_path):
    full = fitted(tmp_path / "full", Module(), GradientFlow(every=1, quantities=["grad_weight"]))
    callback = GradientFlow(every=1, probe="light")
    light = fitted(tmp_path / "light", Module(), callback)
    same(light, full, 1e-6)
    assert callback.layer_names == ("net.0", "net.2", "net.4")


@pytest.mark.parametrize("probe", ["light", "full"])
def test_clipping_with_the_recorded_norms(tmp_path, probe):
    modules = [Module(), Module()]
    other = GradientFlow(every=1, probe=probe)
    theirs = fitted(tmp_path / "theirs", modules[0], other, gradient_clip_val=0.05)
    own = fitted(tmp_path / "own", modules[1], GradientFlow(every=1, probe=probe, clip_norm=0.05))
    same(own, theirs, 1e-4)
    for p, q in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(p, q)
    with pytest.raises(ConfigError, match="clip_norm: must be the only clipping"):
        fitted(tmp_path, Module(), GradientFlow(clip_norm=1.0), gradient_clip_val=0.05)
    with pytest.raises(ConfigError, match="clip_norm: must be above 0, got -1"):
        GradientFlow(clip_norm=-1)


def test_bfloat16(tmp_path):
    plain = fitted(tmp_path / "plain", Module())
    mixed = fitted(tmp_path / "mixed", Module(), precision="bf16-mixed")
    names = ("grad_preactivation", "grad_weight", "weight_norm", "activation_variance")
    same(mixed, plain, 0.05, names)


def test_float16_is_unscaled(tmp_path):
    class Overflowing(Module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * float("inf") if batch_idx == 2 else loss

    plain = fitted(tmp_path / "plain", Module())
    plugin = MixedPrecision("16-mixed", "cpu", GradScaler("cpu", growth_interval=2))
    mixed = fitted(tmp_path / "mixed", Overflowing(), plugins=[plugin])
    steps, values = mixed.grid("grad_preactivation")
    # The scaler let the third step out.
    assert steps.tolist() == [0, 1, 3, 4, 5]
    expected = plain.grid("grad_preactivation")[1]
    np.testing.assert_allclose(values[:2], expected[:2], rtol=0.02)
    assert (values[2:] / expected[3:]).max() < 3


def test_compiled_modules(tmp_path):
    plain = fitted(tmp_path / "plain", Module(), GradientFlow(every=2))
    part = Module(torch.compile(network(), backend="eager"))
    callback = GradientFlow(every=2)
    same(fitted(tmp_path / "part", part, callback), plain, 1e-5)
    assert callback.layer_names == ("net.0", "net.2", "net.4")
    whole = torch.compile(Module(), backend="eager")
    same(fitted(tmp_path / "whole", whole, GradientFlow(every=2)), plain, 1e-5)


class Adversaries(pl.LightningModule):
    """Two optimizers, one after the other in each batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.maker = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4))
        self.judge = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        self.norms = []

    def training_step(self, batch, batch_idx):
        judging, making = self.optimizers()
        noise = batch[0][:, :2]
        judging.zero_grad()
        loss = self.judge(self.maker(noise).detach()).mean() - self.judge(batch[0]).mean()
        self.manual_backward(loss)
        norms = [self.judge[i].weight.grad.norm().item() for i in (0, 2)]
        judging.step()
        making.zero_grad()
        self.manual_backward(-self.judge(self.maker(noise)).mean())
        norms = [self.maker[i].weight.grad.norm().item() for i in (0, 2)] + norms
        making.step()
        self.norms.append(norms)

    def configure_optimizers(self):
        return [torch.optim.SGD(m.parameters(), 0.1) for m in (self.judge, self.maker)]


@pytest.mark.parametrize("probe", ["light", "full"])
def test_manual_optimization_with_two_optimizers(tmp_path, probe):
    module, callback = Adversaries(), GradientFlow(every=2, probe=probe)
    steps, values = fitted(tmp_path, module, callback).grid("grad_weight")
    assert steps.tolist() == [0, 2, 4]
    names = ["maker.0", "maker.2", "judge.0", "judge.2"]
    columns = [callback.layer_names.index(name) for name in names]
    np.testing.assert_allclose(values[:, columns], np.array(module.norms)[::2], rtol=1e-5)


def test_transformers_and_convolutions_get_a_verdict(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed = nn.Conv1d(1, 8, 1)
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            tokens = self.embed(x.unsqueeze(1)).mT
            return self.head(self.encoder(tokens).mean(1))

    module = Module(Net())
    callback = GradientFlow(every=2)
    gradients = fitted(tmp_path, module, callback)
    assert set(callback.layer_names) == {group.name for group in layer_groups(module)}
    assert callback.layer_names[0] == "net.embed"
    assert callback.layer_names[-1] == "net.head"
    assert callback.verdict.label != "unknown"
    flow = gradients.grid("grad_preactivation")[1][0]
    packed = np.array(["in_proj" in name for name in callback.layer_names])
    assert (np.isnan(flow) == packed).all()


def test_nothing_is_logged_unless_asked_for(tmp_path):
    class Logger(pl.loggers.logger.DummyLogger):
        def __init__(self):
            super().__init__()
            self.rows = []

        def log_metrics(self, metrics, step=None):
            self.rows.append((step, metrics))

    for log in (False, True):
        logger = Logger()
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=logger,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[GradientFlow(every=3, directory=tmp_path, log=log)],
        )
        trainer.fit(Module(), DataLoader(rows(), 8))
        watched = [s for s, row in logger.rows if "gradient_flow/grad_weight/layer_01" in row]
        assert watched == ([0, 3] if log else [])
