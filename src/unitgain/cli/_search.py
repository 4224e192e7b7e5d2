"""``hydra/sweeper=optuna``: the search's options, and from a batch of trials to runs and back."""

import importlib.util
import inspect
import math
import os
from collections.abc import Mapping, Sequence
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
from unitgain.cli._sweep import typed
from unitgain.errors import ConfigError, DataError, explained
from unitgain.runs import RunDirectory
from unitgain.spec import RunSpec, close_match, instantiate, locate
from unitgain.sweep.job import Ending
from unitgain.sweep.storage import Direction, public

if TYPE_CHECKING:
    import optuna

    from unitgain.cli._space import Space
    from unitgain.sweep.search import Params, Result

SAMPLERS = "optuna.samplers."
COUNTED = ("parameters", "epoch", "seconds")
"""What can be an objective beside validation metrics: less is better."""
_STATUSES = ("finished", "diverged", "interrupted", "failed")


@final
@dataclass(frozen=True)
class Options:
    """The options of ``hydra/sweeper=optuna``.

    Args:
        sampler: target and arguments.
        direction: one for each objective; nothing leaves it to the objectives.
        objectives: names in ``summary.json``; nothing is the monitored metric.
        storage: a URL or the path of a journal file.
        study_name: of the study.
        n_trials: of the study.
        n_jobs: trials of a batch.
        max_failure_rate: of a batch.
        params: the space beside the command line's.
        custom_search_space: a dotted path.
    """

    sampler: Mapping[str, Any]
    direction: tuple[Direction, ...]
    objectives: tuple[str, ...]
    storage: str | None
    study_name: str | None
    n_trials: int
    n_jobs: int
    max_failure_rate: float
    params: Mapping[str, Any]
    custom_search_space: str | None

    @classmethod
    def of(cls, config: DictConfig) -> "Options":
        """Those of a configuration, checked.

        Raises:
            ConfigError: with each fault.
        """
        given = cast("dict[str, Any]", OmegaConf.to_container(config.hydra.sweeper, resolve=True))
        lines = [
            f"hydra.sweeper.{key}: must be a whole number of at least 1, got {given[key]}"
            for key in ("n_trials", "n_jobs")
            if not (type(given[key]) is int and given[key] >= 1)
        ]
        rate = given["max_failure_rate"]
        if type(rate) not in (int, float) or not 0 <= rate <= 1:
            lines.append(f"hydra.sweeper.max_failure_rate: must be from 0 to 1, got {rate}")
        direction = cast("tuple[Direction, ...]", tuple(_listed(given["direction"])))
        lines += [
            f"hydra.sweeper.direction: must be minimize or maximize, got {each}"
            for each in direction
            if each not in ("minimize", "maximize")
        ]
        for key in ("storage", "study_name", "custom_search_space"):
            if not isinstance(given[key], str | None) or given[key] == "":
                lines.append(f"hydra.sweeper.{key}: must be text or null, got {given[key]!r}")
        if not isinstance(given["params"], Mapping | None):
            lines.append(f"hydra.sweeper.params: must be keys with values, got {given['params']}")
        if lines:
            raise ConfigError(*lines)
        return cls(
            given["sampler"],
            direction,
            tuple(_listed(given["objectives"])),
            given["storage"] or _journal(given["study_name"]),
            given["study_name"],
            given["n_trials"],
            given["n_jobs"],
            float(rate),
            given["params"] or {},
            given["custom_search_space"],
        )


@final
@dataclass
class SearchSweep:
    """A search whose options and space hold.

    Args:
        options: of the sweeper.
        space: what varies.
        objectives: names of what is optimized; nothing but the monitored metric's where that is all.
        directions: minimize or maximize, one for each.
        study: once it is open.
    """

    options: Options
    space: "Space"
    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]
    study: "optuna.Study | None" = None
    _known: dict[tuple[str, ...], "Result"] = field(default_factory=dict)
    _launched: int = 0

    @classmethod
    def of(cls, hydra: Hydra, config: DictConfig, composer: Composer) -> "SearchSweep":
        """That of a configuration; nothing is written, and no trial proposed.

        Raises:
            ConfigError: with each fault of the options or of the space, or Optuna isn't installed.
        """
        options = Options.of(config)
        _check_installed(options)
        from unitgain.cli._space import Space

        space = Space.of(options.params, typed(config.hydra, "task"), hydra.config_loader)
        if not space.parameters and options.custom_search_space is None:
            raise ConfigError(
                "hydra.sweeper.params: a search needs a key that varies, got none; write one such as "
                "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
            )
        spec = _checked_spec(space, composer)
        objectives = options.objectives or (spec.monitor,)
        found = cls(options, space, objectives, _directions(options, objectives, spec))
        found.sampler(0)
        if options.custom_search_space is not None:
            _custom(options.custom_search_space)
        return found

    def sampler(self, trials: int) -> "optuna.samplers.BaseSampler":
        """The sampler; behind trials of an earlier sweep its seed moves on.

        Raises:
            ConfigError: it isn't there, or refuses its arguments.
        """
        import optuna

        from unitgain.sweep.search import Grid

        node = dict(self.options.sampler)
        target = str(node.pop("_target_", None))
        node.pop("_partial_", None)
        if isinstance(node.get("seed"), int):
            node["seed"] += trials
        key, name = "hydra.sweeper.sampler", target.removeprefix(SAMPLERS)
        if not target.startswith(SAMPLERS):
            return cast(
                "optuna.samplers.BaseSampler", instantiate({"_target_": target, **node}, _key_=key)
            )
        if name not in optuna.samplers.__all__:
            meant = close_match(name, optuna.samplers.__all__)
            hint = f"; did you mean {SAMPLERS}{meant}?" if meant else ""
            raise ConfigError(f"{key}._target_: must be a sampler of Optuna's, got {target}{hint}")
        kind = getattr(optuna.samplers, name)
        if kind is optuna.samplers.GridSampler:
            if self.options.custom_search_space is not None:
                raise ConfigError(
                    "hydra.sweeper.custom_search_space: can't be known to a grid; choose another sampler"
                )
            kind, node = Grid, node | {"search_space": self.space.grid()}
        unknown = node.keys() - inspect.signature(kind).parameters.keys()
        if unknown:
            raise ConfigError(
                *(f"{key}.{each}: no argument of {target}" for each in sorted(unknown))
            )
        with explained(key, target, "must be arguments that the sampler takes", "mend them"):
            return cast("optuna.samplers.BaseSampler", kind(**node))

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
        study = open_study(options.study_name, options.storage, self.directions, self.sampler(0))
        self.study = study
        self._launched = len(study.get_trials(deepcopy=False))
        study.sampler = self.sampler(self._launched)
        task.shared = frozenset(self.space.fixed)
        task.sweep_dir = Path(config.hydra.sweep.dir)
        task.sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, task.sweep_dir / "multirun.yaml")
        extend = None
        if options.custom_search_space is not None:
            extend = partial(self._extend, _custom(options.custom_search_space), config)
        batches = Search(
            study,
            self.space.parameters,
            self.n_trials,
            options.n_jobs,
            options.max_failure_rate,
            extend,
        )
        try:
            batches.run(partial(self._train, task, launcher))
        finally:
            self._write_results(study, task.sweep_dir)

    def _train(self, task: Task, launcher: Launcher, params: Sequence["Params"]) -> list["Result"]:
        """Launch the trials of a batch that differ, and find how each of them ended."""
        from unitgain.sweep.search import Result

        jobs = [self.space.overrides(each) for each in params]
        new = [job for job in dict.fromkeys(jobs) if job not in self._known]
        first, self._launched = self._launched, self._launched + len(new)
        returns: Sequence[JobReturn] = []
        interrupted = False
        try:
            returns = launcher.launch(new, initial_job_idx=first) if new else []
        except KeyboardInterrupt:
            interrupted = True
        outcomes = {outcome.number: outcome for outcome in task.outcomes}
        for i, job in enumerate(new):
            outcome = outcomes.get(first + i)
            if outcome is not None:
                self._known[job] = self._result(outcome.ending, outcome.directory)
            elif not interrupted:
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


def _directions(
    options: Options, objectives: Sequence[str], spec: RunSpec
) -> tuple[Direction, ...]:
    unseen = [name for name in options.objectives if name.startswith(("test/", "train/"))]
    strange = [n for n in options.objectives if not n.startswith("val/") and n not in COUNTED]
    lines = [
        f"hydra.sweeper.objectives: must be of the validation part, got {name}; a search that sees test rows "
        "leaves none to judge it by, and one of training rows looks for overfitting"
        for name in unseen
    ]
    lines += [
        f"hydra.sweeper.objectives: must be val/METRIC, {', '.join(COUNTED)}, got {name}"
        for name in strange
        if name not in unseen
    ]
    if lines:
        raise ConfigError(*lines)
    better = [_better(name, spec) for name in objectives]
    if not options.direction:
        if None in better:
            raise ConfigError(
                f"hydra.sweeper.direction: is needed for {objectives[better.index(None)]}; write minimize or "
                "maximize, or a list of them, one for each objective"
            )
        return tuple(each for each in better if each is not None)
    if len(options.direction) != len(objectives):
        raise ConfigError(
            f"hydra.sweeper.direction: must have one for each of {', '.join(objectives)}, got "
            f"{', '.join(options.direction)}; name them in hydra.sweeper.objectives"
        )
    for name, given, known in zip(objectives, options.direction, better, strict=True):
        if known is not None and name == spec.monitor and given != known:
            raise ConfigError(
                f"hydra.sweeper.direction: must be {known} for {name}, whose best epoch counts, got {given}; "
                "leave it out, or choose another monitor"
            )
    return options.direction


def _better(name: str, spec: RunSpec) -> Direction | None:
    if name in COUNTED:
        return "minimize"
    mode = spec.model_copy(update={"monitor": name}).monitor_mode
    directions: dict[str | None, Direction] = {"min": "minimize", "max": "maximize"}
    return directions.get(mode)


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


def _check_installed(options: Options) -> None:
    needed = {"optuna": "hydra/sweeper: optuna"}
    if options.sampler.get("_target_") == f"{SAMPLERS}CmaEsSampler":
        needed["cmaes"] = "hydra/sweeper/sampler: cmaes"
    for module, what in needed.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"{what} needs the package {module}, which isn't installed; pip install 'unitgain[optuna]'"
            )


def _journal(study_name: object) -> str | None:
    """The journal file of a study with a name, which several processes may share."""
    if study_name is None:
        return None
    return str(Path(os.environ.get("UNITGAIN_SWEEPS", "sweeps")) / f"{study_name}.journal")


def _custom(path: str) -> Any:
    """The function that suggests further parameters, if a configuration may name it."""
    try:
        return locate(path)
    except ConfigError as error:
        key = "hydra.sweeper.custom_search_space"
        lines = (line.removeprefix("_target_: ") for line in error.lines)
        raise ConfigError(*(f"{key}: {line}" for line in lines)) from error


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
