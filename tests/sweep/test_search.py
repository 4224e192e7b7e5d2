"""The core of a search, with a stand-in for training: formulas whose best is known."""

import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from unitgain.errors import ConfigError
from unitgain.sweep.search import Grid, Result, Search
from unitgain.sweep.storage import open_study, public

optuna.logging.set_verbosity(optuna.logging.WARNING)
SQUARE = {name: FloatDistribution(-5.0, 5.0) for name in "abc"}


def study(sampler, *, name=None, storage=None, directions=("minimize",)):
    return open_study(name, storage, directions, sampler)


def bowl(batch):
    """A quadratic with its least value, 0, at (1, -2, 3)."""
    return [
        Result("finished", ((p["a"] - 1) ** 2 + (p["b"] + 2) ** 2 + (p["c"] - 3) ** 2,))
        for p in batch
    ]


def best(sampler, trials=60, batch=6):
    found = study(sampler)
    Search(found, SQUARE, trials, batch).run(bowl)
    assert len(found.trials) == trials
    return found.best_value


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optuna.samplers.TPESampler, {}),
        (optuna.samplers.CmaEsSampler, {"warn_independent_sampling": False}),
    ],
)
def test_a_model_of_the_trials_beats_chance(kind, options):
    seeds = range(7)
    chance = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in seeds]
    modelled = [best(kind(seed=seed, **options)) for seed in seeds]
    # The least of 60 uniform draws in a cube of side 10: a ball of 1/60 of its volume has radius 1.58.
    assert 0.5 < statistics.median(chance) < 5
    assert statistics.median(modelled) < statistics.median(chance) / 2


def test_a_grid_has_every_point_once():
    space = {
        "depth": IntDistribution(2, 6, step=2),
        "rate": FloatDistribution(0.0, 0.5, step=0.25),
        "init": CategoricalDistribution(["he", "xavier"]),
        "residual": CategoricalDistribution([True, False]),
    }
    points = {
        "depth": [2, 4, 6],
        "rate": [0.0, 0.25, 0.5],
        "init": ["he", "xavier"],
        "residual": [True, False],
    }
    found, seen = study(Grid(points)), []

    def train(batch):
        seen.extend(batch)
        return [Result("finished", (p["depth"] + p["rate"],)) for p in batch]

    Search(found, space, 36, 5).run(train)
    assert len(seen) == 36 == len({tuple(sorted(p.items())) for p in seen})
    assert found.best_value == 2.0


def test_no_trial_of_the_front_beats_another_in_all_objectives():
    found = study(
        optuna.samplers.NSGAIISampler(seed=0, population_size=20),
        directions=("minimize", "minimize"),
    )

    def train(batch):
        # Schaffer's first problem: the front is 0 <= x <= 2, where sqrt(f1) + sqrt(f2) = 2.
        return [Result("finished", (p["x"] ** 2, (p["x"] - 2) ** 2)) for p in batch]

    Search(found, {"x": FloatDistribution(-10.0, 10.0)}, 200, 20).run(train)
    front = [trial.values for trial in found.best_trials]
    assert len(front) > 10
    for one in front:
        assert not any(
            other != one and all(o <= v for o, v in zip(other, one, strict=True)) for other in front
        )
    inside = [v for v in front if math.isclose(math.sqrt(v[0]) + math.sqrt(v[1]), 2, abs_tol=1e-9)]
    assert len(inside) >= 0.9 * len(front)


def test_batches_are_as_large_as_asked():
    sizes = []

    def train(batch):
        sizes.append(len(batch))
        return bowl(batch)

    Search(study(optuna.samplers.RandomSampler(seed=0)), SQUARE, 20, 8).run(train)
    assert sizes == [8, 8, 4]


def test_trials_that_fail_count_and_the_study_goes_on():
    found = study(optuna.samplers.RandomSampler(seed=0))

    def train(batch):
        results = bowl(batch)
        results[0] = Result("diverged", cause="the loss was no longer finite", run="abc")
        results[1] = Result("failed", cause="no such file")
        return results

    Search(found, SQUARE, 12, 4).run(train)
    states = [trial.state for trial in found.trials]
    assert states.count(TrialState.FAIL) == 6
    assert states.count(TrialState.COMPLETE) == 6
    assert found.trials[0].user_attrs["status"] == "diverged"
    assert found.trials[0].user_attrs["run"] == "abc"
    assert found.trials[1].user_attrs["cause"] == "no such file"
    with pytest.raises(ConfigError, match=r"max_failure_rate: at most 0\.4 .* 2 of 4 did \(the lo"):
        Search(found, SQUARE, 20, 4, max_failure_rate=0.4).run(train)
    Search(found, SQUARE, 20, 4, max_failure_rate=0.5).run(train)


def test_a_study_goes_on_with_what_is_missing(tmp_path):
    storage, sizes = str(tmp_path / "deep" / "study.journal"), []

    def train(batch):
        sizes.append(len(batch))
        return bowl(batch)

    for total in (5, 5, 8):
        found = study(optuna.samplers.RandomSampler(), name="mine", storage=storage)
        Search(found, SQUARE, total, 5).run(train)
    assert sizes == [5, 3]
    assert [trial.number for trial in found.trials] == list(range(8))


def test_what_was_interrupted_is_proposed_again_first(tmp_path):
    storage, seen = str(tmp_path / "study.journal"), []

    def ctrl_c(batch):
        seen.extend(map(dict, batch))
        return [*bowl(batch[:2]), *[Result("interrupted")] * (len(batch) - 2)]

    def train(batch):
        again.extend(map(dict, batch))
        return bowl(batch)

    found = study(optuna.samplers.RandomSampler(seed=0), name="mine", storage=storage)
    with pytest.raises(KeyboardInterrupt):
        Search(found, SQUARE, 6, 4).run(ctrl_c)
    again = []
    found = study(optuna.samplers.RandomSampler(seed=9), name="mine", storage=storage)
    Search(found, SQUARE, 6, 4).run(train)
    assert again[:2] == seen[2:]
    assert len(again) == 4
    assert sum(trial.state is TrialState.COMPLETE for trial in found.trials) == 6


def test_an_error_leaves_no_trial_running():
    found = study(optuna.samplers.RandomSampler(seed=0))

    def train(batch):
        raise ConfigError("hydra/launcher: packed must be able to start worker processes")

    with pytest.raises(ConfigError, match="worker processes"):
        Search(found, SQUARE, 6, 3).run(train)
    assert {trial.state for trial in found.trials} == {TrialState.FAIL, TrialState.WAITING}


KILLED = """
import os, sys
import optuna
from optuna.distributions import FloatDistribution
from unitgain.sweep.search import Search
from unitgain.sweep.storage import open_study

study = open_study("mine", sys.argv[1], ["minimize"], optuna.samplers.RandomSampler(seed=0))
space = {name: FloatDistribution(-5.0, 5.0) for name in "abc"}
Search(study, space, 6, 3).run(lambda batch: os.kill(os.getpid(), 9))
"""


def test_what_a_killed_process_was_at_is_trained_by_the_next(tmp_path):
    storage, seen = str(tmp_path / "study.journal"), []
    subprocess.run([sys.executable, "-c", KILLED, storage], check=False)
    found = study(optuna.samplers.RandomSampler(seed=5), name="mine", storage=storage)
    left = [trial.params for trial in found.trials]
    assert [trial.state for trial in found.trials] == [TrialState.RUNNING] * 3

    def train(batch):
        seen.extend(map(dict, batch))
        return bowl(batch)

    Search(found, SQUARE, 6, 3).run(train)
    assert seen[:3] == left
    assert len(seen) == 6


def test_trials_of_a_process_that_lives_are_left_to_it():
    found = study(optuna.samplers.RandomSampler(seed=0))
    mine = Search(found, SQUARE, 6, 3)
    theirs = found.ask(SQUARE)
    theirs.set_user_attr("owner", f"elsewhere/{os.getpid()}/1")
    mine.run(bowl)
    assert found.trials[0].state is TrialState.RUNNING
    assert len(found.trials) == 6


def _take_part(storage, barrier):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = open_study("shared", storage, ["minimize"], optuna.samplers.RandomSampler())
    barrier.wait(60)

    def train(batch):
        time.sleep(0.3)
        return bowl(batch)

    Search(found, SQUARE, 30, 4).run(train)


def test_two_processes_share_a_journal(tmp_path):
    storage = str(tmp_path / "study.journal")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_take_part, args=(storage, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = study(optuna.samplers.RandomSampler(), name="shared", storage=storage)
    done = [trial for trial in found.trials if trial.state is TrialState.COMPLETE]
    assert len(done) == 30
    assert len({trial.user_attrs["owner"] for trial in done}) == 2
    others = {t.user_attrs["status"] for t in found.trials if t.state is not TrialState.COMPLETE}
    assert others <= {"surplus"}


def test_a_study_keeps_its_objectives_and_its_space(tmp_path):
    storage = str(tmp_path / "study.journal")
    sampler = optuna.samplers.RandomSampler(seed=0)
    found = study(sampler, name="mine", storage=storage)
    Search(found, {"x": CategoricalDistribution(["he", "xavier"])}, 2, 2).run(
        lambda batch: [Result("finished", (1.0,)) for _ in batch]
    )
    with pytest.raises(ConfigError, match=r"direction: must be as the study mine began, minimize"):
        study(sampler, name="mine", storage=storage, directions=("maximize",))
    with pytest.raises(ConfigError, match=r"params: must be the space that the study mine began"):
        Search(found, {"x": CategoricalDistribution(["he", "lecun"])}, 4, 2).run(bowl)
    assert sum(trial.state is TrialState.RUNNING for trial in found.trials) == 0


def test_sqlite_is_a_storage_too(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    for total in (3, 5):
        found = study(optuna.samplers.RandomSampler(seed=total), name="mine", storage=storage)
        Search(found, SQUARE, total, 2).run(bowl)
    assert len(found.trials) == 5


def test_a_storage_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^hydra\.sweeper\.storage: must be a journal file") as e:
        study(None, name="mine", storage=f"sqlite:///{tmp_path}/no/such/study.db")
    assert len(e.value.lines) == 1
    assert "\n" not in e.value.lines[0]


def test_a_password_is_not_shown():
    assert (
        public("x postgresql://me:s3cret@host:5432/db y") == "x postgresql://me:***@host:5432/db y"
    )
