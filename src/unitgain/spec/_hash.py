"""A name for what a run is, made of its configuration."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from unitgain.spec._run import RunSpec, parse

COSMETIC: tuple[tuple[str, ...], ...] = (
    ("name",),
    ("tags",),
    ("logger",),
    ("figures",),
    ("trainer", "progress"),
    ("trainer", "devices"),
    ("callbacks", "checkpoint"),
    ("debug", "profiler"),
)
"""What is told about a run and where, and how often it is saved: none of it moves a number."""


def run_hash(config: Mapping[str, Any] | RunSpec) -> str:
    """Twelve hexadecimal digits that stand for the numbers a configuration leads to.

    Two configurations have the same hash when all that can change a result is the same in both.
    So the hash is taken of the typed configuration, with defaults written out and ``1`` and
    ``1.0`` made one, without `COSMETIC`. What changes bits alone stays in: threads, precision,
    accelerator, the batch size of evaluation; so does the probe, because it decides what a run
    directory holds.

    Raises:
        ConfigError: the configuration isn't valid.

    Example:
        >>> run_hash({}) == run_hash({"name": "a", "trainer": {"progress": False}})
        True
        >>> run_hash({}) == run_hash({"seed": 1})
        False
    """
    spec = config if isinstance(config, RunSpec) else parse(config)
    content = spec.resolved()
    for path in COSMETIC:
        parent = content
        for part in path[:-1]:
            parent = parent[part] or {}
        parent.pop(path[-1], None)
    if content["debug"] == {"fast_dev_run": 0, "overfit": 0}:
        content["debug"] = None
    if content["warm_start"] is None:
        # As the configurations have it that were written before there was this key.
        del content["warm_start"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
