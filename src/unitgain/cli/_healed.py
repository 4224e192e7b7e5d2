"""The file that ``unitgain doctor --apply`` writes: a primary configuration that trains at once."""

import json
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from unitgain.cli._conf import CONFIG_NAME, Groups, compose, conf_dir, plain
from unitgain.cli._refusals import REFUSALS
from unitgain.errors import UnitgainError
from unitgain.runs import atomic_write
from unitgain.spec import RunSpec, parse, run_hash

MARK = "# Written by unitgain doctor"


def write(hydra: Hydra, overrides: list[str] | None, spec: RunSpec, reason: str, path: Path) -> str:
    """Write the configuration of a change.

    What was typed is kept as it was typed, and the change put on top. Where that isn't known, or doesn't give the same
    run, every key is written out.

    Args:
        hydra: the session.
        overrides: that were typed, with the change's; None where they aren't known, or don't give the run.
        spec: the run with the change.
        reason: why, for the file's first lines.
        path: where to.

    Returns:
        The command that trains it.
    """
    content = None if overrides is None else _layered(hydra, overrides)
    content = content or _whole(spec)
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=False, allow_unicode=True)
    words = ["unitgain", "train", "--config-dir", str(path.parent), "--config-name", path.stem]
    command = shlex.join(words)
    about = textwrap.wrap(f"{MARK}: {' '.join(reason.split())}", 98, subsequent_indent="# ")
    lines = [*about, f"# It is trained by: {command}", text]
    atomic_write(path, "\n".join(lines).encode())
    return command


def _layered(hydra: Hydra, overrides: list[str]) -> dict[str, Any] | None:
    """The default configuration, the options that overrides choose, and the values that they set."""
    groups = Groups.of(hydra, CONFIG_NAME, overrides)
    chosen: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if override.is_delete() or override.is_sweep_override() or key.startswith("hydra"):
            return None
        if groups.options(key):
            chosen[f"override /{override.get_key_element().lstrip('+')}"] = override.value()
        else:
            _set(values, key.split("."), _plain_value(override))
    defaults = [CONFIG_NAME, *({key: value} for key, value in chosen.items()), "_self_"]
    return {"defaults": defaults, **values}


def spelled_out(hydra: Hydra, overrides: list[str]) -> list[str]:
    """The overrides, with what an experiment chooses and sets in its place: so that a change can replace a part of it.

    One that does more than that, such as to build on another one, is left as it is.
    """
    found: list[str] = []
    for text in overrides:
        key, _, name = text.partition("=")
        own = _of_experiment(hydra, name) if key == "experiment" else None
        found += [text] if own is None else own
    return found


def _of_experiment(hydra: Hydra, name: str) -> list[str] | None:
    repository = Groups.of(hydra, CONFIG_NAME, []).repository
    experiment = repository.load_config(f"experiment/{name}")
    if experiment is None or experiment.defaults_list is None:
        return None
    chosen = []
    for entry in experiment.defaults_list:
        if not isinstance(entry, GroupDefault) or not entry.override or entry.package:
            if isinstance(entry, ConfigDefault) and entry.path == "_self_":
                continue
            return None
        chosen.append(f"{str(entry.group).lstrip('/')}={entry.value}")
    content = OmegaConf.to_container(experiment.config, resolve=False)
    return chosen + [f"{key}={value}" for key, value in _leaves(content, "")]


def _leaves(content: Any, key: str) -> Iterator[tuple[str, str]]:
    """Dotted keys and their values in Hydra's syntax."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(content) if not isinstance(content, str) else content


def _set(values: dict[str, Any], path: list[str], value: object) -> None:
    *outer, last = path
    for part in outer:
        values = values.setdefault(part, {})
    values[last] = value


def _plain_value(override: Override) -> Any:
    """The value as YAML holds it; quotes that were typed are gone."""
    return yaml.safe_load(yaml.safe_dump(_unquoted(override.value())))


def _unquoted(value: Any) -> Any:
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _unquoted(item) for key, item in value.items()}
    return value if isinstance(value, int | float | bool) or value is None else str(value)


def gives(hydra: Hydra, overrides: list[str], spec: RunSpec) -> bool:
    """Whether overrides give this run."""
    try:
        found = parse(plain(compose(hydra, CONFIG_NAME, overrides)))
    except (UnitgainError, *REFUSALS):
        # Such as a value that an experiment sets for the initializer that was changed.
        return False
    return run_hash(found) == run_hash(spec)


def _whole(spec: RunSpec) -> dict[str, Any]:
    """Every key of a run, and the part of the default configuration that is Hydra's own."""
    default = yaml.safe_load((conf_dir() / f"{CONFIG_NAME}.yaml").read_bytes())
    own = [
        entry
        for entry in default["defaults"]
        if isinstance(entry, dict) and any("hydra/" in key for key in entry)
    ]
    return {"defaults": ["_self_", *own], **spec.resolved(), "hydra": default["hydra"]}
