import json
import math

import numpy as np
import pytest

from unitgain.cli import main
from unitgain.data import open_data
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
    for place in ("shift.json", "figures/shift.png", "figures/shift.svg"):
        assert (tmp_path / "run" / place).stat().st_size > 1000
    assert "run/figures/shift.png" in out


def test_a_plain_run_is_compared_with_a_corrected_one(train, capsys, tmp_path):
    assert train("name=plain") == 0
    assert not (tmp_path / "run" / "shift.json").exists()
    capsys.readouterr()
    assert main(["shift", "run"]) == 0
    found = json.loads((tmp_path / "run" / "shift.json").read_text())
    assert found["weighting"]["_target_"] == "unitgain.shift.Classifier"
    summary = RunDirectory(tmp_path / "run").read_summary()
    assert found["plain"] == summary["metrics"]
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


def test_what_is_no_run(capsys):
    assert main(["shift", "nowhere"]) == 2
    assert "must be a run directory" in capsys.readouterr().err
