"""What every option of shift holds to; a new file is covered by being there."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml

from unitgain.data import Table, make_shift, make_split, table_from_arrays
from unitgain.data._shifted import Kind
from unitgain.data.sources import gaussian_shift
from unitgain.shift import diagnose
from unitgain.spec import parse

CONF = Path(__file__).parents[2] / "conf" / "shift"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
WITHOUT_RATIO = {
    "domain",
    "gaussian_noise",
    "feature_knockout",
    "feature_scaling",
    "missing_values",
}


def table(option) -> Table:
    if option == "given":
        return gaussian_shift("classification", 400, 200, n_features=3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)) @ [[1.0, 0.8, 0.3], [0.0, 0.6, 0.2], [0.0, 0.0, 0.9]]
    y = rng.integers(3, size=600)
    group = rng.integers(9, size=600)
    return table_from_arrays("toy", x, y, task="classification", group=group)


def shifted(option, whole, split_seed=0, **keys):
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text()) | keys
    data = {"_target_": "unitgain.data.sources.digits", "impute": "mean"}
    split = {"_target_": "unitgain.data.splits.Random", "seed": split_seed}
    spec = parse({"shift": node, "data": data, "split": split})
    return make_shift(spec.shift, whole, make_split(spec.split, whole))


def test_the_options_without_a_ratio_are_there():
    assert set(OPTIONS) >= WITHOUT_RATIO


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("split_seed", [0, 1])
def test_parts_are_disjoint_and_source_rows_stay_as_they_are(option, split_seed):
    whole = table(option)
    made = shifted(option, whole, split_seed)
    rows = np.concatenate(made.split.parts())
    assert len(np.unique(rows)) == len(rows)
    assert min(len(part) for part in made.split.parts()) > 20
    source = np.concatenate(made.split.parts()[:2])
    assert made.table.take(source).fingerprint() == whole.take(source).fingerprint()
    assert made.kind in get_args(Kind)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_known_of_the_ratio_fits_together(option):
    whole = table(option)
    made = shifted(option, whole)
    if option in WITHOUT_RATIO:
        assert made.ratio is None
        assert np.isnan([made.bound, made.ess_share]).all()
        return
    weight = made.ratio[made.split.train]
    assert made.ratio.shape == (whole.n_rows,)
    assert weight.mean() == pytest.approx(1.0)
    assert weight.min() >= 0
    assert made.bound >= 1
    # E[w^2] is at most sup w, and at least one.
    assert max(1 / made.bound, 0) - 1e-9 <= made.ess_share <= 1 + 1e-9
    found = diagnose(torch.from_numpy(weight))
    assert 1 <= found.ess <= len(weight) + 1e-6
    assert found.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert found.pareto_k < 1


@pytest.mark.parametrize("option", OPTIONS)
def test_one_seed_is_one_split(option):
    whole = table(option)
    first, again = shifted(option, whole), shifted(option, whole)
    assert first.table.fingerprint() == again.table.fingerprint()
    for one, other in zip(first.split.parts(), again.split.parts(), strict=True):
        assert np.array_equal(one, other)
