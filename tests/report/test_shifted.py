"""What ``unitgain shift`` left in runs: in the page, and in figures for print."""

import json
import math
import re

import pytest

from unitgain.report import interactive
from unitgain.report.page import Question, write_page
from unitgain.report.shifted import draw_correction, heading, shifted_runs, table_rows
from unitgain.report.sweep_figures import write_figures
from unitgain.runs import read_runs

QUESTION = Question("test/accuracy", [], higher=True)
EVIL = "<img src=x>"
BINS = [
    {"share": 0.25, "confidence": 0.6, "accuracy": 0.5},
    {"share": 0.75, "confidence": 0.9, "accuracy": 1.0},
]


def content(answer="yes", **more):
    weights = {"rows": 100, "ess": 40.0, "max_share": 0.055, "pareto_k": 0.25}
    return {
        "weighting": {"_target_": "unitgain.shift.KMM"},
        "shift": {"_target_": "unitgain.data.shifts.PCATilt"},
        "weights": weights,
        "truth": weights | {"ess": 50.0},
        "weight_error": 0.375,
        "balance": {
            "height": {"before": 0.2, "after": 0.1},
            "weight": {"before": -0.8, "after": None},
            EVIL: {"before": -0.5, "after": 0.0},
        },
        "gate": {"answer": answer, "text": f"{answer}: for {EVIL} reasons"},
        "plain": {"val/accuracy": 0.9, "test/accuracy": 0.5},
        "corrected": {"val/accuracy": 0.8, "test/accuracy": 0.75},
        "calibration": [{"part": "target", "weights": "nothing", "ece": 0.125, "bins": BINS}],
    } | more


@pytest.fixture
def runs(tmp_path, made):
    """One run whose shift is known, one that knows less, one whose file is damaged, one without."""
    unknown = content(
        "no", truth=None, weight_error=None, calibration=[], plain={}, corrected={"test/loss": 1.0}
    )
    unknown["weights"] = unknown["weights"] | {"pareto_k": None}
    for name, text in (
        ("a", json.dumps(content())),
        ("b", json.dumps(unknown)),
        ("c", '{"gate":'),
        ("d", None),
    ):
        run = made.write(tmp_path / "runs" / name, name=name, seed=ord(name))
        if text is not None:
            (run.path / "shift.json").write_text(text)
    return tmp_path / "runs"


def page_of(folder):
    return write_page(read_runs([folder]), QUESTION, folder / "page.html", title="T", command=["x"])


def test_a_row_says_what_is_known(runs):
    known, unknown = table_rows(shifted_runs(read_runs([runs])), "accuracy")
    assert dict(zip(heading("accuracy"), known, strict=True)) == {
        "run": "a",
        "shift": "PCATilt",
        "weights": "KMM",
        "effective rows": "40 of 100",
        "largest share": "5.5%",
        "tail index": "0.25",
        "error against the truth": "0.38",
        "accuracy without": "0.5",
        "with correction": "0.75",
        "correct?": "yes",
    }
    assert unknown[5:] == ["", "", "", "", "no"]


def test_features_that_differ_most_come_first_and_those_without_a_number_not_at_all(runs):
    first, _ = shifted_runs(read_runs([runs]))
    assert first.balance() == [(EVIL, -0.5, 0.0), ("height", 0.2, 0.1)]


def test_the_page_has_a_section_on_shifted_runs(runs):
    (runs / "a" / "figures").mkdir(exist_ok=True)
    (runs / "a" / "figures" / "split.png").write_bytes(b"\x89PNG1")
    html = page_of(runs).read_text()
    part = html[html.index('<h2 id="shift">') : html.index('<h2 id="each">')]
    assert '<td><a href="#run-0">a</a></td><td>PCATilt</td>' in part
    assert "yes: for &lt;img src=x&gt; reasons" in part
    assert 'id="figure-calibration"' in part
    assert 'id="figure-balance"' in part
    assert re.findall(r'src="data:image/png;base64,([^"]*)"', part) == ["iVBORzE="]
    assert EVIL not in html
    details = html[html.index('<details id="run-0">') : html.index('<details id="run-1">')]
    assert '<td>accuracy</td><td class="number">0.5</td><td class="number">0.75</td>' in details
    assert "with correction" not in html[html.index('<details id="run-2">') :]


def test_a_page_without_shifted_runs_has_no_such_section(ablation):
    assert 'id="shift"' not in page_of(ablation).read_text()


def test_figures_for_print(runs, tmp_path):
    paths = write_figures(read_runs([runs]), QUESTION, tmp_path / "out")
    names = {path.name for path in paths}
    assert {"correction.pdf", "calibration_0.pdf"} <= names
    assert "calibration_1.pdf" not in names


def test_what_is_not_known_is_not_drawn(runs):
    left, right = draw_correction(shifted_runs(read_runs([runs])), "accuracy").axes
    assert left.lines[0].get_xdata().tolist() == pytest.approx([0.5, math.nan], nan_ok=True)
    assert left.lines[1].get_xdata().tolist() == pytest.approx([0.75, math.nan], nan_ok=True)
    assert right.lines[0].get_xdata().tolist() == pytest.approx([0.5, math.nan], nan_ok=True)
    assert right.lines[1].get_xdata().tolist() == [0.4, 0.4]
    assert [label.get_text() for label in left.get_yticklabels()] == ["a: yes", "b: no"]


def test_interactive_figures_show_the_same(runs):
    first, _ = shifted_runs(read_runs([runs]))
    _, curve = interactive.plot_calibration(first.calibration).data
    assert (list(curve.x), list(curve.y)) == ([0.6, 0.9], [0.5, 1.0])
    assert curve.name == "target: error 0.125"
    before, after = interactive.plot_balance(first.balance()).data
    assert (list(before.x), list(after.x)) == ([-0.5, 0.2], [0.0, 0.1])
    assert before.y[0] == "&lt;img src=x&gt;"
