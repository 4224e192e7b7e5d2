"""The exponent of weights that cross-validation chooses, against runs that are given it."""

import json

import numpy as np
import pytest
import torch

from unitgain.data import open_data
from unitgain.errors import ConfigError
from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint
from unitgain.train.correction import correction_of
from unitgain.train.cross_fit import EXPONENTS, cross_fit
from unitgain.train.evaluate import evaluate
from unitgain.train.exponent import choose_exponent, settled_spec


def spec(exponent="auto", lr=0.02, seed=0, **keys):
    weighting = {"_target_": "unitgain.shift.Oracle", "exponent": exponent, **keys}
    return parse(
        {
            "seed": seed,
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 4},
            "data": {"_target_": "unitgain.data.sources.wine", "batch_size": 24},
            "shift": {"_target_": "unitgain.data.shifts.PCATilt", "strength": 4.0},
            "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": lr},
            "trainer": {"max_epochs": 4, "accelerator": "cpu", "progress": False},
            "callbacks": {"checkpoint": {"every_s": 0}},
            "probe": {"every": None},
            "weighting": weighting,
            "figures": False,
        }
    )


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def assert_same_weights(one, other):
    for name in ("best_checkpoint", "last_checkpoint"):
        a, b = (read_checkpoint(getattr(RunDirectory(f), name)) for f in (one, other))
        for part in ("state_dict", "optimizer"):
            assert list(a[part]) == list(b[part])
            for key, value in a[part].items():
                assert_same(value, b[part][key])
    assert a["optimizer"]


def assert_same(a, b):
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    else:
        assert torch.equal(a, b)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run that chose its exponent."""
    folder = tmp_path_factory.mktemp("auto")
    fit([spec()], [folder])
    return folder


def test_a_run_is_the_one_that_is_given_its_exponent_bit_for_bit(chosen, tmp_path):
    found = summary(chosen)
    exponent = found["weighting"]["exponent"]
    fit([spec(exponent)], [tmp_path])
    given = summary(tmp_path)
    assert found["metrics"] == given["metrics"]
    assert found["best"] == given["best"]
    assert_same_weights(chosen, tmp_path)
    extra = {name: found["weighting"].pop(name) for name in ("exponent", "cross_validation")}
    assert found["weighting"] == given["weighting"]
    assert exponent in extra["cross_validation"]["exponents"]
    assert evaluate(chosen) == pytest.approx(found["metrics"])


def test_the_choice_is_the_least_weighted_loss_of_left_out_rows(chosen):
    weighting = summary(chosen)["weighting"]
    found, table = weighting["cross_validation"], open_data(spec())
    full_N = table.importance.full_N
    fitted = cross_fit(spec(), table, full_N, EXPONENTS, plain=False)
    weight_N, loss_EN = full_N[fitted.rows], fitted.loss_EN.numpy()
    expected = [np.average(loss_N, weights=weight_N) for loss_N in loss_EN]
    risks = [risk["value"] for risk in found["risks"]]
    assert risks == pytest.approx(expected, rel=1e-12)
    assert len(set(risks)) == len(EXPONENTS)
    assert weighting["exponent"] == EXPONENTS[int(np.argmin(expected))]
    # The interval by the delta method, Owen's equation 9.9.
    share_N = weight_N / weight_N.sum()
    error = np.sqrt((share_N**2 * (loss_EN[2] - expected[2]) ** 2).sum())
    half = found["risks"][2]["high"] - risks[2]
    assert half == pytest.approx(1.959963985 * error, rel=1e-8)


def test_zero_validates_with_weights_where_the_run_would(chosen):
    table = open_data(spec())
    full_N = table.importance.full_N
    corrects, plain = (
        cross_fit(spec(lr=0.3), table, full_N, (0.0, 0.5), plain=p) for p in (False, True)
    )
    # The best epoch differs, and with it the losses; what has weights either way doesn't.
    assert not corrects.loss_of(0.0).equal(plain.loss_of(0.0))
    assert corrects.loss_of(0.5).equal(plain.loss_of(0.5))


def test_the_choice_follows_from_the_seed():
    table = open_data(spec())
    first = choose_exponent(spec(), table)
    assert choose_exponent(spec(), open_data(spec())) == first
    config = spec().resolved()
    other = parse(config | {"weighting": config["weighting"] | {"seed": 1}})
    assert choose_exponent(other, open_data(other)) != first


def test_members_of_a_sweep_choose_as_they_would_alone(tmp_path):
    specs = [spec(lr=lr, seed=s) for lr, s in ((0.002, 0), (0.2, 1))] + [spec(0.5)]
    fit(specs, [tmp_path / f"pack{k}" for k in range(3)])
    for k, each in enumerate(specs):
        fit([each], [tmp_path / f"alone{k}"])
        packed, alone = (summary(tmp_path / f"{kind}{k}") for kind in ("pack", "alone"))
        assert packed["weighting"] == alone["weighting"]
        assert packed["metrics"] == alone["metrics"]
        assert_same_weights(tmp_path / f"pack{k}", tmp_path / f"alone{k}")
    risks = [summary(tmp_path / f"pack{k}")["weighting"]["cross_validation"] for k in (0, 1)]
    assert risks[0] != risks[1]
    assert "exponent" not in summary(tmp_path / "pack2")["weighting"]


def test_a_resumed_run_keeps_its_choice(chosen, tmp_path, interrupt_at, monkeypatch):
    assert summary(chosen)["step"] == 12  # folds have fewer rows, and end before step 9
    with interrupt_at(9):
        fit([spec()], [tmp_path])
    assert summary(tmp_path)["status"] == "interrupted"
    assert summary(tmp_path)["epoch"] == 3

    def refused(*_):
        raise AssertionError("the exponent was chosen once already")

    monkeypatch.setattr("unitgain.train.exponent.choose_exponent", refused)
    fit([spec()], [tmp_path], resume=True)
    assert summary(tmp_path)["weighting"] == summary(chosen)["weighting"]
    assert summary(tmp_path)["metrics"] == summary(chosen)["metrics"]
    assert_same_weights(chosen, tmp_path)


def test_the_bound_of_weights_holds_for_the_chosen_exponent_and_in_folds():
    bounded, free = (choose_exponent(s, open_data(s)) for s in (spec(largest=1.5), spec()))
    one, other = (each["cross_validation"]["risks"] for each in (bounded, free))
    assert one[0] == other[0]  # all weights are one
    assert one[-1] != other[-1]
    table = open_data(spec(largest=1.5)).with_exponent({"exponent": 1.0}, 1.5)
    train = table.split.train
    assert table.weight[train].max() <= 1.5
    assert np.array_equal(table.weight, open_data(spec(1.0, largest=1.5)).weight)


def test_a_finished_run_tells_its_exponent(chosen):
    found = settled_spec(RunDirectory(chosen))
    assert found.weighting.exponent == summary(chosen)["weighting"]["exponent"]
    assert RunDirectory(chosen).read_config()["weighting"]["exponent"] == "auto"
    # What unitgain shift then analyses is the run with its number.
    exponent, analysed = found.weighting.exponent, correction_of(chosen, folds=2)
    assert analysed.risk.exponent == exponent
    assert np.array_equal(analysed.table.weight, open_data(spec(exponent)).weight)


def test_without_weights_there_is_nothing_to_choose(tmp_path):
    config = spec().resolved() | {
        "weighting": {"_target_": "unitgain.shift.Uniform", "exponent": "auto"}
    }
    fit([parse(config)], [tmp_path])
    assert "weighting" not in summary(tmp_path)


@pytest.mark.parametrize("wrong", ["best", True, 1.5, -0.1])
def test_another_word_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"weighting\.exponent: must be .*at most 1, or 'auto'"):
        spec(wrong)
