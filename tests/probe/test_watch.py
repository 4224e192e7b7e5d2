"""A plain loop under watch, against what its own tensors say."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from unitgain.errors import ConfigError
from unitgain.probe import watch
from unitgain.probe.groups import layer_groups
from unitgain.probe.light import WeightNorms
from unitgain.runs import read_gradients

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def network(activation=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3)
    )


def batches(count=12, size=8):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(size, 4, generator=generator)
        yield x, torch.randint(0, 3, (size,), generator=generator)


def loss_of(net, batch):
    return nn.functional.cross_entropy(net(batch[0]), batch[1])


def hooks(net):
    return sum(len(getattr(m, name)) for m in net.modules() for name in HOOKS)


def weight_norms(net):
    return [m.weight.grad.norm().item() for m in net if isinstance(m, nn.Linear)]


def looped(net, watched, optimizer, *, steps=12, norms=None):
    """Train; the number of hooks that each forward pass met."""
    met = []
    for batch in batches(steps):
        optimizer.zero_grad()
        loss = loss_of(net, batch)
        met.append(hooks(net))
        loss.backward()
        if norms is not None:
            norms.append(weight_norms(net))
        optimizer.step()
    return met


@pytest.mark.parametrize("probe", ["light", "full"])
def test_rows_of_a_loop(tmp_path, probe):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    norms = []
    with watch(net, optimizer, directory=tmp_path, probe=probe, every=5, at=(1,)) as watched:
        met = looped(net, watched, optimizer, norms=norms)
    steps, recorded = read_gradients(tmp_path / "gradients.parquet").grid("grad_weight")
    assert steps.tolist() == [0, 1, 5, 10]
    np.testing.assert_allclose(recorded, np.array(norms)[steps], rtol=1e-5)
    assert watched.layer_names == ("0", "2", "4")
    assert (tmp_path / "layers.json").read_text() == '["0", "2", "4"]\n'
    # Hooks in measured steps alone, and none in the light probe.
    expected = {0, 1, 5, 10} if probe == "full" else set()
    assert {step for step, count in enumerate(met) if count} == expected
    assert hooks(net) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_watching_changes_nothing(tmp_path):
    trained = []
    for watched in (True, False):
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        if watched:
            with watch(net, optimizer, every=1, directory=tmp_path) as w:
                looped(net, w, optimizer)
        else:
            looped(net, None, optimizer)
        trained.append([p.detach() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))


def test_an_error_in_the_loop_leaves_no_hook_and_what_was_measured(tmp_path):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def failing():
        with watch(net, optimizer, every=1, directory=tmp_path) as watched:
            looped(net, watched, optimizer, steps=3)
            net(torch.zeros(2, 4))
            assert hooks(net) > 0
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        failing()
    assert hooks(net) == 0
    assert not optimizer._optimizer_step_pre_hooks
    steps, _ = read_gradients(tmp_path / "gradients.parquet").grid("grad_weight")
    assert steps.tolist() == [0, 1, 2]


@pytest.mark.parametrize("probe", ["light", "full"])
def test_clipping_takes_the_norms_once_and_records_those_before_it(tmp_path, probe):
    nets = [network(), network()]
    net, twin = nets
    optimizers = [torch.optim.SGD(n.parameters(), 0.1) for n in nets]
    norms, totals = [], []
    with watch(net, optimizers[0], probe=probe, every=2, directory=tmp_path) as watched:
        for batch in batches(6):
            for n, optimizer in zip(nets, optimizers, strict=True):
                optimizer.zero_grad()
                loss_of(n, batch).backward()
            norms.append(weight_norms(net))
            totals = [
                watched.clip_grad_norm_(0.05),
                nn.utils.clip_grad_norm_(twin.parameters(), 0.05),
            ]
            torch.testing.assert_close(*totals)
            for optimizer in optimizers:
                optimizer.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    steps, recorded = read_gradients(tmp_path / "gradients.parquet").grid("grad_weight")
    assert steps.tolist() == [0, 2, 4]
    np.testing.assert_allclose(recorded, np.array(norms)[::2], rtol=1e-5)


def test_accumulated_gradients_equal_those_of_the_whole_batch(tmp_path):
    for parts in (1, 4):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with watch(net, optimizer, every=1, directory=tmp_path / str(parts)):
            for x, y in batches(3):
                optimizer.zero_grad()
                for rows in zip(x.chunk(parts), y.chunk(parts), strict=True):
                    (loss_of(net, rows) / parts).backward()
                optimizer.step()
    whole, accumulated = (read_gradients(tmp_path / p / "gradients.parquet") for p in ("1", "4"))
    assert set(whole.names) == set(accumulated.names)
    for name in whole.names:
        expected = whole.grid(name)[1]
        assert expected.shape == (3, 3)
        np.testing.assert_allclose(
            accumulated.grid(name)[1], expected, rtol=1e-3, atol=1e-7, err_msg=name
        )


def test_a_gradient_scaler_leaves_no_trace(tmp_path):
    for scaled in (False, True):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        scaler = GradScaler("cpu", init_scale=1024.0, growth_interval=2, enabled=scaled)
        folder = tmp_path / str(scaled)
        with watch(net, optimizer, every=1, scaler=scaler, directory=folder) as watched:
            for step, batch in enumerate(batches(6)):
                loss = loss_of(net, batch)
                if scaled and step == 3:
                    # A step that overflows is not taken, and not recorded.
                    optimizer.zero_grad()
                    scaler.scale(loss * math.inf).backward()
                    scaler.step(optimizer)
                    scaler.update()
                    loss = loss_of(net, batch)
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        assert watched.step == 6
    plain, unscaled = (
        read_gradients(tmp_path / p / "gradients.parquet") for p in ("False", "True")
    )
    for name in ("grad_preactivation", "grad_weight", "update_ratio", "activation_mean"):
        expected = plain.grid(name)[1]
        steps, recorded = unscaled.grid(name)
        assert steps.tolist() == [0, 1, 2, 4, 5]
        np.testing.assert_allclose(recorded, expected[steps], rtol=1e-4, atol=1e-8, err_msg=name)


def apart(layer, x):
    """What the layer gives, without calling it."""
    return nn.functional.linear(x, layer.weight, layer.bias)


def test_two_optimizers_take_one_step_together(tmp_path):
    torch.manual_seed(0)
    maker = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4))
    judge = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    both = nn.ModuleDict({"maker": maker, "judge": judge})
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (judge, maker)]
    expected = {name: [] for name in ("maker.0", "maker.2", "judge.0", "judge.0#2")}
    with watch(both, optimizers, every=1, directory=tmp_path) as watched:
        for _ in range(3):
            noise, real = torch.randn(8, 2), torch.randn(8, 4)
            fake = maker(noise).detach()
            optimizers[0].zero_grad()
            loss = judge(fake).mean() - judge(real).mean()
            loss.backward()
            z = [apart(judge[0], fake), apart(judge[0], real)]
            again = [apart(judge[2], torch.tanh(v)).mean() for v in z]
            gradients = torch.autograd.grad(again[0] - again[1], z)
            for name, g in zip(("judge.0", "judge.0#2"), gradients, strict=True):
                expected[name].append(8**0.5 * g.norm().item())
            optimizers[0].step()
            optimizers[1].zero_grad()
            (-judge(maker(noise)).mean()).backward()
            first = apart(maker[0], noise)
            second = apart(maker[2], torch.tanh(first))
            loss = -apart(judge[2], torch.tanh(apart(judge[0], second))).mean()
            gradients = torch.autograd.grad(loss, (first, second))
            for name, g in zip(("maker.0", "maker.2"), gradients, strict=True):
                expected[name].append(8**0.5 * g.norm().item())
            optimizers[1].step()
    assert watched.step == 3
    steps, recorded = read_gradients(tmp_path / "gradients.parquet").grid("grad_preactivation")
    assert steps.tolist() == [0, 1, 2]
    columns = [watched.layer_names.index(name) for name in expected]
    np.testing.assert_allclose(recorded[:, columns].T, list(expected.values()), rtol=1e-4)


def test_layers_that_come_and_go_keep_their_numbers(tmp_path):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with watch(net, optimizer, every=1, directory=tmp_path) as watched:
        for step, (x, y) in enumerate(batches(4)):
            optimizer.zero_grad()
            h = net[:2](x) if step == 0 else net[:4](x)
            nn.functional.cross_entropy(net[4](h), y).backward()
            optimizer.step()
    assert watched.layer_names == ("0", "4", "2")
    _, recorded = read_gradients(tmp_path / "gradients.parquet").grid("grad_preactivation")
    assert np.isnan(recorded).tolist() == [[False, False, True]] + [[False] * 3] * 3


def test_closures_compute_their_gradients_inside_the_step(tmp_path):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    norms = []
    with watch(net, optimizer, every=1, probe="light", directory=tmp_path):
        for batch in batches(3):

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = loss_of(net, batch)
                loss.backward()
                return loss

            optimizer.step(closure)
            norms.append(weight_norms(net))
    _, recorded = read_gradients(tmp_path / "gradients.parquet").grid("grad_weight")
    np.testing.assert_allclose(recorded, norms, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1e-40, 1e22, 0.0])
def test_light_norms_beyond_float32s_squares(scale):
    net = network()
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    net[2].weight.grad.mul_(scale)
    found = WeightNorms(layer_groups(net)).take()
    expected = torch.stack([m.weight.grad.double().norm() for m in (net[0], net[2], net[4])])
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-6, atol=0)


def test_light_norms_of_layers_with_several_weights_and_none():
    torch.manual_seed(0)
    net = nn.ModuleList([nn.GRU(3, 4), nn.Linear(4, 2), nn.Embedding(5, 2, sparse=True)])
    net[0](torch.randn(2, 1, 3))[0].sum().backward()
    net[2](torch.tensor([1, 1, 3])).square().sum().backward()
    norms = WeightNorms(layer_groups(net))
    row = norms.by_layer(norms.take().double().numpy()[None])[0]
    parts = torch.cat([net[0].weight_ih_l0.grad.flatten(), net[0].weight_hh_l0.grad.flatten()])
    embedding = net[2].weight.grad.to_dense().norm()
    expected = [parts.norm().item(), math.nan, embedding.item()]
    np.testing.assert_allclose(row, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"every": 0}, "every: must be at least 1 step, got 0"),
        ({"per_decade": 0}, "per_decade: must be at least 1 step, got 0"),
        ({"every": None}, "every: nothing would be measured; give every, per_decade or at"),
        ({"probe": "heavy"}, "probe: must be light or full, got heavy"),
        ({"quantities": ["x"]}, "quantities: must be of .* got x"),
        ({"optimizer": []}, "optimizer: must be one or several, got none"),
    ],
)
def test_arguments_that_make_no_sense(arguments, text):
    net = network()
    given = {"optimizer": torch.optim.SGD(net.parameters(), 0.1)} | arguments
    with pytest.raises(ConfigError, match=text), watch(net, **given):
        pass
