import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from unitgain.data import table_from_arrays
from unitgain.data.splits import Group, Random, Stratified, Time
from unitgain.errors import DataError

SIZES = (10, 37, 100, 1797)
FRACTIONS = ((0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.34, 0.33, 0.33))


def table(n, *, classes=None, **more):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 2))
    if classes is None:
        return table_from_arrays("toy", x, x[:, 0], task="regression", **more)
    y = rng.choice(len(classes), size=n, p=classes)
    names = [f"c{i}" for i in range(len(classes))]
    return table_from_arrays("toy", x, y, task="classification", class_names=names, **more)


def all_splits(n, seed=0, fractions=(0.6, 0.2, 0.2)):
    rng = np.random.default_rng(n)
    whole = table(n, classes=[0.5, 0.5], group=rng.integers(0, n // 3, n), time=rng.normal(size=n))
    kinds = [Random(fractions, seed), Stratified(fractions, seed), Group(fractions, seed)]
    return whole, [*kinds, Time(fractions)]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("fractions", FRACTIONS)
@pytest.mark.parametrize("kind", range(4))
def test_parts_cover_every_row_once(n, fractions, kind):
    whole, splits = all_splits(n, fractions=fractions)
    parts = splits[kind](whole).parts()
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert all(part.dtype == np.int64 for part in parts)


@pytest.mark.parametrize("kind", range(3))
def test_the_seed_alone_decides(kind):
    def draw(seed):
        whole, splits = all_splits(200, seed)
        return splits[kind](whole).train.tolist()

    first = draw(0)
    np.random.seed(5)
    np.random.random(17)
    assert draw(0) == first
    assert draw(1) != first


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("fractions", FRACTIONS)
def test_random_sizes_are_the_fractions(n, fractions):
    sizes = np.array([len(part) for part in Random(fractions)(table(n)).parts()])
    assert np.abs(sizes - n * np.array(fractions)).max() <= 1


def test_random_sizes_agree_with_sklearn():
    rest, test = train_test_split(np.arange(1000), test_size=0.2)
    train, val = train_test_split(rest, test_size=0.25)
    split = Random()(table(1000))
    assert [len(p) for p in split.parts()] == [len(train), len(val), len(test)]


def test_random_rows_are_uniform():
    n, draws = 50, 400
    counts = np.zeros(n)
    for seed in range(draws):
        counts[Random(seed=seed)(table(n)).train] += 1
    # Binomial(400, 0.6): 5 standard deviations over 50 rows.
    assert np.abs(counts / draws - 0.6).max() < 5 * np.sqrt(0.6 * 0.4 / draws)


@pytest.mark.parametrize("fractions", FRACTIONS)
@pytest.mark.parametrize("n", [100, 1797])
def test_stratified_parts_have_the_classes_of_the_whole(n, fractions):
    whole = table(n, classes=[0.5, 0.2, 0.15, 0.1, 0.05])
    split = Stratified(fractions)(whole)
    counts = np.array([np.bincount(whole.y[part], minlength=5) for part in split.parts()])
    exact = np.array(fractions)[:, None] * np.bincount(whole.y)
    assert np.abs(counts - exact).max() < 1
    assert np.abs(counts.sum(axis=1) - exact.sum(axis=1)).max() <= 2


def test_stratified_agrees_with_sklearn_on_even_classes():
    y = np.repeat(np.arange(4), 50)
    whole = table_from_arrays("toy", np.arange(200.0)[:, None], y, task="classification")
    train, _ = train_test_split(np.arange(200), stratify=y, test_size=0.4, random_state=0)
    split = Stratified()(whole)
    assert np.array_equal(np.bincount(y[split.train]), np.bincount(y[train]))


def test_stratified_needs_classes():
    with pytest.raises(DataError, match=r"toy: a stratified split needs classes.*set split=random"):
        Stratified()(table(20))


def test_stratified_needs_three_rows_a_class():
    y = ["a"] * 8 + ["b"] * 2
    small = table_from_arrays("toy", np.zeros((10, 1)), y, task="classification")
    with pytest.raises(DataError, match="at least three rows of each class, but 'b' has 2 of 10"):
        Stratified()(small)


@pytest.mark.parametrize("n_groups", [3, 4, 10, 100])
@pytest.mark.parametrize("seed", range(5))
def test_no_group_spans_two_parts(n_groups, seed):
    group = np.random.default_rng(seed).integers(0, n_groups, 600)
    whole = table(600, group=[f"g{g}" for g in group])
    parts = [set(whole.group[part]) for part in Group(seed=seed)(whole).parts()]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(set(whole.group))


def test_group_sizes_come_near_the_fractions():
    whole = table(1000, group=np.arange(1000) // 5)
    sizes = np.array([len(part) for part in Group()(whole).parts()])
    assert np.abs(sizes - [600, 200, 200]).max() <= 5


@pytest.mark.parametrize("kind", ["number", "date"])
def test_time_parts_follow_one_another(kind):
    time = np.random.default_rng(0).integers(0, 40, 500)
    stamps = np.datetime64("2026-01-01") + time.astype("timedelta64[D]")
    whole = table(500, time=time if kind == "number" else stamps)
    train, val, test = (whole.time[part] for part in Time()(whole).parts())
    assert train.max() < val.min()
    assert val.max() < test.min()


def test_time_sizes_are_the_fractions_where_times_differ():
    time = np.random.default_rng(0).permutation(100)
    assert [len(part) for part in Time()(table(100, time=time)).parts()] == [60, 20, 20]


@pytest.mark.parametrize("times", [[0, 0, 0, 0, 1, 2], [0, 1, 2, 2, 2, 2], [0, 1, 1, 1, 1, 2]])
def test_time_parts_are_never_empty(times):
    assert min(len(part) for part in Time()(table(6, time=times)).parts()) > 0


@pytest.mark.parametrize(
    ("split", "more", "message"),
    [
        (Group(), {}, "a split by group needs a group column.*set data.group_column"),
        (Time(), {}, "a split by time needs a time column.*set data.time_column"),
        (Group(), {"group": [1, 2] * 5}, "at least three groups, but the 10 rows are of 2"),
        (Time(), {"time": [1, 2] * 5}, "at least three times, but the 10 rows are of 2"),
    ],
)
def test_groups_and_times_are_needed(split, more, message):
    with pytest.raises(DataError, match=message):
        split(table(10, **more))


def test_too_few_rows_for_three_parts():
    with pytest.raises(DataError, match=r"at least one row each, but 3 rows give \(3, 0, 0\)"):
        Random((0.9, 0.05, 0.05))(table(3))
