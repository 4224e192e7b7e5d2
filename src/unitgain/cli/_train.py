"""``unitgain train``: composes the configuration, checks it, and runs one job or many."""

import argparse
import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unitgain.cli._agent import from_agent
from unitgain.cli._command import Command, Exit
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from unitgain.cli._job import Task


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain train`` is asked for; flags and overrides are Hydra's."""
    # Imports and configurations allocate much and leave little to collect: looking for garbage
    # meanwhile is a fifth of the time to the first error or the first step. A job turns it on.
    gc.disable()
    try:
        return _run(arguments_of(from_agent(argv)))
    finally:
        gc.enable()


def _run(arguments: argparse.Namespace) -> int:
    if arguments.shell_completion:
        from unitgain.cli._completion import complete

        return complete(arguments)
    from unitgain.cli._conf import hydra_session

    with hydra_session(arguments) as hydra:
        return _serve(hydra, arguments)


COMMAND = Command("train", "train a network, or many with -m", run)


def arguments_of(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's own flags; overrides may stand between them.

    Raises:
        ConfigError: a flag that Hydra doesn't know, or two that exclude one another.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    [cfg] = [action for action in parser._actions if action.dest == "cfg"]
    cfg.choices = [*(cfg.choices or ()), "plan"]
    parser.prog, parser.exit_on_error = "unitgain train", False
    try:
        arguments, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name or 'unitgain train'}: {error.message}") from error
    flags = [text for text in rest if text.startswith("-")]
    if flags:
        known = [name for action in parser._actions for name in action.option_strings]
        raise ConfigError(*(_unknown_flag(flag, known) for flag in flags))
    arguments.overrides += rest
    chosen = [name for name in ("run", "multirun", "cfg", "info") if getattr(arguments, name)]
    if len(chosen) > 1 and not (chosen == ["multirun", "cfg"] and arguments.cfg == "plan"):
        raise ConfigError(f"--{' and --'.join(chosen)}: only one of them can be given")
    if arguments.resolve and not (arguments.cfg or arguments.help):
        raise ConfigError("--resolve: needs --cfg or --help beside it")
    if arguments.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun: isn't supported; use unitgain resume RUN")
    return arguments


def _unknown_flag(flag: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(flag, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "see unitgain train --help"
    return f"{flag}: no such option; {hint}"


def _serve(hydra: "Hydra", arguments: argparse.Namespace) -> int:
    from unitgain.cli._conf import CONFIG_NAME, Groups, compose, without_null
    from unitgain.cli._refusals import explained

    name, overrides = arguments.config_name or CONFIG_NAME, arguments.overrides
    if arguments.hydra_help or arguments.info:
        return _hydra_information(hydra, name, arguments)
    if any(text.endswith("=null") for text in overrides):
        overrides = without_null(Groups.of(hydra, name, overrides), overrides)
        arguments.overrides = overrides
    with explained(hydra, name, overrides, multirun=arguments.multirun):
        config = compose(hydra, name, overrides)
        if arguments.cfg and arguments.cfg != "plan":
            return _show_config(hydra, config, arguments)
        if arguments.help:
            from unitgain.cli._help import show_help

            return show_help(Groups.of(hydra, name, overrides), config, resolve=arguments.resolve)
    return _run_jobs(hydra, name, config, arguments)


def _show_config(hydra: "Hydra", config: "DictConfig", arguments: argparse.Namespace) -> int:
    """What ``Hydra.show_cfg`` does, with the configuration that was composed already."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import Container, OmegaConf

    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config.hydra, None)
    shown: object = hydra.get_sanitized_cfg(config, arguments.cfg)
    if arguments.package not in (None, "_global_"):
        shown = OmegaConf.select(config, arguments.package)
        if shown is None:
            raise ConfigError(f"--package: no such key, got {arguments.package}")
        print(f"# @package {arguments.package}")
    if isinstance(shown, Container):
        print(OmegaConf.to_yaml(shown, resolve=arguments.resolve), end="")
    else:
        print(shown)
    return Exit.FINISHED


def _hydra_information(hydra: "Hydra", name: str, arguments: argparse.Namespace) -> int:
    if arguments.hydra_help:
        from hydra._internal.utils import get_args_parser

        hydra.hydra_help(config_name=name, args_parser=get_args_parser(), args=arguments)
    else:
        hydra.show_info(arguments.info, config_name=name, overrides=arguments.overrides)
    return Exit.FINISHED


def _run_jobs(
    hydra: "Hydra", name: str, config: "DictConfig", arguments: argparse.Namespace
) -> int:
    from hydra.types import RunMode

    from unitgain.cli._elsewhere import is_elsewhere
    from unitgain.cli._explain import check_folder, check_one, check_values
    from unitgain.cli._processes import check_launched, check_one_a_job, followed, is_follower
    from unitgain.upload import uploading, wants_upload

    overrides = list(arguments.overrides)
    multirun = arguments.multirun or config.hydra.mode == RunMode.MULTIRUN
    devices = config.trainer.get("devices", 1)
    check_launched(devices, multirun=multirun)
    check_values(hydra, name, overrides, multirun=multirun)
    upload = wants_upload(config) and arguments.cfg != "plan"
    upload = upload and not (multirun and is_elsewhere(config))
    if multirun:
        check_one_a_job(devices, config.hydra.launcher)
        check_folder(config, "hydra.sweep.dir")
        from unitgain.cli._many import run_many, show_plan

        how = show_plan if arguments.cfg == "plan" else run_many
        with uploading(wanted=upload):
            return how(hydra, name, config, overrides)
    if arguments.cfg == "plan":
        raise ConfigError("--cfg plan: shows how the jobs of a multirun are packed; add -m")
    check_one(hydra, name, config, overrides)
    if is_follower(devices):
        return followed()
    from unitgain.cli._job import Task

    task = Task()
    with uploading(wanted=upload, hold=True):
        _run_one(hydra, name, config, task)
    if task.error is not None:
        raise task.error
    return task.outcomes[0].exit


def _run_one(hydra: "Hydra", name: str, config: "DictConfig", task: "Task") -> None:
    """What ``Hydra.run`` does, with the configuration that was composed already."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import run_job
    from hydra.types import HydraContext, RunMode
    from omegaconf.errors import OmegaConfBaseException

    from unitgain.cli._refusals import one_line

    config.hydra.mode = RunMode.RUN
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=name)
    try:
        job = run_job(
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
            task_function=task,
            config=config,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
        )
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error
    except OSError as error:
        raise ConfigError(
            f"hydra.run.dir: must be a folder that can be made, but {error.filename}: "
            f"{error.strerror}"
        ) from error
    callbacks.on_run_end(config=config, config_name=name, job_return=job)
