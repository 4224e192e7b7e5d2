"""The options of ``hydra/sweeper=optuna``, read and checked."""

import importlib.util
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

from omegaconf import DictConfig, OmegaConf

from unitgain.errors import ConfigError, explained
from unitgain.spec import RunSpec, close_match, instantiate, locate
from unitgain.sweep.storage import Direction

SAMPLERS = "optuna.samplers."
COUNTED = ("parameters", "epoch", "seconds")
"""What can be an objective beside validation metrics: less is better."""


@final
@dataclass(frozen=True)
class Options:
    """The options of ``hydra/sweeper=optuna``.

    Args:
        sampler: target and arguments.
        pruner: target and arguments.
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
    pruner: Mapping[str, Any]
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
            given["pruner"],
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


def directions_of(
    options: Options, objectives: Sequence[str], spec: RunSpec
) -> tuple[Direction, ...]:
    """Minimize or maximize, one for each objective: what was asked for, or as the objective is better.

    Raises:
        ConfigError: an objective that can't be, or a direction that is missing or contradicts it.
    """
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


def check_installed(options: Options) -> None:
    """Look for what the search imports.

    Raises:
        ConfigError: it isn't installed.
    """
    needed = {"optuna": "hydra/sweeper: optuna"}
    if options.sampler.get("_target_") == f"{SAMPLERS}CmaEsSampler":
        needed["cmaes"] = "hydra/sweeper/sampler: cmaes"
    for module, what in needed.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"{what} needs the package {module}, which isn't installed; pip install 'unitgain[optuna]'"
            )


def optunas(module: Any, node: Mapping[str, Any], key: str) -> Any:
    """The class of Optuna's that a node names; None where it names another one."""
    target, prefix = str(node.get("_target_")), f"{module.__name__}."
    if not target.startswith(prefix):
        return None
    name = target.removeprefix(prefix)
    if name not in module.__all__:
        meant = close_match(name, module.__all__)
        hint = f"; did you mean {prefix}{meant}?" if meant else ""
        kind = prefix.split(".")[1].removesuffix("s")
        raise ConfigError(f"{key}._target_: must be a {kind} of Optuna's, got {target}{hint}")
    return getattr(module, name)


def made(kind: Any, node: Mapping[str, Any], more: Mapping[str, Any], key: str) -> Any:
    """A sampler or a pruner, with the arguments of its node and those that only the search knows."""
    if kind is None:
        return instantiate(node, _key_=key, **more)
    target = str(node["_target_"])
    arguments = {name: value for name, value in node.items() if name != "_target_"} | dict(more)
    unknown = sorted(arguments.keys() - inspect.signature(kind).parameters.keys())
    if unknown:
        raise ConfigError(*(f"{key}.{each}: no argument of {target}" for each in unknown))
    with explained(key, target, "must be arguments that it takes", "mend them"):
        return kind(**arguments)


def _journal(study_name: object) -> str | None:
    """The journal file of a study with a name, which several processes may share."""
    if study_name is None:
        return None
    return str(Path(os.environ.get("UNITGAIN_SWEEPS", "sweeps")) / f"{study_name}.journal")


def check_prunable(options: Options, config: DictConfig) -> None:
    """Look whether trials can be ended early.

    Raises:
        ConfigError: they can't.
    """
    lines = []
    if options.objectives:
        lines.append(
            "hydra.sweeper.pruner: must be none where hydra.sweeper.objectives are given: curves are those of "
            f"the monitored metric; got {options.pruner['_target_']}"
        )
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if launcher != "packed":
        lines.append(
            f"hydra.sweeper.pruner: ends members of packs, but hydra/launcher is {launcher}; choose packed"
        )
    if lines:
        raise ConfigError(*lines)


def custom(path: str) -> Any:
    """The function that suggests further parameters.

    Raises:
        ConfigError: it isn't there, or a configuration may not name it.
    """
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
