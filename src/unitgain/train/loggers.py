"""Where a run's numbers go besides its own files: any Lightning logger, one a member.

metrics.csv and gradients.parquet are always written and are the truth; a logger is a copy of them elsewhere.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers import Logger

from unitgain.errors import ConfigError
from unitgain.spec import RunSpec, instantiate
from unitgain.upload import announce, identify, wandb_mode


@dataclass(frozen=True)
class RunContext:
    """What a logger may want to know of the run.

    Args:
        directory: of the run.
        config: resolved.
        overrides: as the user typed them.
        name: of the run.
        tags: of the run.
    """

    directory: Path
    config: Mapping[str, Any]
    overrides: Sequence[str]
    name: str
    tags: Sequence[str]


class LoggerFactory(abc.ABC):
    """Makes the logger of a run, and closes it with the run's status."""

    @abc.abstractmethod
    def open(self, context: RunContext) -> Logger | None:
        """The logger, or None where the run's own files are enough."""

    @abc.abstractmethod
    def close(self, logger: Logger, status: str) -> None:
        """End the logger; any status but "finished" must show as a failure."""


@final
class Ready(LoggerFactory):
    """A Lightning logger that the configuration made itself."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def open(self, context: RunContext) -> Logger | None:
        self._logger.log_hyperparams(_flat(context.config))
        return self._logger

    def close(self, logger: Logger, status: str) -> None:
        logger.finalize("success" if status == "finished" else "failed")


@final
class _Csv(LoggerFactory):
    def open(self, context: RunContext) -> Logger | None:
        return None

    def close(self, logger: Logger, status: str) -> None:
        logger.finalize(status)


@final
class _TensorBoard(LoggerFactory):
    def open(self, context: RunContext) -> Logger | None:
        from lightning.pytorch.loggers import TensorBoardLogger

        try:
            logger = TensorBoardLogger(str(context.directory), name="tensorboard", version="")
        except ModuleNotFoundError as error:
            raise ConfigError(
                "logger.tensorboard: needs the package tensorboard, which is not installed; "
                "install unitgain[tensorboard]"
            ) from error
        logger.log_hyperparams(_flat(context.config))
        return logger

    def close(self, logger: Logger, status: str) -> None:
        logger.finalize("success" if status == "finished" else "failed")


@final
class _Uploaded(Logger):
    """A logger that is told nothing: another process reads what it needs from the run's own files."""

    def __init__(self, directory: Path, project: str) -> None:
        super().__init__()
        self.directory, self._project = directory, project

    @property
    def name(self) -> str:
        return self._project

    @property
    def version(self) -> str:
        return self.directory.name

    def log_hyperparams(self, *_arguments: Any, **_keywords: Any) -> None:
        """The run's config.yaml has them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """The run's metrics.csv has them."""


@final
class _Wandb(LoggerFactory):
    def __init__(self, project: str, mode: str) -> None:
        self._project, self._mode = project, mode

    def open(self, context: RunContext) -> Logger | None:
        if self._mode == "disabled":
            return None
        identify(context.directory, context.config)
        if self._mode == "offline":
            return None
        announce(context.directory)
        return _Uploaded(context.directory, self._project)

    def close(self, logger: Logger, status: str) -> None:
        if isinstance(logger, _Uploaded):
            announce(logger.directory, ended=True)


def csv() -> LoggerFactory:
    """The run's own metrics.csv, and nothing besides."""
    return _Csv()


def tensorboard() -> LoggerFactory:
    """Event files in the folder tensorboard/ of the run."""
    return _TensorBoard()


def wandb(
    project: str = "unitgain",
    entity: str | None = None,  # noqa: ARG001
    group: str | None = None,  # noqa: ARG001
    job_type: str = "train",  # noqa: ARG001
    mode: str = "auto",
    quantities: Sequence[str] = ("grad_preactivation", "grad_weight"),  # noqa: ARG001
    checkpoints: bool = False,  # noqa: ARG001
) -> LoggerFactory:
    """A Weights & Biases run, uploaded from the run directory by a process apart.

    That process finds these arguments in the run's config.yaml. Whatever isn't uploaded when the run ends,
    ``unitgain sync`` uploads later.

    Args:
        project: where the run belongs.
        entity: the user or team, the default one if None.
        group: what the run belongs to; None is the multirun, for one of its jobs.
        job_type: what it is there.
        mode: online, offline or disabled; "auto" follows WANDB_MODE, else is online where the user is logged in.
        quantities: of gradient flow that become series, one a layer.
        checkpoints: upload the best checkpoint as an artifact.
    """
    return _Wandb(project, wandb_mode(mode))


def factories(spec: RunSpec) -> list[LoggerFactory]:
    """The loggers of a run, not yet opened.

    Raises:
        ConfigError: a target that isn't a Lightning logger.
    """
    made = []
    for name, node in spec.logger.items():
        value = instantiate(node, _key_=f"logger.{name}")
        if isinstance(value, Logger):
            value = Ready(value)
        if not isinstance(value, LoggerFactory):
            raise ConfigError(
                f"logger.{name}: must be a lightning.pytorch.loggers.Logger or a unitgain.train.loggers.LoggerFactory, "
                f"got {node.target}"
            )
        made.append(value)
    return made


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if isinstance(value, list | tuple) else value
    return flat
