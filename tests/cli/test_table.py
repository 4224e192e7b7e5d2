"""``unitgain runs``: a table in the terminal and in files."""

import csv
import io
from pathlib import Path

import pytest

from unitgain.cli import main
from unitgain.runs import RunDirectory
from unitgain.spec import parse

ADAM = {"_target_": "unitgain.pack.optim.Adam"}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four runs: two finished, one diverged, one cut short."""
    for i, status in enumerate(["finished", "finished", "diverged", "finished"]):
        run = RunDirectory(tmp_path / "sweep" / f"run_{i}", durable=False).create()
        run.write_config(parse({"seed": i, "optimizer": ADAM | {"lr": 10.0 ** (i - 3)}}).resolved())
        run.write_summary(
            {
                "status": status,
                "metrics": {"val/loss": 1 / 3 + i, "test/accuracy": 0.9 - i / 8},
                "best": {"monitor": "val/loss", "value": 1 / 3 + i, "epoch": 1},
                "verdict": {"label": "healthy"},
                "diverged": {"step": 12} if status == "diverged" else None,
            }
        )
    (tmp_path / "sweep" / "run_3" / "summary.json").write_text('{"status": "fin')
    return tmp_path / "sweep"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_what_differs_is_shown(sweep, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["runs", str(sweep)]) == 0
    shown = lines(capsys)
    assert shown[0].split() == [
        "run", "seed", "optimizer.lr", "status", "val/loss", "test/accuracy", "verdict",
    ]  # fmt: skip
    assert shown[1].split() == ["run_0", "0", "0.001", "finished", "0.3333", "0.9000", "healthy"]
    assert shown[4].split() == ["run_3", "3", "1", "damaged"]
    assert shown[5] == "4 runs: 2 finished, 1 diverged, 1 damaged"
    assert f"diverged {sweep}/run_2: the loss was no longer finite at step 12" in shown
    assert any(line.startswith(f"damaged {sweep}/run_3: ") for line in shown)


@pytest.mark.parametrize("width", [80, 60, 40])
def test_the_table_keeps_to_the_width_and_says_what_it_left_out(sweep, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["runs", str(sweep), "--status", "finished"]) == 0
    shown = lines(capsys)
    assert all(len(line) <= width for line in shown)
    text = " ".join(shown)
    if width == 40:
        assert "lr = optimizer.lr" in text
        assert "no room for" in text
        assert shown[1].startswith("run_0     0  0.001")
    else:
        assert "no room" not in text


def test_conditions_and_order(sweep, capsys):
    status = main(
        ["runs", str(sweep), "--where", "seed>0", "--where", "optimizer.lr<1", "--sort",
         "val/loss", "--descending", "--columns", "name,val/loss"]
    )  # fmt: skip
    assert status == 0
    shown = lines(capsys)
    assert [line.split()[0] for line in shown[:3]] == ["name", "run_2", "run_1"]
    assert "2 of 4 runs: 1 diverged, 1 finished" in shown


def test_no_run_meets_it(sweep, capsys):
    assert main(["runs", str(sweep), "--where", "seed=77"]) == 0
    assert lines(capsys) == ["0 of 4 runs"]


def test_many_runs_are_cut(sweep, capsys):
    assert main(["runs", str(sweep), "--rows", "1", "--columns", "name"]) == 0
    assert "the first 1 of 4 runs; --rows 0 shows all" in lines(capsys)


def test_csv_has_every_digit(sweep, capsys):
    assert main(["runs", str(sweep), "--format", "csv", "--columns", "name,val/loss"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["val/loss"]) for row in rows[:3]] == [1 / 3, 1 / 3 + 1, 1 / 3 + 2]
    assert rows[3]["val/loss"] == ""


def test_everything_goes_into_a_file(sweep, tmp_path, capsys):
    import pandas as pd

    out = tmp_path / "runs.parquet"
    assert main(["runs", str(sweep), "--all", "--out", str(out)]) == 0
    frame = pd.read_parquet(out)
    assert frame["optimizer.lr"].tolist() == [1e-3, 1e-2, 1e-1, 1.0]
    assert f"4 of 4 runs, {frame.shape[1]} columns: {out}" in lines(capsys)
    assert main(["runs", str(sweep), "--all"]) == 0


def test_latex_and_markdown_escape(tmp_path, capsys):
    name = r"a_b|50% & #1 {x} \y $z ~ ^2"
    run = RunDirectory(tmp_path / "run", durable=False).create()
    run.write_config(parse({"name": name}).resolved())
    assert main(["runs", str(tmp_path), "--format", "tex", "--columns", "name,seed"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & seed \\",
        r"\midrule",
        r"a\_b\textbar{}50\% \& \#1 \{x\} \textbackslash{}y \$z \textasciitilde{} \textasciicircum{}2 & 0 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert main(["runs", str(tmp_path), "--format", "md", "--columns", "name,seed"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == name.replace("\\", r"\\").replace(
        "|", r"\|"
    ).join(["| ", " | 0 |"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "must be given a folder"),
        (["nowhere"], "no such folder"),
        (["."], "must hold run directories"),
        (["sweep", "--columns", "sed"], "did you mean seed?"),
        (["sweep", "--sort", "sed"], "did you mean seed?"),
        (["sweep", "--where", "seed"], "must be a condition"),
        (["sweep", "--out", "x.xlsx"], "must end in .csv"),
        (["sweep", "--out", "no/folder/x.csv"], "must be a file to write"),
        (["sweep", "--rows", "-1"], "must be 0 or more"),
        (["sweep", "--all", "--columns", "seed"], "must be one of them"),
        (["sweep", "--colums", "seed"], "no such option"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(sweep, capsys, monkeypatch, arguments, text):
    monkeypatch.chdir(sweep.parent)
    (sweep.parent / "empty").mkdir()
    if arguments == ["."]:
        monkeypatch.chdir(sweep.parent / "empty")
    assert main(["runs", *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert text in errors[0]
