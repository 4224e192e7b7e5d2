import subprocess
import sys
from pathlib import Path

import pytest

import unitgain
from unitgain.spec import parse, run_hash

SOURCE = str(Path(unitgain.__file__).parents[1])


@pytest.mark.parametrize(
    "config",
    [
        {"name": "a"},
        {"tags": ["a"]},
        {"figures": False},
        {"logger": {}},
        {"trainer": {"progress": False}},
        {"callbacks": {"checkpoint": {"every_s": 5}}},
        {"debug": {"profiler": True}},
        {"l2_penalty": 0},
        {"optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": "1e-3"}},
    ],
)
def test_what_does_not_change_a_result_does_not_change_the_hash(config):
    assert run_hash(config) == run_hash({})


@pytest.mark.parametrize(
    "config",
    [
        {"seed": 1},
        {"model": {"_target_": "unitgain.nn.MLP", "depth": 7}},
        {"trainer": {"threads": 2}},
        {"trainer": {"precision": "64"}},
        {"probe": {"every": 5}},
        {"monitor": "val/accuracy"},
        {"debug": {"fast_dev_run": 2}},
        {"callbacks": {"early_stopping": {"patience": 3}}},
        {"data": {"_target_": "unitgain.data.sources.digits", "batch_size": 32}},
        {"init": {"_target_": "unitgain.own.init", "gain": 2}},
    ],
)
def test_what_changes_a_result_changes_the_hash(config):
    assert run_hash(config) != run_hash({})


def test_the_hash_is_twelve_digits_and_the_same_of_spec_mapping_and_resolved_mapping():
    config = {"seed": 3, "init": {"_target_": "unitgain.own.init", "gain": 2}}
    spec = parse(config)
    assert run_hash(config) == run_hash(spec) == run_hash(spec.resolved())
    assert len(run_hash(config)) == 12
    assert set(run_hash(config)) <= set("0123456789abcdef")


def test_the_schema_imports_nothing_heavy():
    program = (
        "import sys, unitgain.spec\n"
        "unitgain.spec.run_hash({})\n"
        "print([m for m in ('torch', 'numpy', 'hydra', 'sklearn', 'lightning') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": SOURCE},
    )
    assert done.stdout.strip() == "[]"
