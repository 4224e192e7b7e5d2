"""One W&B run, fed from a run directory. Only the uploading process imports this module."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import wandb

from unitgain.runs import RunDirectory
from unitgain.upload._content import (
    History,
    config_of,
    ended_well,
    figures_of,
    summary_of,
)
from unitgain.upload._identity import Identity, group_of, identify, settings_of, state_of


def client_settings(timeout: float, sweep: str | None = None) -> wandb.Settings:
    """What makes the client say, measure and record nothing of its own, and never wait for long.

    Args:
        timeout: seconds for the beginning and for the end of a run.
        sweep: the W&B sweep that the run belongs to.
    """
    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_disable_viewer=True,
        x_save_requirements=False,
        init_timeout=timeout,
        finish_timeout=timeout,
        finish_timeout_raises=True,
        sweep_id=sweep,
    )


def started(identity: Identity, scratch: Path, timeout: float, **about: Any) -> wandb.Run:
    """The W&B run, begun or gone on with, whose series have the epoch as their x axis.

    Args:
        identity: of the run.
        scratch: a folder for the client's own files.
        timeout: seconds that the beginning and the end may take.
        about: what the run is, as `wandb.init` takes it.

    Raises:
        wandb.Error: the server refuses, or isn't there.
    """
    client = wandb.init(
        id=identity.id,
        project=identity.project,
        entity=identity.entity,
        dir=scratch,
        mode="online",
        resume="allow",
        # Runs are uploaded side by side.
        reinit="create_new",
        settings=client_settings(timeout, identity.sweep),
        **about,
    )
    client.define_metric("epoch")
    client.define_metric("*", step_metric="epoch")
    return client


@final
class RunUpload:
    """Brings a W&B run to what a directory holds; rows that are there already are not sent again.

    Args:
        directory: of the run.
        scratch: a folder for the client's own files.
        timeout: seconds that the beginning and the end may take.

    Raises:
        DataError: a file of the run can't be read.
        wandb.Error: the server refuses, or isn't there.
    """

    def __init__(self, directory: Path, scratch: Path, timeout: float) -> None:
        self._run = RunDirectory(directory)
        self._identity = identify(directory)
        config = self._run.read_config()
        self._settings = settings_of(config)
        self._history = History(self._run, self._settings["quantities"], config)
        self._client = started(
            self._identity,
            scratch,
            timeout,
            group=group_of(directory, self._settings),
            job_type=self._settings["job_type"],
            name=config.get("name") or directory.resolve().name,
            tags=list(config.get("tags") or ()),
            config=config_of(self._run, config),
        )
        # The server's own steps, in its rows, say what it has.
        self._next = self._client.step
        self._seen: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """The run's page."""
        return self._client.url or self._identity.id

    def advance(self, *, ended: bool = False) -> None:
        """Send the rows that are new.

        Args:
            ended: whether no file grows any more.

        Raises:
            DataError: a file of the run can't be read.
        """
        files = (self._run.metrics, self._run.gradients)
        seen = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
        if seen == self._seen and not ended:
            return
        for step, values in self._history.rows(self._next, ended=ended):
            self._client.log(values, step=step)
            self._next = step + 1
        self._seen = seen

    def finish(self) -> None:
        """Send what is left, the end too, and note in the directory that it has arrived.

        Raises:
            DataError: a file of the run can't be read.
            TimeoutError: the server doesn't take it.
        """
        state = state_of(self._run.path)
        self.advance(ended=True)
        self._client.summary.update(summary_of(self._run))
        figures = self._log_figures()
        if self._settings["checkpoints"]:
            self._log_checkpoint()
        url = self._client.url
        self._client.finish(exit_code=0 if ended_well(self._run) else 1)
        self._identity = replace(self._identity, url=url, uploaded=state, figures=figures)
        self._identity.save(self._run.path)

    def _log_figures(self) -> dict[str, str]:
        figures = {
            path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            for path in figures_of(self._run)
        }
        new = [n for n in figures if figures[n] != self._identity.figures.get(n)]
        if new:
            folder = self._run.figures_dir
            self._client.log(
                {f"figures/{name}": wandb.Image(str(folder / f"{name}.png")) for name in new}
            )
        return figures

    def _log_checkpoint(self) -> None:
        """The best checkpoint as an artifact; W&B knows a file that it has by its content."""
        if not self._run.best_checkpoint.exists():
            return
        artifact = wandb.Artifact(f"checkpoint-{self._identity.id}", type="model")
        artifact.add_file(str(self._run.best_checkpoint))
        self._client.log_artifact(artifact, aliases=["best"])
