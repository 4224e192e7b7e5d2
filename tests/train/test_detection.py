"""Two-sample tests of what a run sees, by hand and by simulation; what a network makes of rows."""

import numpy as np
import pytest
import scipy.stats
import torch

from unitgain.shift import Portfolio
from unitgain.train.detection import detect_shift, leading
from unitgain.train.evaluate import opened
from unitgain.train.representations import Reader, Representations


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows_of(rng, rows, *, input=0.0, hidden=0.0, said=0.0):
    """Independent Gaussian spaces with these means."""
    input_RD, hidden_RH, said_RT = (
        torch.from_numpy(rng.standard_normal((rows, columns)) + mean)
        for columns, mean in ((3, input), (4, hidden), (1, said))
    )
    return Representations(input_RD, hidden_RH, said_RT, False)


def test_all_tests_share_one_level_by_the_method_of_holm():
    rng = np.random.default_rng(0)
    found = detect_shift(rows_of(rng, 60), rows_of(rng, 60, hidden=0.4), seeded())
    tests = [test for space in found.spaces for test in space.tests]
    assert len(tests) == 3 * len(Portfolio().tests)
    raw = [test.p_value for test in tests]
    adjusted = [p for space in found.spaces for p in space.adjusted]
    largest, order = 0.0, np.argsort(raw)
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(raw) - rank) * raw[i]))
        assert adjusted[i] == pytest.approx(largest)
    assert found.p_value == min(adjusted)
    # A permutation test alone must be able to pass the level.
    assert len(raw) / (1 + 999) < 0.05


def test_the_space_that_differs_is_named():
    rng = np.random.default_rng(1)
    found = detect_shift(rows_of(rng, 150), rows_of(rng, 150, hidden=0.6), seeded())
    p_values = {space.name: space.p_value for space in found.spaces}
    assert p_values["last hidden layer"] < 0.001
    assert min(p_values["inputs"], p_values["predictions"]) > 0.05
    assert [space.columns for space in found.spaces] == [3, 4, 1]
    clearest = found.spaces[1].clearest
    assert clearest.p_value == min(test.p_value for test in found.spaces[1].tests)
    assert found.as_dict()["spaces"]["last hidden layer"]["clearest"] == clearest.name


def test_without_a_shift_alarms_are_as_rare_as_the_level_says():
    rng, trials = np.random.default_rng(2), 20
    alarms = sum(
        detect_shift(rows_of(rng, 40), rows_of(rng, 40), seeded(trial)).p_value <= 0.05
        for trial in range(trials)
    )
    assert alarms <= scipy.stats.binom.ppf(0.999, trials, 0.05)


def test_wide_rows_are_seen_through_principal_components_of_the_pool():
    rng = np.random.default_rng(3)
    source, target = (torch.from_numpy(rng.standard_normal((40, 300))) for _ in range(2))
    parts = torch.cat(leading(source, target)).numpy()
    pool = torch.cat([source, target]).numpy()
    left, value, _ = np.linalg.svd(pool - pool.mean(0), full_matrices=False)
    wanted = (left * value)[:, :70][:, ::-1]
    shown = parts[:, -70:]
    assert np.abs(shown) == pytest.approx(np.abs(wanted), abs=1e-8)
    narrow = leading(source[:, :128], target[:, :128])
    assert torch.equal(narrow[0], source[:, :128])


def test_a_reader_gives_what_the_network_computes(train, tmp_path):
    result = train()
    with opened(tmp_path / "run") as (_, module):
        table = module.tables[0]
        read, state = Reader(module.pack, table), module.pack.mlp.member_state(0)
    rows = table.split.test
    seen = read(rows)
    h = table.x[rows]
    weights = [v.double().numpy() for k, v in state.items() if k.endswith("weight")]
    biases = [v.double().numpy() for k, v in state.items() if k.endswith("bias")]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        h = np.maximum(h @ weight.T + bias, 0)
    assert seen.hidden_RH.numpy() == pytest.approx(h, rel=1e-4, abs=1e-5)
    logits = h @ weights[-1].T + biases[-1]
    posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert seen.said_RT.numpy() == pytest.approx(posterior, rel=1e-4, abs=1e-5)
    assert torch.equal(seen.input_RD, torch.from_numpy(table.x[rows]))
    hits = seen.said_RT.argmax(1).numpy() == table.y[rows]
    assert hits.mean() == pytest.approx(result.metrics["test/accuracy"])


def test_a_regression_is_read_in_the_units_of_its_targets(train, tmp_path, diabetes):
    result = train(data=diabetes)
    with opened(tmp_path / "run") as (_, module):
        table, read = module.tables[0], Reader(module.pack, module.tables[0])
    rows = table.split.test
    error = read(rows).said_RT.numpy()[:, 0] - table.shifted.table.y[rows, 0]
    assert np.sqrt((error**2).mean()) == pytest.approx(result.metrics["test/rmse"], rel=1e-5)


def test_one_of_two_posteriors_is_enough():
    pair = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    rows = Representations(pair, None, pair, True)
    assert torch.equal(rows.independent, pair[:, 1:])
    assert torch.equal(Representations(pair, None, pair, False).independent, pair)
