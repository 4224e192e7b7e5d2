"""The figure of ``unitgain shift``, panel by panel, against the rows that it is drawn of."""

import numpy as np
import pytest

from unitgain.report.shift import ClassShares, ShiftPicture, draw_shift
from unitgain.report.split import draw_split
from unitgain.spec import parse

N, M, D = 300, 200, 3


@pytest.fixture
def made(rng):
    """A picture of rows whose second feature moved by two."""

    def made(**more):
        source, target = rng.normal(size=(N, D)), rng.normal([0, 2, 0], size=(M, D))
        weight = np.exp(source[:, 1] - source[:, 1].mean())
        weight /= weight.mean()
        given = {
            "title": "a shift",
            "source_ND": source,
            "target_MD": target,
            "weight_N": weight,
            "truth_N": weight,
            "names": ["one", "two", "a feature with a long name indeed"],
            "before_D": np.array([0.05, 2.0, -0.3]),
            "after_D": np.array([0.02, 0.4, -0.1]),
        }
        return ShiftPicture(**given | more)

    return made


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def panels(picture):
    return {axes.get_title(loc="left"): axes for axes in draw_shift(picture).axes}


def test_there_is_a_panel_for_what_is_known(made):
    shares = ClassShares(["a", "b"], *np.full((4, 2), 0.5), None)
    known = ["Source and target", "Weights of training rows", "Difference of means"]
    assert list(panels(made(truth_N=None))) == known
    assert list(panels(made(classes=shares))) == [
        *known[:2],
        "Against the truth",
        "Shares of classes",
        known[2],
    ]


def test_the_features_that_differ_most_stand_on_top(made):
    axes = panels(made())["Difference of means"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["one", "a feature with a long n…", "two"]
    assert axes.lines[0].get_xdata().tolist() == [0.05, -0.3, 2.0]
    assert axes.lines[1].get_xdata().tolist() == [0.02, -0.1, 0.4]


def test_every_weight_is_in_the_histogram(made):
    axes = panels(made())["Weights of training rows"]
    assert sum(patch.get_height() for patch in axes.patches[:25]) == N
    equal = panels(made(weight_N=np.ones(N), truth_N=None))["Weights of training rows"]
    assert max(patch.get_height() for patch in equal.patches) == N


def test_a_split_looks_the_same_in_both_figures(made):
    from unitgain.data import open_data

    table = open_data(
        parse({"data": {"_target_": "unitgain.data.sources.breast_cancer"}, "shift": PCA_TILT})
    )
    source, target = (table.x[rows] for rows in (table.split.train, table.split.test))
    names = table.feature_names
    weight = np.ones(len(source))
    picture = made(
        source_ND=source,
        target_MD=target,
        weight_N=weight,
        truth_N=None,
        names=names,
        before_D=np.zeros(len(names)),
        after_D=np.zeros(len(names)),
    )
    ours = draw_shift(picture).axes[0]
    theirs = draw_split(table, title="", facts=None).axes[0]
    assert ours.get_title(loc="left") == theirs.get_title(loc="left")
    for one, other in zip(ours.patches[:26], theirs.patches[:26], strict=True):
        assert one.get_path().vertices == pytest.approx(other.get_path().vertices)


def test_one_feature_is_named(made, rng):
    one = made(
        source_ND=rng.normal(size=(N, 1)),
        target_MD=rng.normal(size=(M, 1)),
        names=["speed"],
        before_D=np.zeros(1),
        after_D=np.zeros(1),
    )
    assert panels(one)["Source and target"].get_xlabel() == "speed"


PCA_TILT = {"_target_": "unitgain.data.shifts.PCATilt"}
