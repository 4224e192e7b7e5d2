"""Members of a pack whose shifts differ in strength and seed are what they are alone."""

import json

import pytest
import torch

from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint

WINE = {"_target_": "unitgain.data.sources.wine", "batch_size": 24, "impute": "mean"}
DIABETES = {"_target_": "unitgain.data.sources.diabetes", "batch_size": 24}
GAUSSIAN = {
    "_target_": "unitgain.data.sources.gaussian_shift",
    "task": "classification",
    "n_source": 90,
    "n_target": 40,
    "batch_size": 24,
}
CASES = {
    "LabelDirichlet": (WINE, [{"rows": 12}, {"alpha": 3.0, "rows": 12, "seed": 1}]),
    "LabelTweakOne": (WINE, [{"rows": 10}, {"share": 0.6, "rows": 10, "seed": 1}]),
    "LabelKnockout": (WINE, [{"share": 0.0, "kept": 0.6}, {"kept": 0.6, "seed": 1}]),
    "PCATilt": (WINE, [{"strength": 1.0}, {"strength": 3.0, "seed": 1}]),
    "LogisticSelection": (WINE, [{"strength": 1.0}, {"strength": 3.0, "seed": 1}]),
    "ExponentialTilt": (WINE, [{"strength": 0.5, "largest": 3.0}, {"largest": 3.0, "seed": 1}]),
    "GaussianMeanShift": (WINE, [{"strength": 0.5, "largest": 3.0}, {"largest": 3.0, "seed": 1}]),
    "Concept": (WINE, [{"strength": 0.2}, {"strength": 0.9, "seed": 1}]),
    "Concept, regression": (DIABETES, [{"strength": 0.2}, {"strength": 2.0, "seed": 1}]),
    "GaussianNoise": (WINE, [{"strength": 0.5}, {"strength": 2.0, "seed": 1}]),
    "FeatureKnockout": (WINE, [{"share": 0.2}, {"share": 0.6, "seed": 1}]),
    "FeatureScaling": (WINE, [{"factor": 0.5}, {"factor": 3.0, "seed": 1}]),
    "MissingValues": (WINE, [{"share": 0.1}, {"share": 0.7, "seed": 1}]),
}


def spec(kind, data, **keys):
    name = kind.partition(",")[0]
    return parse(
        {
            "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8},
            "data": data,
            "shift": {"_target_": f"unitgain.data.shifts.{name}", **keys},
            "trainer": {"max_epochs": 2, "accelerator": "cpu", "progress": False},
            "figures": False,
        }
    )


def assert_alike(specs, folder):
    fit(specs, [folder / f"pack{k}" for k in range(len(specs))])
    tests = []
    for k, each in enumerate(specs):
        fit([each], [folder / f"alone{k}"])
        one, other = (
            read_checkpoint(RunDirectory(folder / f"{kind}{k}").best_checkpoint)["state_dict"]
            for kind in ("pack", "alone")
        )
        assert all(torch.equal(one[name], other[name]) for name in one)
        packed, alone = (
            json.loads((folder / f"{kind}{k}" / "summary.json").read_text())["metrics"]
            for kind in ("pack", "alone")
        )
        assert packed == alone
        tests.append(packed["test/loss"])
    assert len(set(tests)) == len(specs)


@pytest.mark.parametrize("case", CASES)
def test_strength_and_seed_of_a_shift_may_differ_in_a_pack(case, tmp_path):
    data, keys = CASES[case]
    assert_alike([spec(case, data, **given) for given in keys], tmp_path)


def test_sources_of_two_domains_may_differ_in_a_pack(tmp_path):
    assert_alike(
        [
            spec("Given", GAUSSIAN),
            spec("Given", GAUSSIAN | {"seed": 1, "target_mean": 2.0, "target_spread": 0.5}),
        ],
        tmp_path,
    )
