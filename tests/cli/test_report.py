"""unitgain report: what it takes, writes and refuses."""

import pytest

from unitgain.cli import main
from unitgain.spec import parse
from unitgain.train import fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two initializers, two seeds, trained."""
    folder = tmp_path_factory.mktemp("report") / "sweep"
    specs = [
        parse(
            {
                "seed": seed,
                "init": {"_target_": f"unitgain.nn.init.{name}"},
                "data": {"_target_": "unitgain.data.sources.iris", "task": "classification"},
                "trainer": {"max_epochs": 2, "progress": False},
            }
        )
        for name in ("he", "xavier")
        for seed in (0, 1)
    ]
    fit(specs, [folder / f"run{i}" for i in range(len(specs))])
    return folder


@pytest.fixture
def sweep(trained):
    """The same, without a page."""
    (trained / "report.html").unlink(missing_ok=True)
    return trained


def test_a_page_and_figures_of_a_sweep(sweep, tmp_path, capsys):
    argv = [
        "report",
        str(sweep),
        "--metric",
        "test/accuracy",
        "--figures",
        str(tmp_path / "figures"),
    ]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert f"report  {sweep}/report.html" in out
    assert "curves" in out
    assert (tmp_path / "figures" / "gradients.pdf").stat().st_size > 1000
    html = (sweep / "report.html").read_text()
    assert "4 runs, 4 of them with test/accuracy" in html
    assert "init explains" in html
    # What it is about where nothing is asked: the metric that the runs monitor.
    assert main(["report", str(sweep), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert "with val/loss" in (tmp_path / "new" / "page.html").read_text()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--metric", "test/acuracy"], "test/acuracy: must be a column of the runs"),
        (["--metric", "seed"], "--metric: must be a metric of the runs, but seed isn't"),
        (["--by", "inti"], "inti: must be a column of the runs"),
        (["--out", "page.pdf"], "--out: must end in .html, got page.pdf"),
        (["--baseline", "lecun"], "lecun"),
        (["--where", "seed=7"], "must hold runs, but there are none"),
        (["--columns", "3"], "--columns"),
    ],
)
def test_what_it_cannot_do_is_one_line(sweep, capsys, more, line):
    assert main(["report", str(sweep), *more]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (sweep / "report.html").exists()


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "must hold runs, but there are none" in capsys.readouterr().err
