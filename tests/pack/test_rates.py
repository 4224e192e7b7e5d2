"""Learning rates that differ between layers, against torch's parameter groups."""

import numpy as np
import pytest
import torch

from unitgain.errors import ConfigError
from unitgain.nn import MLP, MemberInit, Shape, init
from unitgain.nn.initialize import rate_factors
from unitgain.pack.optim import SGD, Adam, AdamW, Optimizer, RMSprop

STEPS = 60
FACTORS = (1.0, 0.25, 1.0, 3.0)
BLOCK = 64
PLAIN = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}
MOMENTS = {"betas": (0.9, 0.99), "eps": 1e-8}
RMS = {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False}
CASES = {
    "sgd": (SGD, torch.optim.SGD, PLAIN | {"lr": 0.05, "weight_decay": 0.01}),
    "momentum": (SGD, torch.optim.SGD, PLAIN | {"lr": 0.02, "momentum": 0.9}),
    "nesterov": (SGD, torch.optim.SGD, PLAIN | {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "adam": (Adam, torch.optim.Adam, MOMENTS | {"lr": 0.01, "weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, MOMENTS | {"lr": 0.01, "weight_decay": 0.3}),
    "rmsprop": (RMSprop, torch.optim.RMSprop, RMS | {"lr": 0.003, "weight_decay": 0.02}),
    "rmsprop momentum": (
        RMSprop,
        torch.optim.RMSprop,
        RMS | {"lr": 0.003, "momentum": 0.9, "weight_decay": 0.0},
    ),
}


def start(members, dtype=torch.float64):
    size = BLOCK * len(FACTORS)
    draw = torch.Generator().manual_seed(1)
    return torch.randn(members, size, generator=draw, dtype=torch.float64).to(dtype)


def gradient(theta, step):
    """Nonlinear in each number, and another one at each step."""
    phase = torch.arange(theta.shape[-1], dtype=theta.dtype) + step
    return torch.sin(2 * theta + phase) + 0.3 * theta


def run(kind, members, factors, dtype=torch.float64, begin=None):
    """The parameters after each step, (S, K, P)."""
    theta = (start(len(members), dtype) if begin is None else begin).clone()
    optimizer = kind(theta, members)
    if factors is not None:
        optimizer.scale_rates(factors)
    optimizer.prepare(0, np.broadcast_to(optimizer.lr, (STEPS, len(members))))
    path = []
    for step in range(STEPS):
        optimizer.step(gradient(theta, step), step)
        path.append(theta.clone())
    return torch.stack(path)


def spread(*factors):
    """One number a block, as a row."""
    return torch.tensor(factors, dtype=torch.float64).repeat_interleave(BLOCK)


@pytest.mark.parametrize(
    ("case", "fused"), [*((case, True) for case in CASES), ("adam", False), ("adamw", False)]
)
def test_steps_are_those_of_torch_s_parameter_groups(case, fused, monkeypatch):
    kind, twin, member = CASES[case]
    if not fused:
        monkeypatch.setattr(kind, "fused", False)
    path = run(kind, [member], spread(*FACTORS)[None])
    blocks = [b.clone().requires_grad_() for b in start(1)[0].split(BLOCK)]
    lr, decay = member["lr"], member["weight_decay"]
    groups = [
        # AdamW takes off rate times decay, which shall be the same for all layers.
        {"params": [b], "lr": lr * f, "weight_decay": decay / f if kind is AdamW else decay}
        for b, f in zip(blocks, FACTORS, strict=True)
    ]
    optimizer = twin(groups, **member)
    for step in range(STEPS):
        whole = gradient(torch.cat([b.detach() for b in blocks]), step)
        for block, part in zip(blocks, whole.split(BLOCK), strict=True):
            block.grad = part.clone()
        optimizer.step()
        worst = (path[step, 0] - torch.cat([b.detach() for b in blocks])).abs().max()
        assert worst <= 1e-10, step
    plain = run(kind, [member], None)
    moved = (path[-1] - plain[-1]).abs().max(1).values
    assert moved > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_members_with_and_without_take_the_steps_that_they_take_alone(case, dtype):
    kind, _, member = CASES[case]
    factors = torch.stack([spread(1, 1, 1, 1), spread(*FACTORS), spread(2, 2, 0.5, 0.5)])
    members = [member, member | {"lr": member["lr"] / 2}, member]
    path = run(kind, members, factors, dtype)
    begin = start(3, dtype)
    for k in range(3):
        own = None if k == 0 else factors[k : k + 1]
        alone = run(kind, members[k : k + 1], own, dtype, begin[k : k + 1])
        assert torch.equal(path[:, k], alone[:, 0])


def test_a_gradient_in_another_tensor_is_not_mistaken_for_the_last():
    theta = start(1)
    optimizer = Adam(theta, [CASES["adam"][2]])
    optimizer.prepare(0, np.full((2, 1), 0.1))
    first, second = torch.ones_like(theta), -torch.ones_like(theta)
    optimizer.step(first, 0)
    before = theta.clone()
    optimizer.step(second, 1)
    twin = start(1).requires_grad_()
    other = torch.optim.Adam([twin], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)
    for g in (first, second):
        twin.grad = g.clone()
        other.step()
    assert not torch.equal(before, theta)
    torch.testing.assert_close(theta, twin.detach(), rtol=0, atol=1e-12)


def test_each_shipped_optimizer_says_how_its_steps_follow_the_gradient():
    assert {kind: kind.rule for kind in (SGD, Adam, AdamW, RMSprop)} == {
        **dict.fromkeys((Adam, AdamW, RMSprop), "adam"),
        SGD: "sgd",
    }
    assert Optimizer.rule is None
    inits = [MemberInit(init.spectral(base_width=4))]
    mlp = MLP(Shape(3, 2, (8, 8)), activation=torch.nn.ReLU())
    with pytest.raises(ConfigError, match="an optimizer whose class says `rule`"):
        rate_factors(mlp, inits, Optimizer.rule)
