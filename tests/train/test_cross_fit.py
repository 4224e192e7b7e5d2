"""Packs that leave nothing on disk, against runs that do; left-out rows."""

import dataclasses

import numpy as np
import pytest
import torch

from unitgain.data import Split, open_data
from unitgain.errors import ConfigError
from unitgain.train import fit
from unitgain.train.cross_fit import cross_fit, train_unrecorded
from unitgain.train.scores import Scores

CPU = torch.device("cpu")


@pytest.mark.parametrize("patience", [None, 2])
def test_a_run_without_files_ends_as_one_with_files(make_spec, tmp_path, patience):
    spec = make_spec(
        trainer={"max_epochs": 12},
        optimizer={"_target_": "unitgain.pack.optim.Adam", "lr": 0.3},
        callbacks={"early_stopping": {"patience": patience}},
    )
    [result] = fit([spec], [tmp_path / "run"])
    pack = train_unrecorded(spec, [open_data(spec)], CPU)
    for part in ("train", "val", "test"):
        for name, value_K in Scores(spec).of(pack, part).items():
            assert float(value_K[0]) == result.metrics[f"{part}/{name}"]


def test_each_row_is_left_out_once_by_models_that_never_saw_it(make_spec):
    spec = make_spec()
    table = open_data(spec)
    full_N = np.random.default_rng(0).gamma(2.0, size=len(table.x))
    found = cross_fit(spec, table, full_N, (0.0, 0.5), folds=4)
    source = np.concatenate([table.split.train, table.split.val])
    assert len(found.rows) == len(set(found.rows.tolist())) == len(source) // 4 * 4
    assert set(found.rows) <= set(source)
    # Rows that a fold left out change no other fold's models: move one far away.
    moved = int(found.rows[0])
    x = table.x.copy()
    x[moved] += 100.0
    other = cross_fit(spec, dataclasses.replace(table, x=x), full_N, (0.0, 0.5), folds=4)
    fold = len(found.rows) // 4
    same = other.loss_EN[:, 1:fold] == found.loss_EN[:, 1:fold]
    assert bool(same.all())
    assert not torch.equal(other.loss_EN[:, 0], found.loss_EN[:, 0])
    x[found.rows[:fold]] += 1.0
    all_moved = cross_fit(spec, dataclasses.replace(table, x=x), full_N, (0.0, 0.5), folds=4)
    assert not torch.equal(all_moved.loss_EN[:, fold:], found.loss_EN[:, fold:])


def test_a_fold_is_the_run_alone_on_its_rows_with_its_weights(make_spec):
    spec = make_spec()
    table = open_data(spec)
    full_N = np.random.default_rng(0).gamma(2.0, size=len(table.x))
    found = cross_fit(spec, table, full_N, (0.0, 1.0), folds=3)
    fold = len(found.rows) // 3
    test = found.rows[fold : 2 * fold]
    source = np.sort(np.concatenate([table.split.train, table.split.val]))
    order = np.random.default_rng([spec.weighting.seed, len(source)]).permutation(source)
    kept = order[~np.isin(order, test)]
    val, train = np.split(kept, [round(len(table.split.val) / len(source) * len(kept))])
    weight, eval_weight = np.ones((2, len(table.x)))
    weight[train] = full_N[train] / full_N[train].mean()
    eval_weight[val] = full_N[val]
    alone = dataclasses.replace(
        table,
        split=Split(train=np.sort(train), val=np.sort(val), test=test),
        weight=weight,
        eval_weight=eval_weight,
    )
    pack = train_unrecorded(spec, [alone], CPU)
    with torch.no_grad():
        predicted = pack.predict("test")
        loss_N = pack.loss(predicted.output_KNT, predicted.target)[0].double()
    torch.testing.assert_close(found.loss_of(1.0)[fold : 2 * fold], loss_N, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(found.loss_of(0.0)[fold : 2 * fold], loss_N, rtol=1e-3)


def test_too_many_folds(make_spec):
    table = open_data(make_spec())
    with pytest.raises(ConfigError, match="folds: must be at least 2 and at most the 120 source"):
        cross_fit(make_spec(), table, np.ones(150), (0.0,), folds=121)
