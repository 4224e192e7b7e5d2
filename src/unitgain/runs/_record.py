"""What the files of a run were, kept where it can be compared: so that later damage shows.

Small files end with the SHA-256 of all that stands before it. A summary records the size and the SHA-256 of the files
that the run leaves beside it, a checkpoint those of the rows that it counts on.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unitgain.errors import CheckpointError
from unitgain.runs._checkpoints import has_seal, read_sealed

Record = dict[str, int | str]
"""The ``bytes`` of a file, and their ``sha256``; of its rows, the number of ``rows``; or that it is ``sealed``."""

_TRAILER = re.compile(rb',\s*"sha256":\s*"([0-9a-f]{64})"\s*\}\s*\Z')
_LONGEST = 120
FORMAT_KEY = "files"
"""What only a summary that is sealed has."""


def seal_text(text: str) -> bytes:
    r"""A JSON object with members, its last one being the SHA-256 of the bytes before it.

    Example:
        >>> sealed = seal_text('{"a": 1}')
        >>> sealed[:22], sealed[-3:], check_text(sealed)
        (b'{"a": 1, "sha256": "79', b'"}\n', True)
        >>> check_text(sealed.replace(b"1", b"2", 1)), check_text(b'{"a": 1}')
        (False, None)
    """
    body, space = text.rstrip().removesuffix("}"), " "
    if "\n" in text:
        body, space = body.rstrip(), "\n  "
    digest = hashlib.sha256(body.encode()).hexdigest()
    end = "\n" if "\n" in text else ""
    return f'{body},{space}"sha256": "{digest}"{end}}}\n'.encode()


def check_text(data: bytes) -> bool | None:
    """Whether a JSON object is as it was sealed; None where it has no seal."""
    found = _TRAILER.search(data, max(0, len(data) - _LONGEST))
    if found is None:
        return None
    return hashlib.sha256(data[: found.start()]).hexdigest().encode() == found[1]


def record_of(data: bytes) -> Record:
    """The size and the SHA-256 of a file's content.

    Example:
        >>> record_of(b"")["bytes"]
        0
    """
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def fault_of(path: Path, data: bytes, record: Mapping[str, Any]) -> str | None:
    """What is wrong with a file's content, in a line; None where it is as recorded."""
    if len(data) != record.get("bytes", len(data)):
        return _line(path, f"has {len(data)} bytes in the place of {record['bytes']}")
    if hashlib.sha256(data).hexdigest() != record.get("sha256", hashlib.sha256(data).hexdigest()):
        return _line(path, "has other bytes")
    return None


def faults_beside(folder: Path, summary: Mapping[str, Any], *, content: bool) -> list[str]:
    """What is wrong with the files of a run that ended, a line each.

    Files of a folder that is gone as a whole, as checkpoints that were removed to save room, are no fault.

    Args:
        folder: of the run.
        summary: its summary; one without records finds nothing wrong.
        content: read the files; otherwise their sizes are looked at alone.
    """
    records = summary.get(FORMAT_KEY) or {}
    there = [name for name in records if (folder / name).parent.is_dir()]
    faults = (_fault(folder / name, records[name], content) for name in there)
    return [fault for fault in faults if fault is not None]


def _fault(path: Path, record: Mapping[str, Any], content: bool) -> str | None:
    try:
        if "sealed" in record:
            return _seal_fault(path, content)
        if content:
            return fault_of(path, path.read_bytes(), record)
        size = path.stat().st_size
    except OSError as error:
        return _line(path, f"can't be read ({error.strerror})")
    if size == record["bytes"]:
        return None
    return _line(path, f"has {size} bytes in the place of {record['bytes']}")


def _seal_fault(path: Path, content: bool) -> str | None:
    """What is wrong with a checkpoint, which has its checksum at its end."""
    if not content:
        return None if has_seal(path) else _line(path, "is empty or cut short")
    try:
        read_sealed(path)
    except CheckpointError as error:
        return error.lines[0]
    return None


def fault_as_recorded(path: Path, data: bytes) -> str | None:
    """What is wrong with the content of a run's file by the summary beside it; None without one."""
    try:
        summary = json.loads((path.parent / "summary.json").read_bytes())
        record = summary[FORMAT_KEY][path.name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fault_of(path, data, record)


def _line(path: Path, fact: str) -> str:
    return (
        f"{path.name} must be as the run left it: {path} {fact}; "
        "start its sweep again to train the run anew, or restore the file from a copy"
    )
