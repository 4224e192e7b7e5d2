"""``unitgain update``: the old model, a warm start and training anew on labelled target rows."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from unitgain.cli import main
from unitgain.spec import parse
from unitgain.train import fit, update
from unitgain.train.evaluate import opened
from unitgain.train.update import LEAST, RESAMPLES, update_of

NOISE = 0.3


def lines(draw, rows, slope, move=0.0):
    """y = slope x_0 + noise, features standard normal, a category that says nothing."""
    x = draw.normal(size=(rows, 2)) + np.array([move, 0])
    kind = draw.choice(["p", "q"], rows)
    y = slope * x[:, 0] + NOISE * draw.normal(size=rows)
    values = zip(x, kind, y, strict=True)
    return [f"{a:.5f},{b:.5f},{k},{c:.5f}\n" for (a, b), k, c in values]


def configuration(data, **changes):
    return parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 16},
            "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": 0.01},
            "data": data,
            "trainer": {"max_epochs": 20, "accelerator": "cpu", "progress": False},
            "figures": False,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def lined(tmp_path_factory):
    """A run on rows with slope 1, files of rows with slope -1 and with slope 1 elsewhere."""
    folder = tmp_path_factory.mktemp("update")
    draw = np.random.default_rng(0)
    for name, count, slope, move in (
        ("train", 600, 1, 0),
        ("turned", 300, -1, 0),
        ("moved", 300, 1, 1),
    ):
        (folder / f"{name}.csv").write_text(
            "a,b,kind,y\n" + "".join(lines(draw, count, slope, move))
        )
    data = {
        "_target_": "unitgain.data.sources.csv",
        "task": "regression",
        "path": str(folder / "train.csv"),
        "target_column": "y",
        "categorical": ["kind"],
    }
    fit([configuration(data)], [folder / "run"])
    return folder


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """A run of three classes."""
    folder = tmp_path_factory.mktemp("classes")
    data = {"_target_": "unitgain.data.sources.wine", "task": "classification", "batch_size": 32}
    split = {"_target_": "unitgain.data.splits.Random", "fractions": [0.4, 0.2, 0.4]}
    fit([configuration(data, split=split)], [folder / "run"])
    return folder


def test_a_turned_slope_is_seen_and_the_old_rows_do_harm(lined, capsys):
    """The old model's error is 2 |x_0|: a root mean square of sqrt(4 + noise^2)."""
    flags = ["--data", str(lined / "turned.csv"), "--labelled", "100"]
    assert main(["update", str(lined / "run"), *flags]) == 0
    out = " ".join(capsys.readouterr().out.split())
    found = json.loads((lined / "run" / "update.json").read_text())
    assert (found["labelled"], found["held"], found["graded"]) == (100, 20, 200)
    assert found["concept"]["p_value"] < 0.001
    assert found["concept"]["direction"] == 0
    assert "Answers differ at equal features" in out
    assert "most in y, along a: the mean move is" in out
    named = {each["name"]: each for each in found["candidates"]}
    assert [each["rows"] for each in found["candidates"]] == [0, 80, 80, 440]
    old = named["as it is"]["scores"]["rmse"]
    assert old["value"] == pytest.approx((4 + NOISE**2) ** 0.5, rel=0.15)
    assert old["low"] < (4 + NOISE**2) ** 0.5 < old["high"]
    assert found["best"] in ("warm start", "labelled rows alone")
    assert "as it is" not in found["tied"]
    assert "source and labelled" not in found["tied"]
    assert named["labelled rows alone"]["scores"]["rmse"]["value"] < 3 * NOISE
    assert named[found["best"]]["behind"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "Clearly worse: as it is by" in out
    assert "run/update.json" in out


def test_where_only_features_move_no_concept_shift_is_seen(lined):
    found = update_of(lined / "run", data=lined / "moved.csv", labelled=100)
    assert found.concept.p_value > 0.05
    assert "no concept shift is seen" in found.concept_text
    # The old rows tell the truth here.
    assert found.best.name != "labelled rows alone"


def test_reversed_labels_of_the_target_rows_of_a_run(tmp_path):
    """Half of the labels are the other class: the old model is right in the other half alone."""
    data = {"_target_": "unitgain.data.sources.breast_cancer", "task": "classification"}
    split = {"_target_": "unitgain.data.splits.Random", "fractions": [0.4, 0.1, 0.5]}
    shift = {"_target_": "unitgain.data.shifts.Concept", "strength": 1.0}
    spec = configuration(data, split=split, shift=shift)
    fit([spec], [tmp_path / "run"])
    found = update_of(tmp_path / "run", labelled=100, seeds=2)
    assert found.concept.p_value < 0.01
    named = {each.name: each for each in found.candidates}
    accuracy = named["as it is"].scores["accuracy"]
    assert accuracy.low < 0.5 < accuracy.high
    assert found.best.name in ("warm start", "labelled rows alone")
    assert named["as it is"] not in found.tied
    assert found.best.scores["accuracy"].low > accuracy.high


def test_the_old_model_is_graded_as_scikit_learn_does(wine, monkeypatch):
    seen = {}
    drawn = update._drawn
    monkeypatch.setattr(update, "_drawn", lambda *a: seen.setdefault("rows", drawn(*a)))
    found = update_of(wine / "run", epochs=1, seeds=1)
    graded = seen["rows"][2]
    with opened(wine / "run") as (_, module):
        table, network = module.tables[0], module.mlp.unpack(0)
    with torch.no_grad():
        output = network(torch.from_numpy(table.x[graded]).float()).double()
    said, y = output.softmax(-1).numpy(), table.y[graded]
    scores = found.candidates[0].scores
    assert scores["log_loss"].value == pytest.approx(log_loss(y, said, labels=range(3)), rel=1e-9)
    assert scores["accuracy"].value == accuracy_score(y, said.argmax(1))
    assert set(graded) < set(table.split.test)


def test_graded_rows_are_seen_by_nobody(lined, tmp_path, monkeypatch):
    """Other labels and features in them change no model, no scaling and no finding."""
    seen = {"tables": [], "weights": []}
    drawn, train = update._drawn, update.train_unrecorded

    def trained(spec, tables, device, *, seeds):
        pack = train(spec, tables, device, seeds=seeds)
        seen["tables"].append(tables[0])
        seen["weights"].append(pack.mlp.theta.detach().clone())
        return pack

    monkeypatch.setattr(update, "_drawn", lambda *a: seen.setdefault("rows", drawn(*a)))
    monkeypatch.setattr(update, "train_unrecorded", trained)
    given = {"labelled": 50, "epochs": 2, "seeds": 2}
    first = update_of(lined / "run", data=lined / "turned.csv", **given)
    train_rows, held, graded = seen["rows"]
    assert len(set(train_rows) | set(held) | set(graded)) == 300
    for table in seen["tables"]:
        np.testing.assert_array_equal(table.split.val, held)
        np.testing.assert_array_equal(table.split.test, graded)
    header, *rows = (lined / "turned.csv").read_text().splitlines(keepends=True)
    for row in graded - 600:
        a, b, kind, y = rows[row].split(",")
        rows[row] = f"{float(a) + 9},{b},{kind},{-float(y)}\n"
    (tmp_path / "other.csv").write_text(header + "".join(rows))
    second = update_of(lined / "run", data=tmp_path / "other.csv", **given)
    assert first.concept == second.concept
    for one, other in zip(seen["weights"][:3], seen["weights"][3:], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(first.candidates, second.candidates, strict=True):
        assert one.scores["rmse"].value != other.scores["rmse"].value


def test_results_repeat_and_another_draw_gives_others(wine):
    given = {"epochs": 1, "seeds": 2, "labelled": 30}
    one, same, other = (update_of(wine / "run", seed=s, **given) for s in (0, 0, 1))
    assert one == same
    assert one.candidates != other.candidates


def test_intervals_are_those_of_the_binomial():
    """Of one model's accuracy: p -+ 1.96 sqrt(p (1 - p) / M)."""
    draw = np.random.default_rng(0)
    right = (draw.random(400) < 0.8).astype(float)
    scores = {"one": [1 - right[None], right[None]], "two": [1.5 - right[None], right[None]]}
    one, two = update._graded("classification", scores, {}, np.random.default_rng(1))
    p = right.mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    interval = one.scores["accuracy"]
    # An end of a percentile interval has a standard error of about 0.05 half widths with 2000 resamples.
    assert RESAMPLES == 2000
    assert interval.value == p
    assert interval.low == pytest.approx(p - half, abs=0.15 * half)
    assert interval.high == pytest.approx(p + half, abs=0.15 * half)
    # The same rows are drawn for both, and a constant difference has no spread.
    assert two.behind.low == pytest.approx(0.5)
    assert two.behind.high == pytest.approx(0.5)


def test_seeds_widen_the_interval():
    flat = np.repeat([[0.1], [0.9], [0.5]], 50, axis=1)
    scores = {"seeds": [flat, flat], "one": [flat[2:], flat[2:]]}
    seeds, one = update._graded("classification", scores, {}, np.random.default_rng(1))
    assert seeds.scores["log_loss"].value == pytest.approx(0.5)
    # Means of three draws of three values: the extremes have a chance of 1/27 each.
    assert seeds.scores["log_loss"].low == pytest.approx(0.1)
    assert seeds.scores["log_loss"].high == pytest.approx(0.9)
    assert one.scores["log_loss"].low == one.scores["log_loss"].high == 0.5


def test_what_cannot_be_tested_for_a_concept_is_said(wine, monkeypatch):
    def refuse(*_, **__):
        from unitgain.errors import DataError

        raise DataError("answers of the source: must vary, class 2 does not; drop it")

    monkeypatch.setattr(update, "detect_concept_shift", refuse)
    found = update_of(wine / "run", epochs=1, seeds=1)
    assert found.concept is None
    assert found.concept_text.startswith("concept shift is not tested: answers of the source")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labelled", "5"], f"--labelled: must be at least {LEAST} and leave {LEAST} of the 71 "),
        (["--labelled", "60"], "of the 71 target rows to grade, got 60; label more rows, or set"),
        (["--epochs", "0"], "--epochs: must be 1 or more, got 0"),
        (["--seeds", "0"], "--seeds: must be 1 or more, got 0"),
        (["--seed", "-1"], "--seed: must be 0 or more, got -1"),
        (["--labelled", "x"], "--labelled: invalid int value: 'x'"),
        (["--separator", ""], "--separator: must be one character or tab"),
        (["--data", "nowhere.csv"], "--data: must be a file, but nowhere.csv is none"),
        (["--fast"], "--fast: no such option; see unitgain update --help"),
        (["another"], "unitgain update: must be given one run directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(wine, capsys, flags, message):
    assert main(["update", str(wine / "run"), *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,kind\n1,2,p\n", "but 'y' isn't there"),
        ("a,b,kind,y\n", "must hold labelled rows, but has none below its first line"),
        ("a,b,kind,y\n1,,p,3\n", "must have no missing values, but 1 of 3 columns do"),
        ("a,b,kind,y\n1,2,p,x\n", "target column 'y' must be numbers"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(lined, capsys, text, message):
    (lined / "bad.csv").write_text(text)
    assert main(["update", str(lined / "run"), "--data", str(lined / "bad.csv")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
