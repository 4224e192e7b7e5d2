"""Tensors on the meta device have no values: whatever reads one raises, as on a GPU it would wait."""

import pytest
import torch
from torch import nn

from unitgain.probe import QUANTITIES
from unitgain.probe.flow import Flow, Plan

PLANS = {
    "full": Plan("full", every=1, quantities=tuple(QUANTITIES)),
    "light": Plan("light", every=1),
}


class Mixed(nn.Module):
    """A convolution, norms, activations that are modules and functions, an attention and a skip connection."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.body = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.Tanh(), nn.Dropout())
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = self.conv(x).flatten(2).transpose(1, 2)
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.head(torch.sigmoid(self.body(h)) + h).mean(1)


@pytest.mark.parametrize("probe", PLANS)
@pytest.mark.parametrize("clips", [False, True])
def test_a_measured_step_of_any_module_reads_no_value(probe, clips):
    with torch.device("meta"):
        net, x = Mixed(), torch.randn(5, 1, 6, 6)
        scale = torch.ones(())
    flow, optimizer = Flow(net, PLANS[probe]), torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):
        flow.begin(step)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        if clips:
            flow.clip_grad_norm_(step, 1.0)
        flow.before_step(step, scale=scale)
        optimizer.step()
        flow.after_step(step)
    # What was measured is read at the flush alone.
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        flow.flush()
