import functools
import sys
from types import ModuleType

import pytest
import torch

from unitgain.errors import ConfigError
from unitgain.spec import instantiate, locate, parse

ATTACKS = [
    "os.system",
    "torch.load",
    "torch.hub.load",
    "subprocess.run",
    "builtins.eval",
    "torch",
    "torch.nnx.ReLU",
    "unitgainx.nn",
    "torch.nn.modules.module.torch.load",
    "torch.nn.functional.torch.from_file",
    "torch.nn.modules.module.OrderedDict",
    "lightning.pytorch.core.module.torch.load",
    "lightning.pytorch.trainer.trainer.os.system",
    "torch.optim.optimizer.functools.reduce",
    "torch.nn.modules.module.Module.__init__.__globals__",
    "torch.nn.modules.module._load",
    "torch.nn.Module.__subclasses__",
    "unitgain.cli._main.os.system",
    "unitgain.cli._main.main",
    "lightning.fabric.plugins.io.torch_io.TorchCheckpointIO.load_checkpoint",
    "lightning.pytorch.LightningModule.load_from_checkpoint",
    "torch.nn.Module.load_state_dict",
    "unitgain.runs",
    "torch.nn",
    "torch.nn.",
    ".torch.nn.ReLU",
    "torch.nn.ReLU()",
    "",
    "torch.nn.ReLU; import os",
]


@pytest.mark.parametrize("path", ATTACKS)
def test_what_is_not_allowed_is_refused(path):
    with pytest.raises(ConfigError, match=r"^_target_: must "):
        locate(path)
    with pytest.raises(ConfigError, match=r"^x._target_: must "):
        instantiate({"_target_": path}, _key_="x")


@pytest.mark.parametrize("path", ["os.system", "torch.load", "unitgain._x.y"])
def test_a_target_is_refused_before_anything_is_imported(path):
    with pytest.raises(ConfigError, match=r"^activation._target_: must "):
        parse({"activation": {"_target_": path}})
    nested = {"_target_": "torch.nn.Softsign", "deep": [{"er": {"_target_": path}}]}
    with pytest.raises(ConfigError, match=r"^activation.deep.0.er._target_: must "):
        parse({"activation": nested})


def test_the_line_names_target_prefixes_and_remedy():
    with pytest.raises(ConfigError) as caught:
        locate("sklearn.svm.SVC")
    assert caught.value.lines == (
        "_target_: must lie under unitgain, torch.nn, torch.optim, torchmetrics, lightning, "
        "got sklearn.svm.SVC; if you trust it, set UNITGAIN_ALLOW=sklearn",
    )


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.ReLU",
        "torch.nn.modules.activation.ReLU",
        "torch.nn.functional.relu",
        "torch.nn.functional.gelu",
        "torch.nn.functional.celu_",
        "torch.optim.SGD",
        "torch.optim.lr_scheduler.StepLR",
        "torchmetrics.classification.MulticlassAccuracy",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "unitgain.spec.parse",
    ],
)
def test_what_is_allowed_is_found(path):
    assert callable(locate(path))


@pytest.fixture
def own_module(monkeypatch):
    module = ModuleType("ownpackage")
    exec(
        "import os\n"
        "from torch import load\n"
        "from torch.nn import ReLU\n"
        "number = 3\n"
        "def scale(weight, *, gain=1.0): return gain\n",
        module.__dict__,
    )
    monkeypatch.setitem(sys.modules, "ownpackage", module)
    return module


def test_the_user_extends_the_list_in_one_variable(monkeypatch, own_module):
    with pytest.raises(ConfigError, match=r"set UNITGAIN_ALLOW=ownpackage"):
        locate("ownpackage.scale")
    monkeypatch.setenv("UNITGAIN_ALLOW", "other, ownpackage.")
    assert locate("ownpackage.scale") is own_module.scale
    assert locate("ownpackage.ReLU") is torch.nn.ReLU
    with pytest.raises(ConfigError, match=r"defined under .* is from torch.serialization"):
        locate("ownpackage.load")
    with pytest.raises(ConfigError, match=r"part ownpackage.os is the module os"):
        locate("ownpackage.os.system")


def test_a_target_that_is_no_callable_or_not_there(monkeypatch, own_module):
    monkeypatch.setenv("UNITGAIN_ALLOW", "ownpackage,nowhere_to_be_found,builtins")
    with pytest.raises(ConfigError, match=r"^_target_: must be a callable, but .* is a int$"):
        locate("ownpackage.number")
    with pytest.raises(ConfigError, match=r"torch.nn has no ReLUU; did you mean torch.nn.ReLU\?$"):
        locate("torch.nn.ReLUU")
    with pytest.raises(ConfigError, match=r"needs the module nowhere_to_be_found .* PYTHONPATH"):
        locate("nowhere_to_be_found.thing")


def test_nodes_within_nodes_are_made_first():
    made = instantiate(
        {
            "_target_": "torch.nn.ModuleList",
            "modules": [
                {"_target_": "torch.nn.LeakyReLU", "negative_slope": 0.2},
                {"_target_": "torch.nn.Tanh"},
            ],
        }
    )
    assert [type(each).__name__ for each in made] == ["LeakyReLU", "Tanh"]
    assert made[0].negative_slope == 0.2


def test_partial_binds_and_does_not_call(monkeypatch, own_module):
    monkeypatch.setenv("UNITGAIN_ALLOW", "ownpackage")
    node = {"_target_": "ownpackage.scale", "_partial_": True, "gain": 2.0}
    for made in (
        instantiate(node),
        instantiate(parse({"init": node}).init),
        instantiate({"_target_": "ownpackage.scale", "gain": 2.0}, _partial_=True),
    ):
        assert isinstance(made, functools.partial)
        assert made(None) == 2.0


def test_the_program_adds_arguments_and_the_user_may_not_take_them():
    node = {"_target_": "torch.nn.Linear", "bias": False}
    assert instantiate(node, in_features=2, out_features=3).weight.shape == (3, 2)
    with pytest.raises(
        ConfigError, match=r"^x\.bias: is given by the program itself; leave it out$"
    ):
        instantiate(node, _key_="x", bias=True, in_features=2, out_features=3)


def test_wrong_arguments_are_named_with_what_is_accepted():
    with pytest.raises(ConfigError) as caught:
        instantiate({"_target_": "torch.nn.LeakyReLU", "slope": 1, "inplase": True}, _key_="act")
    assert caught.value.lines == (
        "act.slope: no argument of torch.nn.LeakyReLU; did you mean negative_slope? "
        "it takes inplace, negative_slope",
        "act.inplase: no argument of torch.nn.LeakyReLU; did you mean inplace? "
        "it takes inplace, negative_slope",
    )
    with pytest.raises(
        ConfigError, match=r"^act\.out_features: is required by torch.nn.Linear, got nothing$"
    ):
        instantiate({"_target_": "torch.nn.Linear", "in_features": 2}, _key_="act")
    with pytest.raises(ConfigError, match=r"^act: torch.nn.Dropout refuses its arguments"):
        instantiate({"_target_": "torch.nn.Dropout", "p": 2.0}, _key_="act")


def test_a_node_without_target_is_refused():
    with pytest.raises(ConfigError, match=r"^x._target_: must be the dotted path .* got None"):
        instantiate({"gain": 1}, _key_="x")
