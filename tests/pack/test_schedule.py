from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as torch_schedule

from unitgain.pack.optim import SGD, Adam, RMSprop
from unitgain.pack.schedule import Constant, Cosine, OneCycle, Step

EPOCHS, EPOCH = 10, 20
TOTAL, WARMUP = EPOCHS * EPOCH, 15
BASE = 0.02
CYCLE = {"cycle_momentum": True, "base_momentum": 0.6, "max_momentum": 0.9}
# torch's SequentialLR passes an epoch to the schedules that it holds.
pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")


def one_cycle(optimizer, total, *, pct_start=0.3, anneal="cos", cycle=False):
    return torch_schedule.OneCycleLR(
        optimizer,
        BASE,
        total_steps=total,
        pct_start=pct_start,
        anneal_strategy=anneal,
        cycle_momentum=cycle,
        base_momentum=0.6,
        max_momentum=0.9,
    )


CASES = {
    "constant": (Constant, {}, lambda o, n: torch_schedule.ConstantLR(o, factor=1.0)),
    "step": (
        Step,
        {"step_epochs": 3, "gamma": 0.5},
        lambda o, n: torch_schedule.StepLR(o, 3 * EPOCH, 0.5),
    ),
    "cosine": (Cosine, {}, torch_schedule.CosineAnnealingLR),
    "cosine to a floor": (
        Cosine,
        {"min_factor": 0.1},
        lambda o, n: torch_schedule.CosineAnnealingLR(o, n, 0.1 * BASE),
    ),
    "one_cycle": (OneCycle, {}, one_cycle),
    "one_cycle linear": (
        OneCycle,
        {"anneal": "linear"},
        lambda o, n: one_cycle(o, n, anneal="linear"),
    ),
    "one_cycle late": (OneCycle, {"pct_start": 0.77}, lambda o, n: one_cycle(o, n, pct_start=0.77)),
    "one_cycle momentum": (OneCycle, CYCLE, lambda o, n: one_cycle(o, n, cycle=True)),
    "one_cycle linear momentum": (
        OneCycle,
        CYCLE | {"anneal": "linear"},
        lambda o, n: one_cycle(o, n, anneal="linear", cycle=True),
    ),
}
OPTIMIZERS = {
    "sgd": (
        SGD,
        torch.optim.SGD,
        {"lr": BASE, "momentum": 0.7, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0},
    ),
    "adam": (
        Adam,
        torch.optim.Adam,
        {"lr": BASE, "betas": (0.7, 0.99), "eps": 1e-8, "weight_decay": 0.0},
    ),
    "rmsprop": (
        RMSprop,
        torch.optim.RMSprop,
        {
            "lr": BASE,
            "alpha": 0.9,
            "eps": 1e-6,
            "momentum": 0.7,
            "centered": False,
            "weight_decay": 0.0,
        },
    ),
}


def torch_scheduler(case, optimizer, warmup):
    made = CASES[case][2]
    if not warmup:
        return made(optimizer, TOTAL)
    main = made(optimizer, TOTAL - warmup)
    ramp = torch_schedule.LinearLR(optimizer, 0.05, total_iters=warmup)
    return torch_schedule.SequentialLR(optimizer, [ramp, main], [warmup])


def ours(case, warmup):
    kind, arguments, _ = CASES[case]
    return kind(**arguments, warmup_steps=warmup, warmup_factor=0.05)


def momentum_of(optimizer):
    group = optimizer.param_groups[0]
    return group["betas"][0] if "betas" in group else group["momentum"]


def gradient(theta, step):
    a = torch.linspace(-1, 1, 40, dtype=torch.float64).sin().view(8, 5)
    target = torch.cos(torch.arange(5, dtype=torch.float64) * step)
    loss = (torch.sin(3 * theta @ a) - target).square().mean(-1)
    return torch.autograd.grad(loss.sum(), theta)[0]


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in CASES for name in OPTIMIZERS if name != "rmsprop" or "mom" in case],
)
def test_rates_momenta_and_weights_are_those_of_torch(case, name, warmup):
    kind, torch_kind, member = OPTIMIZERS[name]
    schedule = ours(case, warmup)
    steps = np.arange(TOTAL, dtype=np.float64)
    factor = schedule.factor(steps, TOTAL, EPOCH)
    momentum = schedule.momentum(steps, TOTAL)
    start = torch.linspace(-1, 1, 8, dtype=torch.float64)
    packed = start[None].clone().requires_grad_()
    optimizer = kind(packed, [member], moves_momentum=momentum is not None)
    moved = None if momentum is None else momentum[:, None]
    optimizer.prepare(0, BASE * factor[:, None], moved)

    theta = start.clone().requires_grad_()
    twin = torch_kind([theta], **member)
    scheduler = torch_scheduler(case, twin, warmup)
    for step in range(TOTAL):
        rate = twin.param_groups[0]["lr"]
        assert abs(BASE * factor[step] - rate) <= 1e-12 * BASE
        if momentum is not None:
            assert abs(momentum[step] - momentum_of(twin)) <= 1e-12
        gradients = gradient(torch.stack([packed[0], theta]).detach().requires_grad_(), step)
        optimizer.step(gradients[:1], step)
        theta.grad = gradients[1]
        twin.step()
        assert (packed[0] - theta).abs().max() <= 1e-10
        if step < TOTAL - 1:
            scheduler.step()
    assert (packed - start).abs().max() > 0.01


def test_step_drops_once_an_epoch_as_torch_stepped_once_an_epoch_does():
    factor = ours("step", 0).factor(np.arange(TOTAL, dtype=np.float64), TOTAL, EPOCH)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch_schedule.StepLR(optimizer, 3, 0.5)
    for epoch in range(EPOCHS):
        within = factor[epoch * EPOCH : (epoch + 1) * EPOCH]
        np.testing.assert_allclose(within, optimizer.param_groups[0]["lr"], rtol=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize("case", CASES)
def test_a_stretch_of_steps_is_part_of_the_whole(case, warmup):
    schedule = ours(case, warmup)
    steps = np.arange(TOTAL, dtype=np.float64)
    for values in (
        lambda s: schedule.factor(s, TOTAL, EPOCH),
        lambda s: schedule.momentum(s, TOTAL),
    ):
        whole = values(steps)
        if whole is not None:
            np.testing.assert_array_equal(values(steps[60:80]), whole[60:80])


def test_the_ends_of_each_schedule():
    last = SimpleNamespace(step=np.array([0.0, TOTAL - 1.0]))
    ends = {case: ours(case, 0).factor(last.step, TOTAL, EPOCH) for case in CASES}
    np.testing.assert_allclose(ends["constant"], [1, 1])
    np.testing.assert_allclose(ends["step"], [1, 0.5**3])
    np.testing.assert_allclose(ends["cosine to a floor"][0], 1)
    np.testing.assert_allclose(ends["one_cycle"], [1 / 25, 1 / 25e4], rtol=1e-12)


def test_a_run_shorter_than_its_warm_up_only_rises():
    factor = Cosine(warmup_steps=10, warmup_factor=0.1).factor(np.arange(5.0), 5, 5)
    np.testing.assert_allclose(factor, 0.1 + 0.9 * np.arange(5) / 10, rtol=1e-12)
    assert np.isfinite(OneCycle(warmup_steps=10).factor(np.arange(5.0), 5, 5)).all()


@pytest.mark.parametrize("total", [1, 2, 3, 4])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_runs_of_few_steps_get_finite_rates(total, anneal):
    for schedule in (Constant(), Step(), Cosine(), OneCycle(anneal=anneal)):
        assert np.isfinite(schedule.factor(np.arange(float(total)), total, 1)).all()


def test_members_of_one_pack_have_schedules_of_their_own(lab):
    options = (
        ("constant", {}),
        ("one_cycle", CYCLE),
        ("cosine", {"warmup_steps": 3}),
        ("step", {"step_epochs": 1}),
    )
    specs = [
        lab.spec(k, scheduler=s, optimizer=("sgd", {"momentum": 0.5}), epochs=4)
        for k, s in enumerate(options)
    ]
    table = lab.table(specs[0])
    packed = lab.history(lab.pack(specs, table), 4)
    for k, spec in enumerate(specs):
        assert lab.differences(packed, k, lab.history(lab.pack([spec], table), 4), 0) == []
    assert len({float(rate) for rate in packed["lr"]}) == 4
