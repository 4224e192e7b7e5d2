"""Runs that begin from the weights of an earlier run."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from unitgain.data import open_data
from unitgain.errors import CheckpointError, ConfigError
from unitgain.runs import RunDirectory
from unitgain.spec import parse, run_hash
from unitgain.train import evaluate, fit
from unitgain.train.checkpoint import read_checkpoint
from unitgain.train.cross_fit import cross_fit
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.scores import Scores

STILL = {"_target_": "unitgain.pack.optim.SGD", "lr": 1e-30}
"""A rate at which no weight of order one changes in float32."""


def metrics(path):
    return RunDirectory(path).read_summary()["metrics"]


@pytest.mark.parametrize("norm", [None, "LayerNorm", "BatchNorm"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_before_a_step_it_is_the_earlier_model_on_the_same_rows(
    make_spec, train, tmp_path, diabetes, norm, task
):
    """To the last bit, running statistics of batches included."""
    changes = {} if norm is None else {"norm": {"_target_": f"unitgain.nn.{norm}"}}
    changes |= {"data": diabetes} if task == "regression" else {}
    train("first", **changes)
    spec = make_spec(**changes, warm_start=str(tmp_path / "first"), seed=7)
    with torch.no_grad():
        module = PackedModule([spec], PackedDataModule([spec]).tables)
        assert Scores(spec).of_parts(module.pack) == metrics(tmp_path / "first")
    assert all(not t.any() for t in module.pack.optimizer.state.values())


def test_a_run_that_hardly_steps_is_the_earlier_one(train, tmp_path):
    train("first")
    train("second", warm_start=str(tmp_path / "first"), seed=7, optimizer=STILL)
    assert metrics(tmp_path / "second")["test/loss"] == pytest.approx(
        metrics(tmp_path / "first")["test/loss"], rel=1e-6
    )
    assert evaluate(tmp_path / "second") == metrics(tmp_path / "second")


def test_features_and_targets_are_scaled_as_they_were(make_spec, train, tmp_path, diabetes):
    """On another split of the rows, the scaling is that of the first run's training rows."""
    train("first", data=diabetes)
    other = {"_target_": "unitgain.data.splits.Random", "seed": 5}
    spec = make_spec(data=diabetes, split=other, warm_start=str(tmp_path / "first"))
    before, fresh, warm = (
        open_data(s)
        for s in (
            make_spec(data=diabetes),
            make_spec(data=diabetes, split=other),
            spec,
        )
    )
    np.testing.assert_array_equal(warm.x, before.x)
    np.testing.assert_array_equal(warm.y, before.y)
    np.testing.assert_array_equal(warm.split.test, fresh.split.test)
    assert not np.array_equal(fresh.x, before.x)
    assert not np.array_equal(fresh.y_mean, before.y_mean)


def test_a_chain_keeps_the_scaling_of_its_beginning(make_spec, train, tmp_path):
    train("a")
    splits = [{"_target_": "unitgain.data.splits.Random", "seed": s} for s in (1, 2)]
    train("b", split=splits[0], warm_start=str(tmp_path / "a"))
    train("c", split=splits[1], warm_start=str(tmp_path / "b"))
    x = open_data(make_spec()).x
    spec = parse(RunDirectory(tmp_path / "c").read_config())
    np.testing.assert_array_equal(open_data(spec).x, x)


def test_it_learns_faster_than_from_the_initializer(train, tmp_path):
    train("long", trainer={"max_epochs": 60})
    train("cold", trainer={"max_epochs": 2})
    train("warm", trainer={"max_epochs": 2}, warm_start=str(tmp_path / "long"))
    assert metrics(tmp_path / "warm")["train/loss"] < 0.5 * metrics(tmp_path / "cold")["train/loss"]


def test_members_with_different_beginnings_are_what_they_are_alone(
    make_spec, train, tmp_path, assert_same_run
):
    train("a", seed=1)
    train("b", seed=2, trainer={"max_epochs": 5})
    beginnings = [tmp_path / "a", tmp_path / "b", None, tmp_path / "a"]
    # Initializers that look at the data must not speak last.
    lsuv = {"_target_": "unitgain.nn.init.lsuv"}
    specs = [
        make_spec(seed=k, init=lsuv, warm_start=None if path is None else str(path))
        for k, path in enumerate(beginnings)
    ]
    fit(specs, [tmp_path / f"packed{k}" for k in range(4)])
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"alone{k}"])
        assert_same_run(tmp_path / f"alone{k}", tmp_path / f"packed{k}")
    assert metrics(tmp_path / "packed0") != metrics(tmp_path / "packed3")


def test_an_interrupted_one_is_resumed_to_the_same_bits(
    train, tmp_path, interrupt_at, assert_same_run
):
    train("first")
    changes = {"warm_start": str(tmp_path / "first"), "seed": 3, "trainer": {"max_epochs": 4}}
    train("whole", **changes)
    with interrupt_at(14):
        assert train("broken", **changes).status == "interrupted"
    assert train("broken", resume=True, **changes).status == "finished"
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_left_out_rows_are_left_out_of_the_beginning_too(make_spec, train, tmp_path):
    """Networks of cross-fitting begin from the initializer: the earlier run may have seen their rows."""
    train("first", trainer={"max_epochs": 60})
    warm, cold = make_spec(warm_start=str(tmp_path / "first")), make_spec()
    found = [
        cross_fit(spec, table, np.ones(len(table.x)), [0.0], folds=3)
        for spec in (warm, cold)
        for table in [open_data(spec)]
    ]
    assert torch.equal(found[0].loss_EN, found[1].loss_EN)


def test_where_it_began_is_written_down(train, tmp_path):
    train("first")
    path = str(tmp_path / "first")
    train("second", warm_start=path)
    run = RunDirectory(tmp_path / "second")
    sha = hashlib.sha256((tmp_path / "first/checkpoints/best.ckpt").read_bytes()).hexdigest()
    assert run.read_config()["warm_start"] == path
    assert run.read_summary()["warm_start"] == {"run": path, "sha256": sha}
    assert read_checkpoint(run.last_checkpoint)["warm_start"] == {"run": path, "sha256": sha}
    # Theory speaks of initializers.
    assert run.read_summary()["forecast"] is None


def test_the_hash_has_the_path_and_old_hashes_stay():
    assert run_hash({"warm_start": "runs/a"}) != run_hash({"warm_start": "runs/b"})
    assert run_hash({"warm_start": None}) == run_hash({})
    content = parse({}).resolved()
    del content["warm_start"]
    assert run_hash(content) == run_hash({})


def test_a_beginning_that_changed_or_is_gone_is_refused(train, tmp_path):
    train("first")
    train("other", seed=9)
    train("second", warm_start=str(tmp_path / "first"))
    shutil.copy(tmp_path / "other/checkpoints/best.ckpt", tmp_path / "first/checkpoints/best.ckpt")
    with pytest.raises(
        CheckpointError, match=r"warm_start: must be the run that .* is another one"
    ):
        evaluate(tmp_path / "second")
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="warm_start: must be the directory of an earlier run"):
        evaluate(tmp_path / "second")


def test_a_chain_without_a_beginning_is_refused(train, tmp_path):
    train("first")
    train("second", warm_start=str(tmp_path / "first"))
    shutil.rmtree(tmp_path / "first")
    shutil.move(tmp_path / "second", tmp_path / "first")
    with pytest.raises(ConfigError, match=r"but .*first leads back to itself"):
        train("third", warm_start=str(tmp_path / "first"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"depth": 3}}, "model.depth: must be 2, as in warm_start=.*, got 3; set"),
        ({"model": {"width": 9}}, "model.width: must be 8, as in .* got 9"),
        ({"model": {"bias": False}}, "model.bias: must be True, .* got False"),
        (
            {"activation": {"_target_": "torch.nn.Tanh"}},
            "activation: must be torch.nn.ReLU, .*got torch.nn.Tanh",
        ),
        (
            {"norm": {"_target_": "unitgain.nn.LayerNorm"}},
            "norm: must be torch.nn.Identity, .* got unitgain.nn.LayerNorm affine=True",
        ),
        (
            {"data": {"scale": "minmax"}},
            "data.scale: must be standard, as in the run .* got minmax; set data.scale=standard",
        ),
        (
            {
                "data": {
                    "_target_": "unitgain.data.sources.wine",
                    "task": "classification",
                    "batch_size": 16,
                }
            },
            "data: must have the 4 feature columns of .* but wine has 13",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(train, tmp_path, changes, message):
    train("first")
    with pytest.raises(ConfigError, match=message) as caught:
        train("second", warm_start=str(tmp_path / "first"), **changes)
    assert len(caught.value.lines) == 1
    assert not (tmp_path / "second").exists()


def node(path, target="kind", task="classification"):
    return {
        "_target_": "unitgain.data.sources.csv",
        "task": task,
        "path": str(path),
        "target_column": target,
        "batch_size": 16,
        "scale": "standard",
    }


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (
            "ab",
            "data: must have the 3 classes of .*first, in their order .a, b, c., but .* has the 2 ",
        ),
        ("abcd", "but .* has the 4 classes a, b, c, d; mend the data"),
    ],
)
def test_other_classes_are_one_line(train, tmp_path, kinds, message):
    draw = np.random.default_rng(0)
    for name, letters in (("first", "abc"), ("second", kinds)):
        lines = [f"{x:.4f},{draw.choice(list(letters))}\n" for x in draw.normal(size=90)]
        (tmp_path / f"{name}.csv").write_text("x,kind\n" + "".join(lines))
    train("first", data=node(tmp_path / "first.csv"))
    with pytest.raises(ConfigError, match=message):
        train("second", data=node(tmp_path / "second.csv"), warm_start=str(tmp_path / "first"))


def test_other_targets_are_one_line(train, tmp_path):
    draw = np.random.default_rng(0)
    for target in ("y", "z"):
        lines = [f"{x:.4f},{y:.4f}\n" for x, y in draw.normal(size=(90, 2))]
        (tmp_path / f"{target}.csv").write_text(f"x,{target}\n" + "".join(lines))
    train("first", data=node(tmp_path / "y.csv", "y", "regression"))
    with pytest.raises(
        ConfigError, match=r"must have the 1 targets of .* has the 1 targets z; mend"
    ):
        train(
            "second",
            data=node(tmp_path / "z.csv", "z", "regression"),
            warm_start=str(tmp_path / "first"),
        )


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (
            lambda path: None,
            ConfigError,
            "must be the directory of an earlier run, .* is no folder",
        ),
        (lambda path: path.mkdir(), ConfigError, "but .* has no config.yaml"),
    ],
)
def test_what_is_no_run_is_one_line(train, tmp_path, prepare, error, message):
    path = tmp_path / "nothing"
    prepare(path)
    with pytest.raises(error, match=message):
        train("second", warm_start=str(path))


def test_a_run_without_a_best_checkpoint_is_one_line(train, tmp_path):
    train("first")
    Path(tmp_path / "first/checkpoints/best.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"must exist: .*best\.ckpt is missing"):
        train("second", warm_start=str(tmp_path / "first"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_of_a_cpu_goes_on_on_a_gpu(train, tmp_path):
    train("first")
    gpu = {"trainer": {"accelerator": "gpu"}, "optimizer": STILL}
    train("second", warm_start=str(tmp_path / "first"), **gpu)
    one, other = metrics(tmp_path / "first"), metrics(tmp_path / "second")
    assert other["test/loss"] == pytest.approx(one["test/loss"], rel=1e-5)
