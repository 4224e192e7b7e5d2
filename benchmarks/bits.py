"""What runs left, as digests that can be compared bit for bit."""

import hashlib
import json
from pathlib import Path
from typing import Any

from unitgain.errors import UnitgainError
from unitgain.runs import RunDirectory

Results = dict[str, dict[str, str]]
"""Of each run by its directory's name: what it left by name, and the digest of that."""

_FILES = ("config.yaml", "overrides.yaml", "metrics.csv", "gradients.parquet")
_OF_THE_MOMENT = ("seconds", "pack")


def results_of(sweep: Path) -> Results:
    """What the runs of a sweep left, but for times."""
    return {path.parent.name: _of_run(path.parent) for path in sorted(sweep.glob("*/config.yaml"))}


def differences(reference: Results, found: Results) -> list[str]:
    """What is missing, odd or not the same, a line each."""
    lines = [f"{name}: is lost" for name in reference if name not in found]
    lines += [f"{name}: nobody asked for it" for name in found if name not in reference]
    for name in reference.keys() & found.keys():
        one, other = reference[name], found[name]
        lines += [
            f"{name}: {what} differs: {_apart(one.get(what), other.get(what))}"
            for what in sorted(one.keys() | other.keys())
            if one.get(what) != other.get(what)
        ]
    return lines


def _apart(one: str | None, other: str | None) -> str:
    """Where two texts part."""
    if one is None or other is None:
        return "it wasn't to be there" if one is None else "it isn't there"
    pairs = enumerate(zip(one, other, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
    begin = max(at - 30, 0)
    return f"{one[begin : at + 50]!r} has become {other[begin : at + 50]!r}"


def _of_run(run: Path) -> dict[str, str]:
    found = {name: _digest((run / name).read_bytes()) for name in _FILES if (run / name).exists()}
    try:
        summary = RunDirectory(run).read_summary() or {}
    except UnitgainError as error:
        summary = {"status": str(error)}
    kept = {key: value for key, value in summary.items() if key not in _OF_THE_MOMENT}
    found |= {f"summary.json: {key}": repr(value) for key, value in kept.items()}
    for name in ("best", "last"):
        path = run / "checkpoints" / f"{name}.ckpt"
        if path.exists():
            found[path.name] = _of_checkpoint(path)
    names = [path.name for path in run.rglob("*") if path.suffix == ".tmp"]
    found["left over"] = " ".join(names + [path.name for path in run.glob("claim-*")])
    return found


def _of_checkpoint(path: Path) -> str:
    """Of the tensors, the epoch and the step: what a checkpoint says of the moment isn't a result."""
    import torch

    try:
        content = torch.load(path, weights_only=True)
    except Exception as error:
        return f"unreadable ({type(error).__name__})"
    facts = {"epoch": content["epoch"], "step": content["step"]}
    parts = [json.dumps(facts).encode(), *_bytes(content["state_dict"])]
    return _digest(b"".join([*parts, *_bytes(content["optimizer"])]))


def _bytes(content: Any) -> list[bytes]:
    if isinstance(content, dict):
        return [
            part for key, item in content.items() for part in (str(key).encode(), *_bytes(item))
        ]
    return [content.numpy().tobytes()]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
