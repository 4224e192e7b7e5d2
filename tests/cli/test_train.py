import math
import os
import re

import pytest

from unitgain.cli import main
from unitgain.errors import DataError
from unitgain.spec import run_hash

QUIET = "figures=false"


def test_a_run_gets_the_typed_configuration_its_directory_and_the_overrides(train, tmp_path):
    assert main(["train", QUIET, "model.depth=3", "-r", "optimizer.lr=1e-2"]) == 0
    [call] = train.calls
    assert call.spec.model.depth == 3
    assert call.spec.optimizer.arguments()["lr"] == 0.01
    assert call.overrides == [(QUIET, "model.depth=3", "optimizer.lr=1e-2")]
    assert call.directory.parent == tmp_path / "runs"
    stamp, _, identity = call.directory.name.rpartition("-")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", stamp)
    assert identity == run_hash(call.spec)
    assert os.listdir(call.directory) == ["touched"]


def test_runs_go_where_the_environment_says(train, tmp_path, monkeypatch):
    monkeypatch.setenv("UNITGAIN_RUNS", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("UNITGAIN_SWEEPS", str(tmp_path / "many"))
    assert main(["train", QUIET]) == 0
    assert main(["train", "-m", "seed=1,2"]) == 0
    places = [call.directory.relative_to(tmp_path).parts[0] for call in train.calls]
    assert places == ["elsewhere", "many", "many"]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_end_of_a_run_shows_metrics_verdict_and_places(train, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["train", QUIET]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert ["train", "val", "test"] in rows
    assert ["loss", "0.2500", "0.5000", "0.7500"] in rows
    assert ["r2", "-2.0000"] in rows
    assert ["gradients", "flow"] in rows
    [place] = [row[1] for row in rows if row and row[0] == "run"]
    assert place == str(train.calls[0].directory.relative_to(os.getcwd()))


@pytest.mark.parametrize(("status", "code"), [("diverged", 3), ("interrupted", 130)])
def test_how_a_run_ended_is_the_exit_status(train, capsys, status, code):
    train.ending = lambda spec: {"status": status, "message": "at step 7", "metrics": {}}
    assert main(["train", QUIET]) == code
    assert f"{status}: at step 7" in capsys.readouterr().out


def test_a_fault_found_in_the_job_is_a_line_and_leaves_no_empty_directory(train, capsys, tmp_path):
    train.ending = lambda spec: DataError("x.csv: no rows", "x.csv: no columns")
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "error: x.csv: no rows\nerror: x.csv: no columns\n"
    assert list((tmp_path / "runs").iterdir()) == []


def test_figures_are_drawn_and_named(train, capsys, monkeypatch, tmp_path):
    drawn = []

    def draw(directory):
        drawn.append(directory)
        return [directory / "figures" / "flow.svg", directory / "figures" / "flow.png"]

    monkeypatch.setattr("unitgain.report.gradient_flow_figure", draw)
    assert main(["train"]) == 0
    assert drawn == [train.calls[0].directory]
    assert re.search(r"^figure +runs/.*/figures/flow.png$", capsys.readouterr().out, re.M)
    assert main(["train", "probe=off"]) == 0
    assert main(["train", QUIET]) == 0
    assert len(drawn) == 1


def test_a_shift_s_figure_has_a_line_of_its_own(train, capsys):
    assert main(["train", "data=breast_cancer", "shift=pca_tilt", "probe=off"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^split +runs/.*/figures/split.png$", out, re.M)
    assert (train.calls[0].directory / "figures" / "split.svg").exists()


def test_a_figure_that_can_not_be_drawn_does_not_undo_the_run(train, capsys):
    assert main(["train"]) == 0
    assert "no figure: " in capsys.readouterr().out


def test_a_multirun_runs_every_job_whatever_happens_to_one(train, capsys):
    endings = {
        1: {},
        2: DataError("no rows"),
        3: RuntimeError("a bug"),
        4: {"status": "diverged", "message": "at step 7", "monitor": None},
    }
    train.ending = lambda spec: endings[spec.seed]
    assert main(["train", "-m", "seed=1,2,3,4", "model.depth=2"]) == 1
    assert [call.spec.seed for call in train.calls] == [1, 2, 3, 4]
    assert len({call.directory for call in train.calls}) == 4
    captured = capsys.readouterr()
    assert "job 2/4  seed=2\n" in captured.out
    ending = captured.out[captured.out.index("configuration") :].splitlines()
    # The mean of the one that finished would hide the one that diverged.
    assert ending[0].split()[-2:] == ["diverged", "failed"]
    assert ending[1].split() == ["all", "4", "1", "2"]
    assert ending[2:6] == [
        "job 2 (seed=2) failed: no rows",
        "job 3 (seed=3) failed: RuntimeError: a bug",
        "job 4 (seed=4) diverged: at step 7",
        "1 of 4 jobs finished, 2 failed, 1 diverged",
    ]
    assert "Traceback" in captured.err
    assert "Error executing job" not in captured.err


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_multirun_ends_with_its_best_and_worst_over_seeds(train, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    train.ending = lambda spec: {"monitor": spec.model.depth + {0: -0.5, 1: 0.0, 2: 0.5}[spec.seed]}
    jobs = ["model.depth=4,1,2,3,5,6,7,8", "seed=0,1,2", "hydra.sweep.dir=many"]
    assert main(["train", "-m", QUIET, *jobs]) == 0
    text = capsys.readouterr().out
    ending = text[text.index("configuration") :].splitlines()
    assert ending[0].split() == ["configuration", "seeds", "val/loss", "95", "%", "interval"]
    # Three values with a deviation of 0.5: Student's t with two degrees of freedom is 4.303.
    half = 4.303 * 0.5 / 3**0.5
    for row, depth in zip((*ending[1:4], *ending[5:8]), (1, 2, 3, 6, 7, 8), strict=True):
        name, seeds, mean, low, _, high = row.split()
        assert (name, seeds, float(mean)) == (f"model.depth={depth}", "3", depth)
        assert float(high) - float(low) == pytest.approx(2 * half, abs=0.15)
    assert ending[4].strip() == "... 2 between"
    assert max(map(len, ending[:8])) <= int(columns)
    assert ending[8:] == [
        "24 of 24 jobs finished",
        "runs    many",
        "table   unitgain runs many",
        "compare unitgain compare many --by model.depth --metric val/loss",
    ]


def test_the_best_of_a_multirun_is_the_highest_accuracy(train, capsys):
    train.ending = lambda spec: {"monitor": spec.model.depth / 10}
    jobs = ["monitor=val/accuracy", "model.depth=1,2,3", "seed=0,1"]
    assert main(["train", "-m", QUIET, *jobs]) == 0
    text = capsys.readouterr().out
    ending = text[text.index("configuration") :].splitlines()
    assert [row.split()[0] for row in ending[1:4]] == [f"model.depth={d}" for d in (3, 2, 1)]
    assert ending[-1].endswith("--by model.depth --metric val/accuracy")


def test_a_group_with_a_diverged_job_comes_last_without_a_mean(train, capsys):
    gone = {"status": "diverged", "message": "at step 7", "monitor": 0.001}
    train.ending = lambda spec: gone if (spec.model.depth, spec.seed) == (1, 1) else {}
    assert main(["train", "-m", QUIET, "model.depth=1,2", "seed=0,1"]) == 3
    text = capsys.readouterr().out
    ending = text[text.index("configuration") :].splitlines()
    assert ending[1].split()[:3] == ["model.depth=2", "2", "0.5000"]
    assert ending[2].split() == ["model.depth=1", "2", "1", "0"]


def test_one_fault_of_many_jobs_is_one_line(train, capsys):
    train.ending = lambda spec: DataError("no rows")
    assert main(["train", "-m", QUIET, "model.depth=1,2", "seed=0,1"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "job 1 (model.depth=1 seed=0) and 3 more failed: no rows" in lines
    assert "0 of 4 jobs finished, 4 failed" in lines
    assert lines[-1].startswith("table   unitgain runs sweeps/")


def test_the_jobs_of_a_multirun_may_leave_a_group_out(train):
    assert main(["train", "-m", "experiment=null", "seed=1,2"]) == 0
    assert [call.spec.seed for call in train.calls] == [1, 2]


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        ([{}, {}], 0),
        ([{}, {"status": "diverged"}], 3),
        ([{"status": "diverged"}, DataError("x")], 2),
        ([RuntimeError("x"), DataError("x")], 1),
    ],
)
def test_the_worst_job_is_the_exit_status_of_a_multirun(train, endings, code):
    train.ending = lambda spec: endings[spec.seed]
    assert main(["train", "-m", "seed=0,1"]) == code


def test_an_interrupted_job_ends_the_multirun(train, capsys):
    train.ending = lambda spec: {"status": "interrupted", "message": "by you", "signal": 2}
    assert main(["train", "-m", "seed=1,2,3"]) == 130
    assert len(train.calls) == 1
    assert "0 of 3 jobs finished" in capsys.readouterr().out


def test_a_multirun_may_be_an_experiment_of_the_users_own(train, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "depths.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      model.depth: 2,3\n      init: he,xavier\n"
    )
    assert main(["train", "--config-dir", "mine", "experiment=depths"]) == 0
    assert [(c.spec.model.depth, c.spec.init.target.rpartition(".")[2]) for c in train.calls] == [
        (2, "he"),
        (2, "xavier"),
        (3, "he"),
        (3, "xavier"),
    ]


@pytest.mark.parametrize(
    "how", [["--config-dir", "mine"], ["hydra.searchpath=[mine]"]], ids=["folder", "searchpath"]
)
def test_options_of_the_users_own(train, tmp_path, how, monkeypatch):
    (tmp_path / "mine" / "init").mkdir(parents=True)
    (tmp_path / "mine" / "init" / "big.yaml").write_text("_target_: ownpackage.big\nscale: 3\n")
    monkeypatch.setenv("UNITGAIN_ALLOW", "ownpackage")
    assert main(["train", QUIET, *how, "init=big", "init.scale=4"]) == 0
    assert main(["train", *how, "-m", "init=big,he"]) == 0
    assert train.calls[0].spec.init.arguments() == {"scale": 4}
    assert [call.spec.init.target for call in train.calls[1:]] == [
        "ownpackage.big",
        "unitgain.nn.init.he",
    ]


def test_the_monitored_metric_is_what_a_sweeper_gets(train):
    from unitgain.cli._job import Task

    returned = []
    original = Task.__call__

    def spy(task, config):
        returned.append(original(task, config))
        return returned[-1]

    endings = {1: {"monitor": 0.125}, 2: {"monitor": None}, 3: DataError("x")}
    train.ending = lambda spec: endings[spec.seed]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", spy)
        main(["train", "-m", "seed=1,2,3"])
    assert returned[0] == 0.125
    assert math.isnan(returned[1])
    assert math.isnan(returned[2])
