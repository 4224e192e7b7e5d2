"""``unitgain train -m hydra/sweeper=optuna``, from the command line to the results."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

import unitgain
from unitgain.cli import main
from unitgain.runs import RunDirectory

QUICK = [
    "data=iris",
    "model.width=8",
    "model.depth=1",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "figures=false",
]
SEARCH = ["train", "-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0", *QUICK]
PACKED = ["hydra/launcher=packed", "hydra.launcher.workers=1"]
EPOCHS = 600
LR = "optimizer.lr=tag(log,interval(1e-3,1e-1))"


def _results(folder):
    return yaml.safe_load((Path(folder) / "optimization_results.yaml").read_text())


def _study(path, name):
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def test_a_packed_search_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    words = [*SEARCH, *PACKED, LR, "init=he,xavier", "hydra.sweep.dir=s", "hydra.sweeper.n_jobs=4"]
    words += ["hydra.sweeper.study_name=mine"]
    assert main([*words, "hydra.sweeper.n_trials=8"]) == 0
    out = capsys.readouterr().out
    assert "8 of 8 trials finished" in out
    assert "study   mine in sweeps/mine.journal" in out
    study = _study("sweeps/mine.journal", "mine")
    assert len(study.trials) == 8
    for trial in study.trials:
        run = RunDirectory(tmp_path / "s" / trial.user_attrs["run"])
        assert run.status == "finished"
        assert run.read_summary()["best"]["value"] == trial.value
        assert run.read_config()["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert f"init={trial.params['init']}" in run.read_overrides()
        # Four trials at a time, one shape: the pack is as large as the batch.
        assert run.read_summary()["pack"]["members"] == 4
    assert _results("s") == {
        "name": "optuna",
        "best_params": study.best_params,
        "best_value": study.best_value,
    }
    # The same again trains nothing; more trials are trained alone.
    monkeypatch.setattr("unitgain.sweep.pool.Pool.start", None)
    assert main([*words, "hydra.sweeper.n_trials=8"]) == 0
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main([*words, "hydra.sweeper.n_trials=10"]) == 0
    assert "10 of 10 trials finished" in capsys.readouterr().out
    assert len(_study("sweeps/mine.journal", "mine").trials) == 10
    assert len(list((tmp_path / "s").glob("*/config.yaml"))) == 10


@pytest.mark.parametrize("launcher", ["packed", "basic"])
def test_a_grid_with_points_that_diverge(launcher, capsys):
    words = [*SEARCH, "hydra/sweeper/sampler=grid", "init=he,xavier", "optimizer.lr=1e-2,1e30"]
    words += PACKED if launcher == "packed" else []
    assert main([*words, "hydra.sweep.dir=s", "hydra.sweeper.n_jobs=3"]) == 0
    assert "2 of 4 trials finished, 2 diverged" in capsys.readouterr().out
    points = {
        (config["init"]["_target_"].rpartition(".")[2], config["optimizer"]["lr"])
        for config in (yaml.safe_load(p.read_text()) for p in Path("s").glob("*/config.yaml"))
    }
    assert points == {(init, lr) for init in ("he", "xavier") for lr in (1e-2, 1e30)}
    assert _results("s")["best_params"]["optimizer.lr"] == 1e-2


def test_several_objectives(capsys):
    words = [*SEARCH, *PACKED, "hydra/sweeper/sampler=nsgaii", LR, "model.width=range(4,20)"]
    words += ["hydra.sweeper.objectives=[val/accuracy,parameters]", "hydra.sweeper.n_trials=6"]
    assert main([*words, "hydra.sweep.dir=s"]) == 0
    runs = [json.loads(p.read_text()) for p in Path("s").glob("*/summary.json")]
    points = [(run["metrics"]["val/accuracy"], run["parameters"]) for run in runs]
    front = {
        (a, p)
        for a, p in points
        if not any(b >= a and q <= p and (b, q) != (a, p) for b, q in points)
    }
    solutions = _results("s")["solutions"]
    assert {tuple(each["values"]) for each in solutions} == front
    assert all(each["params"].keys() == {"optimizer.lr", "model.width"} for each in solutions)


def test_the_same_trial_is_trained_once(capsys):
    words = [*SEARCH, *PACKED, "hydra/sweeper/sampler=random", "init=he,xavier"]
    assert main([*words, "hydra.sweep.dir=s", "hydra.sweeper.n_trials=12"]) == 0
    assert "12 of 12 trials finished" in capsys.readouterr().out
    assert len(list(Path("s").glob("*/config.yaml"))) == 2


def test_a_monitor_that_is_better_when_larger(capsys):
    words = [*SEARCH, *PACKED, LR, "monitor=val/accuracy", "hydra.sweeper.study_name=mine"]
    assert main([*words, "hydra.sweep.dir=s", "hydra.sweeper.n_trials=4"]) == 0
    trials = _study("sweeps/mine.journal", "mine").trials
    assert _results("s")["best_value"] == max(trial.value for trial in trials)


def test_a_space_in_python(tmp_path, capsys, monkeypatch):
    (tmp_path / "myspace.py").write_text(
        "def space(config, trial):\n"
        "    depth = trial.suggest_int('model.depth', 1, 2)\n"
        "    if depth == 2:\n"
        "        trial.suggest_categorical('model.residual', [True, False])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("UNITGAIN_ALLOW", "myspace")
    words = [*SEARCH, *PACKED, LR, "hydra.sweeper.custom_search_space=myspace.space"]
    words.remove("model.depth=1")
    words += ["hydra.sweep.dir=s", "hydra.sweeper.n_trials=8", "hydra.sweeper.study_name=mine"]
    assert main(words) == 0
    trials = _study("sweeps/mine.journal", "mine").trials
    assert {trial.params["model.depth"] for trial in trials} == {1, 2}
    assert all(("model.residual" in t.params) == (t.params["model.depth"] == 2) for t in trials)
    assert main([*words, "model.depth=1", "hydra.sweeper.n_trials=9"]) == 2
    assert "must suggest keys that aren't given, but model.depth is" in capsys.readouterr().err


def test_a_failure_rate_ends_the_search(capsys):
    words = [*SEARCH, *PACKED, "optimizer.lr=interval(1e29,1e30)", "hydra.sweep.dir=s"]
    words += ["hydra.sweeper.max_failure_rate=0.5", "hydra.sweeper.n_jobs=2"]
    assert main([*words, "hydra.sweeper.study_name=mine"]) == 2
    assert "at most 0.5 of a batch may fail or diverge, but 2 of 2 did" in capsys.readouterr().err
    states = [trial.state for trial in _study("sweeps/mine.journal", "mine").trials]
    assert states == [TrialState.FAIL, TrialState.FAIL]
    assert _results("s")["best_value"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["optimizer.lrr=interval(1,2)"], "optimizer.lrr: no such key, got 1.0; did you mean op"),
        (["optimizer.lr=interval(-1,1)"], "optimizer.lr: must be above 0, got -1.0"),
        (["init=he,xavierr"], "init: no option xavierr; did you mean xavier?"),
        ([], "hydra.sweeper.params: a search needs a key that varies, got none"),
        ([LR, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: must be a whole number of at"),
        ([LR, "hydra.sweeper.direction=up"], "hydra.sweeper.direction: must be minimize or maximi"),
        ([LR, "hydra.sweeper.direction=maximize"], "hydra.sweeper.direction: must be minimize for"),
        (
            [LR, "hydra.sweeper.direction=[minimize,minimize]"],
            "hydra.sweeper.direction: must have one for each of val/loss, got minimize, minimize",
        ),
        (
            [LR, "hydra.sweeper.objectives=[val/loss,test/loss]"],
            "hydra.sweeper.objectives: must be of the validation part, got test/loss",
        ),
        (
            [LR, "hydra.sweeper.objectives=[val/loss,size]"],
            "hydra.sweeper.objectives: must be val/METRIC, parameters, epoch, seconds, got size",
        ),
        ([LR, "hydra/sweeper/sampler=grid"], "hydra/sweeper/sampler: grid takes a list of values"),
        ([LR, "hydra/sweeper/sampler=tpee"], "hydra/sweeper/sampler: no option tpee; did you mean"),
        ([LR, "hydra.sweeper.sampler.sed=1"], "hydra.sweeper.sampler.sed: no such key, got 1; did"),
        (
            [LR, "+hydra.sweeper.sampler.sed=1"],
            "hydra.sweeper.sampler.sed: no argument of optuna.samplers.TPESampler",
        ),
        (
            [LR, "hydra.sweeper.sampler._target_=optuna.samplers.TPESample"],
            "hydra.sweeper.sampler._target_: must be a sampler of Optuna's, got optuna.samplers.TP",
        ),
        (
            [LR, "hydra.sweeper.sampler._target_=os.system"],
            "hydra.sweeper.sampler._target_: must lie under",
        ),
        (
            [LR, "hydra.sweeper.custom_search_space=nowhere.space"],
            "hydra.sweeper.custom_search_space: must lie under",
        ),
    ],
)
def test_what_can_not_be_searched_is_one_line(words, line, capsys, tmp_path):
    assert main([*SEARCH, *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "sampler"), [("optuna", "tpe"), ("cmaes", "cmaes")])
def test_what_is_not_installed_is_named(module, sampler, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else found(name)
    )
    assert main([*SEARCH, LR, f"hydra/sweeper/sampler={sampler}"]) == 2
    assert f"needs the package {module}, which isn't installed; pip install 'unitgain[optuna]'" in (
        capsys.readouterr().err
    )


def test_ctrl_c_saves_and_the_study_goes_on_with_it(tmp_path):
    words = [*SEARCH, *PACKED, LR, "hydra.sweep.dir=s", "hydra.sweeper.study_name=mine"]
    words += ["hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unitgain", *words, f"trainer.max_epochs={EPOCHS}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(unitgain.__file__).parents[1])},
    )
    patience = time.monotonic() + 60
    while len(list(tmp_path.glob("s/*/metrics.csv"))) < 2 and time.monotonic() < patience:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "0 of 3 trials finished, 2 interrupted" in out
    assert "interrupted; go on by the same command with hydra.sweep.dir=s" in out
    states = [trial.state for trial in _study(tmp_path / "sweeps/mine.journal", "mine").trials]
    assert states == [TrialState.FAIL] * 2 + [TrialState.WAITING] * 2
    runs = sorted(path.parent for path in tmp_path.glob("s/*/config.yaml"))
    before = [RunDirectory(run).read_summary()["epoch"] for run in runs]
    assert [RunDirectory(run).status for run in runs] == ["interrupted"] * 2
    assert all(0 < epochs < EPOCHS for epochs in before)
    assert main([*words, f"trainer.max_epochs={EPOCHS}"]) == 0
    trials = _study(tmp_path / "sweeps/mine.journal", "mine").trials
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(done) == 3
    assert {trial.user_attrs["run"] for trial in done} >= {run.name for run in runs}
    for run in runs:
        epochs = [
            int(row.split(",")[0]) for row in RunDirectory(run).metrics.read_text().split()[1:]
        ]
        assert epochs == list(range(EPOCHS))
