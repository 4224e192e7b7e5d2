"""Runs whose source rows are weighted for their target."""

import json
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
import torch

from unitgain.data import open_data, prepare
from unitgain.errors import ConfigError, DataError
from unitgain.runs import RunDirectory, read_metrics
from unitgain.shift import diagnose
from unitgain.spec import parse
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint
from unitgain.train.module import PackedModule

TILT = {"_target_": "unitgain.data.shifts.PCATilt"}


def spec(weighting="Oracle", shift=TILT, **keys):
    config = {
        "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8},
        "data": {"_target_": "unitgain.data.sources.wine", "batch_size": 24},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "progress": False},
        "weighting": {"_target_": f"unitgain.shift.{weighting}", **keys},
        "figures": False,
    }
    return parse(config | ({"shift": shift} if shift else {}))


def state(folder):
    return read_checkpoint(RunDirectory(folder).best_checkpoint)["state_dict"]


def assert_same_state(one, other):
    first, second = state(one), state(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_members_of_a_sweep_over_exponents_are_what_they_are_alone(tmp_path):
    specs = [spec(exponent=e) for e in (0.0, 0.5, 1.0)]
    fit(specs, [tmp_path / f"pack{k}" for k in range(3)])
    for k, each in enumerate(specs):
        fit([each], [tmp_path / f"alone{k}"])
        assert_same_state(tmp_path / f"pack{k}", tmp_path / f"alone{k}")
        packed, alone = (
            json.loads((tmp_path / f"{kind}{k}" / "summary.json").read_text())["metrics"]
            for kind in ("pack", "alone")
        )
        assert packed == alone


def test_an_exponent_of_zero_trains_as_no_weighting():
    table, plain = open_data(spec(exponent=0.0)), open_data(spec("Uniform"))
    assert np.array_equal(table.weight, plain.weight)
    assert plain.importance is None
    assert np.array_equal(plain.eval_weight, plain.weight)


@pytest.mark.parametrize("weighting", ["Oracle", "Classifier"])
def test_weights_have_mean_one_over_the_training_rows(weighting):
    table = open_data(spec(weighting, largest=3.0))
    train, test = table.split.train, table.split.test
    for weight_N in (table.weight, table.eval_weight):
        assert weight_N[train].mean() == pytest.approx(1.0, rel=1e-12)
        assert np.array_equal(weight_N[test], np.ones(len(test)))
    assert table.weight[train].max() <= 3.0


def test_the_summary_holds_diagnostics_and_weighted_metrics(tmp_path):
    fit([spec()], [tmp_path])
    summary = json.loads((tmp_path / "summary.json").read_text())
    table = open_data(spec())
    train, val = table.split.train, table.split.val
    found = diagnose(torch.from_numpy(table.eval_weight[train]))
    facts = summary["weighting"]
    assert facts.pop("error") == pytest.approx(0, abs=1e-12)  # these are the true ones
    assert facts == {
        name: pytest.approx(getattr(found, name))
        for name in ("ess", "ess_share", "pareto_k", "max_share")
    }
    module = PackedModule([spec()], [table])
    module.resumed = True
    module.pack.mlp.load_member_state(0, state(tmp_path))
    predicted = module.pack.predict("val").output_KNT[0].argmax(-1).numpy()
    expected = sklearn.metrics.accuracy_score(
        table.y[val], predicted, sample_weight=table.eval_weight[val]
    )
    # Metrics of float64 probabilities with weights of float32.
    assert summary["metrics"]["val/accuracy"] == pytest.approx(expected, rel=1e-5)


def test_the_summary_grades_estimated_weights(tmp_path):
    fit([spec("Classifier")], [tmp_path])
    found = json.loads((tmp_path / "summary.json").read_text())["weighting"]["error"]
    table = open_data(spec("Classifier"))
    train = table.split.train
    w, truth = (
        table.eval_weight[train],
        table.shifted.ratio[train] / table.shifted.ratio[train].mean(),
    )
    assert found == pytest.approx(np.linalg.norm(w - truth) / np.linalg.norm(truth))
    assert found > 0.01


def test_a_run_without_weighting_has_no_diagnostics_of_it(tmp_path):
    fit([spec("Uniform")], [tmp_path])
    assert "weighting" not in json.loads((tmp_path / "summary.json").read_text())


def test_an_oracle_needs_true_weights():
    table = open_data(spec("Uniform"))
    unknown = replace(table.shifted, ratio=None)
    with pytest.raises(DataError, match="weighting: oracle needs the true weights"):
        prepare(unknown, node=spec().data, weighting=spec().weighting)


def test_a_pack_is_weighted_as_a_whole_or_not_at_all(tmp_path):
    with pytest.raises(ConfigError, match="weighting: must be the same for all runs of one pack"):
        fit([spec(), spec("Uniform")], [tmp_path / "a", tmp_path / "b"])


def test_metrics_of_torchmetrics_are_ours_weighted_or_their_twins(tmp_path):
    named = {
        "brier": {"_target_": "unitgain.pack.weighted.WeightedBrierScore"},
        "ours": {"_target_": "unitgain.pack.metrics.accuracy"},
        "theirs": {
            "_target_": "torchmetrics.classification.MulticlassAccuracy",
            "num_classes": 3,
            "average": "micro",
        },
    }
    changed = parse(spec().resolved() | {"metrics": named, "monitor": "val/brier"})
    fit([changed], [tmp_path])
    found = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    for part in ("train", "val", "test"):
        assert found[f"{part}/theirs"] == found[f"{part}/ours"]
        assert 0 < found[f"{part}/brier"] < 2
    refused = {"_target_": "torchmetrics.classification.MulticlassAccuracy", "num_classes": 3}
    with pytest.raises(ConfigError, match=r"metrics\.top: .* MulticlassAccuracy takes none"):
        fit([parse(spec().resolved() | {"metrics": {"top": refused}})], [tmp_path / "b"])


def linear_spec(exponent):
    """Full-batch gradient descent of a network without a nonlinearity, in float64."""
    return parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 6},
            "activation": {"_target_": "torch.nn.Identity"},
            "data": {
                "_target_": "unitgain.data.sources.friedman1",
                "task": "regression",
                "batch_size": 90,  # all training rows
                "n": 300,
            },
            "shift": {"_target_": "unitgain.data.shifts.PCATilt", "strength": 4.0},
            "weighting": {"_target_": "unitgain.shift.Oracle", "exponent": exponent},
            "optimizer": {"_target_": "unitgain.pack.optim.SGD", "lr": 0.05, "momentum": 0.9},
            "trainer": {
                "max_epochs": 400,
                "accelerator": "cpu",
                "precision": "64",
                "progress": False,
            },
            "probe": {"every": None},
            "figures": False,
        }
    )


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_linear_model_ends_at_weighted_least_squares(exponent, tmp_path):
    one = linear_spec(exponent)
    fit([one], [tmp_path])
    table = open_data(one)
    train = table.split.train
    assert len(train) == one.data.batch_size
    layers = list(read_checkpoint(RunDirectory(tmp_path).last_checkpoint)["state_dict"].values())
    first, offset, second, constant = (each.numpy() for each in layers)
    slope, intercept = second @ first, second @ offset + constant
    # numpy's solution of the rows scaled by the roots of their weights.
    w = table.shifted.ratio[train] ** exponent
    design = np.column_stack([table.x[train], np.ones(len(train))])
    rows = np.sqrt(w / w.mean())[:, None]
    solution, *_ = np.linalg.lstsq(rows * design, rows * table.y[train], rcond=None)
    assert np.abs(np.r_[slope.ravel(), intercept] - solution.ravel()).max() < 1e-6
    plain, *_ = np.linalg.lstsq(design, table.y[train], rcond=None)
    assert np.allclose(plain, solution) == (exponent == 0)


def test_early_stopping_and_the_best_epoch_follow_the_weighted_validation_loss(tmp_path):
    changed = spec(exponent=0.5).resolved()
    changed["callbacks"]["early_stopping"]["patience"] = 3
    changed["optimizer"] |= {"lr": 0.1}
    changed["trainer"]["max_epochs"] = 60
    changed = parse(changed)
    fit([changed], [tmp_path])
    summary, loss_E = (
        RunDirectory(tmp_path).read_summary(),
        read_metrics(RunDirectory(tmp_path).metrics)["val/loss"],
    )
    best = int(np.argmin(loss_E))
    assert summary["best"]["epoch"] == best
    assert summary["epoch"] == len(loss_E) == best + 1 + 3 < 60
    table = open_data(changed)
    module = PackedModule([changed], [table])
    module.resumed = True
    module.pack.mlp.load_member_state(0, state(tmp_path))
    val = table.split.val
    predicted = module.pack.predict("val").output_KNT[0].double().softmax(-1).detach().numpy()
    loss_N = -np.log(predicted[np.arange(len(val)), table.y[val]])
    weight_N = table.shifted.ratio[val]
    assert loss_E[best] == pytest.approx(np.average(loss_N, weights=weight_N), rel=1e-4)
    assert loss_E[best] != pytest.approx(loss_N.mean(), rel=1e-2)
