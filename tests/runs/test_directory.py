import json
import math
import os
import subprocess
import sys

import pytest
import yaml
from omegaconf import OmegaConf

from unitgain.errors import DataError
from unitgain.runs import RunDirectory

CONFIG = {
    "seed": 0,
    "name": None,
    "monitor": "val/loss",
    "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": 1e-5, "betas": [0.9, 0.999]},
    "tags": ["1e-5", "1e3", "on", "null", "é", "a: b", "-.5"],
    "limit": math.inf,
    "deterministic": True,
}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "sweep" / "run").create()


def test_layout(run):
    root = run.path
    assert run.config == root / "config.yaml"
    assert run.overrides == root / "overrides.yaml"
    assert run.environment == root / "environment.json"
    assert run.metrics == root / "metrics.csv"
    assert run.gradients == root / "gradients.parquet"
    assert run.summary == root / "summary.json"
    assert run.best_checkpoint == root / "checkpoints" / "best.ckpt"
    assert run.last_checkpoint == root / "checkpoints" / "last.ckpt"
    assert sorted(os.listdir(root)) == ["checkpoints", "figures"]


def test_creating_again_keeps_files_and_removes_leftovers(run):
    run.write_config(CONFIG)
    run.last_checkpoint.write_bytes(b"payload")
    leftovers = [folder / ".x.1.0123abcd.tmp" for folder in (run.path, run.checkpoints_dir)]
    for leftover in leftovers:
        leftover.touch()
    run.create()
    assert run.read_config() == CONFIG
    assert run.last_checkpoint.read_bytes() == b"payload"
    assert not any(leftover.exists() for leftover in leftovers)


def test_config_reads_back_here_and_in_omegaconf(run):
    run.write_config(CONFIG)
    assert run.read_config() == CONFIG
    assert OmegaConf.to_container(OmegaConf.load(run.config)) == CONFIG


def test_config_is_plain_yaml_in_order(run):
    run.write_config(CONFIG)
    assert list(yaml.safe_load(run.config.read_text())) == list(CONFIG)


def test_a_value_that_occurs_twice_is_written_twice(run):
    shared = {"lr": 0.1}
    run.write_config({"a": shared, "b": shared})
    assert run.config.read_text() == "a:\n  lr: 0.1\nb:\n  lr: 0.1\n"


def test_a_number_typed_in_by_hand_is_a_number(run):
    run.config.write_text("lr: 1e-3\nname: '1e-3'\n")
    assert run.read_config() == {"lr": 1e-3, "name": "1e-3"}


def test_config_refuses_what_is_not_plain(run):
    with pytest.raises(yaml.YAMLError, match="cannot represent"):
        run.write_config({"device": object()})
    assert not run.config.exists()


def test_overrides_and_environment_read_back(run):
    run.write_overrides(["model.depth=30", "init=xavier", "+x={a: 1}"])
    run.write_environment({"threads": 1, "versions": {"torch": "2.13.0"}, "git": None})
    assert run.read_overrides() == ["model.depth=30", "init=xavier", "+x={a: 1}"]
    assert run.read_environment()["versions"] == {"torch": "2.13.0"}


@pytest.mark.parametrize("status", ["finished", "diverged", "interrupted", "failed"])
def test_status_is_what_the_summary_says(run, status):
    assert run.status == "unfinished"
    run.write_summary({"status": status})
    assert run.status == status


@pytest.mark.parametrize("summary", [{}, {"status": "done"}, {"status": None}])
def test_a_summary_needs_an_honest_status(run, summary):
    with pytest.raises(ValueError, match="a summary's status is one of"):
        run.write_summary(summary)
    assert run.read_summary() is None


def test_a_summary_holds_numbers_that_json_lacks(run):
    summary = {
        "status": "diverged",
        "metrics": {"test/loss": math.inf, "other": [-math.inf, 0.1]},
        "verdict": {"label": "exploding", "slope": -0.2},
    }
    run.write_summary({**summary, "best": {"value": math.nan}})
    text = run.summary.read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["test/loss"] == "Infinity"
    back = run.read_summary()
    assert math.isnan(back.pop("best")["value"])
    assert back == summary


@pytest.mark.parametrize("content", [b"", b'{"status": "fin', b"[]", b"{}", b"\xff"])
def test_a_damaged_summary_is_never_taken_for_a_finished_run(run, content):
    run.summary.write_bytes(content)
    assert run.status == "damaged"
    with pytest.raises(DataError, match=r"needs a readable summary\.json: .*; restore it"):
        run.read_summary()


def test_removing_the_summary_makes_a_run_unfinished(run):
    run.write_summary({"status": "finished"})
    run.remove_summary()
    run.remove_summary()
    assert run.status == "unfinished"


def test_a_folder_that_is_no_run_is_unfinished(tmp_path):
    assert RunDirectory(tmp_path / "nowhere").status == "unfinished"


@pytest.mark.parametrize(
    ("content", "fact"),
    [(None, "is missing"), (b"a: [", "can't be parsed"), (b"[1]", "holds a list, not a dict")],
)
def test_a_missing_or_damaged_config_is_one_line(run, content, fact):
    if content is not None:
        run.config.write_bytes(content)
    with pytest.raises(DataError, match=f"config.yaml {fact}") as caught:
        run.read_config()
    assert "\n" not in str(caught.value)


def test_the_room_imports_no_heavy_package():
    code = (
        "import sys, unitgain.runs, unitgain.report\n"
        "heavy = {'torch', 'lightning', 'hydra', 'pandas', 'pyarrow', 'matplotlib', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
