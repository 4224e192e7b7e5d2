import numpy as np
import pytest
from scipy import stats

from unitgain.cli._job import draw
from unitgain.data import open_data
from unitgain.report.split import WeightFacts, draw_split
from unitgain.runs import RunDirectory
from unitgain.spec import parse

FACTS = WeightFacts(28.8, 0.067, 33.0, 0.61)


def spec(source, shift, **more):
    return parse(
        {
            "data": {"_target_": f"unitgain.data.sources.{source}"},
            "shift": {"_target_": f"unitgain.data.shifts.{shift}"},
            **more,
        }
    )


def panels(table, facts=None):
    figure = draw_split(table, title="a shift", facts=facts)
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def outline(axes, label):
    """What a histogram's outline encloses: the shares of its bins."""
    [patch] = [p for p in axes.patches if p.get_label() == label]
    points = patch.get_xy()
    steps = points[np.flatnonzero(np.diff(points[:, 0]) > 0)]
    return steps[:, 1]


@pytest.mark.parametrize(
    ("source", "shift", "names"),
    [
        ("sinc_shift", "Given", ["Feature", "Labels", "True"]),
        ("breast_cancer", "PCATilt", ["Source", "Feature", "Labels", "True"]),
        ("wine", "Concept", ["Source", "Feature", "Labels"]),
        ("diabetes", "GaussianNoise", ["Source", "Feature", "Labels"]),
    ],
)
def test_there_is_a_panel_for_what_is_known(source, shift, names):
    shown = panels(open_data(spec(source, shift)), FACTS)
    assert [name.split()[0] for name in shown] == names


def test_the_furthest_feature_is_that_of_scipy_s_test():
    table = open_data(spec("breast_cancer", "PCATilt"))
    source, target = (table.x[rows] for rows in (table.split.train, table.split.test))
    distances = [stats.ks_2samp(a, b).statistic for a, b in zip(source.T, target.T, strict=True)]
    [title] = [name for name in panels(table) if name.startswith("Feature")]
    assert title == f"Feature furthest apart (KS {max(distances):.2f})"
    assert panels(table)[title].get_xlabel() == table.feature_names[np.argmax(distances)]


def test_true_weights_bring_the_source_to_the_target():
    table = open_data(
        spec("sinc_shift", "Given", split={"_target_": "unitgain.data.splits.Random"})
    )
    [axes] = [a for name, a in panels(table, FACTS).items() if name.startswith("Feature")]
    target, weighted = (outline(axes, name) for name in ("target", "source, truly weighted"))
    source = np.histogram(table.x[table.split.train, 0], bins=len(target))[0]
    far = np.abs(source / source.sum() - target / target.sum()).sum()
    assert np.abs(weighted / weighted.sum() - target / target.sum()).sum() < far / 2


def test_shares_of_classes_are_those_of_the_rows():
    table = open_data(spec("digits", "LabelDirichlet"))
    axes = panels(table, FACTS)["Labels"]
    shares = np.bincount(table.y[table.split.test], minlength=10) / len(table.split.test)
    points = axes.lines[0].get_ydata()
    assert points == pytest.approx(shares)
    assert axes.lines[1].get_ydata() == pytest.approx(shares, abs=1 / len(table.split.test))


def test_weights_are_told_with_what_is_known_of_them():
    table = open_data(spec("sinc_shift", "Given"))
    [text] = panels(table, FACTS)["True weights of training rows"].texts
    assert text.get_text().splitlines() == [
        "population: at most 28.8, 6.7% effective",
        "rows: 33 of 605 effective, tail index 0.61",
    ]
    wide = WeightFacts(np.inf, 0.0, 33.0, -np.inf)
    [text] = panels(table, wide)["True weights of training rows"].texts
    assert text.get_text().splitlines() == [
        "population: unbounded, E[w^2] infinite",
        "rows: 33 of 605 effective",
    ]


def test_a_run_with_a_shift_leaves_a_picture_of_its_split(tmp_path):
    quiet = {"probe": {"every": None}}
    figures = RunDirectory(tmp_path).figures_dir
    assert draw(spec("breast_cancer", "PCATilt", figures=False, **quiet), tmp_path) == []
    assert draw(parse(quiet), tmp_path) == []
    paths = draw(spec("breast_cancer", "PCATilt", **quiet), tmp_path)
    assert paths == [figures / "split.png", figures / "split.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
