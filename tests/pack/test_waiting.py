"""Tensors on the meta device have no values: whatever reads one raises, as on a GPU it would wait."""

import copy
import gc

import pytest
import torch
from torch import nn

from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.probe import QUANTITIES
from unitgain.spec import parse


def without_values(pack):
    """A copy of a pack that has not trained, with all its tensors on the meta device."""
    memo = {}
    for found in gc.get_objects():
        if type(found) in (torch.Tensor, nn.Parameter):
            empty = torch.empty_like(found, device="meta")
            keeps = found.requires_grad
            memo[id(found)] = nn.Parameter(empty, keeps) if type(found) is nn.Parameter else empty
    return copy.deepcopy(pack, memo)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_an_epoch_reads_no_value_of_its_device_though_each_step_is_measured(kind):
    spec = parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 3, "width": 8},
            "data": {"_target_": "unitgain.data.sources.iris", "task": "classification"},
            "activation": {"_target_": "torch.nn.Tanh"},
            "dropout": {"_target_": "unitgain.nn.Dropout", "p": 0.1},
            "optimizer": {"_target_": f"unitgain.pack.optim.{kind}", "lr": 0.1},
            "trainer": {"gradient_clip_norm": 1.0},
            "l2_penalty": 0.01,
            "probe": {"every": 1, "quantities": list(QUANTITIES)},
        }
    )
    specs, tables = [spec] * 2, [open_data(spec)] * 2
    pack = without_values(build_pack(specs, tables, build_mlp(specs, tables), torch.device("cpu")))
    steps = pack.train_epoch(0)
    assert steps is not None
    assert steps.loss_SK.device.type == steps.probe_QKL[0].device.type == "meta"
    assert len(steps.probe_QKL) == pack.steps_per_epoch
    with pytest.raises(RuntimeError, match="meta tensors"):
        float(steps.loss_SK[0, 0])
