"""A sweep's members as one ensemble, against selections, averages and temperatures made another way."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score

from unitgain.errors import ConfigError, DataError
from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train import fit
from unitgain.train.ensemble import ensemble_of, save, select
from unitgain.train.ensemble_members import read_members


def rng(seed=0):
    return np.random.default_rng(seed)


def spec(seed=0, width=8, source="iris", task="classification", **more):
    return parse(
        {
            "seed": seed,
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": width},
            "data": {"_target_": f"unitgain.data.sources.{source}", "task": task},
            "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": 0.02},
            "trainer": {"max_epochs": 6, "accelerator": "cpu", "progress": False},
            "probe": {"every": None},
            "figures": False,
        }
        | more
    )


def trained(folder, specs):
    for k, each in enumerate(specs):
        fit([each], [folder / f"run{k}"])
    return folder


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifiers")
    return trained(folder, [spec(seed, width) for seed in range(3) for width in (4, 8)])


@pytest.fixture(scope="module")
def regressors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regressors")
    more = {"source": "diabetes", "task": "regression"}
    return trained(folder, [spec(seed, **more) for seed in range(3)])


def greedy_by_hand(predictions, target, size):
    """Forward selection with replacement, the obvious way."""
    picks, course = [], []
    for _ in range(size):
        losses = [
            log_loss(
                target, np.mean([predictions[k] for k in [*picks, new]], axis=0), labels=[0, 1, 2]
            )
            for new in range(len(predictions))
        ]
        picks.append(int(np.argmin(losses)))
        course.append(min(losses))
    return np.bincount(picks[: int(np.argmin(course)) + 1], minlength=len(predictions))


def drawn(members=7, rows=60):
    target = rng(1).integers(0, 3, rows)
    logits = rng(2).normal(size=(members, rows, 3)) + 2.0 * np.eye(3)[target]
    return softmax(logits, axis=2), target


def nll(target):
    index = torch.from_numpy(target)
    return lambda p: -p.gather(2, index.expand(len(p), -1)[..., None]).squeeze(2).log().mean(1)


def test_selection_is_the_greedy_one():
    predictions, target = drawn()
    found = select(torch.from_numpy(predictions), nll(target), rng(), size=12, bags=1)
    counts = greedy_by_hand(predictions, target, 12)
    np.testing.assert_allclose(found, counts / counts.sum())
    assert (found > 0).sum() > 1


def test_a_perfect_member_stays_alone():
    predictions, target = drawn()
    predictions[3] = 0.999 * np.eye(3)[target] + 0.001 / 3
    found = select(torch.from_numpy(predictions), nll(target), rng(), size=12, bags=1)
    assert found.tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_bags_spread_the_weight_and_follow_the_generator():
    predictions, target = drawn(members=20, rows=25)
    given = torch.from_numpy(predictions), nll(target)
    alone, bagged = select(*given, rng(), bags=1), select(*given, rng())
    assert bagged.sum() == pytest.approx(1)
    assert (bagged > 0).sum() > (alone > 0).sum()
    np.testing.assert_array_equal(bagged, select(*given, rng()))
    assert not np.array_equal(bagged, select(*given, rng(5)))


def test_bagging_generalises_better_than_one_selection_where_rows_are_few():
    # Members of one quality: the more of them count, the better, and few validation rows can't tell them apart.
    gaps = []
    for seed in range(30):
        draw = rng(seed)
        target = draw.integers(0, 3, 1030)
        p = torch.from_numpy(softmax(draw.normal(size=(20, 1030, 3)) + np.eye(3)[target], axis=2))
        chosen = [select(p[:, :30], nll(target[:30]), rng(), bags=bags) for bags in (1, 20)]
        mixed = torch.stack(
            [torch.einsum("k,knc->nc", torch.from_numpy(w), p[:, 30:]) for w in chosen]
        )
        one, many = nll(target[30:])(mixed).tolist()
        gaps.append(one - many)
    assert np.mean(gaps) > 3 * np.std(gaps, ddof=1) / np.sqrt(len(gaps))


def test_members_predict_what_they_did_alone(classifiers):
    members = read_members(classifiers)
    assert [path.name for path in members.directories] == [f"run{k}" for k in range(6)]
    target = members.rows["test"].target_N.numpy()
    for path, p in zip(
        members.directories, members.rows["test"].prediction_KN.numpy(), strict=True
    ):
        recorded = RunDirectory(path).read_summary()["metrics"]
        assert log_loss(target, p) == pytest.approx(recorded["test/log_loss"], rel=1e-6)
        assert accuracy_score(target, p.argmax(1)) == pytest.approx(recorded["test/accuracy"])


def test_a_classifier_s_ensemble_by_another_way(classifiers):
    members = read_members(classifiers)
    found = ensemble_of(members, rng(), size=10)
    val, test = members.rows["val"], members.rows["test"]
    losses = [log_loss(val.target_N, p) for p in val.prediction_KN.numpy()]
    assert found.best == int(np.argmin(losses))
    assert found.validation[0] == pytest.approx(min(losses))
    mean = np.average(val.prediction_KN.numpy(), axis=0, weights=found.weight_K)
    assert found.validation[1] == pytest.approx(log_loss(val.target_N, mean))

    def at(temperature, p, target):
        return log_loss(target, softmax(np.log(p) / np.exp(temperature), axis=1))

    fitted = minimize_scalar(lambda t: at(t, mean, val.target_N), bounds=(-5, 5), method="bounded")
    assert found.temperature == pytest.approx(np.exp(fitted.x), rel=1e-3)
    mean = np.average(test.prediction_KN.numpy(), axis=0, weights=found.weight_K)
    wanted = at(np.log(found.temperature), mean, test.target_N)
    verdict = found.test["log_loss"]
    assert verdict.ensemble.value == pytest.approx(wanted)
    assert verdict.difference.value == pytest.approx(verdict.ensemble.value - verdict.best.value)


def test_the_interval_of_a_mean_over_rows_is_close_to_normal_theory(classifiers):
    members = read_members(classifiers)
    found = ensemble_of(members, rng())
    test = members.rows["test"]
    p = softmax(np.log(test.prediction_KN[found.best].numpy()) / found.best_temperature, axis=1)
    rows = -np.log(p[np.arange(len(p)), test.target_N.numpy()])
    half = 1.96 * rows.std() / np.sqrt(len(rows))
    interval = found.test["loss"].best
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)
    # A pair's difference has the spread of the differences, not of both.
    assert found.test["loss"].difference.low > interval.low - found.test["loss"].ensemble.high


def test_a_regression_s_ensemble_averages_predictions(regressors):
    members = read_members(regressors)
    found = ensemble_of(members, rng(), bags=1)
    assert (found.temperature, found.best_temperature) == (1.0, 1.0)
    test, table = members.rows["test"], members.table
    mean = np.average(test.prediction_KN.numpy(), axis=0, weights=found.weight_K)
    predicted = mean * table.y_scale + table.y_mean
    target = table.shifted.table.y[table.split.test]
    assert found.test["mse"].ensemble.value == pytest.approx(mean_squared_error(target, predicted))
    assert found.test["r2"].ensemble.value == pytest.approx(r2_score(target, predicted))
    x = torch.from_numpy(table.x[table.split.test]).float()
    np.testing.assert_allclose(found.module()(x).detach(), predicted, rtol=1e-5)


def test_what_is_saved_gives_the_same_predictions(classifiers, tmp_path):
    members = read_members(classifiers)
    found = ensemble_of(members, rng(), size=5, bags=4)
    program, numbers = save(found, tmp_path / "new" / "ensemble")
    test = members.rows["test"]
    x = torch.from_numpy(members.table.x[members.table.split.test]).float()
    p = torch.export.load(program).module()(x).detach().numpy()
    assert log_loss(test.target_N, p) == pytest.approx(
        found.test["log_loss"].ensemble.value, rel=1e-5
    )
    content = json.loads(numbers.read_text())
    assert sum(each["weight"] for each in content["members"]) == pytest.approx(1)
    assert content["best_run"] == f"run{found.best}"
    assert content["outputs"] == list(members.table.class_names)
    assert content["test"]["log_loss"]["ensemble"][0] == found.test["log_loss"].ensemble.value


def test_more_is_better_of_an_accuracy(classifiers):
    found = ensemble_of(read_members(classifiers), rng(), metric="accuracy", bags=1)
    assert found.validation[1] >= found.validation[0]
    val = found.members.rows["val"]
    right = [accuracy_score(val.target_N, p.argmax(1)) for p in val.prediction_KN.numpy()]
    assert found.validation[0] == max(right)


def test_a_metric_that_runs_lack_is_refused(classifiers):
    with pytest.raises(
        ConfigError, match=r"--metric: must be one of val/loss, val/accuracy, .*got val/mse"
    ):
        ensemble_of(read_members(classifiers), rng(), metric="mse")


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"source": "wine"}, "data: "),
        ({"split": {"_target_": "unitgain.data.splits.Stratified", "seed": 9}}, "split, "),
        (
            {
                "data": {
                    "_target_": "unitgain.data.sources.iris",
                    "task": "classification",
                    "scale": "none",
                }
            },
            "shift, data.scale",
        ),
    ],
)
def test_runs_on_other_rows_are_refused(tmp_path, other, key):
    trained(tmp_path, [spec(), spec(**other)])
    with pytest.raises(DataError, match=f"^{key}.*must be the same for all members.*run1 has ano"):
        read_members(tmp_path)


def test_one_run_is_no_ensemble(tmp_path):
    trained(tmp_path, [spec()])
    with pytest.raises(DataError, match="must hold two finished runs or more, but holds 1"):
        read_members(tmp_path)


def test_runs_that_are_not_finished_are_left_out(tmp_path):
    trained(tmp_path, [spec(k) for k in range(3)])
    RunDirectory(tmp_path / "run1").remove_summary()
    members = read_members(tmp_path)
    assert [path.name for path in members.directories] == ["run0", "run2"]
    assert members.left_out == 1


def test_data_that_changed_since_is_refused(tmp_path):
    trained(tmp_path, [spec(k) for k in range(2)])
    run = RunDirectory(tmp_path / "run0")
    run.write_environment(run.read_environment() | {"data_fingerprint": "0" * 64})
    with pytest.raises(DataError, match="must be what run0 was trained on, but has changed since"):
        read_members(tmp_path)


@pytest.mark.parametrize("members", [6, 20])
def test_it_never_scores_worse_than_the_best_member_on_its_rows(members):
    for seed in range(10):
        draw = rng(seed)
        target = draw.integers(0, 3, 60)
        # Of unequal quality: most bags lack the best member.
        quality_K = np.exp(draw.normal(size=members))[:, None, None]
        p = torch.from_numpy(
            softmax(draw.normal(size=(members, 60, 3)) + quality_K * np.eye(3)[target], axis=2)
        )
        weight = torch.from_numpy(select(p, nll(target), rng()))
        mixed = torch.einsum("k,knc->nc", weight, p)
        best = min(log_loss(target, each) for each in p.numpy())
        assert log_loss(target, mixed) <= best + 1e-12


def test_a_metric_that_is_no_mean_over_rows_does_not_get_worse_either(classifiers):
    found = ensemble_of(read_members(classifiers), rng(), metric="f1_macro")
    assert found.validation[1] >= found.validation[0]


def test_right_rows_alone_tell_no_temperature(tmp_path):
    longer = {"max_epochs": 60, "accelerator": "cpu", "progress": False}
    trained(tmp_path, [spec(seed, trainer=longer) for seed in range(2)])
    members = read_members(tmp_path)
    val = members.rows["val"]
    assert (val.prediction_KN.argmax(2) == val.target_N).all()
    found = ensemble_of(members, rng())
    assert (found.temperature, found.best_temperature) == (1.0, 1.0)
