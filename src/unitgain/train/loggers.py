"""Where a run's numbers go besides its own files: any Lightning logger, one a member.

metrics.csv and gradients.parquet are always written and are the truth; a logger is a copy of them elsewhere.
"""

import abc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger

from unitgain.errors import ConfigError
from unitgain.spec import RunSpec, instantiate


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
class _Wandb(LoggerFactory):
    def __init__(
        self, project: str, entity: str | None, group: str | None, job_type: str | None, mode: str
    ) -> None:
        self._where: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": job_type,
        }
        self._mode = mode

    def open(self, context: RunContext) -> Logger | None:
        import wandb as client
        from lightning.pytorch.loggers import WandbLogger

        run = client.init(
            **self._where,
            name=context.name,
            tags=list(context.tags),
            dir=context.directory,
            config={**context.config, "overrides": list(context.overrides)},
            mode=self._resolved_mode(),
            # Runs of one pack live side by side in one process.
            reinit="create_new",
            settings=client.Settings(console="off", silent=True),
        )
        return WandbLogger(experiment=run)

    def close(self, logger: Logger, status: str) -> None:
        logger.experiment.finish(exit_code=0 if status == "finished" else 1)  # type: ignore[attr-defined]

    def _resolved_mode(self) -> Any:
        """Offline unless the user is logged in or says otherwise."""
        if self._mode != "auto":
            return self._mode
        if mode := os.environ.get("WANDB_MODE"):
            return mode
        return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    """Whether W&B's key is there, in the environment or in netrc; the server isn't asked."""
    import wandb as client

    if os.environ.get("WANDB_API_KEY"):
        return True
    url = os.environ.get("WANDB_BASE_URL") or client.Settings().base_url
    host = urlsplit(url).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


def csv() -> LoggerFactory:
    """The run's own metrics.csv, and nothing besides."""
    return _Csv()


def tensorboard() -> LoggerFactory:
    """Event files in the folder tensorboard/ of the run."""
    return _TensorBoard()


def wandb(
    project: str = "unitgain",
    entity: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str = "auto",
) -> LoggerFactory:
    """A Weights & Biases run.

    Args:
        project: where the run belongs.
        entity: the user or team, the default one if None.
        group: what the run belongs to, such as a sweep.
        job_type: what it is there.
        mode: online, offline or disabled; "auto" follows WANDB_MODE, else is online where the user is logged in.
    """
    return _Wandb(project, entity, group, job_type, mode)


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
