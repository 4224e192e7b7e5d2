"""Trials that end early: who decides, how workers ask, and what such a run leaves."""

import os
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from unitgain.cli import main
from unitgain.runs import RunDirectory
from unitgain.runs.pruning import VARIABLE, Pruning
from unitgain.sweep.pruning import Pruner
from unitgain.sweep.search import Result, Search
from unitgain.sweep.storage import open_study

QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
]
SEARCH = ["train", "-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0"]
PACKED = ["hydra/launcher=packed", "hydra.launcher.workers=1"]


def curves(search, levels, epochs):
    """Trains a batch whose curves are flat, one after another."""

    def train(batch):
        results = []
        for i in range(len(batch)):
            level = levels.pop(0)
            if any(search.prunes(i, epoch, level) for epoch in range(1, epochs + 1)):
                results.append(Result("pruned", run="abc"))
            else:
                results.append(Result("finished", (level,)))
        return results

    return train


def test_the_median_of_those_that_finished_decides():
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    study = open_study(None, None, ["minimize"], optuna.samplers.RandomSampler(seed=0), pruner)
    search = Search(study, {"x": FloatDistribution(0.0, 1.0)}, 8, 3)
    # Flat curves: medians of 1, 2, 3; of 1, 2, 2.5, 3; of 0.5, 1, 2, 2.5, 3.
    search.run(curves(search, [1.0, 2.0, 3.0, 2.5, 1.9, 0.5, 2.1, 4.0], 4))
    states = [trial.state for trial in study.trials]
    pruned = [i for i, state in enumerate(states) if state is TrialState.PRUNED]
    assert pruned == [3, 6, 7]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    trial = study.trials[3]
    assert trial.intermediate_values == {1: 2.5, 2: 2.5}
    assert trial.user_attrs["status"] == "pruned"
    assert search.left() == 0


def test_packs_ask_and_are_told(tmp_path):
    runs = [RunDirectory(tmp_path / name).create() for name in ("a", "b", "c")]
    for run in runs[:2]:
        run.write_overrides([f"name={run.path.name}"])
    asked = []

    def decide(job, epochs, value):
        asked.append((job, epochs, value))
        return value > 1

    assert Pruning.connect() is None
    with Pruner(decide) as pruner:
        one, other = Pruning.connect(), Pruning.connect()
        values = {run.path: float(i + 1) for i, run in enumerate(runs)}
        # Of a run that isn't the search's nobody knows, and it goes on.
        assert other.ask(3, values) == {runs[1].path}
        assert one.ask(4, {runs[0].path: 0.5}) == set()
        one.close()
        assert one.ask(5, {runs[1].path: 9.0}) == set()
    assert asked == [(("name=a",), 3, 1.0), (("name=b",), 3, 2.0), (("name=a",), 4, 0.5)]
    assert pruner.pruned == {("name=b",)}
    assert VARIABLE not in os.environ


def test_who_has_no_key_is_not_served(monkeypatch):
    with Pruner(lambda *_: True):
        address = os.environ[VARIABLE].rpartition("|")[0]
        monkeypatch.setenv(VARIABLE, f"{address}|{'00' * 16}")
        with pytest.raises(Exception, match="digest"):
            Pruning.connect()


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_members_of_a_pack_end_alone(pruner, tmp_path, capsys):
    words = [*SEARCH, *PACKED, *QUICK, "trainer.max_epochs=12", f"hydra/sweeper/pruner={pruner}"]
    words += ["optimizer.lr=1e-5,1e-4,1e-3,3e-2,1e-1", "seed=range(0,40)", "hydra.sweep.dir=s"]
    words += ["hydra.sweeper.n_trials=24", "hydra.sweeper.n_jobs=8"]
    assert main([*words, "hydra.sweeper.study_name=mine"]) == 0
    out = capsys.readouterr().out
    backend = optuna.storages.journal.JournalFileBackend("sweeps/mine.journal")
    storage = optuna.storages.JournalStorage(backend)
    trials = optuna.load_study(study_name="mine", storage=storage).trials
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(pruned) >= 3
    assert len(pruned) + len(finished) == 24
    assert f"{len(finished)} of 24 trials finished, {len(pruned)} pruned" in out
    for trial in trials:
        run = RunDirectory(tmp_path / "s" / trial.user_attrs["run"])
        summary = run.read_summary()
        rows = run.metrics.read_text().splitlines()
        epochs = 12 if trial in finished else trial.last_step
        assert summary["epoch"] == epochs == len(rows) - 1
        assert run.status == ("finished" if trial in finished else "interrupted")
        assert summary["pruned"] is (None if trial in finished else True)
    assert min(trial.last_step for trial in pruned) < 12
    # What a pruned run has is the beginning of the run alone, and resumed it is that run.
    run = RunDirectory(tmp_path / "s" / pruned[0].user_attrs["run"])
    alone = RunDirectory(tmp_path / "alone")
    own = [f"{key}={value}" for key, value in pruned[0].params.items()]
    assert (
        main(["train", *QUICK, "trainer.max_epochs=12", *own, f"hydra.run.dir={alone.path}"]) == 0
    )
    assert alone.metrics.read_text().startswith(run.metrics.read_text())
    assert main(["resume", str(run.path)]) == 0
    assert run.metrics.read_text() == alone.metrics.read_text()
    assert run.status == "finished"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["hydra/sweeper/pruner=median"],
            "hydra.sweeper.pruner: ends members of packs, but hydra/launcher is basic; choose packed",
        ),
        (
            [*PACKED, "hydra/sweeper/pruner=median", "hydra.sweeper.objectives=[val/loss,seconds]"],
            "hydra.sweeper.pruner: must be none where hydra.sweeper.objectives are given",
        ),
        (
            [*PACKED, "hydra.sweeper.pruner._target_=optuna.pruners.Median"],
            "hydra.sweeper.pruner._target_: must be a pruner of Optuna's, got optuna.pruners.Media",
        ),
    ],
)
def test_what_can_not_be_pruned_is_one_line(words, line, capsys, tmp_path):
    assert main([*SEARCH, *QUICK, "optimizer.lr=interval(1e-3,1e-1)", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not Path(tmp_path / "sweeps").exists()


def test_a_pruner_that_can_not_decide_ends_the_search(capsys):
    words = [*PACKED, "hydra/sweeper/pruner=hyperband", "hydra.sweeper.pruner.reduction_factor=1"]
    words += ["optimizer.lr=interval(1e-3,1e-1)", "trainer.max_epochs=3", "hydra.sweep.dir=s"]
    assert main([*SEARCH, *QUICK, *words, "hydra.sweeper.n_trials=2"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: hydra.sweeper.pruner: must be able to decide, but optuna.pruners.HyperbandPruner "
        "raised ZeroDivisionError: float division by zero; mend its arguments\n"
    )
