import numpy as np
import pytest
import torch

from unitgain.runs import RunDirectory, read_metrics
from unitgain.train import fit
from unitgain.train.tracker import Tracker

NOISY = {"_target_": "unitgain.pack.optim.Adam", "lr": 0.08}


def stops_at(values, patience, min_delta):
    """The epoch that patience ends behind, by the rule in words; None where it lasts."""
    reference, waited = float("inf"), 0
    for epoch, value in enumerate(values):
        if value < reference - min_delta:
            reference, waited = value, 0
        else:
            waited += 1
        if waited == patience:
            return epoch
    return None


@pytest.mark.parametrize(("patience", "min_delta"), [(1, 0.0), (2, 0.0), (2, 0.05), (3, 0.3)])
def test_stops_at_the_epoch_that_the_rule_says(train, patience, min_delta):
    free = train("free", optimizer=NOISY, trainer={"max_epochs": 25})
    values = read_metrics(free.directory / "metrics.csv")["val/loss"]
    expected = stops_at(values, patience, min_delta)
    assert expected is not None
    assert 1 <= expected < 23, "the rule must end it in the midst"
    rule = {"early_stopping": {"patience": patience, "min_delta": min_delta}}
    result = train("ruled", optimizer=NOISY, trainer={"max_epochs": 25}, callbacks=rule)
    run = RunDirectory(result.directory)
    metrics = read_metrics(run.metrics)
    assert metrics["epoch"][-1] == expected
    np.testing.assert_array_equal(metrics["val/loss"], values[: expected + 1])
    summary = run.read_summary()
    assert summary["status"] == "finished"
    assert (summary["epoch"], summary["step"]) == (expected + 1, 6 * (expected + 1))
    # The least value is the best, whether or not it counted as an improvement.
    assert summary["best"]["epoch"] == int(np.argmin(values[: expected + 1]))
    last = torch.load(run.last_checkpoint, weights_only=True)
    assert last["epoch"] == expected + 1


def test_rules_differ_enough_to_be_told_apart(train):
    free = train("free", optimizer=NOISY, trainer={"max_epochs": 25})
    values = read_metrics(free.directory / "metrics.csv")["val/loss"]
    rules = [(1, 0.0), (2, 0.0), (2, 0.05), (3, 0.3)]
    assert len({stops_at(values, *rule) for rule in rules}) >= 3


def test_members_stop_alone(make_spec, tmp_path, assert_same_run):
    rates = [1e-12, 0.01, 0.08]
    rule = {"early_stopping": {"patience": 2, "min_delta": 0.03}}
    specs = [
        make_spec(
            optimizer={"_target_": "unitgain.pack.optim.Adam", "lr": lr},
            trainer={"max_epochs": 25},
            callbacks=rule,
        )
        for lr in rates
    ]
    packed = [tmp_path / f"p{k}" for k in range(3)]
    fit(specs, packed)
    epochs = []
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"a{k}"])
        assert_same_run(tmp_path / f"a{k}", packed[k])
        epochs.append(len(read_metrics(packed[k] / "metrics.csv")["epoch"]))
    assert epochs[0] == 3
    assert len(set(epochs)) == 3


def test_a_metric_that_should_be_high(train):
    rule = {"early_stopping": {"patience": 2}}
    changes = {"optimizer": {"lr": 0.02}, "monitor": "val/accuracy", "trainer": {"max_epochs": 25}}
    free = train("free", **changes)
    values = read_metrics(free.directory / "metrics.csv")["val/accuracy"]
    expected = stops_at(-values, 2, 0.0)
    assert 2 < expected < 24
    result = train("ruled", **changes, callbacks=rule)
    assert read_metrics(result.directory / "metrics.csv")["epoch"][-1] == expected


def state(*values):
    return {"theta": torch.tensor(values).unsqueeze(1)}


def test_tracker_keeps_the_best_state_of_each_member():
    tracker = Tracker(2, "min", None, 0.0)
    theta = state(1.0, 10.0)
    tracker.update(0, np.array([3.0, 3.0]), theta)
    theta["theta"].add_(1.0)
    tracker.update(1, np.array([2.0, 4.0]), theta)
    theta["theta"].add_(1.0)
    tracker.update(2, np.array([2.5, 1.0]), theta)
    assert tracker.best_state["theta"].tolist() == [[2.0], [12.0]]
    assert tracker.best_epoch_K.tolist() == [1, 2]
    assert [tracker.best_value(k) for k in (0, 1)] == [2.0, 1.0]


def test_tracker_counts_numbers_that_are_none_as_no_improvement():
    tracker = Tracker(1, "max", 2, 0.0)
    assert tracker.update(0, np.array([np.nan]), state(0.0)) == []
    assert tracker.best_value(0) is None
    assert tracker.update(1, np.array([0.5]), state(1.0)) == []
    assert tracker.update(2, np.array([np.nan]), state(2.0)) == []
    assert tracker.update(3, np.array([0.4]), state(3.0)) == [0]
    assert tracker.best_state["theta"].tolist() == [[1.0]]


def test_tracker_facts_are_plain_and_restore_it():
    tracker = Tracker(2, "max", 3, 0.1)
    for epoch, values in enumerate([[0.2, 0.9], [0.25, 0.5], [0.9, 0.4]]):
        tracker.update(epoch, np.array(values), state(0.0, 0.0))
    other = Tracker(2, "max", 3, 0.1)
    for k in (0, 1):
        facts = tracker.facts(k)
        assert all(type(value) in (int, float) for value in facts.values())
        other.restore(k, facts)
    for name in ("best_K", "best_epoch_K", "reference_K", "wait_K"):
        np.testing.assert_array_equal(getattr(other, name), getattr(tracker, name))
    assert tracker.wait_K.tolist() == [0, 2]


def test_a_stopped_member_is_left_alone():
    tracker = Tracker(2, "min", None, 0.0)
    tracker.update(0, np.array([1.0, 1.0]), state(0.0, 0.0))
    tracker.status[0] = "diverged"
    tracker.update(1, np.array([0.5, 0.5]), state(1.0, 1.0))
    assert tracker.running == [1]
    assert tracker.best_epoch_K.tolist() == [0, 1]
    assert tracker.best_state["theta"].tolist() == [[0.0], [1.0]]
