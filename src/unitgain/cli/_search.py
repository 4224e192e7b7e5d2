"""``hydra/sweeper=optuna``: from a batch of trials to runs, and back."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from hydra._internal.hydra import Hydra
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from unitgain.cli._job import Task
from unitgain.cli._patch import Composer
from unitgain.cli._search_options import (
    COUNTED,
    SAMPLERS,
    Options,
    check_installed,
    check_prunable,
    custom,
    directions_of,
    made,
    optunas,
)
from unitgain.cli._sweep import typed
from unitgain.errors import ConfigError, DataError, explained, raised
from unitgain.runs import RunDirectory
from unitgain.spec import RunSpec
from unitgain.sweep.job import Ending
from unitgain.sweep.pruning import Pruner
from unitgain.sweep.storage import Direction, public

if TYPE_CHECKING:
    import optuna

    from unitgain.cli._space import Space
    from unitgain.sweep.search import Params, Result, Search


@final
@dataclass
class SearchSweep:
    """A search whose options and space hold.

    Args:
        options: of the sweeper.
        space: what varies.
        objectives: names of what is optimized; nothing but the monitored metric's where that is all.
        directions: minimize or maximize, one for each.
        epochs: of a run that isn't pruned.
        study: once it is open.
    """

    options: Options
    space: "Space"
    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]
    epochs: int
    study: "optuna.Study | None" = None
    _known: dict[tuple[str, ...], "Result"] = field(default_factory=dict)
    _jobs: list[tuple[str, ...]] = field(default_factory=list)
    _launched: int = 0
    _interrupted: KeyboardInterrupt | None = None

    @classmethod
    def of(cls, hydra: Hydra, config: DictConfig, composer: Composer) -> "SearchSweep":
        """That of a configuration; nothing is written, and no trial proposed.

        Raises:
            ConfigError: with each fault of the options or of the space, or Optuna isn't installed.
        """
        options = Options.of(config)
        check_installed(options)
        from unitgain.cli._space import Space

        space = Space.of(options.params, typed(config.hydra, "task"), hydra.config_loader)
        if not space.parameters and options.custom_search_space is None:
            raise ConfigError(
                "hydra.sweeper.params: a search needs a key that varies, got none; write one such as "
                "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
            )
        spec = _checked_spec(space, composer)
        objectives = options.objectives or (spec.monitor,)
        directions = directions_of(options, objectives, spec)
        found = cls(options, space, objectives, directions, spec.trainer.max_epochs)
        found.sampler(0)
        found.pruner()
        if found.prunes:
            check_prunable(options, config)
        if options.custom_search_space is not None:
            custom(options.custom_search_space)
        return found

    def sampler(self, trials: int) -> "optuna.samplers.BaseSampler":
        """The sampler; behind trials of an earlier sweep its seed moves on.

        Raises:
            ConfigError: it isn't there, or refuses its arguments.
        """
        import optuna

        from unitgain.sweep.search import Grid

        node, more = dict(self.options.sampler), {}
        node.pop("_partial_", None)
        if isinstance(node.get("seed"), int):
            node["seed"] += trials
        kind: Any = optunas(optuna.samplers, node, "hydra.sweeper.sampler")
        if kind is optuna.samplers.GridSampler:
            if self.options.custom_search_space is not None:
                raise ConfigError(
                    "hydra.sweeper.custom_search_space: can't be known to a grid; choose another sampler"
                )
            kind, more = Grid, {"search_space": self.space.grid()}
        found = made(kind, node, more, "hydra.sweeper.sampler")
        return cast("optuna.samplers.BaseSampler", found)

    def pruner(self) -> "optuna.pruners.BasePruner":
        """What ends trials early.

        Raises:
            ConfigError: it isn't there, or refuses its arguments.
        """
        import optuna

        node, more, key = dict(self.options.pruner), {}, "hydra.sweeper.pruner"
        kind = optunas(optuna.pruners, node, key)
        if kind is optuna.pruners.HyperbandPruner and node.get("max_resource") is None:
            node.pop("max_resource", None)
            more = {"max_resource": self.epochs}
        return cast("optuna.pruners.BasePruner", made(kind, node, more, key))

    @property
    def prunes(self) -> bool:
        """Whether any trial may be ended early."""
        return self.options.pruner.get("_target_") != "optuna.pruners.NopPruner"

    @property
    def n_trials(self) -> int:
        """The trials of the study; of a grid no more than it has points."""
        if self.options.sampler.get("_target_") != f"{SAMPLERS}GridSampler":
            return self.options.n_trials
        return min(self.options.n_trials, math.prod(map(len, self.space.grid().values())))

    @property
    def place(self) -> str:
        """Where the study is kept, without a password."""
        return public(self.options.storage or "memory")

    def run(self, task: Task, config: DictConfig, launcher: Launcher) -> None:
        """Open the study and train what it proposes, until it has its trials.

        Raises:
            ConfigError: the study can't be opened, or too much of a batch failed.
            KeyboardInterrupt: the user has ended the sweep.
        """
        from unitgain.sweep.search import Search
        from unitgain.sweep.storage import open_study

        options = self.options
        study = open_study(
            options.study_name, options.storage, self.directions, self.sampler(0), self.pruner()
        )
        self.study = study
        self._launched = len(study.get_trials(deepcopy=False))
        study.sampler = self.sampler(self._launched)
        task.shared = frozenset(self.space.fixed)
        task.sweep_dir = Path(config.hydra.sweep.dir)
        task.sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, task.sweep_dir / "multirun.yaml")
        extend = None
        if options.custom_search_space is not None:
            extend = partial(self._extend, custom(options.custom_search_space), config)
        batches = Search(
            study,
            self.space.parameters,
            self.n_trials,
            options.n_jobs,
            options.max_failure_rate,
            extend,
        )
        pruner = Pruner(partial(self._prunes, batches))
        try:
            with pruner if self.prunes else nullcontext():
                batches.run(partial(self._train, task, launcher, pruner))
        except KeyboardInterrupt as error:
            # Which signal it was, the launcher's own says.
            raise self._interrupted or error from None
        finally:
            self._write_results(study, task.sweep_dir)

    def _train(
        self,
        task: Task,
        launcher: Launcher,
        pruner: Pruner,
        params: Sequence["Params"],
    ) -> list["Result"]:
        """Launch the trials of a batch that differ, and find how each of them ended."""
        from unitgain.sweep.search import Result

        jobs = [self.space.overrides(each) for each in params]
        new = [job for job in dict.fromkeys(jobs) if job not in self._known]
        first, self._launched = self._launched, self._launched + len(new)
        returns: Sequence[JobReturn] = []
        if self._interrupted is not None:
            raise self._interrupted
        self._jobs = jobs
        try:
            returns = launcher.launch(new, initial_job_idx=first) if new else []
        except KeyboardInterrupt as error:
            self._interrupted = error
        if pruner.failure is not None:
            raise ConfigError(
                f"hydra.sweeper.pruner: must be able to decide, but {self.options.pruner['_target_']} raised "
                f"{raised(pruner.failure)}; mend its arguments"
            ) from pruner.failure
        outcomes = {outcome.number: outcome for outcome in task.outcomes}
        for i, job in enumerate(new):
            outcome = outcomes.get(first + i)
            if outcome is not None:
                self._known[job] = self._result(outcome.ending, outcome.directory)
                if outcome.ending.status == "interrupted" and job in pruner.pruned:
                    self._known[job] = Result("pruned", run=self._known[job].run)
            elif self._interrupted is None:
                self._known[job] = self._result(*_found(returns[i]))
        return [self._known.get(job, Result("interrupted")) for job in jobs]

    def _result(self, ending: Ending, directory: Path | None) -> "Result":
        from unitgain.sweep.search import Result

        run = None if directory is None else directory.name
        if ending.status != "finished":
            return Result(ending.status, cause=ending.cause, run=run)
        values: tuple[float, ...] = (ending.value,)
        if self.options.objectives:
            assert directory is not None
            summary = RunDirectory(directory).read_summary() or {}
            there = {**summary["metrics"], **{name: summary.get(name) for name in COUNTED}}
            missing = [name for name in self.objectives if there.get(name) is None]
            if missing:
                names = ", ".join(key for key in there if not key.startswith(("train/", "test/")))
                cause = f"hydra.sweeper.objectives: {missing[0]} must be in summary.json; there are {names}"
                return Result("failed", cause=cause, run=run)
            values = tuple(float(there[name]) for name in self.objectives)
        if not all(map(math.isfinite, values)):
            return Result(
                "failed", cause=f"{self.objectives} must be finite, got {values}", run=run
            )
        return Result("finished", values, run=run)

    def _prunes(self, batches: "Search", job: tuple[str, ...], epochs: int, value: float) -> bool:
        """Whether a job of the batch at work ends early."""
        return job in self._jobs and batches.prunes(self._jobs.index(job), epochs, value)

    def _extend(self, suggest: Any, config: DictConfig, trial: "optuna.Trial") -> None:
        target = str(self.options.custom_search_space)
        key = "hydra.sweeper.custom_search_space"
        with explained(key, target, "must suggest parameters", "mend it"):
            suggest(config, trial)
        fixed = {text.partition("=")[0] for text in self.space.fixed}
        if both := sorted(fixed & trial.params.keys()):
            raise ConfigError(
                f"{key}: must suggest keys that aren't given, but {both[0]} is; leave one of them out"
            )

    def _write_results(self, study: "optuna.Study", directory: Path) -> None:
        best = best_trials(study)
        found: dict[str, Any]
        if len(self.directions) > 1:
            found = {"solutions": [{"params": t.params, "values": list(t.values)} for t in best]}
        elif best:
            found = {"best_params": best[0].params, "best_value": best[0].value}
        else:
            found = {"best_params": {}, "best_value": None}
        path = directory / "optimization_results.yaml"
        OmegaConf.save(OmegaConf.create({"name": "optuna", **found}), path)


def search(task: object, config: DictConfig, launcher: Launcher) -> None:
    """What the sweeper is for.

    Raises:
        ConfigError: the task isn't that of ``unitgain train``, or the study can't be opened.
        KeyboardInterrupt: the user has ended the sweep.
    """
    if not isinstance(task, Task) or task.search is None:
        raise ConfigError(
            f"hydra/sweeper: optuna searches with jobs of unitgain train alone, got {task!r}; "
            "choose hydra/sweeper=basic"
        )
    task.search.run(task, config, launcher)


def best_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """The best trials first; of several objectives, those that no other trial beats in all of them."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda trial: trial.values)
    sign = 1 if study.direction is StudyDirection.MINIMIZE else -1
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(done, key=lambda trial: (sign * cast("float", trial.value), trial.number))


def _checked_spec(space: "Space", composer: Composer) -> RunSpec:
    """The configuration of the first trial that the space allows; each end of the space must be one that can be.

    Raises:
        ConfigError: with each fault once.
    """
    faults: dict[str, None] = {}
    specs = []
    for params in space.trials():
        try:
            specs.append(composer.spec(space.overrides(params)))
        except ConfigError as error:
            faults.update(dict.fromkeys(error.lines))
    if faults:
        raise ConfigError(*faults)
    return specs[0]


def _found(returned: JobReturn) -> tuple[Ending, Path | None]:
    """How a job ended that ran in a process of its own, by what it left in its directory."""
    directory = Path(returned.working_dir or "")
    try:
        summary = RunDirectory(directory).read_summary()
    except DataError as error:
        return Ending.of_error(error), directory
    if summary is None:
        return Ending("failed", cause="the run left no summary.json"), directory
    value = summary.get("best", {}).get("value")
    ending = Ending(summary["status"], math.nan if value is None else value, summary.get("cause"))
    return ending, directory
