import numpy as np
import pytest

from unitgain.data import table_from_arrays
from unitgain.data._directions import first_component, standardised
from unitgain.data._selection import proportional, systematic_sample
from unitgain.data.shifts import (
    ExponentialTilt,
    GaussianMeanShift,
    LabelDirichlet,
    LabelKnockout,
    LabelTweakOne,
    LogisticSelection,
    NoShift,
    PCATilt,
)
from unitgain.data.sources import airfoil
from unitgain.data.splits import Random
from unitgain.errors import DataError

SEEDS = 200


def table(n=600, classes=(0.5, 0.3, 0.2), **more):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 3)) @ [[1.0, 0.8, 0.3], [0.0, 0.6, 0.2], [0.0, 0.0, 0.9]]
    y = rng.choice(len(classes), size=n, p=classes)
    names = [f"c{c}" for c in range(len(classes))]
    return table_from_arrays("toy", x, y, task="classification", class_names=names, **more)


def selections(seed=0, strength=2.0):
    return [
        PCATilt(strength, seed),
        PCATilt(strength, seed, kept=0.4, test_rows="complement"),
        LogisticSelection(strength, ("x0", "x2"), seed),
        ExponentialTilt(strength, seed=seed),
        ExponentialTilt(strength, ("x1",), seed),
        GaussianMeanShift(strength, seed=seed),
    ]


COUNT = len(selections())


@pytest.mark.parametrize("kind", range(COUNT))
def test_kept_rows_are_rows_of_their_parts(kind):
    whole = table()
    base = Random()(whole)
    shifted = selections()[kind](whole, base)
    for part, given in zip(shifted.split.parts(), base.parts(), strict=True):
        assert np.isin(part, given).all()
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("kind", range(COUNT))
def test_sizes_depend_on_neither_seed_nor_strength(kind):
    whole = table()
    sizes = {
        tuple(len(p) for p in selections(seed, a)[kind](whole, Random(seed=s)(whole)).split.parts())
        for seed in range(3)
        for a in (0.0, 1.0, 3.0)
        for s in range(3)
    }
    assert len(sizes) == 1


@pytest.mark.parametrize("kind", range(COUNT))
def test_the_seed_alone_decides(kind):
    whole = table()
    first, again, other = (
        [part.tolist() for part in selections(seed)[kind](whole, Random()(whole)).split.parts()]
        for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("kind", range(COUNT))
def test_weights_have_mean_one_over_training_rows(kind):
    whole = table()
    shifted = selections()[kind](whole, Random()(whole))
    assert shifted.ratio.shape == (whole.n_rows,)
    assert shifted.ratio[shifted.split.train].mean() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", range(COUNT))
def test_weighted_source_means_are_target_means(kind):
    """Both are means over repeated draws: Horvitz and Thompson's estimate has no bias."""
    whole = table()
    base = Random()(whole)
    x = standardised(whole)
    differences = []
    for seed in range(SEEDS):
        shifted = selections(seed)[kind](whole, base)
        source = np.average(
            x[shifted.split.train], axis=0, weights=shifted.ratio[shifted.split.train]
        )
        target = x[shifted.split.test].mean(axis=0)
        differences.append(source - target)
    # What the base split's own parts differ by is the same in every draw.
    fixed = 4 / np.sqrt(min(len(part) for part in base.parts()))
    assert np.abs(np.mean(differences, axis=0)).max() < fixed
    draws = [selections(seed)[kind](whole, base).split for seed in range(20)]
    plain = np.mean([x[draw.train].mean(0) - x[draw.test].mean(0) for draw in draws], axis=0)
    assert np.abs(plain).max() > 1.2 * fixed


@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_the_training_rows_stand_for_all_rows_of_their_part(strength):
    """The mean over seeds of sum of w f over kept rows is the sum of f over the part."""
    whole = table()
    base = Random()(whole)
    z = first_component(standardised(whole))
    sums = []
    for seed in range(SEEDS):
        shifted = PCATilt(strength, seed)(whole, base)
        train = shifted.split.train
        sums.append([(shifted.ratio[train] * f[train]).sum() for f in (np.ones_like(z), z)])
    count = len(base.train) / 2
    error = np.std(sums, axis=0) / np.sqrt(SEEDS)
    assert np.mean(sums, axis=0)[0] == pytest.approx(count)
    assert abs(np.mean(sums, axis=0)[1] - z[base.train].mean() * count) < 4 * error[1]


def test_bound_and_effective_share_are_those_of_the_probabilities():
    whole = table()
    base = Random()(whole)
    shifted = PCATilt(2.0)(whole, base)
    z = first_component(standardised(whole))
    p = np.clip(1 / (1 + np.exp(2 * z)), 0.02, 1)
    pi = np.ones(len(p))
    for rows in base.parts():
        low, high = 0.0, 100.0
        for _ in range(200):
            middle = (low + high) / 2
            above = np.minimum(1, middle * p[rows]).sum() > round(len(rows) / 2)
            low, high = (low, middle) if above else (middle, high)
        pi[rows] = np.minimum(1, low * p[rows])
    density = pi / pi.sum()
    w = 1 / len(pi) / density
    assert shifted.bound == pytest.approx(w.max())
    assert shifted.ess_share == pytest.approx(1 / (density * w**2).sum())
    train = shifted.split.train
    assert shifted.ratio[train] == pytest.approx(w[train] / w[train].mean())


def test_no_strength_is_no_shift():
    whole = table()
    shifted = PCATilt(0.0)(whole, Random()(whole))
    assert shifted.bound == pytest.approx(1.0)
    assert shifted.ess_share == pytest.approx(1.0)
    assert shifted.ratio[shifted.split.train] == pytest.approx(1.0)
    assert NoShift()(whole, Random()(whole)).ess_share == 1.0


def test_inclusion_frequencies_are_the_probabilities():
    probability = proportional(np.exp(np.random.default_rng(0).normal(size=40)), 13)
    assert probability.sum() == pytest.approx(13)
    assert (probability == 1).any()
    draws = 4000
    counts = np.zeros(40)
    generator = np.random.default_rng(1)
    for _ in range(draws):
        rows = systematic_sample(probability, generator)
        assert len(np.unique(rows)) == 13
        counts[rows] += 1
    error = np.sqrt(probability * (1 - probability) / draws)
    assert (np.abs(counts / draws - probability) <= 4.5 * error + 1e-12).all()


def test_a_row_of_no_probability_is_never_drawn():
    probability = np.array([0.5, 0.0, 0.5, 1.0, 0.0, 0.0])
    for seed in range(50):
        rows = systematic_sample(probability, np.random.default_rng(seed))
        assert rows.tolist() in ([0, 3], [2, 3])


def test_missing_values_and_constant_features_select_nothing():
    whole = table()
    x = np.column_stack([whole.x, np.full(whole.n_rows, 3.0)])
    x[::7, 1] = np.nan
    z = standardised(table_from_arrays("toy", x, whole.y, task="classification"))
    assert (z[::7, 1] == 0).all()
    assert (z[:, 3] == 0).all()
    assert z[:, 0].std() == pytest.approx(1.0)
    assert first_component(z).std() == pytest.approx(1.0)


def test_without_a_feature_that_varies_the_fault_is_told():
    flat = table_from_arrays("flat", np.ones((20, 2)), np.arange(20.0), task="regression")
    with pytest.raises(DataError, match="must vary, but they are constant"):
        PCATilt()(flat, Random()(flat))
    bare = table_from_arrays("bare", np.ones((20, 0)), np.arange(20.0), task="regression")
    with pytest.raises(DataError, match="bare: shift: this shift needs a numeric feature"):
        PCATilt()(bare, Random()(bare))


def test_a_part_without_rows_is_told():
    few = table(6)
    with pytest.raises(DataError, match="toy: shift: the test part needs a row, but of its 1 rows"):
        PCATilt(kept=0.9, test_rows="complement")(few, Random()(few))


def test_accepted_rows_have_clipped_weights_of_mean_one():
    whole = table()
    base = Random()(whole)
    z = first_component(standardised(whole))[base.train]
    for shift, w in (
        (ExponentialTilt(2.0), np.exp(2 * z)),
        (GaussianMeanShift(1.5, 0.5), np.exp(z**2 / 2 - (z - 1.5) ** 2 / 0.5)),
    ):
        shifted = shift(whole, base)
        assert np.array_equal(shifted.split.train, base.train)
        assert len(shifted.split.test) == round(len(base.test) / 5)
        assert shifted.bound == pytest.approx(5.0)
        low, high = 0.0, 1e6
        for _ in range(200):
            middle = (low + high) / 2
            above = np.minimum(5, middle * w).mean() > 1
            low, high = (low, middle) if above else (middle, high)
        assert shifted.ratio[base.train] == pytest.approx(np.minimum(5, low * w))


def test_coefficients_weigh_features_in_their_own_units():
    """The tilt of Tibshirani et al. (2019), thickness over frequency, whose largest weight is 19 times the mean."""
    logarithms, raw = airfoil(logarithms=True), airfoil()
    base = Random()(logarithms)
    tilt = ExponentialTilt(
        features=("frequency", "thickness"), coefficients=(-1.0, 1.0), largest=40.0
    )
    w = raw.x[:, 4] / raw.x[:, 0]
    shifted = tilt(logarithms, base)
    np.testing.assert_allclose(
        shifted.ratio[base.train], w[base.train] / w[base.train].mean(), rtol=1e-12
    )
    assert len(shifted.split.test) == round(len(base.test) / 40)
    with pytest.raises(DataError, match=r"one for each of shift\.features, but there are 2 for 1"):
        ExponentialTilt(features=("thickness",), coefficients=(1.0, 1.0))(logarithms, base)


def test_a_random_direction_is_the_seeds():
    whole = table()
    base = Random()(whole)
    first, again, other = (LogisticSelection(seed=s)(whole, base).ratio for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.corrcoef(first, other)[0, 1] < 0.999


def test_an_unknown_feature_is_told():
    whole = table()
    with pytest.raises(DataError, match="none is called 'age'; choose from x0, x1, x2"):
        ExponentialTilt(features=("age",))(whole, Random()(whole))


def shares(whole, rows):
    return np.bincount(whole.y[rows], minlength=3) / len(rows)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", [LabelDirichlet, LabelTweakOne])
def test_class_shares_of_the_target_are_those_of_the_ratio(kind, seed):
    whole = table()
    base = Random()(whole)
    shifted = kind(seed=seed)(whole, base)
    p = shares(whole, base.train)
    w = np.array([shifted.ratio[whole.y == c][0] for c in range(3)])
    q = p * w
    assert q.sum() == pytest.approx(1.0)
    rows = shifted.split.test
    assert np.isin(rows, base.test).all()
    assert np.abs(shares(whole, rows) - q).max() < 1 / len(rows)
    assert shifted.bound == pytest.approx(w.max())
    assert shifted.ess_share == pytest.approx(1 / (shifted.ratio[base.train] ** 2).mean())
    assert shifted.ratio[base.train].mean() == pytest.approx(1.0)
    # No further row of the scarcest class is left, to within rounding.
    left = np.bincount(whole.y[base.test], minlength=3) - np.bincount(whole.y[rows], minlength=3)
    assert left.min() <= 1
    if kind is LabelTweakOne:
        assert q[0] == pytest.approx(0.9)
        assert q[1] / q[2] == pytest.approx(p[1] / p[2])


@pytest.mark.parametrize("kind", [LabelDirichlet, LabelTweakOne])
def test_a_label_shift_keeps_as_many_target_rows_as_asked_for(kind):
    whole = table()
    base = Random()(whole)
    for seed in range(5):
        most = kind(seed=seed)(whole, base)
        given = kind(rows=7, seed=seed)(whole, base)
        assert len(given.split.test) == 7 < len(most.split.test)
        assert (
            np.abs(
                shares(whole, given.split.test) * 7
                - shares(whole, base.train) * [given.ratio[whole.y == c][0] * 7 for c in range(3)]
            ).max()
            < 1
        )
        assert np.array_equal(given.ratio, most.ratio)
    with pytest.raises(DataError, match=r"shift\.rows must be at most \d+ for the class shares"):
        kind(rows=1000)(whole, base)


def test_a_class_is_knocked_out_of_the_source_alone():
    whole = table()
    base = Random()(whole)
    shifted = LabelKnockout("c1", 0.8, seed=3)(whole, base)
    assert np.array_equal(shifted.split.test, base.test)
    for part, given in ((shifted.split.train, base.train), (shifted.split.val, base.val)):
        before, after = (np.bincount(whole.y[rows], minlength=3) for rows in (given, part))
        assert after.tolist() == [before[0], before[1] - round(0.8 * before[1]), before[2]]
    train = shifted.split.train
    weighted = np.bincount(whole.y[train], shifted.ratio[train], 3) / len(train)
    assert weighted == pytest.approx(shares(whole, base.test))


def test_a_knockout_keeps_as_many_source_rows_as_asked_for_whatever_the_share():
    whole = table(6000)
    base = Random()(whole)
    for share in (0.0, 0.5, 0.9):
        shifted = LabelKnockout("c1", share, seed=1, kept=0.6)(whole, base)
        assert [len(part) for part in shifted.split.parts()[:2]] == [
            round(0.6 * len(part)) for part in base.parts()[:2]
        ]
        assert np.array_equal(shifted.split.test, base.test)
        # Classes that nothing is removed of keep their proportions; a share of the third is gone from c1.
        p, found = (shares(whole, rows) for rows in (base.train, shifted.split.train))
        left = p * [1, 1 - share, 1]
        expected = left / left.sum()
        error = np.sqrt(expected * (1 - expected) / len(shifted.split.train))
        assert np.all(np.abs(found - expected) < 4 * error)
        weighted = np.bincount(whole.y[shifted.split.train], shifted.ratio[shifted.split.train], 3)
        assert weighted / len(shifted.split.train) == pytest.approx(shares(whole, base.test))
    others = [LabelKnockout("c1", 0.9, seed=s, kept=0.6)(whole, base).split.train for s in (1, 2)]
    assert not np.array_equal(*others)
    with pytest.raises(
        DataError,
        match=r"toy: shift.kept must be at most 0.7\d, as shift.share=0.9 leaves \d+ rows of a part's "
        r"\d+, got 0.8; lower kept or share",
    ):
        LabelKnockout("c1", 0.9, kept=0.8)(whole, base)


def test_label_shifts_need_a_class_that_is_there():
    whole = table()
    with pytest.raises(DataError, match="number from 0 to 2, got c9; choose from c0, c1, c2"):
        LabelTweakOne("c9")(whole, Random()(whole))
    line = table_from_arrays("line", np.ones((20, 1)), np.arange(20.0), task="regression")
    with pytest.raises(DataError, match="needs classes, but the task is regression"):
        LabelDirichlet()(line, Random()(line))
