"""`unitgain study`: what it says of a claim, and a smoke run of each study that the project ships."""

import json
import shutil
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
    record(folder, holds=True)
    return folder


def record(folder, *, holds):
    """Write what the study expects, and whether its claim held."""
    numbers = {"accuracy": {"meaning": "of the one run", "least": 0.5}}
    content = {"claim": "It learns.", "source": "here", "cost": "1 second", "verdict": "It does."}
    (folder / "expected.json").write_text(
        json.dumps({**content, "holds": holds, "numbers": numbers})
    )


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
        (0.25, 5, "fails", "the claim does not hold, against what expected.json records"),
        (float("nan"), 5, "fails", "the claim does not hold, against what expected.json records"),
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


def test_a_claim_that_is_known_to_fail(study, trained, capsys):
    trained(0.25)
    record(study, holds=False)
    assert main(["study", "mine"]) == 5
    assert capsys.readouterr().out.splitlines()[-1] == "the claim does not hold"


def test_checkpoints_stay_where_the_study_keeps_them(study, trained):
    run = trained(0.75)
    (study / "study.yaml").write_text("sweep: {seed: [0]}\nkeep: checkpoints\n")
    assert main(["study", "mine"]) == 0
    assert (run.checkpoints_dir / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("accuracy", "holds", "status", "words"),
    [
        (0.75, True, 0, "2 studies end as expected.json records"),
        (0.25, False, 0, "2 studies end as expected.json records"),
        (0.25, True, 5, "2 of 2 studies don't end as expected.json records"),
        (0.75, False, 5, "2 of 2 studies don't end as expected.json records"),
    ],
)
def test_all_studies_end_as_recorded(study, trained, capsys, accuracy, holds, status, words):
    trained(accuracy)
    record(study, holds=holds)
    shutil.copytree(study, study.parent / "yours")
    assert main(["study", "--all"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == words
    verdict = "the claim holds" if accuracy > 0.5 else "the claim does not hold"
    for name in ("mine", "yours"):
        [row] = [line for line in lines if line.startswith(f"{name} ")]
        assert verdict in row
        assert (study.parent / name / "figure.png").exists()


def test_several_studies_run_one_after_another(study, trained, capsys):
    trained(0.75)
    shutil.copytree(study, study.parent / "yours")
    shutil.copytree(study, study.parent / "theirs")
    assert main(["study", "yours", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("==")] == ["== yours ==", "== mine =="]
    assert lines[-1] == "2 studies end as expected.json records"
    assert not (study.parent / "theirs" / "figure.png").exists()


def test_a_study_that_fails_leaves_the_others_alone(study, trained, capsys):
    trained(0.75)
    shutil.copytree(study, study.parent / "broken")
    (study.parent / "broken" / "plot.py").write_text("1 / 0")
    assert main(["study", "--all"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: broken: plot.py must be Python that can be run")
    assert shown.out.splitlines()[-1] == "1 of 2 studies don't end as expected.json records"
    assert (study / "figure.png").exists()


def test_a_run_that_failed_is_an_error(study, trained, capsys):
    trained(0.75, status="failed")
    assert main(["study", "mine"]) == 2
    assert capsys.readouterr().err == "error: seed=0: no memory\n"


def test_the_list_shows_what_each_takes(study, capsys):
    assert main(["study", "--list"]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mine")]
    assert row.split() == ["mine", "yes", "1", "second", "It", "learns."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "unitgain study: must be given a study, got nothing; unitgain study --list shows them",
        ),
        (["--fast"], "--fast: no such option; see unitgain study --help"),
        (["--list", "mine"], "--list: must stand alone; leave out the rest"),
        (["--all", "mine"], "--all: must have no study beside it; leave out mine"),
        (["--all"], "experiments: must hold studies, but there are none; clone the repository"),
        (["--list"], "experiments: must hold studies, but there are none; clone the repository"),
    ],
)
def test_a_slip_is_one_line(arguments, message, capsys):
    assert main(["study", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("folder", study_folders(EXPERIMENTS), ids=lambda folder: folder.name)
def test_a_study_runs_small(folder, capsys, tmp_path):
    assert main(["study", str(folder), "--smoke"]) == 0
    shown = capsys.readouterr().out
    figure = tmp_path / "sweeps" / f"study-{folder.name}-smoke" / "figure.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    measured = {line.split()[0] for line in shown.splitlines() if line.strip()}
    # A number may be of a cell that the small version leaves out.
    assert measured & set(Study.read(folder).expected.numbers)


def test_a_study_is_not_trained_twice(command, tmp_path):
    folder = str(EXPERIMENTS / "he_30_layers")
    assert command("study", folder, "--smoke").returncode == 0
    sweep = tmp_path / "sweeps" / "study-he_30_layers-smoke"
    summaries = {path: path.stat().st_mtime_ns for path in sweep.glob("*/summary.json")}
    assert summaries
    picture = (sweep / "figure.png").read_bytes()
    assert command("study", folder, "--smoke").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("*/summary.json")} == summaries
    assert (sweep / "figure.png").read_bytes() == picture
