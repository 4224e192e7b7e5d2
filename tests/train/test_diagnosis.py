"""What the doctor measures is what training measures; what it proposes heals."""

import copy
import math
import textwrap

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitgain.data import open_data
from unitgain.errors import ConfigError
from unitgain.runs import RunDirectory, read_gradients
from unitgain.spec import parse
from unitgain.train import fit
from unitgain.train.own_diagnosis import diagnose_module, stack_of
from unitgain.train.own_model import given_for, load_module
from unitgain.train.run_diagnosis import diagnose_run, measure_run, merged


def spec_of(depth=20, width=64, norm="torch.nn.Identity", activation="Tanh", **init):
    return parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": depth, "width": width},
            "activation": {"_target_": f"torch.nn.{activation}"},
            "norm": {"_target_": norm},
            "init": init or {"_target_": "unitgain.nn.init.mean_field", "sigma_w": 4.0},
            "trainer": {"max_epochs": 1, "progress": False, "accelerator": "cpu"},
            "figures": False,
        }
    )


def test_a_run_measures_the_same_at_its_first_step(tmp_path):
    spec = spec_of(depth=5, norm="unitgain.nn.BatchNorm")
    fit([spec], [tmp_path])
    gradients = read_gradients(RunDirectory(tmp_path).gradients)
    measured = measure_run(spec, open_data(spec), 1)
    for name, values in measured.values.items():
        recorded = gradients.grid(name)[1][0]
        # The geometric mean of one seed goes through a logarithm and back.
        np.testing.assert_allclose(values[: len(recorded)], recorded, rtol=1e-6, err_msg=name)


def test_seeds_are_measured_as_each_alone():
    spec = spec_of(depth=4)
    table = open_data(spec)
    alone = [measure_run(spec.model_copy(update={"seed": k}), table, 1).slope for k in range(3)]
    together = measure_run(spec, table, 3)
    assert together.slope == pytest.approx(np.mean(alone), rel=1e-6)
    assert together.error == pytest.approx(np.std(alone, ddof=1) / math.sqrt(3), rel=1e-4)


def test_theory_stands_beside_the_measurement():
    found = diagnose_run(spec_of(depth=30, width=128), seeds=3)
    assert found.verdict.label == "exploding"
    assert found.predicted is not None
    assert found.measured.slope == pytest.approx(found.predicted.slope, abs=0.01)
    square = found.measured.values["activation_second_moment"][:-1]
    np.testing.assert_allclose(square, found.predicted.second_moment_L, rtol=0.05)
    high, low = found.gains
    assert high > 1e3 > low > 0


def test_what_heals_comes_first_and_the_nearest_change_before_all():
    found = diagnose_run(spec_of(depth=30), seeds=2)
    heals = [each.heals for each in found.proposals]
    assert heals == sorted(heals, reverse=True)
    assert found.proposals[0].steps == ("init=critical",)
    assert abs(found.proposals[0].measured.slope) < 0.02
    again = diagnose_run(found.proposals[0].spec, seeds=2)
    assert not again.faulty
    assert not again.proposals


def test_where_no_change_is_enough_two_are_tried():
    spec = spec_of(
        depth=60, norm="unitgain.nn.BatchNorm", activation="ReLU", _target_="unitgain.nn.init.he"
    )
    found = diagnose_run(spec)
    assert found.verdict.label == "exploding"
    best = found.proposals[0]
    assert best.heals
    assert len(best.steps) > 1
    alone = [each for each in found.proposals if len(each.steps) == 1 and each.heals]
    assert all(each.steps[0].startswith("model.depth=") for each in alone)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (["a=1", "b=2"], ["b=3"], ("a=1", "b=3")),
        (["init=x", "init.gain=2"], ["init=y"], ("init=y",)),
        (["+init.gain=2", "initial=1"], ["init=y"], ("initial=1", "init=y")),
        (["init=x"], ["init.gain=2"], ("init=x", "init.gain=2")),
    ],
)
def test_a_later_choice_makes_what_it_replaces_void(first, second, both):
    assert merged(first, second) == both


def test_the_sharpness_of_a_linear_network_is_that_of_its_quadratic_loss():
    spec = parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 3},
            "activation": {"_target_": "torch.nn.Identity"},
            "data": {"_target_": "unitgain.data.sources.diabetes", "task": "regression"},
            "trainer": {"precision": "64"},
        }
    )
    found = diagnose_run(spec, seeds=1, sharp=True)
    assert found.sharpness > 0
    assert diagnose_run(spec, seeds=1).sharpness is None


# Modules of one's own.


def chain(depth=20, width=64, activation=nn.Tanh, outputs=10):
    torch.manual_seed(0)
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Mine(pl.LightningModule):
    def __init__(self, depth=20):
        super().__init__()
        self.net = chain(depth)
        self.seen = 0

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.log("loss", 0.0)
        return {"loss": nn.functional.cross_entropy(self.net(x), y)}

    def train_dataloader(self):
        torch.manual_seed(1)
        data = TensorDataset(torch.randn(96, 64), torch.randint(10, (96,)))
        return DataLoader(data, batch_size=48)


def test_a_lightning_module_is_looked_at_with_its_own_data_and_loss():
    module = Mine()
    found = diagnose_module(module, given_for(module, "Mine"), "Mine")
    assert found.verdict.label == "vanishing"
    assert "a batch of 48 from Mine's train_dataloader, the loss of its own" in found.facts
    # torch's default is sigma_w^2 = 1/3, which for tanh is a slope of -0.239.
    assert found.predicted.slope == pytest.approx(-0.24, abs=0.01)
    assert found.measured.slope == pytest.approx(found.predicted.slope, abs=0.02)
    assert found.measured.names[0] == "net.0"


def test_the_module_is_left_as_it_is():
    module = nn.Sequential(chain(4), nn.BatchNorm1d(10), nn.Dropout(0.5), nn.Linear(10, 1)).eval()
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    diagnose_module(module, given_for(module, "m"), "m", sharp=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not module.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.grad is None for p in module.parameters())
    assert not any(m._forward_hooks for m in module.modules())


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_lines_that_are_shown_do_what_was_tried(index):
    module = chain(20, activation=nn.ReLU)
    given = given_for(module, "m")
    found = diagnose_module(module, given, "m")
    assert found.proposals[0].heals
    proposal = found.proposals[index]
    mended = copy.deepcopy(module)
    torch.manual_seed(0)
    exec(textwrap.dedent("\n".join(proposal.steps)), {"nn": nn, "model": mended, "x": given.inputs})
    again = diagnose_module(mended, given, "m")
    assert again.verdict.label == proposal.verdict.label
    assert again.measured.slope == pytest.approx(proposal.measured.slope, abs=0.01)


class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).tanh()
        return x


def test_theory_speaks_of_chains_alone():
    assert stack_of(chain()).activation.__class__ is nn.Tanh
    assert stack_of(nn.Sequential(chain(3), nn.Tanh(), nn.Linear(10, 2))) is not None
    assert stack_of(Skips()) is None
    assert stack_of(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh())) is None
    assert stack_of(nn.Sequential(chain(2), nn.ReLU(), nn.Linear(10, 2))) is None
    module = Skips()
    found = diagnose_module(module, given_for(module, "m"), "m")
    assert found.predicted is None
    assert not found.faulty


def test_a_convolution_takes_the_shape_of_its_inputs():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )
    module(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match=r"m: needs the shape of an example.*add --input"):
        given_for(module, "m")
    found = diagnose_module(module, given_for(module, "m", shape=(3, 8, 8)), "m")
    assert found.measured.names == ("0", "2", "5")
    assert "64 synthetic Gaussian inputs of shape (3, 8, 8)" in found.facts


def test_an_embedding_gets_indices():
    module = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(128, 8), nn.Linear(8, 1))
    found = diagnose_module(module, given_for(module, "m"), "m")
    assert "random indices" in found.facts
    assert found.gains is None


DATA = """
import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

x, classes, numbers = torch.ones(40, 4), torch.zeros(40, dtype=torch.int64), torch.zeros(40, 3)
batch = (x, classes)
alone = x


def regression():
    return DataLoader(TensorDataset(x, numbers), batch_size=8)


class Module(pl.LightningDataModule):
    def setup(self, stage):
        assert stage == "fit"

    def train_dataloader(self):
        return DataLoader(TensorDataset(x, classes), batch_size=16)


number = 3


def fails():
    raise OSError("no disk")


def odd():
    return [{"x": x}]


def model():
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "given_data.py"
    path.write_text(DATA)
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("batch", "a batch of 40 from {}:batch, the cross-entropy"),
        ("alone", "a batch of 40 from {}:alone, a random linear function"),
        ("regression", "a batch of 8 from {}:regression, the squared error"),
        ("Module", "a batch of 16 from {}:Module, the cross-entropy"),
    ],
)
def test_data_may_be_given_in_many_forms(file, name, words):
    module = load_module(f"{file}:model")
    given = given_for(module, "model", f"{file}:{name}")
    assert given.words.startswith(words.format(file))
    assert given.loss(module).requires_grad


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", r"--data: must give batches.*a int can't be iterated over"),
        ("fails", r"--data: must give batches.*raised OSError: no disk"),
        ("odd", r"--data: must give tensors \(x, y\).*is a dict"),
        ("nothing", r"must name what .* defines, but it defines"),
    ],
)
def test_data_that_cannot_be_used_are_an_error(file, name, message):
    module = load_module(f"{file}:model")
    with pytest.raises(ConfigError, match=message):
        given_for(module, "model", f"{file}:{name}")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{}:number", "must be a torch.nn.Module or what makes one, got a int"),
        ("{}:Module", "but it gave a Module"),
        ("{}:fails", "must make a module when called without arguments.*no disk"),
        ("nowhere.py:model", "must name a file that exists, but there is no nowhere.py"),
        ("os.path:join", r"os.path:join: must lie under unitgain, .* set UNITGAIN_ALLOW=os"),
        ("torch.nn:ReLU", "must have parameters to look at, but has none"),
        ("torch.nn:Linear", "must make a module when called without arguments"),
    ],
)
def test_a_target_that_is_no_module_is_an_error(file, target, message):
    with pytest.raises(ConfigError, match=message):
        load_module(target.format(file))


def test_a_pass_that_fails_is_an_error():
    module = chain(3)
    with pytest.raises(ConfigError, match=r"a forward pass on 64 synthetic .* raised RuntimeError"):
        diagnose_module(module, given_for(module, "m", shape=(5,)), "m")
