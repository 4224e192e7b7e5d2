import io

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from unitgain.nn.ensemble import Ensemble, tempered


def members(outputs, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = [(5, 8), (5, 4), (5, 3)]
    return [
        nn.Sequential(nn.Linear(a, b), nn.Tanh(), nn.Linear(b, outputs)).to(dtype).eval()
        for a, b in shapes
    ]


def inputs(rows=7):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_probabilities_are_averaged_and_then_tempered(outputs):
    networks, w, x = members(outputs), [0.5, 0.3, 0.2], inputs()
    found = Ensemble(networks, w, classes=True, temperature=1.7)(x)
    logits = [net(x).detach().double().numpy() for net in networks]
    if outputs == 1:
        logits = [np.hstack([0 * each, each]) for each in logits]
    mean = sum(a * softmax(each, axis=1) for a, each in zip(w, logits, strict=True))
    wanted = np.exp(log_softmax(np.log(mean) / 1.7, axis=1))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-12)


def test_predictions_are_averaged_in_the_units_of_the_data():
    networks, w, x = members(2), [0.5, 0.25, 0.25], inputs()
    ensemble = Ensemble(networks, w, classes=False, mean=[10.0, 20.0], scale=[2.0, 3.0])
    wanted = sum(a * net(x).double() for a, net in zip(w, networks, strict=True))
    wanted = wanted * torch.tensor([2.0, 3.0]) + torch.tensor([10.0, 20.0])
    torch.testing.assert_close(ensemble(x), wanted)


def test_a_temperature_keeps_what_is_certain_and_the_order():
    p = torch.tensor([[0.0, 1.0], [0.3, 0.7]], dtype=torch.float64)
    assert torch.equal(tempered(p, 1.0), p)
    assert tempered(p, 3.0)[0, 1] == 1.0
    assert 0.5 < tempered(p, 3.0)[1, 1] < 0.7 < tempered(p, 0.5)[1, 1]


@pytest.mark.parametrize("classes", [True, False])
def test_torch_export_keeps_the_outputs(classes):
    ensemble = Ensemble(members(3), [0.6, 0.2, 0.2], classes=classes, temperature=0.8).eval()
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(ensemble, (inputs(),), dynamic_shapes=({0: rows},))
    stored = io.BytesIO()
    torch.export.save(program, stored)
    stored.seek(0)
    loaded = torch.export.load(stored).module()
    for x in (inputs(), inputs(31)):
        torch.testing.assert_close(loaded(x), ensemble(x), rtol=1e-6, atol=1e-9)
