import numpy as np
import pytest

from unitgain.data import Split, table_from_arrays
from unitgain.data._directions import standardised
from unitgain.data.shifts import Concept
from unitgain.data.splits import Random
from unitgain.errors import DataError


def table(classes=3, n=900):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 3)) * [1.0, 5.0, 0.2]
    y = rng.integers(classes, size=n)
    return table_from_arrays("toy", x, y, task="classification")


def line(n=900):
    x = np.random.default_rng(n).normal(size=(n, 3))
    return table_from_arrays("line", x, x @ [[1.0, 2], [0, 1], [3, 0]], task="regression")


def changed(shifted, whole):
    rows = np.arange(whole.n_rows)
    return rows[(shifted.table.y != whole.y).reshape(whole.n_rows, -1).any(1)]


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("region", [0.1, 0.5, 0.8])
def test_the_asked_share_of_labels_changes_in_the_region_alone(strength, region):
    whole = table()
    base = Random()(whole)
    shifted = Concept(strength, ("x1",), region)(whole, base)
    z = whole.x[:, 1]
    inside = z > np.sort(z)[-round(region * 900) - 1]
    assert inside.sum() == round(region * 900)
    rows = changed(shifted, whole)
    assert len(rows) == round(strength * inside[base.test].sum())
    assert inside[rows].all()
    assert np.isin(rows, base.test).all()


def test_features_rows_and_their_ratio_stay():
    whole = table()
    base = Random()(whole)
    shifted = Concept(1.0)(whole, base)
    assert shifted.table.x is whole.x
    assert shifted.split is base
    assert (shifted.kind, shifted.bound, shifted.ess_share) == ("concept", 1.0, 1.0)
    assert np.array_equal(shifted.ratio, np.ones(900))


def test_a_label_becomes_each_other_class_alike():
    whole = table(4, 12_000)
    base = Random()(whole)
    shifted = Concept(1.0, region=0.9)(whole, base)
    rows = changed(shifted, whole)
    counts = np.zeros((4, 4))
    np.add.at(counts, (whole.y[rows], shifted.table.y[rows]), 1)
    assert np.trace(counts) == 0
    expected = counts.sum(1, keepdims=True) / 3
    assert (np.abs(counts - expected)[counts > 0] < 4.5 * np.sqrt(expected.max())).all()


def test_two_classes_are_swapped():
    whole = table(2)
    shifted = Concept(1.0)(whole, Random()(whole))
    rows = changed(shifted, whole)
    assert np.array_equal(shifted.table.y[rows], 1 - whole.y[rows])


def test_no_label_becomes_a_class_without_training_rows():
    whole = table(4)
    rows = np.arange(900)
    train = rows[(whole.y != 2) & (rows < 500)]
    shifted = Concept(1.0)(whole, Split(train, rows[500:600], rows[600:]))
    new = shifted.table.y[changed(shifted, whole)]
    assert set(new) == {0, 1, 3}


@pytest.mark.parametrize("strength", [0.0, 0.7, 3.0])
def test_a_regression_rises_by_standard_deviations_of_each_target(strength):
    whole = line()
    base = Random()(whole)
    shifted = Concept(strength, region=0.3)(whole, base)
    rise = (shifted.table.y - whole.y) / whole.y[base.train].std(0)
    rows = changed(shifted, whole)
    assert rise[rows] == pytest.approx(strength)
    assert np.abs(len(rows) - (strength > 0) * 0.3 * 180) < 4 * np.sqrt(180 * 0.3 * 0.7)
    # The mean squared error of the old function rises by region * strength^2 in these units.
    assert (rise[base.test] ** 2).mean(0) == pytest.approx(strength**2 * len(rows) / 180)


def test_the_region_is_a_half_space_of_the_seed():
    whole = line()
    base = Random()(whole)
    found = []
    for seed in (0, 0, 1):
        rows = changed(Concept(1.0, seed=seed)(whole, base), whole)
        found.append(rows.tolist())
        # A plane parts the two: a perceptron that sees them all makes no error in the end.
        x = np.column_stack([standardised(whole)[base.test], np.ones(180)])
        side = np.where(np.isin(base.test, rows), 1, -1)
        plane, wrong = np.zeros(4), True
        for _ in range(20_000):
            miss = np.flatnonzero(side * (x @ plane) <= 0)
            wrong = len(miss) > 0
            if not wrong:
                break
            plane += side[miss[0]] * x[miss[0]]
        assert not wrong
    assert found[0] == found[1] != found[2]


def test_what_a_concept_shift_needs_is_told():
    whole = table()
    base = Random()(whole)
    with pytest.raises(
        DataError, match=r"a share of labels from 0 to 1 for classification, got 1.5"
    ):
        Concept(1.5)(whole, base)
    with pytest.raises(DataError, match="none is called 'age'"):
        Concept(features=("age",))(whole, base)
    low = np.argsort(whole.x[:, 0])
    split = Split(low[50:], low[20:50], low[:20])
    with pytest.raises(DataError, match="must lie in the region, but none of 20 does"):
        Concept(features=("x0",))(whole, split)
    ones = base.train[whole.y[base.train] == 1]
    one = Split(ones, base.val, base.test)
    with pytest.raises(DataError, match="labels can change where training rows have two classes"):
        Concept()(whole, one)
