"""``unitgain diff``: what differs between two runs."""

import json
from pathlib import Path
from typing import Any

from unitgain.cli import main
from unitgain.runs import MetricsWriter, RunDirectory, compare_runs
from unitgain.spec import parse

MADE_WITH = {
    "date": "2026-01-01",
    "device": "cpu",
    "threads": 1,
    "versions": {"torch": "2.9"},
    "data_fingerprint": "a" * 64,
    "numerics_fingerprint": "b" * 16,
}


def write(path: Path, losses: tuple[float, ...] = (1.0, 0.5), **config: Any) -> RunDirectory:
    run = RunDirectory(path, durable=False).create()
    run.write_config(parse(config).resolved())
    run.write_environment(MADE_WITH | {"date": path.name})
    metrics = MetricsWriter(run.metrics)
    for epoch, loss in enumerate(losses):
        metrics.append(epoch, epoch + 1, {"val/loss": loss})
    run.write_summary(
        {"status": "finished", "metrics": {"val/loss": losses[-1]}, "seconds": len(path.name)}
    )
    return run


def test_equal_runs(tmp_path, capsys):
    a, b = write(tmp_path / "a"), write(tmp_path / "bbb")
    assert main(["diff", str(a.path), str(b.path)]) == 0
    assert capsys.readouterr().out.startswith("no difference")


def test_configuration_and_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    a = write(tmp_path / "a", init={"_target_": "unitgain.nn.init.he"})
    b = write(tmp_path / "b", (1.0, 0.25), init={"_target_": "unitgain.nn.init.xavier"}, seed=1)
    assert main(["diff", str(a.path), str(b.path)]) == 1
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["seed", "0", "1"] in shown
    assert ["init", "he", "xavier"] in shown
    assert ["init.mode", "fan_in", "-"] in shown
    assert ["val/loss", "0.5", "0.25", "-0.25"] in shown
    assert ["first", "epoch", "1,", "val/loss:", "0.5", "and", "0.25"] in shown


def test_environment_and_fingerprints(tmp_path, capsys):
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    other = MADE_WITH | {"versions": {"torch": "2.10"}, "threads": 4, "data_fingerprint": "c" * 64}
    b.write_environment(other | {"numerics_fingerprint": "d" * 16})
    found = compare_runs(a.path, b.path)
    assert found.environment == {"threads": (1, 4), "versions/torch": ("2.9", "2.10")}
    assert found.data == ("a" * 64, "c" * 64)
    assert found.history is None
    assert main(["diff", str(a.path), str(b.path)]) == 1
    text = capsys.readouterr().out
    assert "aaaaaaaaaaaa and cccccccccccc" in text
    assert "not the same bits can be expected" in text


def test_the_last_bit_of_one_number_counts(tmp_path):
    a, b = write(tmp_path / "a", (1.0, 0.1 + 0.2)), write(tmp_path / "b", (1.0, 0.3))
    found = compare_runs(a.path, b.path)
    assert found.history == "epoch 1, val/loss: 0.30000000000000004 and 0.3"
    assert list(found.results) == ["val/loss"]


def test_not_a_number_is_the_same_as_itself(tmp_path):
    a, b = write(tmp_path / "a", (float("nan"),)), write(tmp_path / "b", (float("nan"),))
    assert not compare_runs(a.path, b.path).any


def test_one_run_has_more_epochs(tmp_path):
    a, b = write(tmp_path / "a", (1.0, 0.5)), write(tmp_path / "b", (1.0, 0.5, 0.5))
    assert compare_runs(a.path, b.path).history == "metrics.csv: 2 and 3 epochs"


def test_what_cannot_be_compared(tmp_path, capsys):
    a = write(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert main(["diff", str(a.path)]) == 2
    assert main(["diff", str(a.path), str(tmp_path / "empty")]) == 2
    a.summary.write_text(json.dumps({"status": "what"}))
    assert main(["diff", str(a.path), str(a.path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "two run directories" in errors[0]
    assert "no config.yaml" in errors[1]
    assert "summary.json" in errors[2]
