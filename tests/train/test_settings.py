"""Precision, clipping, penalties, smoothing, weights and splits, each against a plain torch loop or an identity."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain.data import open_data
from unitgain.errors import UnitgainWarning
from unitgain.pack.build import build_mlp, build_pack
from unitgain.runs import RunDirectory, read_metrics
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint

SGD = "unitgain.pack.optim.SGD"


def untrained(spec):
    """The pack of a run before its first step, and its network as plain torch layers."""
    table = open_data(spec)
    pack = build_pack([spec], [table], build_mlp([spec], [table]), torch.device("cpu"))
    return pack, pack.mlp.unpack(0).train()


def last_state(result):
    return read_checkpoint(result.directory / "checkpoints" / "last.ckpt")["state_dict"]


def twin(spec, *, clip=None, autocast=False, loss_of=F.cross_entropy):
    """A run trained by a plain loop on the same batches: its network, and the mean loss of each epoch."""
    pack, network = untrained(spec)
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.optimizer.lr)
    means = []
    for epoch in range(spec.trainer.max_epochs):
        total, count = 0.0, 0
        for batch in pack.data.epoch(epoch):
            x, y = (t[0, : batch.rows] for t in pack.data.gather(batch.index))
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                output = network(x)
            loss = loss_of(output.to(x.dtype), y)
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            total, count = total + loss.item() * len(x), count + len(x)
        means.append(total / count)
    return network.state_dict(), means


def assert_close(state, expected, tolerance):
    assert list(state) == list(expected)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=tolerance)


def test_float64_agrees_with_a_plain_loop(train, make_spec):
    changes = {"trainer": {"precision": "64"}, "optimizer": {"_target_": SGD, "lr": 0.1}}
    state, losses = twin(make_spec(**changes))
    result = train(**changes)
    ours = last_state(result)
    assert {t.dtype for t in ours.values()} == {torch.float64}
    assert_close(ours, state, 1e-10)
    metrics = read_metrics(result.directory / "metrics.csv")
    np.testing.assert_allclose(metrics["train/loss"], losses, rtol=1e-10)


def test_float32_agrees_with_a_plain_loop_up_to_rounding(train, make_spec):
    changes = {"optimizer": {"_target_": SGD, "lr": 0.1}}
    result = train(**changes)
    ours = last_state(result)
    assert {t.dtype for t in ours.values()} == {torch.float32}
    assert_close(ours, twin(make_spec(**changes))[0], 1e-5)


def test_bf16_computes_in_bfloat16_and_keeps_float32(train, make_spec):
    changes = {"optimizer": {"_target_": SGD, "lr": 0.1}, "trainer": {"max_epochs": 5}}
    mixed = {**changes, "trainer": {"max_epochs": 5, "precision": "bf16-mixed"}}
    result = train("mixed", **mixed)
    ours = last_state(result)
    assert {t.dtype for t in ours.values()} == {torch.float32}
    metrics = read_metrics(result.directory / "metrics.csv")["train/loss"]
    plain = read_metrics(train("plain", **changes).directory / "metrics.csv")["train/loss"]
    _, rounded = twin(make_spec(**changes), autocast=True)
    assert not np.array_equal(metrics, plain)
    # bfloat16 has 8 bits: its own error against float32 sets the scale, a twin in bfloat16 is as near.
    np.testing.assert_allclose(metrics, plain, rtol=2e-2)
    np.testing.assert_allclose(metrics, rounded, rtol=1e-2)
    assert metrics[-1] < 0.9 * metrics[0], "weights must be cast anew after each step"


def test_bf16_scores_are_those_of_the_epoch(train):
    """Nothing but the forward pass may be rounded, in an epoch as at the end."""
    result = train(trainer={"precision": "bf16-mixed", "max_epochs": 4})
    metrics = read_metrics(result.directory / "metrics.csv")
    best = int(np.argmin(metrics["val/loss"]))
    assert result.metrics["val/loss"] == metrics["val/loss"][best]
    assert result.metrics["val/log_loss"] == metrics["val/log_loss"][best]


def test_gradient_is_clipped_to_its_norm(train, make_spec):
    changes = {
        "trainer": {"precision": "64", "gradient_clip_norm": 0.05},
        "optimizer": {"_target_": SGD, "lr": 0.5},
    }
    spec = make_spec(**changes)
    state, _ = twin(spec, clip=0.05)
    free, _ = twin(spec)
    assert max(float((state[n] - free[n]).abs().max()) for n in state) > 0.1
    assert_close(last_state(train(**changes)), state, 1e-10)


def test_a_wide_limit_clips_nothing(train):
    free = train("free")
    wide = train("wide", trainer={"gradient_clip_norm": 1e9})
    assert_close(last_state(wide), last_state(free), 0.0)


def test_each_member_has_a_limit_of_its_own(make_spec, tmp_path, assert_same_run):
    limits = [None, 0.01, 0.1]
    specs = [make_spec(trainer={"gradient_clip_norm": limit}) for limit in limits]
    fit(specs, [tmp_path / f"p{k}" for k in range(3)])
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"a{k}"])
        assert_same_run(tmp_path / f"a{k}", tmp_path / f"p{k}")


def test_penalty_in_the_objective_is_weight_decay_under_sgd(train):
    """lambda W is what both add to the gradient of a weight; there are no biases that decay alone would reach."""
    common = {"model": {"bias": False}, "trainer": {"precision": "64"}}
    rate = {"_target_": SGD, "lr": 0.1}
    penalty = train("penalty", **common, optimizer=rate, l2_penalty=0.3)
    decay = train("decay", **common, optimizer=rate | {"weight_decay": 0.3})
    free = train("free", **common, optimizer=rate)
    assert_close(last_state(penalty), last_state(decay), 1e-10)
    difference = last_state(free)["0.weight"] - last_state(decay)["0.weight"]
    assert difference.abs().max() > 0.01
    # The loss that is reported is without the penalty.
    losses = [read_metrics(r.directory / "metrics.csv")["train/loss"] for r in (penalty, decay)]
    np.testing.assert_allclose(*losses, rtol=1e-10)


def test_penalty_leaves_biases_alone_and_decay_does_not(train):
    common = {"trainer": {"precision": "64", "max_epochs": 1}, "data": {"batch_size": 90}}
    bias = {"_target_": "unitgain.nn.init.bias_constant", "value": 0.5}
    common["bias_init"] = bias
    rate = {"_target_": SGD, "lr": 0.1}
    free = last_state(train("free", **common, optimizer=rate))
    penalty = last_state(train("penalty", **common, optimizer=rate, l2_penalty=0.3))
    decay = last_state(train("decay", **common, optimizer=rate | {"weight_decay": 0.3}))
    for name in free:
        # One step: what the penalty changes is lr * lambda times the weight, and nothing of a bias.
        change = (penalty[name] - free[name]).abs().max()
        assert (change > 0) == name.endswith("weight"), name
        assert (decay[name] - free[name]).abs().max() > 1e-3, name


def first_loss(result):
    return read_metrics(result.directory / "metrics.csv")["train/loss"][0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing(train, make_spec, smoothing):
    node = {"_target_": "unitgain.nn.losses.CrossEntropy", "label_smoothing": smoothing}
    changes = {"loss": node, "data": {"batch_size": 90}, "trainer": {"precision": "64"}}
    pack, network = untrained(make_spec(**changes))
    x, y = (t[0, :90] for t in pack.data.gather(pack.data.epoch(0)[0].index))
    expected = F.cross_entropy(network(x), y, label_smoothing=smoothing)
    assert first_loss(train(**changes)) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("node", "function"),
    [
        ({"_target_": "unitgain.nn.losses.MAE"}, F.l1_loss),
        ({"_target_": "unitgain.nn.losses.Huber", "delta": 0.3}, None),
    ],
)
def test_regression_losses(train, make_spec, diabetes, node, function):
    changes = {
        "data": diabetes,
        "loss": node,
        "trainer": {"precision": "64"},
        "optimizer": {"_target_": SGD, "lr": 0.05},
    }
    function = function or (lambda output, y: F.huber_loss(output, y, delta=0.3))
    state, losses = twin(make_spec(**changes), loss_of=function)
    result = train(**changes)
    assert_close(last_state(result), state, 1e-10)
    metrics = read_metrics(result.directory / "metrics.csv")
    np.testing.assert_allclose(metrics["train/loss"], losses, rtol=1e-10)


@pytest.fixture
def weighted(tmp_path):
    """A table with sample weights, some of them zero, as a data node; the targets can be changed."""

    def node(name, change=0.0, column="weight"):
        rng = np.random.default_rng(3)
        frame = pd.DataFrame(rng.standard_normal((120, 3)), columns=["a", "b", "y"])
        frame["weight"] = rng.integers(0, 4, 120) / 2
        frame.loc[frame["weight"] == 0, "y"] += change
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        return {
            "_target_": "unitgain.data.sources.csv",
            "path": str(tmp_path / f"{name}.csv"),
            "target_column": "y",
            "task": "regression",
            "weight_column": column,
            "drop_columns": [] if column else ["weight"],
            "batch_size": 32,
            # As it is in the file: the scale of the targets would speak of rows without weight.
            "scale": "none",
        }

    return node


def test_rows_of_weight_zero_have_no_part_in_training(train, weighted):
    one = train("one", data=weighted("one"))
    other = train("other", data=weighted("other", change=1000.0))
    assert_close(last_state(one), last_state(other), 0.0)
    for part in ("train", "val", "test"):
        assert one.metrics[f"{part}/loss"] == other.metrics[f"{part}/loss"]
    # Without the column, the same rows count.
    plain = train("plain", data=weighted("plain", column=None))
    changed = train("changed", data=weighted("changed", change=1000.0, column=None))
    assert plain.metrics["train/loss"] != changed.metrics["train/loss"]


def test_loss_is_the_weighted_mean(train, make_spec, weighted):
    changes = {"data": weighted("t") | {"batch_size": 72}, "trainer": {"precision": "64"}}
    _pack, network = untrained(make_spec(**changes))
    table = open_data(make_spec(**changes))
    rows = table.split.train
    output = network(torch.from_numpy(table.x[rows])).detach().numpy()[:, 0]
    error = (output - table.y[rows, 0]) ** 2
    frame = pd.read_csv(changes["data"]["path"])
    weight = frame["weight"].to_numpy()[rows]
    assert (weight == 0).any()
    expected = (weight * error).sum() / weight.sum()
    assert first_loss(train(**changes)) == pytest.approx(expected, rel=1e-12)


def test_members_with_a_split_of_their_own(make_spec, tmp_path, assert_same_run):
    splits = [{"_target_": "unitgain.data.splits.Random", "seed": seed} for seed in (0, 1, 1)]
    specs = [make_spec(split=split, seed=k % 2) for k, split in enumerate(splits)]
    results = fit(specs, [tmp_path / f"p{k}" for k in range(3)])
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"a{k}"])
        assert_same_run(tmp_path / f"a{k}", tmp_path / f"p{k}")
    assert len({r.metrics["test/loss"] for r in results}) == 3


def test_members_with_hyperparameters_of_their_own(make_spec, tmp_path, assert_same_run):
    specs = [
        make_spec(
            seed=k,
            l2_penalty=0.01 * k,
            dropout={"_target_": "unitgain.nn.Dropout", "p": 0.1 * k},
            optimizer={"_target_": "unitgain.pack.optim.Adam", "lr": 1e-3 * (k + 1)},
            scheduler={"_target_": "unitgain.pack.schedule.Cosine", "warmup_steps": k},
            init={"_target_": "unitgain.nn.init.xavier", "gain": 1.0 + k},
            loss={"_target_": "unitgain.nn.losses.CrossEntropy", "label_smoothing": 0.1 * k},
        )
        for k in range(4)
    ]
    fit(specs, [tmp_path / f"p{k}" for k in range(4)])
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"a{k}"])
        assert_same_run(tmp_path / f"a{k}", tmp_path / f"p{k}")


def test_learning_rate_of_the_schedule_is_recorded(train):
    scheduler = {"_target_": "unitgain.pack.schedule.Cosine"}
    result = train(scheduler=scheduler, optimizer={"lr": 0.01})
    lr = read_metrics(result.directory / "metrics.csv")["lr"]
    # Of the last step of each epoch: 5, 11 and 17 of 18.
    expected = 0.01 * (1 + np.cos(np.pi * np.array([5, 11, 17]) / 18)) / 2
    np.testing.assert_allclose(lr, expected, rtol=1e-12)


def test_drop_last_leaves_out_the_rest(train):
    result = train(data={"drop_last": True})
    summary = RunDirectory(result.directory).read_summary()
    assert summary["steps_per_epoch"] == 5


def test_each_epoch_has_an_order_of_its_own_and_each_row_once(make_spec):
    pack, _ = untrained(make_spec())
    orders = []
    for epoch in (0, 1, 0):
        rows = [batch.index[: batch.rows].tolist() for batch in pack.data.epoch(epoch)]
        orders.append([row for batch in rows for row in batch])
    assert orders[0] == orders[2] != orders[1]
    train = open_data(make_spec()).split.train
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(train.tolist())
    other, _ = untrained(make_spec(seed=1))
    assert other.data.epoch(0)[0].index.tolist() != pack.data.epoch(0)[0].index.tolist()


def test_a_rise_longer_than_the_run_is_warned_of(train):
    rise = {"_target_": "unitgain.pack.schedule.Constant", "warmup_steps": 18}
    # Three epochs of six steps.
    with pytest.warns(UnitgainWarning) as caught:
        train(scheduler=rise)
    assert [str(each.message) for each in caught] == [
        "scheduler.warmup_steps: should be below the 18 steps of the run, or the rate never reaches "
        "optimizer.lr, but is 18; lower it or raise trainer.max_epochs"
    ]
    train("shorter", scheduler=rise | {"warmup_steps": 17})
    train("tried", scheduler=rise, debug={"fast_dev_run": 1})
