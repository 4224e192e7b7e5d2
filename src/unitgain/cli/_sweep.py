"""The jobs of a multirun, checked before the first one starts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from unitgain.cli._conf import RESOLVER
from unitgain.cli._patch import Composer
from unitgain.cli._processes import check_one_a_job
from unitgain.errors import ConfigError
from unitgain.spec import RunSpec


def job_overrides(hydra: Hydra, config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job; None where the sweeper decides them as it goes."""
    if config.hydra.runtime.choices["hydra/sweeper"] != "basic":
        return None
    parameters = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    task = [*parameters, *typed(config.hydra, "task")]
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(task)
    return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]


def typed(hydra: DictConfig | HydraConf, which: Literal["hydra", "task"]) -> list[str]:
    """The overrides as they were typed, of Hydra's own part or of the job; references stay as they are.

    Args:
        hydra: Hydra's part of the configuration.
        which: whose.
    """
    texts = OmegaConf.to_container(getattr(hydra.overrides, which), resolve=False)
    return [str(text) for text in cast("list[str]", texts)]


def shared(jobs: Sequence[Sequence[str]]) -> frozenset[str]:
    """The overrides that several jobs have in common: what doesn't tell them apart.

    Example:
        >>> shared([["seed=0", "model.depth=1"], ["seed=0", "model.depth=2"]])
        frozenset({'seed=0'})
    """
    if len(jobs) < 2:
        return frozenset()
    common = set(jobs[0])
    for job in jobs:
        common.intersection_update(job)
    return frozenset(common)


def planned_epochs(
    composer: Composer, jobs: Sequence[Sequence[str]], names: Sequence[str], config: DictConfig
) -> dict[str, int]:
    """The directory of each job, as seen from the sweep's, and how many epochs it trains.

    Args:
        composer: makes the jobs' configurations.
        jobs: their overrides.
        names: their hashes.
        config: of the multirun.
    """
    by_hash = subdir(config) == f"${{{RESOLVER}:}}"
    found = {}
    for number, (overrides, identity) in enumerate(zip(jobs, names, strict=True)):
        name = identity
        if not by_hash:
            full = composer.full(overrides, number, config)
            name = str(OmegaConf.select(full, "hydra.sweep.subdir"))
        found[name] = epochs_of(composer.spec(overrides))
    return found


def epochs_of(spec: RunSpec) -> int:
    """How many epochs a run trains, if it doesn't stop early."""
    return 1 if spec.debug and spec.debug.fast_dev_run else spec.trainer.max_epochs


def multirun(
    hydra: Hydra,
    config_name: str,
    task: TaskFunction,
    overrides: list[str],
    begin: Callable[[Path], None],
) -> None:
    """What ``Hydra.multirun`` does, without composing every job once more to see if it can be.

    Args:
        hydra: the session.
        config_name: of the primary configuration.
        task: what is called for each job.
        overrides: as they were typed.
        begin: is called with the sweep's folder, before the first job.

    Raises:
        HydraException: Hydra refuses the configuration, its sweeper or its launcher.
    """
    config = hydra.compose_config(
        config_name=config_name,
        overrides=[*overrides, "hydra.mode=MULTIRUN"],
        with_log_configuration=True,
        run_mode=RunMode.MULTIRUN,
    )
    begin(Path(config.hydra.sweep.dir))
    callbacks = Callbacks(config)
    callbacks.on_multirun_start(config=config, config_name=config_name)
    sweeper = Plugins.instance().instantiate_sweeper(
        config=config,
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        task_function=task,
    )
    # By name: Hydra may have loaded the class a second time.
    if config.hydra.runtime.choices["hydra/sweeper"] == "basic":
        # `check_jobs` has been there, at a hundredth of the cost.
        sweeper.validate_batch_is_legal = _checked_before  # type: ignore[assignment]
    sweeper.sweep(arguments=typed(config.hydra, "task"))
    callbacks.on_multirun_end(config=config, config_name=config_name)


def _checked_before(_batch: object) -> None:
    """Stands where Hydra composes each job of a batch to see whether it can."""


def check_jobs(composer: Composer, jobs: list[list[str]], config: DictConfig) -> list[str]:
    """Look at every job of a multirun.

    Returns:
        The hash of each.

    Raises:
        ConfigError: with each fault once and the jobs that have it; or two jobs are the same run.
    """
    common = shared(jobs)

    def name(number: int) -> str:
        return " ".join([each for each in jobs[number] if each not in common] or jobs[number])

    faults: dict[str, list[int]] = {}
    hashes: dict[str, int] = {}
    names = list[str]()
    twins: list[str] = []
    own, launcher = RESOLVER in subdir(config), config.hydra.launcher
    for number, overrides in enumerate(jobs):
        try:
            _, spec, identity = composer.known(overrides)
            check_one_a_job(spec.trainer.devices, launcher)
        except ConfigError as error:
            for line in error.lines:
                faults.setdefault(line, []).append(number)
            continue
        names.append(identity)
        first = hashes.setdefault(identity, number)
        if first != number and own:
            twins.append(
                f"jobs must differ in what changes a result, but '{name(number)}' is the same run as "
                f"'{name(first)}'; drop one"
            )
    lines = [_with_jobs(line, len(at), name(at[0]), len(jobs)) for line, at in faults.items()]
    if lines or twins:
        raise ConfigError(*lines, *twins)
    return names


def subdir(config: DictConfig) -> str:
    """``hydra.sweep.subdir`` as it is written, its references unresolved."""
    sweep = cast("dict[str, str]", OmegaConf.to_container(config.hydra.sweep, resolve=False))
    return sweep["subdir"]


def _with_jobs(line: str, count: int, first: str, total: int) -> str:
    """The line, with the jobs that it is true of, unless that is all."""
    return line if count == total else f"{line} (in {count} of {total} jobs, first: {first})"
