"""The layout of a run directory, and its small files."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, final, get_args

from unitgain.errors import DataError
from unitgain.runs._atomic import atomic_write, remove_leftovers, sync_folder
from unitgain.runs._batch import Batch
from unitgain.runs._checkpoints import previous_of
from unitgain.runs._claims import holder_of
from unitgain.runs._record import FORMAT_KEY, check_text, faults_beside, seal_text
from unitgain.runs._yaml import from_yaml, to_yaml

Ending = Literal["finished", "diverged", "interrupted", "failed"]
Status = Literal[Ending, "damaged", "unfinished", "running", "stale"]
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@final
@dataclass(frozen=True)
class RunDirectory:
    """One run on disk.

    ```
    config.yaml  overrides.yaml  environment.json  metrics.csv  gradients.parquet
    summary.json  checkpoints/{best,last}.ckpt  figures/
    ```

    Args:
        path: the directory.
        durable: ask the disk to keep each file before going on (see `atomic_write`).

    Example:
        >>> import tempfile
        >>> run = RunDirectory(Path(tempfile.mkdtemp()) / "run").create()
        >>> run.status
        'unfinished'
        >>> run.write_summary({"status": "finished", "metrics": {"test/loss": math.nan}})
        >>> run.status, run.read_summary()
        ('finished', {'status': 'finished', 'metrics': {'test/loss': nan}})
    """

    path: Path
    durable: bool = True

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def overrides(self) -> Path:
        """What the user asked for on the command line."""
        return self.path / "overrides.yaml"

    @property
    def environment(self) -> Path:
        """Versions, commit, machine and fingerprints."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def gradients(self) -> Path:
        """What the probe measured: step, layer, quantity, value."""
        return self.path / "gradients.parquet"

    @property
    def summary(self) -> Path:
        """How the run ended: written last."""
        return self.path / "summary.json"

    @property
    def checkpoints_dir(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the best monitored metric."""
        return self.checkpoints_dir / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that a resumed run goes on from."""
        return self.checkpoints_dir / "last.ckpt"

    @property
    def figures_dir(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    @property
    def status(self) -> Status:
        """How the run ended or stands.

        Without summary it is ``running`` while a process claims it, ``stale`` where the one that did is gone, else
        ``unfinished``. With an unreadable one it is ``damaged``, or where a file that it records has another size.
        """
        return self.standing()[0]

    def standing(self) -> tuple[Status, str | None]:
        """How the run ended or stands, and why it isn't finished, in a line."""
        try:
            return self.standing_with(self.read_summary())
        except DataError as error:
            return "damaged", str(error)

    def standing_with(self, summary: Mapping[str, Any] | None) -> tuple[Status, str | None]:
        """How the run stands, whose summary is known.

        Args:
            summary: as of `read_summary`.
        """
        status = None if summary is None else cast("Ending", summary["status"])
        if summary is not None and status in ("finished", "diverged"):
            faults = faults_beside(self.path, summary, content=False)
            return ("damaged", faults[0]) if faults else (status, _cause(summary))
        holder = holder_of(self.path)
        if holder is not None and not holder.stale:
            return "running", f"{holder} trains it, and was heard of {holder.silent_s:.0f} s ago"
        if summary is not None and status is not None:
            return status, _cause(summary)
        if holder is None:
            return "unfinished", "no summary.json, and no process claims it: it was killed"
        silent = "is gone" if holder.dead else f"hasn't been heard of for {holder.silent_s:.0f} s"
        return "stale", f"{holder} trained it, and {silent}"

    def create(self) -> "RunDirectory":
        """Make the folders and remove what killed processes left in them.

        For the process that owns the run alone, at its start: fresh or resumed.
        """
        for folder in (self.path, self.checkpoints_dir, self.figures_dir):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        return self

    def sync(self, batch: Batch) -> None:
        """Have the disk keep, together with a batch, what a run that isn't durable has written so far."""
        for path in (self.config, self.overrides, self.environment, self.path):
            if path.exists():
                batch.sync(path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration: plain mappings, lists and scalars."""
        atomic_write(self.config, to_yaml(dict(config)), durable=self.durable)

    def write_overrides(self, overrides: Sequence[str]) -> None:
        """Write the command line's overrides."""
        atomic_write(self.overrides, to_yaml(list(overrides)), durable=self.durable)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write what `environment` gave."""
        atomic_write(self.environment, _to_json(environment), durable=self.durable)

    def write_summary(self, summary: Mapping[str, Any], batch: Batch | None = None) -> None:
        """Write how the run ended, after everything else is on disk.

        JSON has no NaN or infinity: such numbers become the strings ``NaN``, ``Infinity`` and
        ``-Infinity``, which `read_summary` turns back.

        Args:
            summary: plain values.
            batch: put it in place together with other files.

        The file ends with the SHA-256 of the rest, which `read_summary` checks and leaves out.

        Raises:
            ValueError: ``status`` isn't one of finished, diverged, interrupted, failed.
        """
        status = summary.get("status")
        if status not in get_args(Ending):
            raise ValueError(f"a summary's status is one of {get_args(Ending)}, not {status!r}")
        with nullcontext(batch) if batch is not None else Batch(self.durable) as together:
            together.add(self.summary, _to_json(summary))

    def remove_summary(self) -> None:
        """Make the run unfinished again, before it is trained on."""
        if self.summary.exists():
            self.summary.unlink()
            if self.durable:
                sync_folder(self.path)

    def changed_files(self, summary: Mapping[str, Any]) -> list[str]:
        """What has happened to the files of a run that ended since then, a line each; every byte is looked at.

        Args:
            summary: as of `read_summary`.
        """
        return faults_beside(self.path, summary, content=True)

    def clear(self) -> None:
        """Take away what training left, so that the run can begin anew; for the process that owns it.

        config.yaml goes last: until then the directory is that of a run.
        """
        checkpoints = (self.last_checkpoint, previous_of(self.last_checkpoint))
        files = (self.summary, *checkpoints, self.best_checkpoint, self.metrics, self.gradients)
        for path in (*files, self.config):
            path.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """Read the resolved configuration.

        Raises:
            DataError: the file is missing or isn't what `write_config` writes.
        """
        return cast("dict[str, Any]", _read(self.config, from_yaml, dict))

    def read_overrides(self) -> list[str]:
        """Read the command line's overrides.

        Raises:
            DataError: the file is missing or isn't what `write_overrides` writes.
        """
        return cast("list[str]", _read(self.overrides, from_yaml, list))

    def read_environment(self) -> dict[str, Any]:
        """Read what the run was made with.

        Raises:
            DataError: the file is missing or isn't what `write_environment` writes.
        """
        return cast("dict[str, Any]", _read(self.environment, _from_json, dict))

    def read_summary(self) -> dict[str, Any] | None:
        """Read how the run ended, or None for an unfinished run.

        Raises:
            DataError: the file isn't what `write_summary` writes.
        """
        try:
            summary = _read(self.summary, _from_json, dict)
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise
        if summary.get("status") not in get_args(Ending):
            raise DataError(_fault(self.summary, "has no valid status"))
        return cast("dict[str, Any]", summary)


def _cause(summary: Mapping[str, Any]) -> str | None:
    """Why a run isn't finished."""
    if summary["status"] == "diverged":
        where = summary.get("diverged") or {}
        return f"the loss was no longer finite at step {where.get('step', '?')}"
    cause = summary.get("cause")
    if summary["status"] == "interrupted":
        return f"{cause or 'interrupted'} after {summary.get('epoch', '?')} epochs"
    return None if cause is None else str(cause)


def _read(path: Path, parse: Callable[[bytes], Any], kind: type) -> Any:
    try:
        content = parse(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(_fault(path, "is missing")) from error
    except OSError as error:
        raise DataError(_fault(path, f"can't be read ({error.strerror})")) from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(_fault(path, f"can't be parsed ({reason})")) from error
    if not isinstance(content, kind):
        raise DataError(_fault(path, f"holds a {type(content).__name__}, not a {kind.__name__}"))
    return content


def _fault(path: Path, fact: str) -> str:
    return (
        f"a run directory needs a readable {path.name}: {path} {fact}; "
        "restore it from a copy or train the run again"
    )


def _to_json(content: Mapping[str, Any]) -> bytes:
    return seal_text(json.dumps(_encode(content), indent=2, ensure_ascii=False, allow_nan=False))


def _from_json(data: bytes) -> Any:
    whole, content = check_text(data), json.loads(data)
    if whole is None and isinstance(content, dict):
        # Files of earlier versions have neither.
        whole = "sha256" not in content and FORMAT_KEY not in content
    if whole is False:
        raise ValueError("its content doesn't match its checksum: it is damaged, or was edited")
    if isinstance(content, dict):
        content.pop("sha256", None)
    return _decode(content)


def _encode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
