"""``unitgain compare``: a sweep's groups of runs over their seeds."""

import pytest

from unitgain.cli import main
from unitgain.spec import parse
from unitgain.train import fit


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two initializers, of which one does not learn, with three seeds each."""
    folder = tmp_path_factory.mktemp("compare")
    specs = [
        parse(
            {
                "seed": seed,
                "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8},
                "init": init,
                "data": {"_target_": "unitgain.data.sources.iris", "task": "classification"},
                "trainer": {"max_epochs": 20, "accelerator": "cpu", "progress": False},
                "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": 0.05},
                "probe": {"every": None},
                "figures": False,
            }
        )
        for init in (
            {"_target_": "unitgain.nn.init.he"},
            {"_target_": "unitgain.nn.init.zeros"},
        )
        for seed in range(3)
    ]
    fit(specs, [folder / str(k) for k in range(6)])
    return folder


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_sweep_is_compared_by_a_key(sweep, capsys, monkeypatch, columns, tmp_path):
    monkeypatch.setenv("COLUMNS", columns)
    out = tmp_path / "table.md"
    assert main(["compare", str(sweep), "--by", "init", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines[:-1])) <= int(columns)
    assert lines[0].split()[:4] == ["init", "seeds", "diverged", "mean"]
    assert lines[1].split()[:3] == ["he", "3", "0"]
    assert lines[2].split()[:3] == ["zeros", "3", "0"]
    words = " ".join(text.split())
    assert "val/loss (lower is better)" in words
    assert "paired on 3 shared seeds" in words
    assert "| he | 3 | 0 |" in out.read_text()


def test_more_is_better_of_an_accuracy_and_a_choice_of_runs_is_one(sweep, capsys):
    choice = ["--by", "init", "--metric", "test/accuracy", "--where", "seed=0,1"]
    assert main(["compare", str(sweep), *choice, "--baseline", "zeros"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "test/accuracy (higher is better)" in words
    assert "against the baseline, zeros: paired on 2 shared seeds" in words


def test_one_seed_gives_a_table_without_a_ranking(sweep, capsys):
    assert main(["compare", str(sweep), "--by", "init", "--where", "seed=0"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "No ranking: each group has one seed" in words
    assert "P(better)" not in words


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--by", "init"], "unitgain compare: must be given folders with runs, got none; write "),
        (["{sweep}"], "--by: must name the keys that make the groups; write --by init"),
        (
            ["{sweep}", "--by", "init", "--level", "95"],
            "--level: must be between 0 and 1, got 95; ",
        ),
        (["{sweep}", "--by", "init", "--seed", "-1"], "--seed: must be 0 or more, got -1; 0 is "),
        (["{sweep}", "--by", "init", "--out", "a.pdf"], "--out: must end in .md, .tex, .csv, got "),
        (["{sweep}", "--by", "init", "--metric", "val/los"], "val/los: must be a column of the "),
        (["{sweep}", "--by", "init", "--metric", "epoch"], "--better: must say which way epoch is"),
        (
            ["{sweep}", "--by", "init", "--statistic", "median", "--interval", "student"],
            "interval:",
        ),
        (
            ["{sweep}", "--by", "init", "--where", "seed=9"],
            "{sweep}: must hold runs, but there are ",
        ),
        (
            ["{sweep}/none", "--by", "init"],
            "{sweep}/none: must be a folder with runs, but there is ",
        ),
        (["{sweep}", "--by", "init", "--tests", "t"], "--tests: no such option; see unitgain "),
    ],
)
def test_what_can_not_be_compared_is_one_line(sweep, capsys, arguments, line):
    assert main(["compare", *(each.format(sweep=sweep) for each in arguments)]) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {line.format(sweep=sweep)}")


@pytest.mark.parametrize("columns", ["80", "120"])
def test_long_names_are_folded_and_numbers_are_not(sweep, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    keys = "init,model.depth,model.width,optimizer,optimizer.lr,trainer.max_epochs,data"
    assert main(["compare", str(sweep), "--by", keys]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= int(columns)
    assert sum(" to " in line for line in table) == 2
    [head] = [line for line in table if "95 % interval" in line]
    # No run diverged: the column gives way first.
    assert "diverged" not in head
