import json
import math
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from unitgain.cli import main
from unitgain.cli._shift_text import _KINDS, _MADE, _absent, _class_advice
from unitgain.data import open_data
from unitgain.data._shifted import Kind
from unitgain.runs import RunDirectory, read_metrics
from unitgain.spec import parse

TILTED = (
    "data=breast_cancer",
    "shift=pca_tilt",
    "model.depth=1",
    "model.width=16",
    "trainer.max_epochs=6",
    "trainer=cpu",
    "trainer.progress=false",
    "hydra.run.dir=run",
)


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *more: main(["train", *TILTED, *more])


def test_a_weighted_run_leaves_its_report(train, capsys, tmp_path):
    assert train("weighting=classifier") == 0
    out = " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    table = open_data(parse(RunDirectory(tmp_path / "run").read_config()))
    rows = table.split.train
    truth, full = table.shifted.ratio[rows], table.importance.full_N[rows]
    error = np.linalg.norm(full / full.mean() - truth / truth.mean())
    assert found["weight_error"] == pytest.approx(error / np.linalg.norm(truth / truth.mean()))
    assert found["truth"]["ess"] == pytest.approx(truth.sum() ** 2 / (truth**2).sum())
    assert found["balance"]["mean radius"]["before"] == pytest.approx(
        (table.x[table.split.test, 0].mean() - table.x[rows, 0].mean())
        / math.sqrt((table.x[rows, 0].var() + table.x[table.split.test, 0].var()) / 2)
    )
    worst = [
        max(abs(each[side]) for each in found["balance"].values()) for side in ("before", "after")
    ]
    assert worst[1] < worst[0]
    assert found["gate"]["answer"] in ("yes", "no", "cannot tell")
    assert found["gate"]["text"] in out
    assert f"Should it correct? {found['gate']['text']}" in out
    assert (
        found["corrected"]["test/accuracy"]
        == RunDirectory(tmp_path / "run").read_summary()["metrics"]["test/accuracy"]
    )
    for place in (
        "shift.json",
        "figures/shift.png",
        "figures/shift.svg",
        "figures/calibration.svg",
    ):
        assert (tmp_path / "run" / place).stat().st_size > 1000
    assert "run/figures/shift.png" in out
    assert set(found["detection"]["spaces"]) == {"inputs", "last hidden layer", "predictions"}
    for name, space in found["detection"]["spaces"].items():
        assert f"{name} ({space['columns']}) {space['p_value']:.2g}" in out
    # Tilted inputs aren't taken for moved class shares alone: a sentence, no table.
    assert found["label"]["indicated"] is False
    assert "Class shares: predicted classes" in out
    assert "Class weights" not in out
    for each in found["coverage"]:
        assert f"{each['weights']} {each['covered']:.1%}" in out


def test_a_plain_run_is_compared_with_a_corrected_one(train, capsys, tmp_path):
    assert train("name=plain") == 0
    assert not (tmp_path / "run" / "shift.json").exists()
    capsys.readouterr()
    assert main(["shift", "run"]) == 0
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    assert found["weighting"]["_target_"] == "unitgain.shift.Classifier"
    summary = RunDirectory(tmp_path / "run").read_summary()
    assert found["plain"] == summary["metrics"]
    errors = {(each["part"], each["weights"]): each["ece"] for each in found["calibration"]}
    assert list(errors) == [
        ("validation", "nothing"),
        ("validation", "inputs"),
        ("target", "nothing"),
    ]
    assert errors["validation", "nothing"] == pytest.approx(summary["metrics"]["val/ece"], abs=1e-6)
    assert errors["target", "nothing"] == pytest.approx(summary["metrics"]["test/ece"], abs=1e-6)
    out = " ".join(capsys.readouterr().out.split())
    assert f"{errors['validation', 'inputs']:.3f} (validation, weighted by inputs)" in out
    assert main(["train", *TILTED[:-1], "hydra.run.dir=other", "weighting=classifier"]) == 0
    other = json.loads((tmp_path / "other" / "shift.json").read_text())
    # Both ways round the same two runs are compared.
    assert other["plain"] == pytest.approx(found["plain"])
    assert other["corrected"] == pytest.approx(found["corrected"])
    assert other["gate"] == found["gate"]


def test_the_over_trained_network_is_named(train, capsys, tmp_path):
    given = ("trainer.max_epochs=200", "model.width=64", "optimizer.lr=0.01", "split.seed=1")
    assert train("weighting=oracle", *given) == 0
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    loss = read_metrics(tmp_path / "run" / "metrics.csv")["val/loss"].tolist()
    assert loss[-1] > 1.2 * min(loss)
    assert found["weight_error"] == pytest.approx(0, abs=1e-9)
    assert (
        f"rose from {min(loss):.3g} at epoch {loss.index(min(loss)) + 1} to"
        in found["gate"]["text"]
    )


def test_a_label_shift_is_corrected_for_by_class_weights(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    options = (
        "data=blobs",
        "data.noise=0.5",
        "optimizer.lr=0.02",
        "shift=label_tweak_one",
        "shift.share=0.7",
    )
    assert main(["train", *TILTED[2:], *options, "weighting=none"]) == 0
    capsys.readouterr()
    assert main(["shift", "run"]) == 0
    raw = capsys.readouterr().out
    out = " ".join(raw.split())
    assert max(len(line) for line in raw.splitlines()) <= 80
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    label, table = found["label"], open_data(parse(RunDirectory(tmp_path / "run").read_config()))
    test = table.y[table.split.test]
    first = label["classes"]["0"]
    assert first["share_low"] < (test == 0).mean() < first["share_high"]
    assert first["true"] == pytest.approx(table.shifted.ratio[table.y == 0].max())
    assert label["test"]["as trained"]["accuracy"] == pytest.approx(found["plain"]["test/accuracy"])
    assert [each["weights"] for each in found["coverage"]] == ["nothing", "inputs", "classes"]
    assert [each["weights"] for each in found["calibration"]] == ["nothing", "classes", "nothing"]
    for text in ("if p(x | y) is unchanged", "true w", "and weights of inputs are no substitute"):
        assert text in out
    assert f"p = {label['p_value']:.2g}); correct posteriors." in out


def test_a_run_without_a_shift_or_figures(train, capsys, tmp_path):
    assert train("shift=none", "figures=false") == 0
    capsys.readouterr()
    assert main(["shift", "run"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Shift: NoShift (none)." in out
    assert "weights can only add noise" in out
    assert "rows are not shown to differ" in out
    assert "predicted classes are not shown to move" in out
    assert not list((tmp_path / "run").rglob("*.png"))
    assert "figure" not in out
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    assert found["detection"]["p_value"] > 0.05
    # Weights of chance may look good on rows of chance: that is said.
    doubted = "weights that follow chance would look as good here" in out
    assert doubted == (found["gate"]["answer"] == "yes")


def test_a_regression_has_no_class_weights(train, capsys, tmp_path):
    assert train("data=diabetes", "weighting=oracle", "figures=false", "shift.strength=1") == 0
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    assert (found["label"], found["no_label"]) == (None, None)
    assert {each["answer"] for each in found["coverage"]} == {"progression"}
    assert found["calibration"] == []
    out = capsys.readouterr().out
    assert "Class shares" not in out
    assert "mean width" in out
    assert "calibration error" not in out


def test_every_kind_of_shift_has_a_sentence():
    assert set(_KINDS) == set(get_args(Kind))
    # Of the others it is known that more than class shares moved.
    assert set(get_args(Kind)) - set(_MADE) == {"label", "domain"}


def test_class_shares_are_not_advised_where_something_else_is_known_to_have_moved():
    looks_moved = SimpleNamespace(indicated=True, p_value=0.001)
    assert "yes, predicted classes move (p = 0.001)" in _class_advice(looks_moved, "domain")
    said = _class_advice(looks_moved, "covariate")
    assert said.startswith("For class shares: no. ")
    assert "here inputs were moved" in said


def test_classes_without_target_rows_are_named():
    y = np.array([0, 1, 2, 3, 1, 1])
    split = SimpleNamespace(test=np.array([4, 5]))
    table = SimpleNamespace(y=y, n_classes=4, class_names=tuple("abcd"), split=split)
    assert list(_absent(table, {"test/auroc": 0.25})) == [
        "No target row is of class a, c, d; auroc counts each class without rows as zero."
    ]
    assert list(_absent(table, {"test/accuracy": 0.25})) == []
    split.test = np.arange(4)
    assert list(_absent(table, {"test/auroc": 0.25})) == []


def test_weights_without_a_bound_are_said_to_have_none(train, capsys):
    given = ("data=gaussian_shift", "shift=given", "trainer.max_epochs=1", "figures=false")
    assert train(*given, "weighting=oracle") == 0
    out = " ".join(capsys.readouterr().out.split())
    # 1 / E[w^2] of N(0, 1) and N(1, 1) is exp(-1).
    assert "The populations' weights have no bound, and leave 37% of the source's rows" in out


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("interrupted", "but it is interrupted; unitgain resume run"),
        ("diverged", "but it is diverged; train with a lower optimizer.lr"),
    ],
)
def test_a_run_that_has_not_finished_is_refused(train, capsys, tmp_path, status, text):
    assert train("trainer.max_epochs=1", "figures=false") == 0
    run = RunDirectory(tmp_path / "run")
    run.write_summary(run.read_summary() | {"status": status})
    assert main(["shift", "run"]) == 2
    assert f"run: must be a finished run, {text}" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_line(train, capsys, tmp_path):
    assert train("trainer.max_epochs=1", "figures=false") == 0
    best = RunDirectory(tmp_path / "run").best_checkpoint
    best.write_bytes(best.read_bytes()[:-100])
    capsys.readouterr()
    assert main(["shift", "run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: run: must be a finished run, but it is damaged: best.ckpt")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run" / "shift.json").exists()


def test_what_is_no_run(capsys):
    assert main(["shift", "nowhere"]) == 2
    assert "must be a run directory" in capsys.readouterr().err
