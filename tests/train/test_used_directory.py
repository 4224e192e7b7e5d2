"""A directory that holds a run is not trained over, and a checkpoint of another run is not scored."""

import pytest

from unitgain.errors import CheckpointError, ConfigError
from unitgain.train import evaluate


def test_training_over_a_run_is_refused_and_leaves_it_as_it_was(train):
    first = train("run")
    before = {p: p.read_bytes() for p in first.directory.rglob("*") if p.is_file()}
    with pytest.raises(
        ConfigError, match=r"must be a directory without a run, .* holds one \(finished\)"
    ):
        train("run", seed=1)
    assert {p: p.read_bytes() for p in first.directory.rglob("*") if p.is_file()} == before


def test_evaluate_refuses_the_checkpoint_of_another_configuration(train):
    wide = train("wide", model={"_target_": "unitgain.nn.MLP", "depth": 2, "width": 16})
    run = train("run")
    best = "checkpoints/best.ckpt"
    (run.directory / best).write_bytes((wide.directory / best).read_bytes())
    with pytest.raises(CheckpointError, match=r"must be a checkpoint of this configuration"):
        evaluate(run.directory)
