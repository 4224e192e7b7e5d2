"""What a run records of its gradients, against autograd on the same network in plain torch layers."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.probe import QUANTITIES, Record, judge, slope_per_layer
from unitgain.probe.history import WINDOW
from unitgain.runs import read_gradients, read_metrics
from unitgain.spec._run import FULL
from unitgain.train import fit

NO_DROPOUT = {"_target_": "torch.nn.Identity"}


def grids(result):
    gradients = read_gradients(result.directory / "gradients.parquet")
    return {name: gradients.grid(name) for name in gradients.names}


def test_off_leaves_no_file_and_no_verdict(train):
    result = train(probe={"every": None, "quantities": []})
    assert not (result.directory / "gradients.parquet").exists()
    assert json.loads((result.directory / "summary.json").read_text())["verdict"] is None
    assert result.verdict == "no verdict: gradient flow was not measured."


def test_no_quantities_is_off_too(train):
    result = train(probe={"every": 1, "quantities": []})
    assert result.status == "finished"
    assert not (result.directory / "gradients.parquet").exists()


def test_light_records_what_the_verdict_needs(train):
    result = train(probe={"every": 50, "quantities": ["grad_preactivation", "grad_weight"]})
    recorded = grids(result)
    assert sorted(recorded) == ["grad_preactivation", "grad_weight"]
    assert recorded["grad_weight"][0].tolist() == [0]
    assert result.verdict.startswith("gradients ")


def test_without_preactivation_gradients_there_is_no_verdict(train):
    result = train(probe={"every": 5, "quantities": ["weight_norm"]})
    assert list(grids(result)) == ["weight_norm"]
    assert result.verdict.startswith("no verdict")


@pytest.mark.parametrize("every", [1, 4, 10, 18])
def test_every_so_many_steps_across_epochs(train, every):
    steps, _ = grids(train(probe={"every": every}))["weight_norm"]
    assert steps.tolist() == list(range(0, 18, every))


def test_listed_and_log_spaced_steps(train):
    probe = {"every": None, "per_decade": 2, "at": [5, 12], "quantities": ["weight_norm"]}
    steps, _ = grids(train(probe=probe))["weight_norm"]
    assert steps.tolist() == [0, 1, 3, 5, 10, 12]


def test_a_plan_without_steps_is_off(train):
    result = train(probe={"every": None})
    assert not (result.directory / "gradients.parquet").exists()
    assert result.verdict == "no verdict: gradient flow was not measured."


def test_dead_units_over_a_window(train):
    """A bias far below zero silences every unit for good, one far above none."""
    for value, dead in ((-50.0, 1.0), (50.0, 0.0)):
        result = train(
            str(value),
            activation={"_target_": "torch.nn.ReLU"},
            bias_init={"_target_": "unitgain.nn.init.bias_constant", "value": value},
            probe={"every": 1},
        )
        _, values = grids(result)["dead_fraction"]
        assert np.isnan(values[: WINDOW - 1]).all()
        assert (values[WINDOW - 1 :, 0] == dead).all()
        assert np.isnan(values[:, 2]).all()


def test_full_records_finite_numbers_where_they_are_defined(train):
    recorded = grids(train(probe={"every": 3}, activation={"_target_": "torch.nn.Tanh"}))
    assert sorted(recorded) == sorted(FULL)
    of_activations = {
        "activation_mean",
        "activation_variance",
        "activation_second_moment",
        "activation_correlation",
        "silent_fraction",
        "saturated_fraction",
    }
    assert np.isnan(recorded.pop("dead_fraction")[1]).all()  # of less steps than its window
    for name, (steps, values) in recorded.items():
        assert values.shape == (len(steps), 3), name
        assert np.isfinite(values[:, :2]).all(), name
        # The head has no activation behind it.
        assert np.isnan(values[:, 2]).all() == (name in of_activations), name


def test_without_biases_their_gradient_is_undefined(train):
    recorded = grids(train(model={"bias": False}))
    assert np.isnan(recorded["grad_bias"][1]).all()
    assert np.isfinite(recorded["grad_weight"][1]).all()


def test_probe_changes_no_weight(train):
    results = [
        train(
            str(every),
            probe={"every": every},
            dropout={"_target_": "unitgain.nn.Dropout", "p": 0.2},
        )
        for every in (1, 10, None)
    ]
    states = [
        torch.load(r.directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for r in results
    ]
    for other in states[1:]:
        assert all(torch.equal(states[0][name], other[name]) for name in other)


def test_members_record_what_they_record_alone(make_spec, tmp_path):
    probe = {"every": 2, "quantities": list(QUANTITIES)}
    specs = [make_spec(seed=seed, probe=probe) for seed in range(3)]
    fit(specs, [tmp_path / f"p{k}" for k in range(3)])
    files = set()
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"a{k}"])
        packed = (tmp_path / f"p{k}" / "gradients.parquet").read_bytes()
        assert packed == (tmp_path / f"a{k}" / "gradients.parquet").read_bytes()
        files.add(packed)
    assert len(files) == 3


def mean_cosine(h):
    """Over all pairs of different rows."""
    u = h / h.norm(dim=1, keepdim=True)
    return (u @ u.T)[~torch.eye(len(h), dtype=torch.bool)].mean().item()


def noise_of(gradient, inputs):
    """Trace of the covariance of examples' gradients of weights and biases, and their mean's squared norm."""
    outer = gradient[:, :, None] * torch.cat([inputs, torch.ones(len(inputs), 1)], 1)[:, None]
    each = outer.flatten(1)
    trace = each.var(0, correction=1).sum().item()
    return trace, each.mean(0).square().sum().item() - trace / len(each)


def brute_force(spec, steps):
    """The quantities of the first steps of a run, by autograd on plain layers."""
    table = open_data(spec)
    pack = build_pack([spec], [table], build_mlp([spec], [table]), torch.device("cpu"))
    network = pack.mlp.unpack(0).train()
    linears = [m for m in network if isinstance(m, nn.Linear)]
    optimizer = torch.optim.Adam(network.parameters(), lr=spec.optimizer.lr)
    rows = {name: [] for name in QUANTITIES}
    last = []
    for batch in pack.data.epoch(0)[:steps]:
        x, y = (t[0, : batch.rows] for t in pack.data.gather(batch.index))
        z, h = [], [x]
        for linear in linears:
            z.append(linear(h[-1]))
            h.append(torch.tanh(z[-1]))
        losses = F.cross_entropy(z[-1], y, reduction="none")
        penalty = 0.5 * spec.l2_penalty * sum(m.weight.square().sum() for m in linears)
        # One example at a time: its own loss by its own row of the pre-activations.
        own = torch.autograd.grad(losses.sum(), z, retain_graph=True)
        optimizer.zero_grad()
        (losses.mean() + penalty).backward()
        before = [m.weight.detach().clone() for m in linears]
        optimizer.step()
        after = [m.weight.detach() for m in linears]
        nan = float("nan")
        rows["grad_preactivation"].append([g.square().sum(1).mean().sqrt().item() for g in own])
        rows["grad_weight"].append([m.weight.grad.norm().item() for m in linears])
        rows["grad_bias"].append([m.bias.grad.norm().item() for m in linears])
        rows["weight_norm"].append([w.norm().item() for w in after])
        rows["update_ratio"].append(
            [((w - b).norm() / w.norm()).item() for w, b in zip(after, before, strict=True)]
        )
        hidden = [a.detach() for a in h[1:-1]]
        rows["activation_mean"].append([*(a.mean().item() for a in hidden), nan])
        rows["activation_variance"].append([*(a.var(correction=0).item() for a in hidden), nan])
        rows["activation_second_moment"].append([*(a.square().mean().item() for a in hidden), nan])
        rows["activation_correlation"].append([*(mean_cosine(a) for a in hidden), nan])
        noise = [noise_of(g, a.detach()) for g, a in zip(own, h[:-1], strict=True)]
        rows["gradient_noise_scale"].append([trace / square for trace, square in noise])
        rows["gradient_snr"].append([len(x) * square / trace for trace, square in noise])
        rows["dead_fraction"].append([nan] * len(linears))
        now = [m.weight.grad.flatten().clone() for m in linears]
        rows["gradient_cosine"].append(
            [torch.cosine_similarity(a, b, dim=0).item() for a, b in zip(now, last, strict=True)]
            if last
            else [nan] * len(linears)
        )
        last = now
        rows["silent_fraction"].append(
            [*((a == 0).all(0).double().mean().item() for a in hidden), nan]
        )
        rows["saturated_fraction"].append(
            [*((a.abs() > 0.95).double().mean().item() for a in hidden), nan]
        )
    return {name: np.array(values) for name, values in rows.items()}


def test_quantities_of_a_run_against_autograd(train, make_spec):
    changes = {
        "activation": {"_target_": "torch.nn.Tanh"},
        "dropout": NO_DROPOUT,
        "init": {"_target_": "unitgain.nn.init.mean_field", "sigma_w": 2.5, "sigma_b": 0.5},
        "trainer": {"precision": "64", "max_epochs": 1},
        "optimizer": {"lr": 0.01},
        "probe": {"every": 1, "quantities": list(QUANTITIES)},
        "l2_penalty": 0.1,
    }
    expected = brute_force(make_spec(**changes), 6)
    assert 0 < expected["saturated_fraction"][0, 0] < 1
    recorded = grids(train(**changes))
    assert (expected["gradient_snr"] > 0).all()
    for name, values in expected.items():
        np.testing.assert_allclose(recorded[name][1], values, rtol=1e-8, err_msg=name)


def test_verdict_is_of_what_the_files_hold(train):
    changes = {
        "model": {"depth": 12, "width": 16},
        "activation": {"_target_": "torch.nn.Sigmoid"},
        "init": {"_target_": "unitgain.nn.init.xavier"},
        "probe": {"every": 2},
    }
    result = train(**changes)
    recorded = grids(result)
    steps, gradients = recorded["grad_preactivation"]
    verdict = json.loads((result.directory / "summary.json").read_text())["verdict"]
    record = Record(
        steps.tolist(),
        {name: values for name, (_, values) in recorded.items()},
        read_metrics(result.directory / "metrics.csv")["train/loss"],
        steps_per_epoch=6,
        planned_steps=18,
    )
    again = judge(record).as_dict()
    assert [f["label"] for f in verdict["findings"]] == [f["label"] for f in again["findings"]]
    assert {k: verdict[k] for k in ("label", "slope", "ratio", "confidence")} == {
        k: again[k] for k in ("label", "slope", "ratio", "confidence")
    }
    # The head's pre-activations belong to the loss, not to the depth that is judged.
    assert verdict["slope"] == slope_per_layer(gradients[0, :-1])
    assert (verdict["label"], verdict["step"]) == ("vanishing", 0)
    assert verdict["slope"] < -0.3
    assert result.verdict.startswith("gradients vanish: layer 1 gets ")


@pytest.mark.parametrize(("width", "batch"), [(8, 16), (64, 90)])
def test_a_run_that_diverges_is_told_so(train, width, batch):
    result = train(
        optimizer={"_target_": "unitgain.pack.optim.SGD", "lr": 1e30},
        probe={"every": 1},
        model={"width": width},
        data={"batch_size": batch},
    )
    summary = json.loads((result.directory / "summary.json").read_text())
    assert (summary["status"], summary["verdict"]["label"]) == ("diverged", "diverged")
    at = summary["diverged"]["step"]
    assert f"was not finite at step {at}" in result.verdict
    assert "Try a lower optimizer.lr" in result.verdict


@pytest.mark.parametrize(
    ("sigma_w", "label"), [(0.6, "vanishing"), (1.0, "healthy"), (5.0, "exploding")]
)
def test_verdict_follows_the_theory_of_tanh(train, sigma_w, label):
    """Below sigma_w = 1 gradients of tanh nets vanish with depth, far above it they explode."""
    node = {"_target_": "unitgain.nn.init.mean_field", "sigma_w": sigma_w, "sigma_b": 0.01}
    result = train(
        model={"depth": 15, "width": 64},
        activation={"_target_": "torch.nn.Tanh"},
        init=node,
        trainer={"max_epochs": 1},
    )
    verdict = json.loads((result.directory / "summary.json").read_text())["verdict"]
    assert verdict["label"] == label
    if label == "vanishing":
        # With q near 0, a layer keeps chi_1 = sigma_w^2 of the squared gradient: log10(0.6) a layer.
        # The slope is a mean of 14 ratios, each with a spread of about sqrt(2 / 64) / ln(10) decades.
        assert verdict["slope"] == pytest.approx(np.log10(0.6), abs=0.05)
