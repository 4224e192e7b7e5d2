"""Studies: what their files say, and when a claim holds."""

import json
import math
from pathlib import Path

import pytest

from unitgain.errors import ConfigError
from unitgain.report.study import Expected, Result, Study, find_study, study_folders

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

PLOT = """
from matplotlib.figure import Figure


def numbers(results):
    return {"share": sum(result.metric("test/accuracy") for result in results) / len(results)}


def draw(results):
    return Figure(figsize=(1, 1))
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "study.yaml").write_text(
        "overrides: [activation=tanh, optimizer.lr=1e-3]\n"
        "sweep: {model.depth: [1, 2], seed: 'range(0,3)'}\n"
        "smoke: {overrides: [model.width=2], sweep: {seed: 0}}\n"
    )
    (folder / "plot.py").write_text(PLOT)
    write_expected(folder, share={"meaning": "accuracy", "least": 0.5})
    return folder


def write_expected(folder, **numbers):
    content = dict.fromkeys(("claim", "source", "cost", "verdict"), "words")
    content |= {"holds": True, "numbers": numbers}
    (folder / "expected.json").write_text(json.dumps(content))


def test_the_command_of_a_study(folder):
    study = Study.read(folder)
    assert study.name == "mine"
    assert study.command() == [
        "activation=tanh",
        "optimizer.lr=1e-3",
        "model.depth=1,2",
        "seed=range(0,3)",
    ]
    assert study.command(smoke=True) == [
        "activation=tanh",
        "optimizer.lr=1e-3",
        "model.width=2",
        "model.depth=1,2",
        "seed=0",
    ]


def test_a_study_is_found_by_its_folder_and_by_its_name(folder):
    assert find_study(str(folder), Path("nowhere")).folder == folder
    assert find_study("mine", folder.parent).folder == folder
    assert study_folders(folder.parent) == [folder]
    with pytest.raises(ConfigError, match=r"yours: must be a folder with study.yaml.*there: mine"):
        find_study("yours", folder.parent)


@pytest.mark.parametrize(
    ("wanted", "measured", "words", "holds"),
    [
        ({"least": 0.9}, 0.9, "at least 0.9", True),
        ({"least": 0.9}, 0.899, "at least 0.9", False),
        ({"most": 2}, 2.1, "at most 2", False),
        ({"least": 3, "most": 12}, 4.0, "3 to 12", True),
        ({"least": 3, "most": 12}, 12.5, "3 to 12", False),
        ({"value": -0.0832, "tolerance": 0.005}, -0.0818, "-0.0832 +- 0.005", True),
        ({"value": -0.0832, "tolerance": 0.005}, -0.0772, "-0.0832 +- 0.005", False),
        ({"least": 0.9}, math.nan, "at least 0.9", False),
        ({"value": 0, "tolerance": 1}, math.nan, "0 +- 1", False),
    ],
)
def test_a_number_holds_within_its_bounds(wanted, measured, words, holds):
    expected = Expected("", "", "", True, "", {"x": {"meaning": "m", **wanted}})
    [check] = expected.check({"x": measured, "another": 1.0})
    assert (check.expected, check.holds, check.meaning) == (words, holds, "m")


def test_a_number_that_is_not_measured_is_an_error():
    expected = Expected("", "", "", True, "", {"x": {"meaning": "m", "least": 1}})
    with pytest.raises(ConfigError, match=r"but x is missing; it gave y"):
        expected.check({"y": 1.0})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("study.yaml", "sweep: [", "must be there and readable"),
        ("study.yaml", "- a", "must hold a mapping, but holds a list"),
        ("study.yaml", "overrides: []", "must have sweep, but lacks it"),
        (
            "study.yaml",
            "sweep: {}\nepochs: 3",
            "epochs must be one of overrides, sweep, smoke, keep",
        ),
        ("study.yaml", "sweep: {}\nkeep: all", "keep must be checkpoints, or be left out, got all"),
        ("study.yaml", "sweep: {}\nsmoke: {sweep: 3}", r"smoke\.sweep must be a dict, got 3"),
        ("expected.json", '{"claim": "c"}', "must have source, but lacks it"),
        (
            "expected.json",
            '{"claim": "", "source": "", "cost": "", "verdict": "", "holds": false, '
            '"numbers": {"x": {"meaning": "m"}}}',
            "value and tolerance, or least, most or both, but x is",
        ),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_an_error(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        Study.read(folder)


def test_a_study_without_its_plot_is_an_error(folder):
    (folder / "plot.py").unlink()
    with pytest.raises(ConfigError, match=r"must hold plot\.py beside study\.yaml"):
        Study.read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def numbers(results): ...", "but lacks draw"),
        ("1 / 0", r"must be Python that can be run, but .*plot\.py raised ZeroDivisionError"),
    ],
)
def test_a_plot_that_cannot_be_used_is_an_error(folder, text, message):
    (folder / "plot.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Study.read(folder).plot()


def test_results_become_numbers_and_a_figure(folder, tmp_path):
    results = [
        Result(tmp_path, {"model": {"depth": d}}, {"metrics": {"test/accuracy": a}})
        for d, a in ((1, 0.25), (2, 0.75))
    ]
    plot = Study.read(folder).plot()
    assert plot.measure(results) == {"share": 0.5}
    assert plot.save(results, tmp_path / "out") == tmp_path / "out" / "figure.png"
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [result.key("model.depth") for result in results] == [1, 2]
    assert math.isnan(results[0].metric("val/accuracy"))


@pytest.mark.parametrize("folder", study_folders(EXPERIMENTS), ids=lambda folder: folder.name)
def test_a_study_that_the_project_ships_is_whole(folder):
    study = Study.read(folder)
    assert study.smoke
    assert study.expected.numbers
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    readme = (folder / "README.md").read_text()
    for word in ("**Claim.**", "**Command.**", "**Cost.**", "**Verdict.**", "figure.png"):
        assert word in readme
    assert f"unitgain study experiments/{study.name}" in readme
