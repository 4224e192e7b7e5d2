"""`unitgain study`: what it says of a claim, and a smoke run of each study that the project ships."""

import json
from pathlib import Path

import pytest

from unitgain.cli import _study, main
from unitgain.cli._job import Outcome
from unitgain.report.study import Study, study_folders
from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.sweep.job import Ending

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

PLOT = """
from matplotlib.figure import Figure


def numbers(results):
    return {"accuracy": results[0].metric("test/accuracy")}


def draw(results):
    return Figure(figsize=(1, 1))
"""


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "experiments" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("sweep: {seed: [0]}\n")
    (folder / "plot.py").write_text(PLOT)
    numbers = {"accuracy": {"meaning": "of the one run", "least": 0.5}}
    content = {"claim": "It learns.", "source": "here", "cost": "1 second", "numbers": numbers}
    (folder / "expected.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Stands where the runs are trained: they end with this accuracy, in this way."""

    def ends(accuracy, status="finished"):
        run = RunDirectory(tmp_path / "runs" / "one").create()
        (run.checkpoints_dir / "last.ckpt").touch()
        run.write_summary({"status": status, "metrics": {"test/accuracy": accuracy}})
        outcome = Outcome(0, ("seed=0",), Ending(status, cause="no memory"), parse({}), run.path)
        monkeypatch.setattr(_study, "_train", lambda study, smoke: ([outcome], False))
        return run

    return ends


@pytest.mark.parametrize(
    ("accuracy", "status", "word", "verdict"),
    [
        (0.75, 0, "holds", "the claim holds"),
        (0.25, 1, "fails", "the claim does not hold"),
        (float("nan"), 1, "fails", "the claim does not hold"),
    ],
)
def test_a_claim_holds_or_does_not(study, trained, capsys, accuracy, status, word, verdict):
    run = trained(accuracy)
    assert main(["study", "mine"]) == status
    text = capsys.readouterr().out
    assert "It learns." in text
    [row] = [line for line in text.splitlines() if line.startswith("accuracy")]
    assert word in row
    assert text.splitlines()[-1] == verdict
    assert (study / "figure.png").exists()
    assert not run.checkpoints_dir.exists()


def test_a_smoke_run_judges_nothing_and_leaves_the_figure_alone(study, trained, capsys):
    trained(0.25)
    assert main(["study", str(study), "--smoke"]) == 0
    assert "too small to judge" in capsys.readouterr().out
    assert not (study / "figure.png").exists()
    assert Path("sweeps/study-mine-smoke/figure.png").exists()


def test_a_run_that_failed_is_an_error(study, trained, capsys):
    trained(0.75, status="failed")
    assert main(["study", "mine"]) == 2
    assert capsys.readouterr().err == "error: seed=0: no memory\n"


def test_the_list_shows_what_each_takes(study, capsys):
    assert main(["study", "--list"]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mine")]
    assert row.split() == ["mine", "1", "second", "It", "learns."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "unitgain study: must be given one study, got nothing; unitgain study --list shows them",
        ),
        (["--fast"], "--fast: no such option; see unitgain study --help"),
        (["--list", "mine"], "--list: must stand alone; leave out the rest"),
        (["--list"], "experiments: must hold studies, but there are none; clone the repository"),
    ],
)
def test_a_slip_is_one_line(arguments, message, capsys):
    assert main(["study", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("folder", study_folders(EXPERIMENTS), ids=lambda folder: folder.name)
def test_a_study_runs_small_and_is_not_trained_twice(folder, command, tmp_path):
    done = command("study", str(folder), "--smoke")
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "sweeps" / f"study-{folder.name}-smoke"
    picture = (sweep / "figure.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    for name in Study.read(folder).expected.numbers:
        assert name in done.stdout
    summaries = {path: path.stat().st_mtime_ns for path in sweep.glob("*/summary.json")}
    assert summaries

    again = command("study", str(folder), "--smoke")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("*/summary.json")} == summaries
    assert (sweep / "figure.png").read_bytes() == picture
