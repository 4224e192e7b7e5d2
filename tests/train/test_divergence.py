import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.runs import RunDirectory, read_gradients, read_metrics
from unitgain.train import fit

SGD = "unitgain.pack.optim.SGD"


@pytest.fixture
def wild(diabetes):
    """A regression whose learning rate is far too high."""
    return {
        "data": diabetes,
        "loss": {"_target_": "unitgain.nn.losses.MSE"},
        "optimizer": {"_target_": SGD, "lr": 30.0},
    }


def plain_twin(spec, epochs):
    """The first step whose loss isn't finite, and the first layer there, in a plain torch loop."""
    table = open_data(spec)
    pack = build_pack([spec], [table], build_mlp([spec], [table]), torch.device("cpu"))
    network = pack.mlp.unpack(0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.optimizer.lr)
    outputs = []
    for layer in (m for m in network if isinstance(m, nn.Linear)):
        layer.register_forward_hook(lambda module, given, output: outputs.append(output))
    step = 0
    for epoch in range(epochs):
        for batch in pack.data.epoch(epoch):
            x, y = (t[0, : batch.rows] for t in pack.data.gather(batch.index))
            outputs.clear()
            # Divided before it is summed, as a pack does: where that overflows is what is asked.
            loss = (F.mse_loss(network(x), y, reduction="none") / len(x)).sum()
            if not loss.isfinite():
                finite = [bool(z.isfinite().all()) for z in outputs]
                layer = finite.index(False) + 1 if False in finite else None
                return step, layer
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    raise AssertionError("the twin trains")


@pytest.mark.parametrize("lr", [3.0, 30.0, 1e6, 1e15])
def test_diverged_run_names_step_and_layer(train, make_spec, wild, lr):
    wild["optimizer"]["lr"] = lr
    changes = {**wild, "trainer": {"max_epochs": 10}}
    step, layer = plain_twin(make_spec(**changes), 10)
    result = train(**changes)
    summary = RunDirectory(result.directory).read_summary()
    assert result.status == summary["status"] == "diverged"
    assert summary["diverged"]["step"] == step
    if layer is None:
        assert summary["diverged"]["where"] == "loss"
        what = "the loss"
    else:
        assert summary["diverged"] == {"step": step, "layer": layer, "where": "pre-activation"}
        name = "the output layer" if layer == 3 else f"layer {layer}"
        what = f"the pre-activation of {name}"
    assert result.message == (
        f"every loss must be finite, but at step {step} {what} was the first that is not; "
        "lower optimizer.lr or set trainer.gradient_clip_norm=1; gradients.parquet shows what came before"
    )


def test_files_of_a_diverged_run(train, wild):
    # The rate rises so slowly that some epochs pass first.
    rise = {"_target_": "unitgain.pack.schedule.Constant", "warmup_steps": 100}
    wild["optimizer"]["lr"] = 10.0
    result = train(**wild, trainer={"max_epochs": 50}, scheduler=rise, probe={"every": 1})
    run = RunDirectory(result.directory)
    summary = run.read_summary()
    assert result.status == "diverged"
    epochs, steps = summary["epoch"], summary["steps_per_epoch"]
    assert 2 <= epochs < 49
    assert epochs * steps <= summary["diverged"]["step"] <= (epochs + 1) * steps
    metrics = read_metrics(run.metrics)
    # Whole epochs with finite losses alone, and the best of them is scored.
    assert metrics["epoch"].tolist() == list(range(epochs))
    assert np.isfinite(metrics["train/loss"]).all()
    assert summary["best"]["value"] == metrics["val/loss"].min()
    assert np.isfinite(summary["metrics"]["test/rmse"])
    # Gradients are there up to the step that was the last, for whoever looks for the cause.
    assert read_gradients(run.gradients).steps.max() >= summary["diverged"]["step"] - 1
    last = torch.load(run.last_checkpoint, weights_only=True)
    assert last["epoch"] == epochs
    assert all(t.isfinite().all() for t in last["state_dict"].values())


def test_diverged_in_the_first_epoch_has_no_metrics(train, wild):
    wild["optimizer"]["lr"] = 1e9
    result = train(**wild)
    assert result.status == "diverged"
    assert result.metrics == {}
    assert result.monitor is None
    assert not (result.directory / "metrics.csv").exists()
    assert (result.directory / "gradients.parquet").exists()


def test_the_very_last_update_counts(train):
    data = {"_target_": "unitgain.data.sources.linnerud", "task": "regression", "batch_size": 12}
    result = train(data=data, optimizer={"_target_": SGD, "lr": 1e25}, trainer={"max_epochs": 1})
    # The only step's loss is finite; what its update made of the network is not.
    summary = RunDirectory(result.directory).read_summary()
    assert result.status == "diverged"
    assert summary["steps_per_epoch"] == 1
    assert summary["diverged"]["step"] == 1
    assert summary["diverged"]["where"] == "pre-activation"
    assert re.search(r"at step 1 the pre-activation of ", result.message)


def test_a_layer_in_the_midst_is_named(train, monkeypatch, tmp_path, diabetes):
    """Activations that overflow from the second layer on."""
    monkeypatch.setenv("UNITGAIN_ALLOW", "overflowing")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "overflowing.py").write_text("def grow(x):\n    return (x * 1e10) ** 3\n")
    result = train(
        data=diabetes,
        model={"depth": 4},
        activation={"_target_": "overflowing.grow", "_partial_": True},
    )
    diverged = RunDirectory(result.directory).read_summary()["diverged"]
    assert diverged == {"step": 0, "layer": 3, "where": "pre-activation"}
    assert "at step 0 the pre-activation of layer 3 was the first" in result.message


def test_neighbours_of_a_diverged_member_keep_their_bits(
    make_spec, wild, tmp_path, assert_same_run
):
    changes = wild | {"trainer": {"max_epochs": 4}}
    tame = {**changes, "optimizer": {"_target_": SGD, "lr": 0.01}}
    specs = [make_spec(seed=0, **tame), make_spec(seed=1, **changes), make_spec(seed=2, **tame)]
    alone, packed = [tmp_path / f"a{k}" for k in range(3)], [tmp_path / f"p{k}" for k in range(3)]
    for spec, directory in zip(specs, alone, strict=True):
        fit([spec], [directory])
    results = fit(specs, packed)
    assert [r.status for r in results] == ["finished", "diverged", "finished"]
    for one, other in zip(alone, packed, strict=True):
        assert_same_run(one, other)
    assert RunDirectory(packed[0]).read_summary()["pack"]["members"] == 3


def test_members_that_diverge_at_different_steps(make_spec, wild, tmp_path):
    rates = [3.0, 1e6, 1e15]
    specs = [
        make_spec(**wild | {"optimizer": {"_target_": SGD, "lr": lr}}, trainer={"max_epochs": 10})
        for lr in rates
    ]
    results = fit(specs, [tmp_path / f"{lr}" for lr in rates])
    steps = [RunDirectory(r.directory).read_summary()["diverged"]["step"] for r in results]
    assert steps == [plain_twin(spec, 10)[0] for spec in specs]
    assert len(set(steps)) > 1


def test_clipping_does_not_reach_a_neighbour(make_spec, wild, tmp_path, assert_same_run):
    """A gradient whose norm overflows stays as it is where the member itself isn't clipped."""
    tame = wild | {"optimizer": {"_target_": SGD, "lr": 1e-24}}
    clipped = make_spec(**tame, trainer={"gradient_clip_norm": 1.0})
    free = make_spec(**tame, init={"_target_": "unitgain.nn.init.normal", "std": 1e5})
    fit([free], [tmp_path / "alone"])
    gradients = read_gradients(tmp_path / "alone" / "gradients.parquet")
    assert 2e19 < gradients.grid("grad_weight")[1].max() < np.inf
    fit([clipped, free], [tmp_path / "clipped", tmp_path / "free"])
    assert_same_run(tmp_path / "alone", tmp_path / "free")
