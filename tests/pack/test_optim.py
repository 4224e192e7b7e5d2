import numpy as np
import pytest
import torch

from unitgain.pack.optim import SGD, Adam, AdamW, RMSprop

STEPS = 200
TORCH = {
    SGD: torch.optim.SGD,
    Adam: torch.optim.Adam,
    AdamW: torch.optim.AdamW,
    RMSprop: torch.optim.RMSprop,
}

CASES = {
    "sgd": (SGD, [{"lr": 0.05}, {"lr": 0.01}]),
    "sgd momentum": (
        SGD,
        [
            {"lr": 0.02, "momentum": 0.9},
            {"lr": 0.05, "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.01},
            {"lr": 0.03, "momentum": 0.95, "dampening": 0.9},
            {"lr": 0.03, "dampening": 0.9, "weight_decay": 0.1},
            {"lr": 0.01},
        ],
    ),
    "sgd nesterov": (
        SGD,
        [
            {"lr": 0.02, "momentum": 0.9, "nesterov": True},
            {"lr": 0.01, "momentum": 0.6, "nesterov": True, "weight_decay": 0.05},
        ],
    ),
    "adam": (
        Adam,
        [
            {"lr": 0.01},
            {"lr": 0.03, "betas": (0.5, 0.9), "eps": 1e-4},
            {"lr": 0.002, "betas": (0.0, 0.99), "weight_decay": 0.1},
        ],
    ),
    "adamw": (
        AdamW,
        [
            {"lr": 0.01, "weight_decay": 0.01},
            {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3},
            {"lr": 0.002, "weight_decay": 0.0},
        ],
    ),
    "rmsprop": (
        RMSprop,
        [{"lr": 0.01}, {"lr": 0.003, "alpha": 0.9, "eps": 1e-5, "weight_decay": 0.02}],
    ),
    "rmsprop momentum": (
        RMSprop,
        [
            {"lr": 0.003, "momentum": 0.9},
            {"lr": 0.01},
            {"lr": 0.005, "momentum": 0.3, "weight_decay": 0.1},
        ],
    ),
    "rmsprop centered": (
        RMSprop,
        [{"lr": 0.003, "centered": True}, {"lr": 0.01, "alpha": 0.95, "centered": True}],
    ),
    "rmsprop centered momentum": (
        RMSprop,
        [
            {"lr": 0.003, "centered": True, "momentum": 0.8},
            {"lr": 0.002, "alpha": 0.95, "centered": True},
        ],
    ),
}
DEFAULTS = {
    SGD: {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0},
    Adam: {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
    AdamW: {"betas": (0.9, 0.999), "eps": 1e-8},
    RMSprop: {
        "alpha": 0.99,
        "eps": 1e-8,
        "momentum": 0.0,
        "centered": False,
        "weight_decay": 0.0,
    },
}


class Problem:
    """Fitting a wave on a bowl, other numbers at each step: nonlinear, and its gradient never vanishes."""

    def __init__(self, members, size=32):
        numbers = torch.Generator().manual_seed(3)
        self.a = torch.randn(size, 16, generator=numbers, dtype=torch.float64) / 4
        self.y = torch.randn(STEPS, 16, generator=numbers, dtype=torch.float64)
        self.start = torch.randn(members, size, generator=numbers, dtype=torch.float64)

    def loss(self, theta, step):
        z = theta @ self.a
        return (torch.sin(2 * z) + 0.3 * z**2 - self.y[step]).square().mean(-1)

    def gradient(self, theta, step):
        """Row by row, so that it doesn't depend on how many rows there are."""
        rows = [row.detach().clone().requires_grad_() for row in theta.view(-1, theta.shape[-1])]
        gradients = [torch.autograd.grad(self.loss(row, step), row)[0] for row in rows]
        return torch.stack(gradients).view_as(theta)


def settings(case):
    kind, members = CASES[case]
    return kind, [DEFAULTS[kind] | m for m in members]


def run(kind, members, dtype=torch.float64, start=None):
    """The pack's parameters after each step, (S, K, P)."""
    problem = Problem(len(members))
    theta = (problem.start if start is None else start).to(dtype).clone().requires_grad_()
    optimizer = kind(theta, members)
    lr = np.broadcast_to(optimizer.lr, (STEPS, len(members)))
    path = []
    for step in range(STEPS):
        if step % 50 == 0:
            optimizer.prepare(step, lr[step : step + 50])
        gradient = problem.gradient(theta.double(), step)
        optimizer.step(gradient.to(dtype), step)
        path.append(theta.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("case", [case for case in CASES if "adam" in case])
def test_adam_s_packed_kernels_take_the_same_steps(case, monkeypatch):
    kind, members = settings(case)
    fused = run(kind, members)
    monkeypatch.setattr(kind, "fused", False)
    packed = run(kind, members)
    assert not torch.equal(packed, fused)
    torch.testing.assert_close(packed, fused, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_each_member_takes_the_steps_of_torch_optim(case):
    kind, members = settings(case)
    path = run(kind, members)
    problem = Problem(len(members))
    for k, member in enumerate(members):
        theta = problem.start[k].clone().requires_grad_()
        optimizer = TORCH[kind]([theta], **member)
        for step in range(STEPS):
            theta.grad = problem.gradient(theta, step)
            optimizer.step()
            worst = (path[step, k] - theta.detach()).abs().max()
            assert worst <= 1e-10, f"member {k} at step {step}"
    assert (path[-1] - problem.start).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_each_member_takes_the_steps_that_it_takes_alone(case, dtype):
    kind, members = settings(case)
    path = run(kind, members, dtype)
    start = Problem(len(members)).start
    for k, member in enumerate(members):
        alone = run(kind, [member], dtype, start[k : k + 1])
        assert torch.equal(path[:, k], alone[:, 0])


@pytest.mark.parametrize("case", CASES)
def test_state_is_all_that_a_later_step_needs(case):
    kind, members = settings(case)
    problem = Problem(len(members))
    lr = np.broadcast_to([m["lr"] for m in members], (STEPS, len(members)))
    theta = problem.start.clone().requires_grad_()
    optimizer = kind(theta, members)
    optimizer.prepare(0, lr)
    for step in range(30):
        optimizer.step(problem.gradient(theta, step), step)
    other = theta.detach().clone().requires_grad_()
    resumed = kind(other, members)
    for name, tensor in optimizer.state.items():
        resumed.state[name].copy_(tensor)
    resumed.prepare(30, lr[30:])
    for step in range(30, 60):
        optimizer.step(problem.gradient(theta, step), step)
        resumed.step(problem.gradient(other, step), step)
    assert torch.equal(theta, other)
    assert optimizer.state.keys() == set(optimizer.state_names())
    assert all(tensor.shape == theta.shape for tensor in optimizer.state.values())


def test_padding_stays_zero():
    for case in CASES:
        kind, members = settings(case)
        theta = torch.zeros(len(members), 8, dtype=torch.float64)
        optimizer = kind(theta, members)
        optimizer.prepare(0, np.broadcast_to(optimizer.lr, (20, len(members))))
        gradient = torch.zeros_like(theta)
        gradient[:, :4] = 0.5
        for step in range(20):
            optimizer.step(gradient, step)
        assert torch.equal(theta[:, 4:], torch.zeros(len(members), 4, dtype=torch.float64))
        assert (theta[:, :4] < 0).all()


def test_momentum_is_kept_only_where_a_member_has_some():
    theta = torch.zeros(2, 4)
    plain = [DEFAULTS[SGD] | {"lr": 0.1}] * 2
    assert SGD(theta, plain).state == {}
    assert set(SGD(theta, plain, moves_momentum=True).state) == {"momentum_buffer"}
    mixed = [plain[0], plain[1] | {"momentum": 0.5}]
    assert set(SGD(theta, mixed).state) == {"momentum_buffer"}
