"""What a run was made with: enough to tell whether the same bits can be expected again."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "unitgain",
    "torch",
    "lightning",
    "hydra-core",
    "torchmetrics",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
)
# What takes part in the arithmetic of a run: data preparation and training.
NUMERIC = ("unitgain", "torch", "numpy", "scipy", "scikit-learn")
_GIT_SECONDS = 2.0


def environment(
    device: str, threads: int, fingerprint: str, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The machine, the versions and the fingerprints of a run, as plain values.

    Nothing is taken from the environment variables, the command line or git's remotes: they may
    hold secrets.

    Args:
        device: where the run trains, such as ``cpu`` or ``cuda``.
        threads: how many threads the arithmetic uses.
        fingerprint: of the data.
        facts: more that changes the arithmetic, such as the instruction set that torch chose
            (``isa``) or the name of the GPU; they join the numerics fingerprint.
    """
    facts = dict(facts or {})
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "device": device,
        "threads": threads,
        **facts,
        "versions": dict(_versions()),
        "git": _git(Path.cwd()),
        "data_fingerprint": fingerprint,
        "numerics_fingerprint": numerics_fingerprint(device, threads, facts),
    }


def numerics_fingerprint(device: str, threads: int, facts: Mapping[str, Any] | None = None) -> str:
    """A short hash of all that decides the bits of a result besides the configuration and the data.

    Two runs with the same one are compared bit by bit, others within tolerances.

    Example:
        >>> one = numerics_fingerprint("cpu", 1, {"isa": "AVX2"})
        >>> one == numerics_fingerprint("cpu", 1, {"isa": "AVX2"})
        True
        >>> one == numerics_fingerprint("cpu", 2, {"isa": "AVX2"})
        False
    """
    versions = _versions()
    parts = {
        "device": device,
        "threads": threads,
        "machine": platform.machine(),
        "facts": dict(facts or {}),
        "versions": {name: versions[name] for name in NUMERIC},
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _versions() -> dict[str, str | None]:
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit of the folder, and whether tracked files differ from it; None without git."""
    command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(
            [*command, "--untracked-files=no"],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    lines = done.stdout.splitlines()
    commits = [line.split()[2] for line in lines if line.startswith("# branch.oid")]
    if not commits or commits[0] == "(initial)":
        return None
    return {"commit": commits[0], "dirty": any(not line.startswith("#") for line in lines)}
