"""Conformal sets of a run: their weights, and how often they hold the answer, by simulation and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from unitgain.data import open_data
from unitgain.shift import Classifier
from unitgain.train.coverage import class_weighted_sets, conformal_coverage, input_weights
from unitgain.train.representations import Representations

TILTED = {"_target_": "unitgain.data.shifts.PCATilt", "strength": 2.0}


def test_target_rows_are_weighted_by_the_ratio_of_the_run(make_spec):
    spec = make_spec(shift=TILTED, weighting={"_target_": "unitgain.shift.Classifier", "seed": 3})
    table = open_data(spec)
    val_N, test_M = input_weights(table)
    train, val, test = table.split.parts()
    assert torch.equal(val_N, torch.from_numpy(table.importance.full_N[val]))
    x = torch.from_numpy(table.x)
    ratio = Classifier().fit(x[train], x[test], torch.Generator().manual_seed(3))
    assert test_M.numpy() == pytest.approx(ratio(x[test]).numpy())
    oracle = make_spec(shift=TILTED, weighting={"_target_": "unitgain.shift.Oracle"})
    table = open_data(oracle)
    for found, rows in zip(input_weights(table), (val, test), strict=True):
        assert found.numpy() == pytest.approx(table.shifted.ratio[rows])


def test_unweighted_intervals_are_those_of_split_conformal_prediction(make_spec, diabetes):
    table = open_data(make_spec(data=diabetes))
    val, test = table.split.val, table.split.test
    rng = np.random.default_rng(0)
    answers = table.shifted.table.y[:, 0]
    said = answers + 30 * rng.standard_normal(len(answers))
    seen = [
        Representations(torch.zeros(len(r), 1), None, torch.from_numpy(said[r])[:, None], False)
        for r in (val, test)
    ]
    heavy = torch.ones(len(val)), torch.full((len(test),), 100.0)
    plain, weighted = conformal_coverage(table, *seen, heavy, None)
    # The ceil((n + 1) 0.9)-th smallest of n residuals: Lei et al. (2018), arXiv 1604.04173, algorithm 2.
    residual = np.sort(np.abs(said - answers)[val])
    half = residual[math.ceil((len(val) + 1) * 0.9) - 1]
    assert plain.size == pytest.approx(2 * half)
    assert plain.covered == pytest.approx((np.abs(said - answers)[test] <= half).mean())
    assert (plain.unbounded, plain.weights, plain.answer) == (0, "nothing", table.target_names[0])
    # A target row that weighs more than a tenth of all might be anything.
    assert (weighted.unbounded, weighted.covered, weighted.size) == (1, 1, math.inf)


def test_class_weights_restore_the_coverage_that_a_label_shift_breaks():
    rng, source, target = np.random.default_rng(0), np.array([0.9, 0.1]), np.array([0.2, 0.8])
    covered = []

    def drawn(shares, rows):
        y = rng.choice(2, rows, p=shares)
        x = rng.normal(2.0 * y)
        # The posterior under the source's shares, by Bayes' rule.
        p = expit(2 * x - 2 + math.log(source[1] / source[0]))
        return torch.from_numpy(np.stack([1 - p, p], 1)), torch.from_numpy(y)

    weight_C = torch.from_numpy(target / source)
    for _ in range(150):
        (said_NC, label_N), (said_MC, label_M) = drawn(source, 200), drawn(target, 200)
        for weights in (torch.ones(2, dtype=torch.float64), weight_C):
            mask = class_weighted_sets(said_NC, label_N, said_MC, weights)
            covered.append(float(mask.gather(1, label_M[:, None]).double().mean()))
    plain, weighted = np.reshape(covered, (-1, 2)).T
    error = weighted.std() / math.sqrt(len(weighted))
    assert plain.mean() < 0.7
    # At least 0.9 by the theorem; above it by no more than the largest share of one weight.
    assert 0.9 - 3 * error < weighted.mean() < 0.93 + 3 * error
