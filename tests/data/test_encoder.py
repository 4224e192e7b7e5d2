import warnings

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from unitgain.data import CategoricalColumn, DataWarning, fit_encoder, table_from_arrays
from unitgain.errors import DataError

N = 60
TRAIN = np.arange(0, N, 2)
RNG = np.random.default_rng(0)
X = RNG.normal(3, 5, size=(N, 4))
LEVELS = ("red", "green", "blue")
COLOURS = RNG.integers(0, 3, N)


def table(x=X, **more):
    return table_from_arrays("toy", x, np.arange(float(len(x))), task="regression", **more)


def colour(codes, encoding="one_hot", levels=LEVELS):
    return [CategoricalColumn("colour", np.array(codes), levels, encoding)]


def encoded(whole, scale="standard", impute=None, train=TRAIN):
    return fit_encoder(whole, train, scale=scale, impute=impute).encode(whole)


@pytest.mark.parametrize(
    ("scale", "scaler"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())]
)
def test_scaling_is_that_of_sklearn_on_the_training_rows(scale, scaler):
    expected = scaler.fit(X[TRAIN]).transform(X)
    np.testing.assert_allclose(encoded(table(), scale), expected, rtol=1e-12, atol=1e-12)


def test_no_scaling_leaves_the_numbers():
    assert np.array_equal(encoded(table(), "none"), X)


def test_only_training_rows_are_learned_from():
    x = X.copy()
    others = np.setdiff1d(np.arange(N), TRAIN)
    x[others] *= 100
    assert np.array_equal(encoded(table())[TRAIN], encoded(table(x))[TRAIN])


@pytest.mark.parametrize("impute", ["mean", "median", "most_frequent"])
def test_imputation_is_that_of_sklearn_on_the_training_rows(impute):
    x = np.round(X)
    x[RNG.random(x.shape) < 0.2] = np.nan
    expected = SimpleImputer(strategy=impute).fit(x[TRAIN]).transform(x)
    np.testing.assert_allclose(encoded(table(x), "none", impute), expected, rtol=1e-12)


def test_one_hot_is_that_of_sklearn_and_unscaled():
    text = np.array(LEVELS)[COLOURS][:, None]
    encoder = OneHotEncoder(categories=[list(LEVELS)], sparse_output=False).fit(text[TRAIN])
    whole = table(categorical=colour(COLOURS))
    assert np.array_equal(encoded(whole)[:, 4:], encoder.transform(text))
    names = fit_encoder(whole, TRAIN, scale="standard", impute=None).feature_names
    assert names[4:] == ("colour=red", "colour=green", "colour=blue")


def test_unseen_categories_are_all_zero_in_one_hot():
    codes = COLOURS.copy()
    codes[TRAIN] = codes[TRAIN] % 2
    codes[1] = 2
    x = encoded(table(categorical=colour(codes)))
    assert x.shape == (N, 7)
    assert x[1, 4:].tolist() == [0, 0, 0]
    assert (x[TRAIN, 4:].sum(axis=1) == 1).all()


def test_ordinal_is_that_of_sklearn_with_minus_one_for_the_unseen():
    codes = COLOURS.copy()
    codes[TRAIN] = np.where(codes[TRAIN] == 1, 0, codes[TRAIN])
    codes[1] = 1
    text = np.array(LEVELS)[codes][:, None]
    encoder = OrdinalEncoder(
        categories=[["red", "blue"]], handle_unknown="use_encoded_value", unknown_value=-1
    ).fit(text[TRAIN])
    expected = encoder.transform(text)
    assert expected.min() == -1
    found = encoded(table(categorical=colour(codes, "ordinal")), "none")[:, 4:]
    assert np.array_equal(found, expected)
    scaled = encoded(table(categorical=colour(codes, "ordinal")))[:, 4:]
    np.testing.assert_allclose(scaled, StandardScaler().fit(expected[TRAIN]).transform(expected))


def test_missing_categories_become_the_most_frequent_one():
    codes = np.where(np.arange(N) % 3 == 0, 1, 2)
    codes[[0, 1]] = -1
    x = encoded(table(categorical=colour(codes)), impute="mean")
    assert x[:2, 4:].tolist() == [[0, 0, 1], [0, 0, 1]]


def test_missing_values_are_never_filled_unasked():
    x = X.copy()
    x[3, 0] = np.nan
    with pytest.raises(DataError, match=r"'x0' in 1 of 60 rows \(row 4\); set data.impute=median"):
        encoded(table(x))
    encoder = fit_encoder(table(), TRAIN, scale="standard", impute=None)
    with pytest.raises(DataError, match="features must have no missing values"):
        encoder.encode(table(x))


def test_constant_columns_are_dropped_with_a_warning():
    x = np.insert(X, 1, 7.0, axis=1)
    line = "toy: 1 of 5 feature columns have one value in all 60 rows and are dropped: 'x1'"
    with pytest.warns(DataWarning, match=line):
        found = encoded(table(x))
    assert np.array_equal(found, encoded(table()))


def test_a_category_with_one_level_is_dropped_with_a_warning():
    with pytest.warns(DataWarning, match="are dropped: 'colour=red', 'colour=green'"):
        found = encoded(table(categorical=colour(np.zeros(N, dtype=int))))
    assert found.shape == (N, 4)


def test_columns_constant_in_training_are_zero_with_a_warning():
    x = X.copy()
    x[TRAIN, 1] = 7.0
    line = "toy: 1 of 4 feature columns have one value in the 30 training rows and are 0 in all"
    with pytest.warns(DataWarning, match=line):
        found = encoded(table(x))
    assert found.shape == (N, 4)
    assert not found[:, 1].any()


def test_constant_columns_stay_in_silence_where_they_are_expected():
    x = np.insert(X, 1, 7.0, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = encoded(table(x, constant_ok=True))
    assert found.shape == (N, 5)
    assert not found[:, 1].any()


@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
def test_the_number_of_features_is_the_same_for_every_split(scale):
    x = np.zeros((N, 3))
    x[:, 0] = np.arange(N)
    x[0, 1] = x[1, 2] = 1
    codes = np.arange(N) // 25
    whole = table(x, categorical=colour(codes), constant_ok=True)
    splits = (TRAIN, TRAIN + 1, np.arange(20))
    assert {encoded(whole, scale, train=train).shape for train in splits} == {(N, 6)}


def test_nothing_that_varies_is_a_fault():
    with pytest.raises(
        DataError, match="some feature must vary over the 30 training rows, but all"
    ):
        encoded(table(np.ones((N, 2))))


def test_columns_empty_in_training_are_a_fault():
    x = X.copy()
    x[TRAIN, 2] = np.nan
    with pytest.raises(
        DataError, match="needs values in the training rows, but all 30 are missing"
    ):
        encoded(table(x), impute="mean")
    codes = np.where(np.isin(np.arange(N), TRAIN), -1, 0)
    with pytest.raises(DataError, match="'colour' needs values in the training rows, but all 30"):
        encoded(table(categorical=colour(codes)), impute="mean")


def test_new_rows_are_encoded_by_name_of_their_levels():
    whole = table(categorical=colour(COLOURS))
    encoder = fit_encoder(whole, TRAIN, scale="standard", impute=None)
    new = table(X[:2], categorical=colour([0, 1], levels=("blue", "violet")))
    assert encoder.encode(new)[:, 4:].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert np.array_equal(encoder.encode(new)[:, :4], encoder.encode(whole)[:2, :4])


def test_other_columns_are_refused():
    encoder = fit_encoder(table(), TRAIN, scale="standard", impute=None)
    with pytest.raises(DataError, match="must be the 4 numeric and 0 categorical columns"):
        encoder.encode(table(X[:, :3]))
