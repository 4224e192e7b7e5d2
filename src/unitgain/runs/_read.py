"""Reading many run directories: where they are, and each as one flat row."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unitgain.errors import ConfigError, DataError
from unitgain.runs._directory import RunDirectory
from unitgain.runs._options import Scalar, flat
from unitgain.runs._record import FORMAT_KEY
from unitgain.runs._yaml import from_yaml

Row = dict[str, Scalar]
_READERS = 4
"""Threads that wait for files: a folder may be on a network."""
_SLICE = 64
_NO_RUNS = frozenset({"wandb"})
"""Folders in which others keep a config.yaml of their own."""
_ENTRY = re.compile(rb"^(?=[A-Za-z_])", re.MULTILINE)
_PLAIN_LINES = re.compile(rb"(?:[A-Za-z_]\w*:(?:[ ][^\n]*)?\n|(?:[ ]|-[ ])[^\n]*\n)*")
_ENTRIES: dict[bytes, tuple[tuple[str, Scalar], ...]] = {}
_MOST_ENTRIES = 65536


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run directories at and below some paths, each once, in the order of their names.

    A run directory is a folder with a config.yaml. Nothing is looked for inside one, in hidden folders, in those of
    W&B and behind links.

    Raises:
        ConfigError: a path that isn't a folder.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: must be a folder with runs, but there is no such folder")
        for run in _below(path):
            found.setdefault(os.path.realpath(run), Path(run))
    return list(found.values())


def read_rows(runs: Sequence[Path], environment: bool) -> list[Row]:
    """A row for each run directory; what can't be read makes it one of status ``damaged``."""

    def read(slice_: Sequence[Path]) -> list[Row]:
        return [_row(RunDirectory(path), environment) for path in slice_]

    slices = [runs[i : i + _SLICE] for i in range(0, len(runs), _SLICE)]
    with ThreadPoolExecutor(_READERS) as pool:
        return [row for rows in pool.map(read, slices) for row in rows]


def _below(path: Path) -> Iterator[str]:
    waiting = [str(path)]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = list(entries)
        except OSError:
            continue  # a folder that is gone by now, or of somebody else
        if any(entry.name == "config.yaml" and entry.is_file() for entry in inside):
            yield folder
            continue
        names = sorted(
            (
                entry.name
                for entry in inside
                if entry.name not in _NO_RUNS
                and not entry.name.startswith(".")
                and entry.is_dir(follow_symlinks=False)
            ),
            reverse=True,
        )
        waiting += [os.path.join(folder, name) for name in names]


def _row(run: RunDirectory, environment: bool) -> Row:
    row: Row = {"run": str(run.path), "name": run.path.name, "status": "unfinished", "cause": None}
    faults: list[str] = []
    try:
        for key, value in _flat_config(run):
            if key != "name":
                row[key] = value
            elif value is not None:
                row["name"] = str(value)
    except (DataError, OSError) as error:
        faults.append(str(error))
    try:
        summary = run.read_summary()
        row["status"], row["cause"] = run.standing_with(summary)
        row.update(_of_summary(summary or {}))
    except (DataError, OSError) as error:
        faults.append(str(error))
    if environment:
        try:
            for key, value in _scalars("environment/", run.read_environment()):
                row[key] = value
        except (DataError, OSError) as error:
            faults.append(str(error))
    if faults:
        row |= {"status": "damaged", "cause": "; ".join(faults)}
    return row


def _flat_config(run: RunDirectory) -> Iterator[tuple[str, Scalar]]:
    """The flat configuration; entries that many runs share are parsed once."""
    try:
        data = run.config.read_bytes()
    except OSError:
        data = b""
    if not data or _PLAIN_LINES.fullmatch(data) is None or b"&" in data or b"*" in data:
        yield from flat(run.read_config())
        return
    try:
        entries = [_flat_entry(entry) for entry in _ENTRY.split(data) if entry]
    except ValueError:
        # Its lines depend on each other: together they may be YAML, or the error of that is told.
        entries = [tuple(flat(run.read_config()))]
    for entry in entries:
        yield from entry


def _flat_entry(text: bytes) -> tuple[tuple[str, Scalar], ...]:
    """One entry of a configuration, from the cache where an equal one was read before.

    Raises:
        ValueError: it is no entry of a mapping by itself.
    """
    entry = _ENTRIES.get(text)
    if entry is None:
        content = from_yaml(text)
        if not isinstance(content, dict):
            raise ValueError("no entry of a mapping")
        if len(_ENTRIES) >= _MOST_ENTRIES:
            _ENTRIES.clear()
        entry = _ENTRIES[text] = tuple(flat(content))
    return entry


def _of_summary(summary: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    """Metrics as they are named, and every other number under ``key/name``."""
    for key, value in summary.items():
        if key in ("status", "cause", FORMAT_KEY):
            continue
        if key == "metrics" and isinstance(value, Mapping):
            yield from ((str(name), item) for name, item in value.items() if _is_scalar(item))
        elif key in ("verdict", "forecast") and isinstance(value, Mapping):
            yield key, value.get("label")
            yield from _scalars(f"{key}/", {n: v for n, v in value.items() if n != "label"})
        elif isinstance(value, Mapping):
            yield from _scalars(f"{key}/", value)
        elif value is not None and _is_scalar(value):
            yield key, value


def _scalars(prefix: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _scalars(f"{prefix}{name}/", value)
        elif _is_scalar(value):
            yield f"{prefix}{name}", value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)
