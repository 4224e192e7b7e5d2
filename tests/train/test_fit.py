import csv
import itertools
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error, r2_score, roc_auc_score
from torch import nn

from unitgain.data import open_data
from unitgain.errors import CheckpointError, ConfigError, DataError
from unitgain.runs import RunDirectory, read_gradients, read_metrics
from unitgain.spec import parse
from unitgain.train import evaluate, fit


def plain_network(sizes):
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Identity()]
    return nn.Sequential(*layers[:-2])


def predictions(path, table, part, sizes):
    """What a checkpoint predicts, with nothing of the package but the rows."""
    network = plain_network(sizes)
    content = torch.load(path, weights_only=True)
    # The unpacked Sequential has a dropout module where this one has an identity: the same keys.
    network.load_state_dict(content["state_dict"])
    rows = getattr(table.split, part)
    with torch.no_grad():
        return network(torch.from_numpy(table.x[rows]).float()).double().numpy(), rows


def test_run_directory_of_a_finished_run(train, make_spec):
    result = train("a")
    run = RunDirectory(result.directory)
    files = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()}
    assert files == {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "metrics.csv",
        "gradients.parquet",
        "summary.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    assert run.figures_dir.is_dir()
    assert parse(run.read_config()) == make_spec()
    assert run.read_overrides() == []
    environment = run.read_environment()
    assert environment["device"] == "cpu"
    assert environment["isa"] == torch.backends.cpu.get_cpu_capability()
    assert environment["data_fingerprint"] == open_data(make_spec()).fingerprint
    assert run.status == result.status == "finished"


def test_overrides_are_kept_as_they_were_typed(make_spec, tmp_path):
    typed = ["optimizer.lr=1e-3", "data=iris"]
    fit([make_spec()], [tmp_path / "run"], overrides=[typed])
    assert RunDirectory(tmp_path / "run").read_overrides() == typed


def test_metrics_have_a_row_an_epoch(train):
    result = train(trainer={"max_epochs": 4})
    with (result.directory / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    # 90 of 150 rows train, in batches of 16: five full ones and a rest.
    assert [int(row["step"]) for row in rows] == [6, 12, 18, 24]
    expected = ["lr", "train/loss", "val/loss"]
    expected += [f"val/{name}" for name in ("accuracy", "f1_macro", "auroc", "ece", "log_loss")]
    assert list(rows[0]) == ["epoch", "step", *expected]
    assert all(np.isfinite(float(row[name])) for row in rows for name in expected)
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])


def test_summary_says_how_it_ended(train):
    result = train()
    summary = json.loads((result.directory / "summary.json").read_text())
    metrics = read_metrics(result.directory / "metrics.csv")
    best = int(np.argmin(metrics["val/loss"]))
    assert summary["status"] == "finished"
    assert (summary["epoch"], summary["step"], summary["steps_per_epoch"]) == (3, 18, 6)
    assert summary["best"] == {
        "monitor": "val/loss",
        "value": metrics["val/loss"][best],
        "epoch": best,
    }
    # 4 * 8 + 8, 8 * 8 + 8, 8 * 3 + 3
    assert summary["parameters"] == 139
    assert summary["rows"] == {"train": 90, "val": 30, "test": 30}
    assert summary["diverged"] is None
    assert summary["pack"]["members"] == 1
    assert summary["seconds"] == summary["pack"]["seconds"] > 0
    assert summary["verdict"]["text"] == result.verdict
    names = ("loss", "accuracy", "f1_macro", "auroc", "ece", "log_loss")
    parts = ("train", "val", "test")
    assert set(summary["metrics"]) == {f"{part}/{name}" for part in parts for name in names}
    assert result.metrics == summary["metrics"]
    assert result.monitor == summary["best"]["value"]
    # Scored again from the state that was kept: the same number as when the epoch ended.
    for name in names:
        assert summary["metrics"][f"val/{name}"] == metrics[f"val/{name}"][best]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_classification_metrics_against_sklearn(train, make_spec, part):
    result = train(trainer={"max_epochs": 5}, optimizer={"lr": 0.02})
    table = open_data(make_spec())
    path = result.directory / "checkpoints" / "best.ckpt"
    logits, rows = predictions(path, table, part, (4, 8, 8, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label, guess = table.y[rows], probabilities.argmax(1)
    log_loss = -np.log(probabilities[np.arange(len(rows)), label]).mean()
    expected = {
        "accuracy": accuracy_score(label, guess),
        "f1_macro": f1_score(label, guess, average="macro"),
        "auroc": roc_auc_score(label, probabilities, multi_class="ovr"),
        "log_loss": log_loss,
        "loss": log_loss,
    }
    assert 0.5 < expected["accuracy"] <= 1
    for name, value in expected.items():
        assert result.metrics[f"{part}/{name}"] == pytest.approx(value, rel=1e-5), name


def test_regression_metrics_are_in_the_targets_own_units(train, make_spec, diabetes):
    result = train(data=diabetes, trainer={"max_epochs": 5}, optimizer={"lr": 0.01})
    table = open_data(make_spec(data=diabetes))
    path = result.directory / "checkpoints" / "best.ckpt"
    scaled, rows = predictions(path, table, "test", (10, 8, 8, 1))
    guess = scaled * table.y_scale + table.y_mean
    target = table.y[rows] * table.y_scale + table.y_mean
    # The data set's own numbers, not those after scaling.
    assert target.min() >= 25
    assert target.max() <= 346
    mse = mean_squared_error(target, guess)
    assert result.metrics["test/mse"] == pytest.approx(mse, rel=1e-5)
    assert result.metrics["test/rmse"] == pytest.approx(mse**0.5, rel=1e-5)
    assert result.metrics["test/r2"] == pytest.approx(r2_score(target, guess), rel=1e-4)
    # The loss is of the scaled targets.
    assert result.metrics["test/loss"] == pytest.approx(mse / table.y_scale[0] ** 2, rel=1e-5)


def test_several_targets(train, make_spec):
    data = {"_target_": "unitgain.data.sources.linnerud", "task": "regression", "batch_size": 4}
    result = train(data=data)
    table = open_data(make_spec(data=data))
    path = result.directory / "checkpoints" / "best.ckpt"
    scaled, rows = predictions(path, table, "test", (3, 8, 8, 3))
    error = (scaled - table.y[rows]) * table.y_scale
    assert result.metrics["test/mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": {"_target_": "unitgain.nn.BatchNorm"}},
        {"trainer": {"precision": "64"}},
        {"trainer": {"precision": "bf16-mixed"}},
        {"trainer": {"eval_batch_size": 7}},
        {"data": {"_target_": "unitgain.data.sources.diabetes", "task": "regression"}},
        {"optimizer": {"lr": 0.2}},
    ],
    ids=lambda c: " ".join(f"{k}={v}" for k, v in c.items())[:40],
)
def test_evaluate_gives_the_numbers_of_the_summary(train, changes):
    result = train(
        trainer={"max_epochs": 4, **changes.get("trainer", {})},
        **{key: value for key, value in changes.items() if key != "trainer"},
    )
    assert len(result.metrics) >= 15
    assert evaluate(result.directory) == result.metrics


def test_evaluate_needs_the_best_checkpoint(train):
    result = train()
    (result.directory / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"best.ckpt is missing"):
        evaluate(result.directory)
    with pytest.raises(DataError, match=r"config.yaml is missing"):
        evaluate(result.directory / "nowhere")


def test_best_checkpoint_is_that_of_the_best_epoch(train):
    result = train("long", trainer={"max_epochs": 8}, optimizer={"lr": 0.5})
    best = RunDirectory(result.directory).read_summary()["best"]["epoch"]
    assert best < 7, "a run whose last epoch is its best shows nothing"
    short = train("short", trainer={"max_epochs": best + 1}, optimizer={"lr": 0.5})
    kept = torch.load(result.directory / "checkpoints" / "best.ckpt", weights_only=True)
    last = torch.load(short.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == last["epoch"] == best + 1
    assert kept["step"] == last["step"] == 6 * (best + 1)
    for name, tensor in last["state_dict"].items():
        assert torch.equal(kept["state_dict"][name], tensor), name
    # And it is the best epoch that is scored, not the last.
    values = read_metrics(result.directory / "metrics.csv")["val/loss"]
    assert result.metrics["val/loss"] == values[best] < values[-1]
    assert result.metrics["test/loss"] == short.metrics["test/loss"]
    assert evaluate(result.directory) == result.metrics


def test_best_looks_for_the_greatest_value_of_a_metric_that_should_be_high(train):
    result = train(monitor="val/accuracy", trainer={"max_epochs": 6}, optimizer={"lr": 0.05})
    metrics = read_metrics(result.directory / "metrics.csv")
    best = RunDirectory(result.directory).read_summary()["best"]
    accuracy = metrics["val/accuracy"]
    assert accuracy.max() > accuracy[0]
    assert best["epoch"] == int(np.argmax(accuracy))
    assert best["value"] == accuracy.max()


def test_optimizer_state_has_the_parameters_names_and_shapes(train):
    result = train()
    content = torch.load(result.directory / "checkpoints" / "last.ckpt", weights_only=True)
    shapes = {name: tensor.shape for name, tensor in content["state_dict"].items()}
    assert shapes["0.weight"] == (8, 4)
    assert set(content["optimizer"]) == {"exp_avg", "exp_avg_sq"}
    for tensors in content["optimizer"].values():
        assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    best = torch.load(result.directory / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["seed"] == content["seed"] == 0


def test_the_same_run_twice_is_the_same_to_the_bit(train, assert_same_run):
    dropout = {"_target_": "unitgain.nn.Dropout", "p": 0.2}
    one = train("one", dropout=dropout)
    torch.manual_seed(99)
    other = train("other", dropout=dropout)
    assert_same_run(one.directory, other.directory)
    third = train("third", dropout=dropout, seed=1)
    assert third.metrics != one.metrics


def test_process_is_left_as_it_was(train):
    import random

    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert not torch.are_deterministic_algorithms_enabled()
        train(dropout={"_target_": "unitgain.nn.Dropout", "p": 0.2}, trainer={"threads": 1})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


@pytest.mark.parametrize("deterministic", [True, False])
def test_threads_and_determinism_during_a_run(train, monkeypatch, deterministic):
    from unitgain.pack.engine import Pack

    seen = []
    original = Pack.train_epoch

    def watched(self, *arguments):
        seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
        return original(self, *arguments)

    monkeypatch.setattr(Pack, "train_epoch", watched)
    train(trainer={"threads": 2, "deterministic": deterministic, "max_epochs": 1})
    assert seen == [(2, deterministic)]


def test_global_step_and_metrics_are_there_for_callbacks(train, monkeypatch, tmp_path):
    monkeypatch.setenv("UNITGAIN_ALLOW", "watching")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "watching.py").write_text(
        "import lightning.pytorch as pl\n"
        "SEEN = []\n"
        "class Watch(pl.Callback):\n"
        "    def on_train_epoch_end(self, trainer, module):\n"
        "        loss = float(trainer.callback_metrics['val/loss'])\n"
        "        SEEN.append((trainer.current_epoch, trainer.global_step, loss))\n"
    )
    result = train(callbacks={"extra": {"watch": {"_target_": "watching.Watch"}}})
    import watching

    metrics = read_metrics(result.directory / "metrics.csv")
    assert [seen[:2] for seen in watching.SEEN] == [(0, 6), (1, 12), (2, 18)]
    assert [seen[2] for seen in watching.SEEN] == pytest.approx(metrics["val/loss"], rel=1e-6)


def test_lightnings_own_callbacks_can_be_named(train):
    node = {"_target_": "lightning.pytorch.callbacks.Timer", "duration": "00:00:10:00"}
    assert train(callbacks={"extra": {"timer": node}}).status == "finished"
    wrong = {"_target_": "torch.nn.ReLU"}
    with pytest.raises(
        ConfigError, match=r"callbacks.extra.mine: must be a lightning.pytorch.Call"
    ):
        train("b", callbacks={"extra": {"mine": wrong}})


def test_gpu_without_cuda_is_one_line_and_leaves_nothing(train, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ConfigError, match=r"trainer.accelerator: gpu needs a CUDA device, and none"
    ):
        train(trainer={"accelerator": "gpu"})
    assert not (tmp_path / "run").exists()


def test_probe_writes_steps_and_layers(train):
    result = train(probe={"every": 5})
    gradients = read_gradients(result.directory / "gradients.parquet")
    assert sorted(set(gradients.steps.tolist())) == [0, 5, 10, 15]
    assert sorted(set(gradients.layers.tolist())) == [1, 2, 3]


def test_run_of_a_gpu_is_not_evaluated_without_one(train, monkeypatch):
    run = RunDirectory(train().directory)
    config = run.read_config()
    run.write_config({**config, "trainer": {**config["trainer"], "accelerator": "gpu"}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer.accelerator: gpu needs a CUDA device"):
        evaluate(run.path)


def test_runs_of_two_shapes_are_no_pack(make_spec, tmp_path):
    specs = [make_spec(model={"width": width}) for width in (8, 16)]
    with pytest.raises(
        ConfigError, match=r"model: must be the same for all runs of one pack, .* width=8 "
    ):
        fit(specs, [tmp_path / "8", tmp_path / "16"])
    assert not (tmp_path / "8").exists()


def test_a_callback_that_stops_the_fit_ends_it_in_order(train, monkeypatch, tmp_path):
    monkeypatch.setenv("UNITGAIN_ALLOW", "stopping")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stopping.py").write_text(
        "import lightning.pytorch as pl\n"
        "class Stop(pl.Callback):\n"
        "    def on_train_epoch_end(self, trainer, module):\n"
        "        trainer.should_stop = trainer.current_epoch == 1\n"
    )
    extra = {"stop": {"_target_": "stopping.Stop"}}
    result = train(callbacks={"extra": extra, "checkpoint": {"every_s": 1000}})
    run = RunDirectory(result.directory)
    assert result.status == "finished"
    assert run.read_summary()["epoch"] == 2
    last = torch.load(run.last_checkpoint, weights_only=True)
    assert (last["epoch"], last["step"]) == (2, 12)
    assert evaluate(run.path) == result.metrics
