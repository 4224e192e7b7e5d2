import numpy as np
import pytest
import torch

from unitgain.data import Split
from unitgain.errors import ConfigError
from unitgain.pack.batches import PackData

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN, VAL, TEST = 42, 13, 11


def data(lab, members=3, tables=None, seeds=None, spec=None, **options):
    spec = spec or lab.spec()
    tables = tables or [lab.table(spec)] * members
    seeds = range(len(tables)) if seeds is None else seeds
    return PackData(tables, seeds, **{"batch_size": 16, "dtype": torch.float64} | options)


def orders(batches, members):
    """The rows of an epoch in their order, padding left out: (K, N)."""
    return torch.cat([b.index.view(members, -1)[:, : b.rows] for b in batches], 1)


# The order of rows


@pytest.mark.parametrize("quantum", [1, 8, 32])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 42, 1000])
def test_an_epoch_visits_each_training_row_once(lab, batch_size, quantum):
    packed = data(lab, batch_size=batch_size, quantum=quantum)
    for epoch in (0, 1, 5):
        batches = packed.epoch(epoch)
        assert len(batches) == packed.steps_per_epoch
        for order in orders(batches, 3):
            assert sorted(order.tolist()) == list(range(TRAIN))


def test_orders_depend_on_the_seed_and_the_epoch_alone(lab):
    packed = data(lab, seeds=[7, 8, 7])
    first, second = (orders(packed.epoch(e), 3) for e in (0, 1))
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], second[0])
    alone = data(lab, members=1, seeds=[8], batch_size=5, quantum=8)
    assert torch.equal(orders(alone.epoch(1), 1)[0], second[1])
    assert torch.equal(orders(packed.epoch(0), 3), first)


def test_every_place_of_an_epoch_gets_every_row_alike(lab):
    packed = data(lab, members=200, batch_size=TRAIN)
    first = torch.cat([orders(packed.epoch(e), 200)[:, 0] for e in range(20)])
    counts = torch.bincount(first, minlength=TRAIN).double()
    expected = len(first) / TRAIN
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    # 41 degrees of freedom: mean 41, variance 82.
    assert abs(chi_squared - 41) < 5 * 82**0.5


def test_parts_come_in_their_order(lab):
    packed = data(lab, quantum=8)
    for part, start, size in (
        ("val", TRAIN, VAL),
        ("test", TRAIN + VAL, TEST),
        ("train", 0, TRAIN),
    ):
        assert packed.size(part) == size
        order = orders(packed.part_batches(part, 5), 3)
        assert order.tolist() == [list(range(start, start + size))] * 3


# Batches


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(16, [16, 16, 10]), (14, [14] * 3), (40, [40, 2])]
)
def test_the_last_batch_is_smaller_or_left_out(lab, batch_size, sizes, drop_last):
    packed = data(lab, batch_size=batch_size, drop_last=drop_last)
    kept = [n for n in sizes if n == batch_size or not drop_last]
    assert [len(b.index) // 3 for b in packed.epoch(0)] == kept
    assert all(b.rows is None for b in packed.epoch(0))
    assert packed.steps_per_epoch == len(kept)
    if drop_last:
        first, second = (set(orders(packed.epoch(e), 3)[0].tolist()) for e in range(6)[:2])
        assert len(first) == batch_size * len(kept)
        assert (first != second) == (len(kept) < len(sizes))


def test_a_batch_size_above_the_rows_takes_all_of_them(lab):
    for drop_last in (True, False):
        packed = data(lab, batch_size=1000, drop_last=drop_last)
        assert packed.steps_per_epoch == 1
        assert len(packed.epoch(0)[0].index) == 3 * TRAIN


@pytest.mark.parametrize("quantum", [8, 32])
def test_padding_has_weight_zero_and_repeats_the_first_row(lab, quantum):
    packed = data(lab, batch_size=18, quantum=quantum)
    for batch in [*packed.epoch(0), *packed.part_batches("val", 5)]:
        index, rows = batch.index.view(3, -1), batch.rows
        assert index.shape[1] % quantum == 0
        assert batch.weight.shape == index.shape
        assert 0 < rows < index.shape[1]
        assert (batch.weight[:, rows:] == 0).all()
        torch.testing.assert_close(batch.weight[:, :rows], torch.full((3, rows), 1 / rows).double())
        assert torch.equal(index[:, rows:], index[:, :1].expand(-1, index.shape[1] - rows))


def test_rows_are_gathered_with_their_targets(lab):
    for spec in (lab.spec(), lab.spec(task="regression")):
        table = lab.table(spec)
        packed = data(lab, tables=[table] * 3)
        batch = packed.epoch(0)[0]
        x, y = packed.gather(batch.index)
        rows = batch.index.view(3, 16).numpy()
        assert x.shape == (3, 16, 5)
        np.testing.assert_array_equal(x.numpy(), table.x[rows])
        np.testing.assert_array_equal(y.numpy(), table.y[rows])
        assert y.dtype == (torch.int64 if spec.data.task == "classification" else torch.float64)


# Tables


def split_by(seed, train=TRAIN):
    order = np.random.default_rng(seed).permutation(TRAIN + VAL + TEST)
    return Split(*np.split(order, [train, train + VAL]))


def test_members_may_have_split_seeds_of_their_own(lab):
    spec = lab.spec()
    splits = [split_by(seed) for seed in range(3)]
    tables = [lab.table(spec, split=split) for split in splits]
    packed = data(lab, tables=tables)
    total = TRAIN + VAL + TEST
    for k, (table, split) in enumerate(zip(tables, splits, strict=True)):
        order = orders(packed.epoch(0), 3)[k]
        assert set(order.tolist()) == {int(r) + k * total for r in split.train}
        val = packed.part_batches("val", 100)[0].index
        x, _ = packed.gather(val)
        np.testing.assert_array_equal(x[k].numpy(), table.x[split.val])


def test_a_table_that_members_share_is_stored_once(lab):
    spec = lab.spec()
    one, other = lab.table(spec), lab.table(spec, seed=1)
    packed = data(lab, tables=[one, other, one])
    assert len(packed.x) == 2 * len(one.x)
    batch = packed.epoch(0)[0]
    rows = batch.index.view(3, -1)
    assert int(rows[[0, 2]].max()) < len(one.x) <= int(rows[1].min())


def test_tables_of_other_sizes_don_t_share_a_pack(lab):
    spec = lab.spec()
    tables = [lab.table(spec), lab.table(spec, split=split_by(0, TRAIN - 1))]
    with pytest.raises(
        ValueError, match=r"members of one pack need train parts of one size, got \[42, 41\]"
    ):
        data(lab, tables=tables)


def test_the_scale_of_targets_is_each_member_s_own(lab):
    spec = lab.spec(task="regression")
    tables = [lab.table(spec, split=split_by(seed), outputs=2) for seed in range(3)]
    packed = data(lab, tables=tables)
    for k, table in enumerate(tables):
        np.testing.assert_array_equal(packed.y_mean_K1T[k, 0].numpy(), table.y_mean)
        np.testing.assert_array_equal(packed.y_scale_K1T[k, 0].numpy(), table.y_scale)


# Fewer rows


def test_training_on_some_batches_alone(lab):
    packed = data(lab, train_batches=2)
    assert packed.size("train") == 32
    assert packed.steps_per_epoch == 2
    assert sorted(orders(packed.epoch(3), 3)[1].tolist()) == list(range(32))
    assert packed.size("val") == VAL


def test_repeat_validates_on_the_training_rows(lab):
    packed = data(lab, train_batches=1, repeat=True)
    assert orders(packed.part_batches("val", 100), 3).tolist() == [list(range(16))] * 3
    assert packed.size("test") == TEST


@pytest.mark.parametrize(
    ("debug", "train", "val"),
    [
        (None, TRAIN, VAL),
        ({"overfit": 1}, 16, 16),
        ({"overfit": 2}, 32, 32),
        ({"fast_dev_run": 2}, 32, VAL),
    ],
)
def test_the_debug_options_reach_the_data(lab, debug, train, val):
    pack = lab.pack([lab.spec(debug=debug)])
    assert (pack.data.size("train"), pack.data.size("val")) == (train, val)
    assert pack.epochs == (1 if debug and "fast_dev_run" in debug else 2)


@pytest.mark.parametrize("options", [{"batch_size": 41}, {"batch_size": 1}])
def test_a_batch_of_one_example_with_batch_norm_is_one_line(lab, options):
    line = r"^data\.batch_size: every batch must hold at least 2 examples with norm=batch"
    spec = lab.spec(batch_size=41, norm="batch")
    with pytest.raises(ConfigError, match=line):
        lab.pack([spec])
    assert lab.history(lab.pack([lab.spec(batch_size=41, norm="layer")]), 1)
    assert lab.history(lab.pack([lab.spec(batch_size=41, norm="batch", drop_last=True)]), 1)


# Weights of examples


def weighted_and_replicated(lab, task):
    """One table whose training rows have whole weights, and one with each row so many times."""
    spec = lab.spec(task=task)
    weight = np.ones(TRAIN + VAL + TEST)
    weight[:TRAIN] = np.random.default_rng(2).integers(0, 4, TRAIN)
    weighted = lab.table(spec, weight=weight)
    copies = np.repeat(np.arange(TRAIN), weight[:TRAIN].astype(int))
    plain = lab.table(spec)
    rows = np.concatenate([copies, np.arange(TRAIN, TRAIN + VAL + TEST)])
    sizes = np.cumsum([len(copies), VAL])
    replicated = type(plain)(
        **{
            **{name: getattr(weighted, name) for name in plain.__dataclass_fields__},
            "x": weighted.x[rows],
            "y": weighted.y[rows],
            "weight": np.ones(len(rows)),
            "eval_weight": np.ones(len(rows)),
            "split": Split(*np.split(np.arange(len(rows)), sizes)),
        }
    )
    return weighted, replicated


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_whole_weights_are_so_many_rows(lab, task):
    weighted, replicated = weighted_and_replicated(lab, task)
    assert weighted.weight[:TRAIN].mean() == pytest.approx(1)
    ends = []
    for table in (weighted, replicated):
        spec = lab.spec(
            task=task, batch_size=1000, activation="tanh", optimizer=("sgd", {"lr": 0.3})
        )
        pack = lab.pack([spec], table)
        losses = [pack.train_epoch(e).loss_SK for e in range(10)]
        ends.append((torch.cat(losses), pack.mlp.theta.detach(), pack.predict("train").loss_K))
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    unweighted = lab.pack([lab.spec(task=task, batch_size=1000, activation="tanh")])
    assert abs(float(unweighted.train_epoch(0).loss_SK[0, 0] - ends[0][0][0, 0])) > 1e-4


def test_weights_of_mean_one_are_divided_by_the_rows_of_the_batch(lab):
    weighted, _ = weighted_and_replicated(lab, "classification")
    packed = data(lab, tables=[weighted] * 2, quantum=32)
    for batch in packed.epoch(0):
        index = batch.index.view(2, -1)[:, : batch.rows]
        expected = torch.from_numpy(weighted.weight)[index] / batch.rows
        torch.testing.assert_close(batch.weight[:, : batch.rows], expected, rtol=1e-15, atol=0)
