import pytest

from unitgain.cli import main
from unitgain.runs import RunDirectory
from unitgain.spec import parse


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "runs" / "one").create()
    directory.write_config(parse({"seed": 5, "figures": False}).resolved())
    return directory


def finish(run, status="finished", **metrics):
    run.write_summary({"status": status, "metrics": metrics})


@pytest.mark.parametrize("name", ["evaluate", "resume"])
def test_what_is_no_run_directory_is_one_line(name, capsys, tmp_path, run):
    assert main([name, "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "error: nowhere: must be a run directory, but there is no such folder\n"
    )
    assert main([name, "runs"]) == 2
    assert capsys.readouterr().err == (
        "error: runs: must be a run directory, but has no config.yaml; did you mean runs/one?\n"
    )


@pytest.mark.parametrize("name", ["evaluate", "resume"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "unitgain {0}: must be given one run directory, got nothing; write unitgain {0} RUN"),
        (
            [""],
            "unitgain {0}: must be given one run directory, got nothing; write unitgain {0} RUN",
        ),
        (
            ["a", "b"],
            "unitgain {0}: must be given one run directory, got a b; write unitgain {0} RUN",
        ),
        (["runs/one", "--force"], "--force: no such option; see unitgain {0} --help"),
        (["--help=yes"], "-h/--help: ignored explicit argument 'yes'"),
    ],
)
def test_wrong_arguments_are_one_line(name, arguments, expected, capsys, run):
    assert main([name, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {expected.format(name)}\n"
    assert captured.out == ""


@pytest.mark.parametrize("name", ["evaluate", "resume"])
def test_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"usage: unitgain {name} [-h] RUN" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recorded", "computed", "code", "line"),
    [
        (0.5, 0.5, 0, "equal to summary.json, to the last bit"),
        (float("nan"), float("nan"), 0, "equal to summary.json, to the last bit"),
        (0.5, 0.5000001, 0, "equal to summary.json up to rounding (test/loss: 2e-07 of the value)"),
        (0.5, 0.6, 1, "differs from summary.json: test/loss is 0.6, recorded 0.5"),
        (0.5, float("nan"), 1, "differs from summary.json: test/loss is nan, recorded 0.5"),
    ],
)
def test_evaluate_says_whether_the_numbers_are_those_of_the_summary(
    train, run, capsys, recorded, computed, code, line
):
    finish(run, **{"test/loss": recorded, "test/accuracy": 0.25})
    train.evaluated = {"test/loss": computed, "test/accuracy": 0.25}
    assert main(["evaluate", "runs/one"]) == code
    text = capsys.readouterr().out
    assert line in text
    assert ["accuracy", "0.2500"] in [row.split() for row in text.splitlines()]


def test_evaluate_of_an_unfinished_run_has_nothing_to_compare_with(train, run, capsys):
    train.evaluated = {"test/loss": 0.5}
    assert main(["evaluate", "runs/one"]) == 0
    assert "summary.json has no such metrics to compare with" in capsys.readouterr().out


@pytest.mark.parametrize("status", [None, "interrupted", "failed"])
def test_resume_goes_on_with_the_configuration_of_the_run(train, run, capsys, status):
    if status is not None:
        finish(run, status)
    assert main(["resume", "runs/one"]) == 0
    [call] = train.calls
    assert call.resume
    assert call.spec.seed == 5
    assert call.directory.samefile(run.path)
    assert "gradients flow" in capsys.readouterr().out


def test_resume_passes_on_how_the_run_ended(train, run):
    train.ending = lambda spec: {"status": "diverged", "message": "at step 7"}
    assert main(["resume", "runs/one"]) == 3


def test_resume_of_a_run_that_ended(train, run, capsys):
    finish(run)
    assert main(["resume", "runs/one"]) == 0
    assert capsys.readouterr().out == "runs/one is finished: nothing to resume\n"
    finish(run, "diverged")
    assert main(["resume", "runs/one"]) == 2
    assert "its loss diverged" in capsys.readouterr().err
    assert train.calls == []


def test_a_configuration_that_was_spoilt_by_hand_is_one_line(run, capsys):
    run.config.write_text("seed: -1\n")
    assert main(["resume", "runs/one"]) == 2
    assert (
        capsys.readouterr().err
        == "error: seed: must be at least 0 and at most 4294967295, got -1\n"
    )
