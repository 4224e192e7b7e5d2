"""Many run directories as one table, whatever state they are in."""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from unitgain.errors import ConfigError
from unitgain.runs import Claims, RunDirectory, RunsTable, read_runs
from unitgain.runs._options import option_name
from unitgain.spec import parse

CONF = Path(__file__).parents[2] / "conf"
HE = {"_target_": "unitgain.nn.init.he"}
XAVIER = {"_target_": "unitgain.nn.init.xavier"}


def write(path: Path, status: str | None = "finished", **config: Any) -> RunDirectory:
    """A run directory without training: the configuration is real, the numbers are made up."""
    run = RunDirectory(path, durable=False).create()
    run.write_config(parse(config).resolved())
    if status is not None:
        summary = {
            "status": status,
            "epoch": 3,
            "metrics": {"val/loss": 0.5, "test/accuracy": 0.75 + config.get("seed", 0) / 100},
            "best": {"monitor": "val/loss", "value": 0.5, "epoch": 1},
            "verdict": {"label": "healthy", "slope": -0.01, "findings": []},
            "forecast": {"label": "healthy", "chi_1": 1.0, "q_L": [1.0, 2.0]},
            "diverged": {"step": 7, "layer": 2, "where": "loss"} if status == "diverged" else None,
        }
        run.write_summary(summary)
    return run


def row(table: RunsTable, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = table.frame.set_index("run").loc[str(path)].to_dict()
    return found


def options() -> list[tuple[str, str, str]]:
    """Group, name and target of every option that has one."""
    found = []
    for path in sorted(CONF.glob("*/*.yaml")):
        content = yaml.safe_load(path.read_text()) or {}
        if "_target_" in content:
            found.append((path.parent.name, path.stem, content["_target_"]))
    return found


@pytest.mark.parametrize(("group", "name", "target"), options())
def test_an_option_is_called_as_on_the_command_line(group: str, name: str, target: str) -> None:
    alias = {"kaiming": "he"}
    assert option_name(group, target) == alias.get(name, name)


def test_runs_are_found_at_any_depth_and_only_once(tmp_path: Path) -> None:
    one = write(tmp_path / "runs" / "one")
    deep = write(tmp_path / "sweeps" / "today" / "abc", seed=1)
    for other in ("wandb/run-1/files", ".hydra", "runs/one/wandb/files"):
        (tmp_path / other).mkdir(parents=True)
        shutil.copy(one.config, tmp_path / other / "config.yaml")
    (tmp_path / "latest").symlink_to(one.path)
    table = read_runs([tmp_path, one.path, tmp_path / "sweeps"])
    assert table.frame["run"].tolist() == [str(one.path), str(deep.path)]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read_runs([tmp_path / "nothing"])


def test_an_empty_folder_is_an_empty_table(tmp_path: Path) -> None:
    table = read_runs([tmp_path])
    assert len(table) == 0
    assert table.varying() == ()


def test_the_columns_are_what_one_types(tmp_path: Path) -> None:
    run = write(
        tmp_path / "a", init=HE, optimizer={"_target_": "unitgain.pack.optim.SGD", "lr": 1e-3}
    )
    table = read_runs([tmp_path])
    found = row(table, run.path)
    assert found["init"] == "he"
    assert found["init.mode"] == "fan_in"
    assert found["optimizer"] == "sgd"
    assert found["optimizer.lr"] == 1e-3
    assert found["norm"] == "none"
    assert found["activation"] == "relu"
    assert found["bias_init"] == "from_init"
    assert found["split.fractions"] == "[0.6,0.2,0.2]"
    assert "metrics" not in table.frame
    assert not [name for name in table.frame if "_target_" in name]
    assert (found["name"], found["status"], found["verdict"]) == ("a", "finished", "healthy")
    assert (found["best/value"], found["best/epoch"], found["verdict/slope"]) == (0.5, 1, -0.01)
    assert found["forecast/chi_1"] == 1.0
    assert table.metric_columns == ("val/loss", "test/accuracy")


def test_the_table_says_what_full_parsing_says(tmp_path: Path) -> None:
    """Entries parsed apart and kept are the same as the file parsed as a whole by PyYAML."""
    runs = [write(tmp_path / str(seed), seed=seed) for seed in range(3)]
    text = runs[1].config.read_text()
    runs[1].config.write_text("# by hand\n" + text.replace("depth: 6", "depth: 0x7"))
    runs[2].config.write_text("---\n" + text.replace("seed: 1", "seed: &s 2\nname: *s"))
    table = read_runs([tmp_path])
    for run in runs:
        config = yaml.safe_load(run.config.read_text())
        found = row(table, run.path)
        assert found["seed"] == config["seed"]
        assert found["model.depth"] == config["model"]["depth"]
        assert found["data.batch_size"] == config["data"]["batch_size"]
    assert table.frame["name"].tolist() == ["0", "1", "2"]


def test_the_name_is_that_of_the_run_or_of_its_directory(tmp_path: Path) -> None:
    write(tmp_path / "a", name="deep one")
    write(tmp_path / "b")
    assert read_runs([tmp_path]).frame["name"].tolist() == ["deep one", "b"]


@pytest.mark.parametrize("status", ["finished", "diverged", "interrupted", "failed"])
def test_how_a_run_ended(tmp_path: Path, status: str) -> None:
    run = write(tmp_path / "a", status)
    found = row(read_runs([tmp_path]), run.path)
    assert found["status"] == status
    if status == "diverged":
        assert found["cause"] == "the loss was no longer finite at step 7"
    if status == "interrupted":
        assert found["cause"] == "interrupted after 3 epochs"


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    run = write(tmp_path / "a", None)
    run.write_summary({"status": "failed", "cause": "data.path: no such file", "metrics": {}})
    assert row(read_runs([tmp_path]), run.path)["cause"] == "data.path: no such file"


def test_damaged_and_unfinished_runs_stay_rows(tmp_path: Path) -> None:
    good = write(tmp_path / "good")
    unfinished = write(tmp_path / "unfinished", None)
    cut = write(tmp_path / "cut")
    cut.summary.write_bytes(cut.summary.read_bytes()[:40])
    no_yaml = write(tmp_path / "no_yaml")
    no_yaml.config.write_bytes(b"seed: [0\nname: 'x")
    binary = write(tmp_path / "binary")
    binary.config.write_bytes(bytes(range(256)))
    empty = write(tmp_path / "empty")
    empty.config.write_bytes(b"")
    table = read_runs([tmp_path])
    status = table.frame.set_index("run")["status"].to_dict()
    assert status == {
        str(good.path): "finished",
        str(unfinished.path): "unfinished",
        **{str(run.path): "damaged" for run in (cut, no_yaml, binary, empty)},
    }
    assert "summary.json" in row(table, cut.path)["cause"]
    assert row(table, cut.path)["model.depth"] == 6
    assert "config.yaml" in row(table, no_yaml.path)["cause"]
    assert row(table, no_yaml.path)["test/accuracy"] == 0.75
    assert table.varying() == ()


def test_runs_under_way_and_those_that_lost_their_process_say_so(tmp_path: Path) -> None:
    now, gone, preempted = (write(tmp_path / name, None) for name in ("now", "gone", "preempted"))
    again, over = write(tmp_path / "again", None), write(tmp_path / "over")
    for run in (preempted, again):
        summary = {"status": "interrupted", "cause": "preempted by SIGTERM", "epoch": 3}
        run.write_summary(summary | {"metrics": {}})
    claims = Claims()
    for run in (now, gone, again, over):
        assert claims.take(run.path) is None
    claim = gone.path / "claim-0.json"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"began": "long ago"}))
    table = read_runs([tmp_path])
    found = {name: row(table, tmp_path / name) for name in ("now", "gone", "preempted", "again")}
    here = f"process {os.getpid()} on {platform.node()}"
    assert found["now"]["status"] == found["again"]["status"] == "running"
    assert found["now"]["cause"].startswith(f"{here} trains it, and was heard of ")
    assert (found["gone"]["status"], found["gone"]["cause"]) == (
        "stale",
        f"{here} trained it, and is gone",
    )
    assert found["preempted"]["cause"] == "preempted by SIGTERM after 3 epochs"
    assert row(table, over.path)["status"] == "finished"
    for run in (now, gone, preempted, again, over):
        assert run.status == row(table, run.path)["status"]
    # One elsewhere: its last sign of life is all that is known.
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"machine": "other"}))
    assert gone.status == "running"
    os.utime(claim, (time.time() - 300,) * 2)
    assert gone.standing() == ("stale", f"{here} trained it, and hasn't been heard of for 300 s")
    claims.close()


def test_numbers_that_are_not_finite_are_read(tmp_path: Path) -> None:
    run = write(tmp_path / "a", None)
    run.write_summary(
        {"status": "diverged", "metrics": {"val/loss": math.inf, "test/loss": math.nan}}
    )
    found = row(read_runs([tmp_path]), run.path)
    assert found["val/loss"] == math.inf
    assert math.isnan(found["test/loss"])


def test_what_varies(tmp_path: Path) -> None:
    write(tmp_path / "a", init=HE, seed=0)
    write(tmp_path / "b", init=XAVIER, seed=1)
    # he has mode and negative_slope, xavier has gain: they vary with init, and say nothing more.
    assert read_runs([tmp_path]).varying() == ("seed", "init")
    write(tmp_path / "c", init=HE | {"mode": "fan_out"}, seed=1)
    assert read_runs([tmp_path]).varying() == ("seed", "init", "init.mode")
    write(tmp_path / "d", trainer={"gradient_clip_norm": 1.0})
    assert "trainer.gradient_clip_norm" in read_runs([tmp_path]).varying()


@pytest.fixture
def table(tmp_path: Path) -> RunsTable:
    """Three runs: a with he, b and c with xavier; lr 0.001, 0.01 and 0.1."""
    for i, (name, init) in enumerate([("a", HE), ("b", XAVIER), ("c", XAVIER)]):
        optimizer = {"_target_": "unitgain.pack.optim.Adam", "lr": 10.0 ** (i - 3)}
        trainer = {"gradient_clip_norm": 1.0} if name == "c" else {}
        write(
            tmp_path / name, "failed" if i == 1 else "finished",
            init=init, optimizer=optimizer, seed=i, trainer=trainer,
        )  # fmt: skip
    return read_runs([tmp_path])


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["init=he"], "a"),
        (["init==xavier"], "bc"),
        (["init=he,xavier"], "abc"),
        (["init!=he"], "bc"),
        (["init!=he,xavier"], ""),
        (["optimizer.lr=1e-3"], "a"),
        (["optimizer.lr<0.05"], "ab"),
        (["optimizer.lr <= 0.01"], "ab"),
        (["optimizer.lr>=0.01", "init=xavier", "status=finished"], "c"),
        (["test/accuracy>0.755"], "bc"),
        (["model.bias=true"], "abc"),
        (["trainer.gradient_clip_norm=null"], "ab"),
        (["trainer.gradient_clip_norm!=null"], "c"),
        (["trainer.gradient_clip_norm<2"], "c"),
        (["split.fractions=[0.6, 0.2, 0.2]"], "abc"),
    ],
)
def test_where(table: RunsTable, conditions: list[str], names: str) -> None:
    assert "".join(table.where(*conditions).frame["name"]) == names


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ("init", "must be a condition"),
        ("init=", "must be a condition"),
        ("optimizer.lrr=1", r"did you mean optimizer\.lr\?"),
        ("init<he", "must compare numbers"),
        ("seed<abc", "must compare numbers"),
    ],
)
def test_a_condition_that_makes_no_sense(table: RunsTable, condition: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        table.where(condition)


def test_select(table: RunsTable) -> None:
    chosen = table.select("test/accuracy", "init")
    assert chosen.frame.columns.tolist() == ["test/accuracy", "init"]
    assert (chosen.config_columns, chosen.metric_columns) == (("init",), ("test/accuracy",))
    with pytest.raises(ConfigError, match="must be a column"):
        table.select("nothing")


def test_the_environment_is_read_when_asked_for(tmp_path: Path) -> None:
    run = write(tmp_path / "a")
    run.write_environment({"device": "cpu", "versions": {"torch": "2.9"}, "git": None})
    assert "environment/device" not in read_runs([tmp_path]).frame
    found = row(read_runs([tmp_path], environment=True), run.path)
    assert (found["environment/device"], found["environment/versions/torch"]) == ("cpu", "2.9")


def test_the_table_can_be_written(table: RunsTable, tmp_path: Path) -> None:
    import pandas as pd

    table.frame.to_parquet(tmp_path / "runs.parquet")
    again = pd.read_parquet(tmp_path / "runs.parquet")
    assert again["optimizer.lr"].tolist() == [1e-3, 1e-2, 1e-1]


def test_pandas_is_imported_by_reading_alone() -> None:
    code = "import sys, unitgain.runs; assert not {'pandas', 'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
