"""Every part that can be one's own, from a module outside the package; refused unless it is allowed."""

import sys

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import multiclass_matthews_corrcoef

from unitgain.data import open_data
from unitgain.errors import ConfigError
from unitgain.runs import read_gradients, read_metrics
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint

MODULE = """
import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import nn
from torchmetrics import Metric

from unitgain.data import Split, table_from_arrays
from unitgain.nn import Norm

LOGGED, CALLED = [], []


def small_normal(weight, generator, std=0.3):
    weight.normal_(0.0, std, generator=generator)


def snake(x, frequency=1.0):
    return x + torch.sin(frequency * x) ** 2 / frequency


class Snake(nn.Module):
    def __init__(self, frequency=1.0):
        super().__init__()
        self.frequency = frequency

    def forward(self, x):
        return snake(x, self.frequency)


class MeanFree(Norm):
    def parameters(self):
        return {"weight": 1.0}

    def buffers(self):
        return {}

    def __call__(self, x, parameters, buffers, *, training, rows):
        return (x - x.mean(-1, keepdim=True)) * parameters["weight"]

    def single(self, width):
        return SingleMeanFree(width)

    @property
    def centres(self):
        return False


class SingleMeanFree(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) * self.weight


def stripes(n, width=2.0):
    x = np.random.default_rng(0).standard_normal((n, 2))
    return table_from_arrays("stripes", x, (x[:, 0] * width).round() % 2, task="classification")


def every_fifth(table, first=0):
    rows = np.arange(table.n_rows)
    part = (rows + first) % 5
    return Split(train=rows[part < 3], val=rows[part == 3], test=rows[part == 4])


def focal(output, target, gamma=2.0):
    log_p = torch.log_softmax(output, -1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return -((1 - log_p.exp()) ** gamma) * log_p


def reduces(output, target):
    return (output ** 2).mean()


def confidence(probabilities, target):
    return probabilities.amax(-1).mean(-1)


class Errors(Metric):
    higher_is_better = False
    full_state_update = False

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.add_state("wrong", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, probabilities, target):
        self.wrong += self.scale * (probabilities.argmax(-1) != target).sum()

    def compute(self):
        return self.wrong


def grad_peak(tensors, scale=1.0):
    return scale * tensors.preactivation_gradients.reduce(lambda g: g.abs().amax((2, 3)))


class ListLogger(Logger):
    def __init__(self, label):
        super().__init__()
        self.label = label

    @property
    def name(self):
        return self.label

    @property
    def version(self):
        return 0

    def log_hyperparams(self, params, *args, **kwargs):
        LOGGED.append((self.label, "params", dict(params)))

    def log_metrics(self, metrics, step=None):
        LOGGED.append((self.label, step, dict(metrics)))

    def finalize(self, status):
        LOGGED.append((self.label, "status", status))


class Counting(pl.Callback):
    def __init__(self, label):
        self.label = label

    def on_train_epoch_end(self, trainer, pl_module):
        CALLED.append((self.label, trainer.current_epoch))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that holds the module mylab_outside."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "mylab_outside.py").write_text(MODULE)
    return folder


@pytest.fixture
def lab(folder, monkeypatch):
    """The module, found and allowed."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("UNITGAIN_ALLOW", "mylab_outside")
    import mylab_outside

    mylab_outside.LOGGED.clear()
    mylab_outside.CALLED.clear()
    return mylab_outside


def own(name, **arguments):
    return {"_target_": f"mylab_outside.{name}", **arguments}


def function(name, **arguments):
    return own(name, _partial_=True, **arguments)


def state_of(result, name="last"):
    return read_checkpoint(result.directory / "checkpoints" / f"{name}.ckpt")["state_dict"]


def logits(network_layers, state, x):
    """A forward pass written out: linear maps from a checkpoint, with what stands between them."""
    h = torch.from_numpy(x).float()
    indices = sorted({int(key.split(".")[0]) for key in state if f"{key}".endswith("bias")})
    for i in indices[:-1]:
        h = network_layers(F.linear(h, state[f"{i}.weight"], state[f"{i}.bias"]))
    return F.linear(h, state[f"{indices[-1]}.weight"], state[f"{indices[-1]}.bias"])


@pytest.mark.parametrize("place", ["init", "first_init", "output_init", "bias_init"])
def test_initializer(train, lab, place):
    tiny = {"optimizer": {"lr": 1e-12}}
    plain = state_of(train("plain", **tiny))
    ours = state_of(train("ours", **tiny, **{place: function("small_normal", std=5.0)}))
    wide = {name for name in ours if (ours[name] - plain[name]).abs().max() > 1}
    keys = {"first": {"0.weight"}, "output": {"6.weight"}}
    weights = {"0.weight", "3.weight", "6.weight"}
    biases = {name.replace("weight", "bias") for name in weights}
    expected = {
        "init": weights,
        "first_init": keys["first"],
        "output_init": keys["output"],
        "bias_init": biases,
    }
    assert wide == expected[place]
    if place != "bias_init":
        stacked = torch.cat([ours[name].flatten() for name in wide])
        # The standard error of a standard deviation from n draws is std / sqrt(2 n).
        assert stacked.std() == pytest.approx(5.0, abs=4 * 5.0 / (2 * len(stacked)) ** 0.5)


@pytest.mark.parametrize(
    "node", [function("snake", frequency=2.0), own("Snake", frequency=2.0)], ids=["fn", "module"]
)
def test_activation(train, make_spec, lab, node):
    result = train(activation=node, dropout={"_target_": "torch.nn.Identity"})
    table = open_data(make_spec())
    rows = table.split.test
    state = state_of(result, "best")
    output = logits(lambda z: lab.snake(z, 2.0), state, table.x[rows])
    expected = F.cross_entropy(output, torch.from_numpy(table.y[rows]))
    assert result.metrics["test/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_activation_of_torch_that_is_not_shipped(train):
    assert train(activation={"_target_": "torch.nn.Mish"}).status == "finished"


def test_norm(train, lab):
    result = train(norm=own("MeanFree"))
    state = state_of(result)
    assert state["1.weight"].shape == (8,)
    assert (state["1.weight"] != 1.0).all(), "its scale is trained"


def test_data_source_and_split(train, lab):
    data = own("stripes", n=100, width=3.0) | {"task": "classification", "batch_size": 16}
    split = function("every_fifth", first=1)
    result = train(data=data, split=split)
    assert result.status == "finished"
    import json

    summary = json.loads((result.directory / "summary.json").read_text())
    assert summary["rows"] == {"train": 60, "val": 20, "test": 20}


def test_loss(train, make_spec, lab):
    result = train(loss=function("focal", gamma=1.5), dropout={"_target_": "torch.nn.Identity"})
    table = open_data(make_spec())
    rows = table.split.val
    output = logits(torch.relu, state_of(result, "best"), table.x[rows])
    target = torch.from_numpy(table.y[rows])
    cross_entropy = F.cross_entropy(output, target, reduction="none")
    expected = ((1 - (-cross_entropy).exp()) ** 1.5 * cross_entropy).mean()
    assert result.metrics["val/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_loss_that_reduces_is_refused(train, lab):
    with pytest.raises(ConfigError, match="must give one number an example of each member"):
        train(loss=function("reduces"))


def test_loss_of_torch(train, diabetes):
    node = {"_target_": "torch.nn.SmoothL1Loss", "reduction": "none", "beta": 0.3}
    # Huber's loss with delta is delta times the smooth L1 loss with beta = delta.
    ours = train("ours", data=diabetes, loss=node, trainer={"precision": "64"})
    huber = {"_target_": "unitgain.nn.losses.Huber", "delta": 0.3}
    theirs = train("theirs", data=diabetes, loss=huber, trainer={"precision": "64"})
    losses = [read_metrics(r.directory / "metrics.csv")["train/loss"][0] for r in (ours, theirs)]
    # The first epoch has several steps: Adam takes the same ones, but for its eps.
    assert losses[1] == pytest.approx(0.3 * losses[0], rel=1e-5)


def test_metrics_of_ones_own_and_of_torchmetrics(train, make_spec, lab):
    metrics = {
        "confidence": own("confidence"),
        "errors": own("Errors", scale=2.0),
        "mcc": {
            "_target_": "torchmetrics.classification.MulticlassMatthewsCorrCoef",
            "num_classes": 3,
        },
    }
    result = train(
        metrics=metrics,
        monitor="val/mcc",
        trainer={"max_epochs": 6},
        optimizer={"lr": 0.02},
        dropout={"_target_": "torch.nn.Identity"},
    )
    table = open_data(make_spec())
    rows = table.split.test
    probabilities = logits(torch.relu, state_of(result, "best"), table.x[rows]).softmax(-1)
    target = torch.from_numpy(table.y[rows])
    expected = {
        "confidence": probabilities.amax(-1).mean(),
        "errors": 2.0 * (probabilities.argmax(-1) != target).sum(),
        "mcc": multiclass_matthews_corrcoef(probabilities, target, 3),
    }
    for name, value in expected.items():
        assert result.metrics[f"test/{name}"] == pytest.approx(value.item(), rel=1e-5), name
    # More of a correlation is better, which torchmetrics says.
    recorded = read_metrics(result.directory / "metrics.csv")["val/mcc"]
    assert result.monitor == recorded.max() > recorded.min()


def test_metric_that_should_be_low_decides_on_the_best(train, lab):
    result = train(metrics={"errors": own("Errors")}, monitor="val/errors", optimizer={"lr": 0.02})
    recorded = read_metrics(result.directory / "metrics.csv")["val/errors"]
    assert result.monitor == recorded.min()
    assert recorded.min() < recorded.max()


def test_monitored_metric_must_say_what_is_better(train, lab):
    with pytest.raises(ConfigError, match="monitor: needs a metric that says whether more of it"):
        train(metrics={"confidence": own("confidence")}, monitor="val/confidence")


def test_probe_quantity(train, lab):
    probe = {"every": 6, "extra": {"peak": own("grad_peak", scale=3.0)}}
    result = train(probe=probe)
    gradients = read_gradients(result.directory / "gradients.parquet")
    steps, peak = gradients.grid("peak")
    assert steps.tolist() == [0, 6, 12]
    rms = gradients.grid("grad_preactivation")[1] / 16**0.5
    assert np.isfinite(peak).all()
    # The largest of all entries is between their root mean square and their norm.
    assert (peak / 3 <= rms).all()
    assert (peak / 3 >= rms / (16 * 8) ** 0.5).all()


def test_logger(train, lab):
    result = train(logger={"mine": own("ListLogger", label="a")}, tags=["x"])
    kinds = [entry[1] for entry in lab.LOGGED]
    assert kinds[0] == "params"
    assert lab.LOGGED[0][2]["data.batch_size"] == 16
    assert lab.LOGGED[-1] == ("a", "status", "success")
    losses = [entry[2]["val/loss"] for entry in lab.LOGGED if "val/loss" in entry[2]]
    recorded = read_metrics(result.directory / "metrics.csv")["val/loss"]
    assert losses == recorded.tolist()


def test_each_member_has_a_logger(make_spec, lab, tmp_path):
    specs = [
        make_spec(seed=k, logger={"mine": own("ListLogger", label=f"member-{k}")}) for k in (0, 1)
    ]
    results = fit(specs, [tmp_path / "0", tmp_path / "1"])
    for k, result in enumerate(results):
        mine = [entry for entry in lab.LOGGED if entry[0] == f"member-{k}"]
        assert mine[0][2]["seed"] == k
        final = [entry[2] for entry in mine if "final/test/loss" in entry[2]]
        assert [values["final/test/loss"] for values in final] == [result.metrics["test/loss"]]


def test_logger_of_lightning(train, tmp_path):
    pytest.importorskip("lightning")
    node = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path / "logs")}
    assert train(logger={"theirs": node}).status == "finished"
    [file] = (tmp_path / "logs").rglob("metrics.csv")
    assert "val/loss" in file.read_text()


def test_wrong_logger_is_refused(train, lab):
    with pytest.raises(
        ConfigError, match=r"logger.mine: must be a lightning.pytorch.loggers.Logger"
    ):
        train(logger={"mine": own("Snake")})


def test_callback(train, lab):
    assert issubclass(lab.Counting, pl.Callback)
    extra = {"first": own("Counting", label="a"), "second": own("Counting", label="b")}
    train(callbacks={"extra": extra})
    assert [(label, epoch) for epoch in range(3) for label in "ab"] == lab.CALLED


PARTS = {
    "init": function("small_normal"),
    "activation": function("snake"),
    "norm": own("MeanFree"),
    "data": own("stripes", n=100) | {"task": "classification"},
    "split": function("every_fifth"),
    "loss": function("focal"),
    "metrics": {"mine": own("confidence")},
    "probe": {"extra": {"mine": own("grad_peak")}},
    "logger": {"mine": own("ListLogger", label="a")},
    "callbacks": {"extra": {"mine": own("Counting", label="a")}},
}


@pytest.mark.parametrize("part", PARTS)
def test_refused_where_it_is_not_allowed(part, make_spec, folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("UNITGAIN_ALLOW", raising=False)
    monkeypatch.delitem(sys.modules, "mylab_outside", raising=False)
    with pytest.raises(
        ConfigError, match=rf"{part}.*_target_: must lie under .*UNITGAIN_ALLOW=mylab"
    ):
        make_spec(**{part: PARTS[part]})
    assert "mylab_outside" not in sys.modules, "what isn't allowed isn't even imported"


def test_error_in_ones_own_function_is_not_hidden(train, lab, monkeypatch):
    def broken(x, frequency=1.0):
        raise RuntimeError("broken in the forward pass")

    monkeypatch.setattr(lab, "snake", broken)
    with pytest.raises((RuntimeError, ConfigError), match="broken in the forward pass"):
        train(activation=own("Snake"))
