"""Analysis of variance and the tree of effects, against scipy, scikit-learn and simulation."""

import numpy as np
import pytest
from scipy import stats
from sklearn.tree import DecisionTreeRegressor

from unitgain.stats.effects import effect_tree, factor, main_effect, pair_effect


def test_p_value_is_scipys():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 4, 60)
    value = rng.normal(size=60) + 0.4 * code
    effect = main_effect(factor("a", code.tolist()), value)
    assert effect.p_value == pytest.approx(
        stats.f_oneway(*(value[code == c] for c in range(4))).pvalue, rel=1e-10
    )
    assert effect.levels == 4


def test_omega_squared_estimates_the_populations_share_where_eta_squared_is_too_large():
    """Effects of standard deviation .5 with noise of 1: the share is .25 / 1.25 = .2."""
    rng = np.random.default_rng(1)
    effect_G = np.array([-1.5, -0.5, 0.5, 1.5]) * 0.5 / np.sqrt(1.25)
    code = np.repeat(np.arange(4), 5)
    given = factor("a", code.tolist())
    found = [main_effect(given, effect_G[code] + rng.normal(size=20)) for _ in range(2000)]
    eta = np.mean([each.eta_squared for each in found])
    # Clipping at 0 moves the mean of omega squared up a little.
    omega = np.mean([each.omega_squared for each in found])
    assert eta > 0.28
    assert omega == pytest.approx(0.2, abs=0.02)


def test_nothing_is_told_of_one_level_or_of_one_run_a_level():
    value = np.array([1.0, 2.0, 4.0])
    for levels in ([0, 0, 0], [0, 1, 2]):
        effect = main_effect(factor("a", levels), value)
        assert (effect.omega_squared, effect.p_value) == (0.0, 1.0)


def test_shares_of_a_tree_of_two_level_factors_add_up_to_sklearns_r_squared():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 2, (200, 3))
    value = 2 * x[:, 0] + x[:, 1] * (1 + x[:, 0]) + 0.5 * x[:, 2] + rng.normal(0, 0.3, 200)
    factors = [factor(name, x[:, i].tolist()) for i, name in enumerate("abc")]
    tree = effect_tree(factors, value, depth=3, alpha=3.0)
    peer = DecisionTreeRegressor(max_depth=3).fit(x, value)
    assert sum(tree.shares().values()) == pytest.approx(peer.score(x, value), rel=1e-9)
    assert tree.factor == "abc"[peer.tree_.feature[0]]
    assert sorted(leaf.mean for leaf in tree.leaves()) == pytest.approx(
        sorted(peer.tree_.value[peer.tree_.feature < 0].ravel())
    )


def test_noise_is_seldom_split():
    rng = np.random.default_rng(3)
    codes = [
        np.tile([0, 1, 2], 15),
        np.repeat([0, 1, 2], 15),
        np.tile(np.repeat([0, 1], 9), 3)[:45],
    ]
    factors = [factor(name, code.tolist()) for name, code in zip("abc", codes, strict=True)]
    split = sum(effect_tree(factors, rng.normal(size=45)).factor is not None for _ in range(400))
    # At most .05 of 400, and four standard errors.
    assert split <= 20 + 4 * np.sqrt(400 * 0.05 * 0.95)


def test_interaction_in_a_balanced_design_is_the_two_way_analysis():
    """A 2 x 2 design with known effects and no noise: 1 for a, 2 for b, 3 for a x b."""
    a, b = np.array([0, 0, 1, 1] * 3), np.array([0, 1, 0, 1] * 3)
    sa, sb = 2.0 * a - 1, 2.0 * b - 1
    value = 1 * sa + 2 * sb + 3 * sa * sb
    fa, fb = factor("a", a.tolist()), factor("b", b.tolist())
    assert main_effect(fa, value).eta_squared == pytest.approx(1 / 14)
    assert main_effect(fb, value).eta_squared == pytest.approx(4 / 14)
    assert pair_effect(fa, fb, value) == pytest.approx(9 / 14)


def test_many_numbers_are_cut_at_quantiles_and_texts_are_not():
    numbers = factor("lr", np.logspace(-4, 0, 50), most=5)
    assert np.bincount(numbers.code_N).tolist() == [10] * 5
    assert len(factor("name", [f"n{i}" for i in range(50)], most=5).levels) == 50


def test_every_run_is_in_one_leaf():
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 3, (2, 90))
    value = codes[0] * 1.0 + codes[1] * 0.5 + rng.normal(0, 0.1, 90)
    tree = effect_tree([factor("a", codes[0].tolist()), factor("b", codes[1].tolist())], value)
    rows = np.concatenate([leaf.rows for leaf in tree.leaves()])
    assert sorted(rows.tolist()) == list(range(90))
    assert len(tree.leaves()) == 9
