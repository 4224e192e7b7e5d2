"""A name for what a run is, made of its configuration."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, final

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


@final
class Known:
    """What was found of the hashes of earlier specs, for later ones that share values with them.

    Values are told apart by their identity, and kept, so that it stays theirs.
    """

    def __init__(self) -> None:
        self.parts: dict[tuple[str, int], tuple[object, str]] = {}
        self.around_seed: dict[tuple[int, ...], tuple[Any, bytes]] = {}


def run_hash(config: Mapping[str, Any] | RunSpec, known: Known | None = None) -> str:
    """Twelve hexadecimal digits that stand for the numbers a configuration leads to.

    Two configurations have the same hash when all that can change a result is the same in both.
    So the hash is taken of the typed configuration, with defaults written out and ``1`` and
    ``1.0`` made one, without `COSMETIC`. What changes bits alone stays in: threads, precision,
    accelerator, the batch size of evaluation; so does the probe, because it decides what a run
    directory holds.

    Args:
        config: the configuration.
        known: what was found before for specs that share values with this one; it grows.

    Raises:
        ConfigError: the configuration isn't valid.

    Example:
        >>> run_hash({}) == run_hash({"name": "a", "trainer": {"progress": False}})
        True
        >>> run_hash({}) == run_hash({"seed": 1})
        False
    """
    spec = config if isinstance(config, RunSpec) else parse(config)
    known = Known() if known is None else known
    key = tuple([id(getattr(spec, name)) for name in _KEYS])
    found = known.around_seed.get(key)
    if found is None:
        before, after = (_text(spec, names, known) for names in (_BEFORE, _AFTER))
        start = hashlib.sha256(f"{{{before},".encode())
        found = known.around_seed[key] = start, f",{after}}}".encode()
    digest = found[0].copy()
    digest.update(b'"seed":%d' % spec.seed + found[1])
    return str(digest.hexdigest()[:12])


_KEYS = sorted({key for key in RunSpec.model_fields if (key,) not in COSMETIC} - {"seed"})
_BEFORE = [key for key in _KEYS if key < "seed"]
_AFTER = [key for key in _KEYS if key > "seed"]


def _text(spec: RunSpec, names: Sequence[str], known: Known) -> str:
    """Keys and their values as JSON, without braces."""
    parts = []
    for name in names:
        value = getattr(spec, name)
        found = known.parts.get((name, id(value)))
        if found is None:
            found = known.parts[name, id(value)] = value, _part(spec, name)
        if found[1]:
            parts.append(found[1])
    return ",".join(parts)


def _part(spec: RunSpec, key: str) -> str:
    """A key and its value as JSON, without what is cosmetic; empty where the key says nothing."""
    content = spec.model_dump(mode="json", by_alias=True, serialize_as_any=True, include={key})
    for first, *rest in COSMETIC:
        if first == key and rest:
            (content[key] or {}).pop(rest[0], None)
    if content == {"debug": {"fast_dev_run": 0, "overfit": 0}}:
        content["debug"] = None
    if content == {"warm_start": None}:
        # As the configurations have it that were written before there was this key.
        return ""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)[1:-1]
