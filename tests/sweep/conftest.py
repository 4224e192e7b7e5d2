from types import SimpleNamespace

import pytest
import torch

from unitgain.runs import RunDirectory
from unitgain.spec import parse
from unitgain.sweep.job import Job

TIMES = {"seconds", "pack"}
DATES = {"date", "git"}


def _spec(**changes):
    """A run that is over in a moment."""
    node = {
        "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8},
        "data": {"_target_": "unitgain.data.sources.iris", "task": "classification"},
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "progress": False},
    }
    return parse(node | changes)


def _jobs(folder, *specs):
    return [
        Job(k, (f"seed={spec.seed}",), spec, folder / f"run{k}") for k, spec in enumerate(specs)
    ]


def _checkpoint(path):
    content = torch.load(path, weights_only=True)
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in _flat(content)
    }


def _flat(content, key=""):
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


def _same_run(one, other):
    """Assert that two directories hold the same run, but for dates and times."""
    one, other = RunDirectory(one), RunDirectory(other)
    files = [
        sorted(str(p.relative_to(run.path)) for p in run.path.rglob("*")) for run in (one, other)
    ]
    assert files[0] == files[1]
    for name in ("config", "overrides", "metrics", "gradients"):
        if getattr(one, name).exists():
            assert getattr(one, name).read_bytes() == getattr(other, name).read_bytes(), name
    for name in ("best_checkpoint", "last_checkpoint"):
        if getattr(one, name).exists():
            assert _checkpoint(getattr(one, name)) == _checkpoint(getattr(other, name)), name
    summaries = [
        {k: repr(v) for k, v in (r.read_summary() or {}).items() if k not in TIMES}
        for r in (one, other)
    ]
    assert summaries[0] == summaries[1]
    environments = [
        {k: v for k, v in r.read_environment().items() if k not in DATES} for r in (one, other)
    ]
    assert environments[0] == environments[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in an empty working directory, with no settings of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("UNITGAIN_SWEEPS", "UNITGAIN_ALLOW", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def desk():
    """What tests of sweeps are made with."""
    return SimpleNamespace(spec=_spec, jobs=_jobs, same_run=_same_run)
