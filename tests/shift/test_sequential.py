"""The sequential test: false alarms over whole streams, power, and what moved."""

import math

import numpy as np
import pytest
from scipy.stats import kstest

from unitgain.errors import ConfigError, DataError
from unitgain.shift.sequential import (
    ConformalPValues,
    SequentialTest,
    SimpleJumper,
    StreamScores,
    effects,
)

STREAMS, ROWS, FEATURES = 400, 300, 5


def watched(seed: int, changed, *, alpha: float = 0.05) -> SequentialTest:
    draw = np.random.default_rng(seed)
    scores = StreamScores.fit(draw.normal(size=(200, FEATURES)))
    reference = scores(draw.normal(size=(200, FEATURES)))
    test = SequentialTest(reference, np.random.default_rng(seed + 1), alpha=alpha)
    test.update(scores(changed(draw.normal(size=(ROWS, FEATURES)))))
    return test


def test_false_alarms_over_whole_streams_are_alpha_at_most():
    tests = [watched(seed, lambda rows: rows) for seed in range(STREAMS)]
    share = np.mean([test.alarm_row is not None for test in tests])
    moved = np.mean([test.moved().any() for test in tests])
    error = math.sqrt(0.05 * 0.95 / STREAMS)
    assert share <= 0.05 + 2 * error
    assert moved <= 0.05 + 2 * error


def test_a_single_martingale_reaches_twenty_in_one_of_twenty_streams_at_most():
    draw = np.random.default_rng(0)
    log_BS = SimpleJumper(STREAMS)(draw.random((ROWS, STREAMS)))
    share = (log_BS.max(axis=0) >= math.log(20)).mean()
    assert 0 < share <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / STREAMS)


def test_a_martingale_has_mean_one_without_a_change():
    draw = np.random.default_rng(1)
    value_S = np.exp(SimpleJumper(20_000)(draw.random((10, 20_000)))[-1])
    assert abs(value_S.mean() - 1) < 4 * value_S.std() / math.sqrt(len(value_S))


@pytest.mark.parametrize("levels", [None, 4])
def test_p_values_are_uniform_without_a_change_ties_or_not(levels):
    draw = np.random.default_rng(2)
    rows = draw.normal(size=(2100, 3)) if levels is None else draw.integers(levels, size=(2100, 3))
    p_BS = ConformalPValues(rows[:100].astype(float), draw)(rows[100:].astype(float))
    assert min(kstest(p_S, "uniform").pvalue for p_S in p_BS.T) > 0.01
    assert abs(np.corrcoef(p_BS[:-1, 0], p_BS[1:, 0])[0, 1]) < 4 / math.sqrt(2000)


def test_p_values_are_ranks_as_counted_by_hand():
    draw = np.random.default_rng(3)
    rows = draw.integers(50, size=(900, 1)).astype(float)
    found = ConformalPValues(rows[:300], np.random.default_rng(4))(rows[300:])
    uniform = np.random.default_rng(4).random(600)
    for b in range(600):
        past = rows[: 301 + b]
        greater, equal = (past > rows[300 + b]).sum(), (past == rows[300 + b]).sum()
        assert found[b, 0] == pytest.approx((greater + uniform[b] * equal) / len(past), rel=1e-14)


def test_a_shift_of_one_feature_is_found_and_named():
    def shifted(rows):
        rows[:, 2] += 1
        return rows

    tests = [watched(seed, shifted) for seed in range(20)]
    assert sum(test.alarm_row is not None for test in tests) >= 19
    assert sum(bool(test.moved()[2]) for test in tests) >= 19


def test_a_change_of_scale_is_found_by_the_distance():
    def wider(rows):
        rows[:, 1] *= 3
        return rows

    tests = [watched(seed, wider) for seed in range(20)]
    assert sum(test.alarm_row is not None for test in tests) >= 19
    assert sum(bool(test.moved()[FEATURES + 1]) for test in tests) >= 19


def test_batches_of_any_size_give_the_same_numbers():
    draw = np.random.default_rng(5)
    reference, stream = draw.normal(size=(90, 4)), draw.normal(0.3, 1, size=(700, 4)).round(1)
    evidence = []
    for size in (1, 64, 700):
        test = SequentialTest(reference, np.random.default_rng(6))
        parts = [test.update(stream[start : start + size]) for start in range(0, 700, size)]
        evidence.append((np.concatenate(parts), test.alarm_row, test.log_largest_S.tolist()))
    for other in evidence[1:]:
        assert np.array_equal(evidence[0][0], other[0])
        assert evidence[0][1:] == other[1:]


def test_evidence_beyond_what_a_float_holds_stays_finite():
    test = SequentialTest(np.zeros((50_000, 1)), np.random.default_rng(0))
    evidence = test.update(np.ones((4000, 1)))
    assert np.isfinite(evidence).all()
    assert test.log_evidence > 1000


def test_effects_are_the_differences_that_were_made():
    draw = np.random.default_rng(7)
    rows = draw.normal(size=(4000, 2))
    plain, moved = effects(["a", "b"], rows[:2000], rows[2000:] + np.array([0, 1]))
    assert abs(plain.difference) < 0.1
    assert moved.difference == pytest.approx(1, abs=0.15)
    assert moved.distance == pytest.approx(0.383, abs=0.05)


def test_whitened_distances_see_a_change_of_correlation():
    draw = np.random.default_rng(8)
    rows = draw.normal(size=(2000, 2))
    rows[:, 1] = 0.95 * rows[:, 0] + 0.3 * rows[:, 1]
    scores = StreamScores.fit(rows)
    turned = rows * [1, -1]
    assert scores(turned)[:, -1].mean() > 2 * scores(rows)[:, -1].mean()


@pytest.mark.parametrize(
    ("reference", "stream", "match"),
    [
        (np.zeros((0, 1)), np.zeros((1, 1)), "reference: must have rows"),
        (np.zeros(3), np.zeros((1, 1)), "reference: must be rows of scores"),
        (np.zeros((3, 1)), np.zeros((1, 2)), "stream: must have the reference's 1 scores"),
        (np.zeros((3, 1)), np.array([[np.nan]]), "stream: must be finite, but 1 of 1 rows"),
    ],
)
def test_what_cannot_be_ranked_is_refused(reference, stream, match):
    with pytest.raises(DataError, match=match):
        ConformalPValues(reference, np.random.default_rng(0))(stream)


def test_levels_and_rows_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="alpha: must be between 0 and 1, got 0;"):
        SequentialTest(np.zeros((3, 1)), np.random.default_rng(0), alpha=0)
    with pytest.raises(ConfigError, match="jump: must be above 0 and at most 1, got 2;"):
        SimpleJumper(1, jump=2)
    with pytest.raises(DataError, match="rows: must be 2 or more, they are 1"):
        StreamScores.fit(np.zeros((1, 2)))
