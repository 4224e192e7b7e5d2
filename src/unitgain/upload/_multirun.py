"""A whole multirun as one W&B run: a series a member, and a table. Only the uploading process imports this module."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import wandb

from unitgain.runs import RunDirectory
from unitgain.upload._client import started
from unitgain.upload._content import History, summary_of
from unitgain.upload._identity import group_of, identify, members_of, settings_of, state_of


@final
class MultirunUpload:
    """Brings one W&B run to what all runs of a multirun hold; rows that are there are not sent again.

    Args:
        directory: of the multirun.
        scratch: a folder for the client's own files.
        timeout: seconds that the beginning and the end may take.

    Raises:
        DataError: a file of a run can't be read.
        wandb.Error: the server refuses, or isn't there.
    """

    def __init__(self, directory: Path, scratch: Path, timeout: float) -> None:
        self._directory = directory
        runs = [RunDirectory(path) for path in members_of(directory)]
        typed = [run.read_overrides() if run.overrides.exists() else [] for run in runs]
        self._runs = dict(zip(names_of([r.path.name for r in runs], typed), runs, strict=True))
        config = runs[0].read_config()
        self._settings = settings_of(config)
        self._identity = identify(directory, config)
        self._client = started(
            self._identity,
            scratch,
            timeout,
            group=group_of(directory, self._settings),
            job_type="multirun",
            name=directory.resolve().name,
            tags=list(config.get("tags") or ()),
            config={"members": dict(zip(self._runs, typed, strict=True))},
        )

    @property
    def url(self) -> str:
        """The run's page."""
        return self._client.url or self._identity.id

    def advance(self) -> None:
        """A multirun is uploaded at its end."""

    def finish(self) -> None:
        """Send what isn't there yet, and the end.

        Raises:
            DataError: a file of a run can't be read.
            TimeoutError: the server doesn't take it.
        """
        state, before = state_of(self._directory), dict(self._client.summary)
        for name, run in self._runs.items():
            # The last epoch of a member that the server has is in its summary.
            known = before.get(f"{name}/epoch", -1)
            history = History(run, self._settings["quantities"], run.read_config())
            for _, row in history.rows(ended=True):
                if row["epoch"] > known:
                    series = {f"{name}/{key}": value for key, value in row.items()}
                    self._client.log({"epoch": row["epoch"], **series})
        ends = {name: summary_of(run) for name, run in self._runs.items()}
        self._client.log({"members": _table(ends)})
        well = all(end["status"] == "finished" for end in ends.values())
        url = self._client.url
        self._client.finish(exit_code=0 if well else 1)
        replace(self._identity, url=url, uploaded=state).save(self._directory)


def names_of(folders: Sequence[str], overrides: Sequence[Sequence[str]]) -> list[str]:
    """What tells members apart: their own overrides, each key's last part; folders where that isn't enough.

    Example:
        >>> names_of(["a1", "b2"], [["data=iris", "optimizer.lr=0.1"], ["data=iris", "optimizer.lr=1"]])
        ['lr=0.1', 'lr=1']
        >>> names_of(["a1", "b2"], [[], []])
        ['a1', 'b2']
    """
    shared = frozenset.intersection(*map(frozenset, overrides)) if len(overrides) > 1 else ()
    names = []
    for folder, typed in zip(folders, overrides, strict=True):
        pairs = [text.partition("=") for text in typed if text not in shared]
        name = " ".join(f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs)
        names.append(name.replace("/", "_") or folder)
    return names if len(set(names)) == len(names) else list(folders)


def _table(ends: dict[str, dict[str, Any]]) -> wandb.Table:
    """A row a member: its name, and how it ended."""
    columns = list(dict.fromkeys(key for end in ends.values() for key in end))
    rows: list[Iterable[Any]] = [
        [name, *(end.get(key) for key in columns)] for name, end in ends.items()
    ]
    return wandb.Table(columns=["member", *columns], data=rows, allow_mixed_types=True)
