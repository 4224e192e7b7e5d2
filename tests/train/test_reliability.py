"""Bins of confidence, against torchmetrics and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from unitgain.pack.metrics import BINS
from unitgain.train.reliability import reliability


@pytest.fixture
def said():
    generator = torch.Generator().manual_seed(0)
    posterior_NC = torch.randn(500, 3, dtype=torch.float64, generator=generator).mul(2).softmax(1)
    return posterior_NC, torch.multinomial(posterior_NC.sqrt(), 1, generator=generator)[:, 0]


def test_it_sums_to_the_calibration_error_of_torchmetrics(said):
    posterior_NC, label_N = said
    found = reliability("target", "nothing", posterior_NC, label_N, torch.ones(500))
    expected = multiclass_calibration_error(posterior_NC, label_N, 3, n_bins=BINS, norm="l1")
    assert found.ece == pytest.approx(float(expected), abs=1e-6)


def test_bins_are_those_of_scikit_learn(said):
    posterior_NC, label_N = said
    found = reliability("target", "nothing", posterior_NC, label_N, torch.ones(500)).as_dict()
    confidence_N, said_N = posterior_NC.max(1)
    right, mean = calibration_curve((said_N == label_N).int(), confidence_N, n_bins=BINS)
    assert [b["accuracy"] for b in found["bins"]] == pytest.approx(right)
    assert [b["confidence"] for b in found["bins"]] == pytest.approx(mean)
    assert sum(b["share"] for b in found["bins"]) == pytest.approx(1)


def test_whole_weights_are_repeated_rows(said):
    posterior_NC, label_N = said
    weight_N = torch.from_numpy(np.random.default_rng(0).integers(0, 4, 500))
    weighted = reliability("validation", "inputs", posterior_NC, label_N, weight_N)
    repeated = [each.repeat_interleave(weight_N, 0) for each in said]
    plain = reliability("validation", "inputs", *repeated, torch.ones(len(repeated[0])))
    assert weighted.ece == pytest.approx(plain.ece)
    for name in ("share_B", "confidence_B", "accuracy_B"):
        ours, theirs = (getattr(each, name) for each in (weighted, plain))
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_certainty_has_a_bin_of_its_own():
    found = reliability(
        "target", "nothing", torch.tensor([[1.0, 0.0]]), torch.tensor([1]), torch.ones(1)
    )
    assert found.as_dict()["bins"] == [{"share": 1.0, "confidence": 1.0, "accuracy": 0.0}]
    assert found.ece == 1.0
