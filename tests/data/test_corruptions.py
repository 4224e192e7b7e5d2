import math

import numpy as np
import pytest

from unitgain.data import CategoricalColumn, open_data, table_from_arrays
from unitgain.data.shifts import FeatureKnockout, FeatureScaling, GaussianNoise, MissingValues
from unitgain.data.sources import diabetes
from unitgain.data.splits import Random
from unitgain.errors import ConfigError, DataError
from unitgain.spec import parse

SHIFTS = [GaussianNoise, FeatureKnockout, FeatureScaling, MissingValues]
NONE = [GaussianNoise(0.0), FeatureScaling(1.0), MissingValues(0.0)]


def table(n=600, **more):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 4)) * [1.0, 10.0, 0.1, 0.0] + [0.0, 50.0, 1.0, 7.0]
    colour = CategoricalColumn("colour", rng.choice(3, size=n, p=[0.2, 0.5, 0.3]), ("r", "g", "b"))
    return table_from_arrays("toy", x, x[:, 0], task="regression", categorical=[colour], **more)


def bare(n=50):
    flat = np.ones((n, 2))
    return table_from_arrays("bare", flat, np.arange(float(n)), task="regression")


def differing(shifted, whole):
    """The features and the rows in which the two tables differ."""
    old = np.column_stack([whole.x, *(c.codes for c in whole.categorical)])
    new = np.column_stack([shifted.table.x, *(c.codes for c in shifted.table.categorical)])
    cells = ~((old == new) | (np.isnan(old) & np.isnan(new)))
    return np.flatnonzero(cells.any(0)), np.flatnonzero(cells.any(1))


@pytest.mark.parametrize("kind", SHIFTS)
def test_features_of_test_rows_alone_are_other_ones(kind):
    whole = table()
    base = Random()(whole)
    shifted = kind()(whole, base)
    columns, rows = differing(shifted, whole)
    assert len(columns)
    assert np.isin(rows, base.test).all()
    # The constant column is left alone.
    assert 3 not in columns
    assert shifted.split is base
    assert shifted.table.y is whole.y
    assert (shifted.kind, shifted.ratio) == ("corruption", None)
    assert math.isnan(shifted.bound)
    assert math.isnan(shifted.ess_share)


@pytest.mark.parametrize("kind", SHIFTS)
def test_the_seed_alone_decides(kind):
    whole = table()
    first, again, other = (
        kind(share=0.5, seed=s)(whole, Random()(whole)).table.fingerprint() for s in (0, 0, 3)
    )
    assert first == again != other


@pytest.mark.parametrize("shift", NONE)
def test_no_strength_is_no_shift(shift):
    whole = table()
    assert shift(whole, Random()(whole)).table.fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("strength", [0.1, 1.0, 4.0])
def test_noise_has_the_asked_standard_deviation(strength):
    whole = table(20_000)
    base = Random()(whole)
    shifted = GaussianNoise(strength)(whole, base)
    noise = (shifted.table.x - whole.x)[base.test][:, :3]
    spread = strength * whole.x[base.train][:, :3].std(0)
    n = len(base.test)
    assert np.abs(noise.mean(0) / spread).max() < 4.5 / math.sqrt(n)
    assert np.abs(noise.std(0) / spread - 1).max() < 4.5 / math.sqrt(2 * n)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 4.5 / math.sqrt(n)


def test_runs_of_one_seed_have_the_same_noise_times_a_number():
    whole = table()
    base = Random()(whole)
    one, three = (GaussianNoise(a)(whole, base).table.x - whole.x for a in (1.0, 3.0))
    assert three == pytest.approx(3 * one, abs=1e-12)
    fewer = GaussianNoise(1.0, share=0.4)(whole, base)
    [column], _ = differing(fewer, whole)
    assert fewer.table.x[:, column] - whole.x[:, column] == pytest.approx(one[:, column])


def test_features_that_are_knocked_out_are_what_training_rows_commonly_are():
    whole = table()
    base = Random()(whole)
    shifted = FeatureKnockout(share=1.0)(whole, base)
    assert differing(shifted, whole)[0].tolist() == [0, 1, 2, 4]
    expected = np.tile(whole.x[base.train].mean(0), (len(base.test), 1))
    assert shifted.table.x[base.test] == pytest.approx(expected)
    codes = shifted.table.categorical[0].codes[base.test]
    assert set(codes) == {np.bincount(whole.categorical[0].codes[base.train]).argmax()} == {1}
    number = FeatureKnockout(-5.0, ("x1", "colour"))(whole, base)
    assert differing(number, whole)[0].tolist() == [1, 4]
    assert set(number.table.x[base.test, 1]) == {-5.0}


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.3, 1), (0.5, 2), (1.0, 4)])
def test_a_share_of_features_is_drawn(share, count):
    whole = table()
    found = [
        frozenset(differing(FeatureKnockout(share=share, seed=s)(whole, Random()(whole)), whole)[0])
        for s in range(40)
    ]
    assert {len(columns) for columns in found} == {count}
    assert frozenset.union(*found) == {0, 1, 2, 4}


def test_scaled_features_are_multiplied():
    whole = table()
    base = Random()(whole)
    shifted = FeatureScaling(0.01, ("x1",))(whole, base)
    assert differing(shifted, whole)[0].tolist() == [1]
    assert shifted.table.x[base.test, 1] == pytest.approx(whole.x[base.test, 1] / 100)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_the_asked_share_of_cells_is_missing(share):
    whole = table()
    base = Random()(whole)
    shifted = MissingValues(share)(whole, base)
    gone = np.column_stack([np.isnan(shifted.table.x), shifted.table.categorical[0].codes < 0])
    assert gone.sum() == round(share * 4 * len(base.test))
    # Columns miss about as many cells each.
    count, n = gone[:, [0, 1, 2, 4]].sum(0), len(base.test)
    assert (np.abs(count - share * n) <= 4.5 * math.sqrt(n * share * (1 - share))).all()
    named = MissingValues(share, ("colour",))(whole, base)
    assert not np.isnan(named.table.x).any()
    assert (named.table.categorical[0].codes < 0).sum() == round(share * n)
    fewer = MissingValues(share / 2)(whole, base)
    assert (np.isnan(shifted.table.x) | ~np.isnan(fewer.table.x)).all()


def spec(shift, **data):
    given = {"_target_": f"unitgain.data.shifts.{shift}", "seed": 1}
    return parse({"data": {"_target_": "unitgain.data.sources.diabetes", **data}, "shift": given})


@pytest.mark.parametrize(("impute", "statistic"), [("mean", np.mean), ("median", np.median)])
def test_missing_cells_are_filled_with_statistics_of_complete_training_rows(impute, statistic):
    prepared = open_data(spec("MissingValues", impute=impute))
    raw, split = diabetes().x, prepared.split
    gone = np.isnan(prepared.shifted.table.x)
    assert gone[split.test].mean() == pytest.approx(0.25, abs=1e-3)
    assert not gone[split.train].any()
    mean, spread = raw[split.train].mean(0), raw[split.train].std(0)
    filled = np.where(gone, statistic(raw[split.train], axis=0), raw)
    np.testing.assert_allclose(prepared.x, (filled - mean) / spread, atol=1e-9)


def test_missing_cells_need_an_imputation_before_data_is_loaded():
    with pytest.raises(ConfigError, match=r"data.impute: must be given where shift=missing_values"):
        spec("MissingValues")


@pytest.mark.parametrize("kind", [shift.__name__ for shift in SHIFTS])
def test_a_table_has_as_many_features_in_every_shift(kind):
    plain = open_data(parse({"data": {"_target_": "unitgain.data.sources.digits"}}))
    given = {"_target_": f"unitgain.data.shifts.{kind}", "share": 1.0}
    data = {"_target_": "unitgain.data.sources.digits", "impute": "mean"}
    prepared = open_data(parse({"data": data, "shift": given}))
    assert prepared.feature_names == plain.feature_names
    train = prepared.split.train
    assert np.array_equal(prepared.x[train], plain.x[train])
    assert np.isfinite(prepared.x).all()


def test_what_a_corruption_needs_is_told():
    whole = table()
    base = Random()(whole)
    with pytest.raises(DataError, match=r"varies over the training rows, but 'x3' is none; choose"):
        FeatureKnockout(features=("x3",))(whole, base)
    for kind in (GaussianNoise, FeatureScaling):
        with pytest.raises(DataError, match=r"must name a numeric feature .* but 'colour' is none"):
            kind(features=("colour",))(whole, base)
        with pytest.raises(
            DataError, match="a numeric feature must vary over the 30 training rows"
        ):
            kind()(bare(), Random()(bare()))
