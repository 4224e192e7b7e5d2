"""Weighted metrics in torchmetrics' interface: any batches, any processes, against scikit-learn and replicated rows."""

import itertools
import json
import math
import os
import pickle
import runpy
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics
from torch import nn
from torchmetrics import MetricCollection

from unitgain.errors import ConfigError, DataError
from unitgain.pack import weighted
from unitgain.pack.metrics import as_metric, higher_is_better
from unitgain.pack.weighted_metrics import as_weighted

SCRIPT = Path(__file__).with_name("weighted_processes.py")


def classes_metrics(classes):
    return {
        "accuracy": weighted.WeightedAccuracy(),
        "balanced": weighted.WeightedBalancedAccuracy(classes),
        "f1": weighted.WeightedF1Score(classes),
        "log_loss": weighted.WeightedLogLoss(),
        "brier": weighted.WeightedBrierScore(),
        "ece": weighted.WeightedCalibrationError(),
        "auroc": weighted.WeightedAUROC(classes),
        "mean": weighted.WeightedMean(nn.NLLLoss(reduction="none")),
    }


def values_metrics(outputs):
    return {
        "mse": weighted.WeightedMeanSquaredError(),
        "rmse": weighted.WeightedMeanSquaredError(squared=False),
        "mae": weighted.WeightedMeanAbsoluteError(),
        "r2": weighted.WeightedR2Score(outputs),
    }


def classes_problem(seed, classes, rows=50):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=g, dtype=torch.float64)
    p = (3 * logits).round().div(3).softmax(-1)  # a few values: with ties
    return p, torch.randint(0, classes, (rows,), generator=g), whole(rows, g)


def values_problem(seed, outputs, rows=50):
    g = torch.Generator().manual_seed(seed)
    shape = (rows,) if outputs == 1 else (rows, outputs)
    y = 1e5 + torch.randn(shape, generator=g, dtype=torch.float64)
    return y + 0.5 * torch.randn(shape, generator=g).double(), y, whole(rows, g)


def whole(rows, g):
    return torch.randint(0, 4, (rows,), generator=g).double()


CASES = [("classes", 2), ("classes", 4), ("values", 1), ("values", 3)]


def made(kind, size, seed=0):
    """Metrics by name, and a problem for them."""
    if kind == "classes":
        return classes_metrics(size), classes_problem(seed, size)
    return values_metrics(size), values_problem(seed, size)


def once(metrics, rows):
    """The values for one batch with all rows."""
    for metric in metrics.values():
        metric.reset()
        metric.update(*rows)
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def close(one, other, tolerance=1e-12):
    return {k: pytest.approx(v, rel=tolerance, abs=tolerance) for k, v in other.items()} == one


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_whole_weights_are_so_many_rows(kind, size):
    metrics, (p, y, w) = made(kind, size)
    found = once(metrics, (p, y, w))
    copies = torch.arange(len(y)).repeat_interleave(w.long())
    assert close(found, once(metrics, (p[copies], y[copies])))
    assert close(found, once(metrics, (p, y, 0.37 * w)), 1e-11)
    assert not any(close({n: found[n]}, {n: v}) for n, v in once(metrics, (p, y)).items())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("kind", "size"), CASES)
def test_any_batches_in_any_order_give_one_result(kind, size, seed):
    metrics, rows = made(kind, size, seed)
    expected = once(metrics, rows)
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(50, generator=g)
    cuts = sorted(torch.randint(0, 51, (seed,), generator=g).tolist())
    ends = [0, 0, *cuts, 50]  # an empty batch too
    for metric in metrics.values():
        metric.reset()
        for i, j in itertools.pairwise(ends):
            metric.update(*(each[order[i:j]] for each in rows))
    assert close({n: float(m.compute()) for n, m in metrics.items()}, expected, 1e-11)


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_against_scikit_learn(classes):
    metrics, (p, y, w) = made("classes", classes, seed=5)
    w = w * torch.rand(len(w), generator=torch.Generator().manual_seed(1)).double()
    found = once(metrics, (p, y, w))
    p, y, w = p.numpy(), y.numpy(), w.numpy()
    hard, how = p.argmax(1), {"sample_weight": w}
    areas = [sk.roc_auc_score(y == c, p[:, c], **how) for c in range(classes)]
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, hard, **how),
            "balanced": sk.balanced_accuracy_score(y, hard, **how),
            "f1": sk.f1_score(y, hard, average="macro", **how),
            "log_loss": sk.log_loss(y, p, **how),
            "brier": sk.brier_score_loss(y, p, scale_by_half=False, **how),
            "ece": found["ece"],
            "auroc": areas[1] if classes == 2 else np.mean(areas),
            "mean": -np.average(p[np.arange(len(y)), y], weights=w),
        },
        rel=1e-12,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copies = np.repeat(np.arange(len(y)), 3)
        plain = torchmetrics.classification.MulticlassCalibrationError(classes)
        plain.update(torch.from_numpy(p[copies]), torch.from_numpy(y[copies]))
    even = once({"ece": metrics["ece"]}, (torch.from_numpy(p), torch.from_numpy(y)))["ece"]
    assert even == pytest.approx(float(plain.compute()), rel=1e-6)  # torchmetrics adds in float32


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_against_scikit_learn(outputs):
    metrics, (o, y, w) = made("values", outputs)
    found, how = once(metrics, (o, y, w)), {"sample_weight": w.numpy()}
    o, y = o.numpy(), y.numpy()
    assert found == pytest.approx(
        {
            "mse": sk.mean_squared_error(y, o, **how),
            "rmse": math.sqrt(sk.mean_squared_error(y, o, **how)),
            "mae": sk.mean_absolute_error(y, o, **how),
            "r2": sk.r2_score(y, o, **how),
        },
        rel=1e-10,
    )


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_the_packed_functions_compute_the_same(kind, size):
    from unitgain.pack import weighted_metrics

    metrics, (p, y, w) = made(kind, size)
    found = once(metrics, (p, y, w))
    packed = (p, y) if kind == "classes" or size > 1 else (p[:, None], y[:, None])
    names = {"f1": "f1_macro"}
    same = [n for n in found if hasattr(weighted_metrics, names.get(n, n))]
    assert len(same) == (5 if kind == "classes" else 4)
    for name in same:
        function = getattr(weighted_metrics, names.get(name, name))
        assert float(function(*(each[None] for each in packed), w[None])) == found[name]


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_clone_reset_pickle_and_forward(kind, size):
    metrics, rows = made(kind, size)
    expected = once(metrics, rows)
    half = [tuple(each[part] for each in rows) for part in (slice(0, 20), slice(20, None))]
    for name, metric in metrics.items():
        metric.reset()
        metric.update(*half[0])
        copy = pickle.loads(pickle.dumps(metric.clone()))
        metric.reset()
        batch = float(copy(*half[1]))  # forward: the batch's own value
        assert batch == pytest.approx(once({name: metric}, half[1])[name], rel=1e-12)
        assert float(copy.compute()) == pytest.approx(expected[name], rel=1e-11)
        assert copy.higher_is_better == higher_is_better(metric)


def test_a_collection_shares_no_state_between_metrics_with_equal_sums():
    rows = (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
    losses = {n: weighted.WeightedMean(f(reduction="none")) for n, f in LOSSES.items()}
    both = MetricCollection(losses | {"mse": weighted.WeightedMeanSquaredError()})
    both.update(*rows)  # all of them zero: torchmetrics would take them for one
    both.update(rows[0] + 3, rows[1], weight=rows[2])
    found = {name: float(value) for name, value in both.compute().items()}
    assert found == pytest.approx({"l1": 1.5, "huber": 1.25, "mse": 4.5})


LOSSES = {"l1": nn.L1Loss, "huber": nn.HuberLoss}


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What two processes computed together, and what this one computes alone."""
    folder = tmp_path_factory.mktemp("weighted")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in (0, 1):
        torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        torchrun |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "test"}
        environment |= {name: str(value) for name, value in torchrun.items()}
        command = [sys.executable, str(SCRIPT), str(folder)]
        started.append(subprocess.Popen(command, env=environment))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = runpy.run_path(str(SCRIPT))["everything"]()
        assert [process.wait(200) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return alone, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("rows", ["20", "1", "0"])
def test_two_processes_compute_what_one_does(processes, rows):
    alone, together = processes
    assert len(alone[rows]) == 12
    for each in together:
        assert each[rows] == pytest.approx(alone[rows], rel=1e-12)


def test_lightning_logs_them_over_processes(processes):
    alone, together = processes
    for each in together:
        assert each["lightning"] == pytest.approx(alone["lightning"], rel=1e-6)
    logged = {
        n: alone["20"][f"Weighted{m}"] for n, m in {"accuracy": "Accuracy", "area": "AUROC"}.items()
    }
    assert alone["lightning"] == pytest.approx({f"logged/{n}": v for n, v in logged.items()})


P, Y = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1])
ONES = torch.ones(2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((P, Y, torch.tensor([1.0, -1.0])), r"weight: must be finite numbers .*, 1 of 2 aren't"),
        ((P, Y, torch.tensor([1.0, torch.nan])), "weight: must be finite numbers of 0 or above"),
        ((P, Y, torch.ones(3)), r"weight: must be one number a row, \(2,\), got \(3,\)"),
        ((P, Y, torch.ones(2, 1)), r"weight: must be one number a row, \(2,\), got \(2, 1\)"),
        (
            (P[:, 0], Y, ONES),
            r"preds: must be probabilities \(N, C\) of targets \(N,\), got \(2,\)",
        ),
        ((P, Y[:1], torch.ones(1)), r"preds: must be probabilities .* got \(2, 2\) and \(1,\)"),
        ((P, Y + 1, ONES), "target: must be class numbers below 2, got 1 to 2"),
        ((P, Y.double(), ONES), "target: must be class numbers, got torch.float64"),
    ],
)
def test_a_batch_that_does_not_hang_together_is_refused(given, text):
    with pytest.raises(DataError, match=text):
        weighted.WeightedAccuracy().update(*given)


def test_other_faults_are_one_line_each():
    with pytest.raises(DataError, match=r"preds: must have the target's shape.* got \(2, 2\) and"):
        weighted.WeightedMeanSquaredError().update(P, torch.ones(2))
    with pytest.raises(DataError, match="preds: must have 3 columns, got 2; set num_classes=2"):
        weighted.WeightedAUROC(3).update(P, Y)
    with pytest.raises(DataError, match="preds: must have 1 columns, got 2; set num_outputs=2"):
        weighted.WeightedR2Score().update(P, P)
    with pytest.raises(DataError, match=r"loss: must give one number a row, \(2,\), got \(\)"):
        weighted.WeightedMean(nn.functional.mse_loss).update(P, P)
    with pytest.raises(ConfigError, match="num_classes: must be at least 2, got 1"):
        weighted.WeightedF1Score(1)


@pytest.mark.parametrize(("kind", "size"), CASES)
def test_no_weight_at_all_is_refused(kind, size):
    metrics, (p, y, w) = made(kind, size)
    for metric in metrics.values():
        metric.update(p, y, 0 * w)
        with pytest.raises(DataError, match="weight: must have a positive sum"):
            metric.compute()


def test_predictions_that_are_no_numbers_give_nan():
    metrics, (p, y, w) = made("classes", 3)
    p[4], w[4] = torch.nan, 1.0
    assert all(math.isnan(value) for value in once(metrics, (p, y, w)).values())


def members(kind, size):
    """Two members' predictions, targets and weights."""
    problems = [made(kind, size, seed)[1] for seed in (1, 2)]
    p, y, w = (torch.stack(each) for each in zip(*problems, strict=True))
    return (p[..., None], y[..., None], w) if (kind, size) == ("values", 1) else (p, y, w)


def test_a_pack_calls_ours_with_weights_and_without():
    p, y, w = members("classes", 4)
    metric = as_metric(weighted.WeightedBrierScore())
    found, plain = as_weighted("brier", metric)(p, y, w), metric(p, y)
    for k in range(2):
        rows = {"brier": weighted.WeightedBrierScore()}
        assert float(found[k]) == once(rows, (p[k], y[k], w[k]))["brier"]
        assert float(plain[k]) == once(rows, (p[k], y[k]))["brier"]


C = torchmetrics.classification
TWINS = [
    (C.BinaryAccuracy(), "classes", 2),
    (C.MulticlassAccuracy(4, average="micro"), "classes", 4),
    (C.MulticlassF1Score(4), "classes", 4),
    (C.BinaryAUROC(), "classes", 2),
    (C.MulticlassAUROC(4), "classes", 4),
    (C.MulticlassCalibrationError(4), "classes", 4),
    (torchmetrics.MeanAbsoluteError(), "values", 1),
    (torchmetrics.MeanSquaredError(), "values", 3),
    (torchmetrics.MeanSquaredError(squared=False), "values", 3),
    (torchmetrics.R2Score(), "values", 1),
]


@pytest.mark.parametrize(("metric", "kind", "size"), TWINS, ids=lambda v: type(v).__name__)
def test_a_twin_gives_what_torchmetrics_does_of_replicated_rows(metric, kind, size):
    p, y, w = members(kind, size)
    if kind == "values":
        p, y = p - 1e5, y - 1e5  # torchmetrics subtracts large sums
    packed = as_metric(metric)
    found = as_weighted("it", packed)(p, y, w)
    for k in range(2):
        copies = torch.arange(p.shape[1]).repeat_interleave(w[k].long())
        expected = packed(p[k : k + 1, copies], y[k : k + 1, copies])
        assert float(found[k]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert not torch.allclose(found.double(), packed(p, y).double(), rtol=1e-4)


@pytest.mark.parametrize(
    "metric",
    [C.MulticlassAccuracy(4), C.MulticlassAccuracy(4, average="micro", top_k=2), C.BinaryF1Score()],
)
def test_a_metric_without_a_twin_is_refused_with_a_remedy(metric):
    with pytest.raises(
        ConfigError, match=r"metrics\.m: .* takes none; choose a metric of unitgain"
    ):
        as_weighted("m", as_metric(metric))
