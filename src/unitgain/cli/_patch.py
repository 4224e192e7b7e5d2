"""The configurations of many jobs: composed once for each choice of groups, with values patched in.

Composing costs a tenth of a second, a patch some microseconds.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from unitgain.cli._conf import Groups, compose, plain
from unitgain.spec import Assembler, Known, RunSpec, parse, run_hash

_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class _Base:
    """What a choice of groups composes to.

    Args:
        config: all of it, Hydra's own part included.
        content: the job's part, resolved; None where a value refers to another, so that a patch
            may change more than its own key.
        spec: that part, typed; None where a key isn't right by itself.
        values: of the spec's top keys, by the overrides that change them; ``_ODD`` where it takes
            more than to put one in its place.
    """

    config: DictConfig
    content: dict[str, Any] | None
    spec: RunSpec | None
    values: dict[tuple[str, ...], object] = field(default_factory=dict)


_ODD = object()


class Named(NamedTuple):
    """A job's overrides, its typed configuration and the hash of that."""

    overrides: tuple[str, ...]
    spec: RunSpec
    name: str


@dataclass
class Composer:
    """Composes jobs that differ in few of their overrides.

    Args:
        hydra: the session.
        config_name: the primary configuration.
        hydra_overrides: what the user overrides of Hydra's own configuration.
        groups: the groups that a key may be.
    """

    hydra: Hydra
    config_name: str
    hydra_overrides: list[str]
    groups: Groups
    _bases: dict[tuple[str, ...], _Base] = field(default_factory=dict)
    _parsed: dict[str, tuple[Override, bool, str]] = field(default_factory=dict)
    _specs: dict[tuple[str, ...], "Named"] = field(default_factory=dict)
    _assembler: Assembler = field(default_factory=Assembler)
    _names: Known = field(default_factory=Known)

    def spec(self, overrides: Sequence[str]) -> RunSpec:
        """The typed configuration of one job.

        Raises:
            ConfigError: it isn't valid.
            HydraException: what composing it would raise.
        """
        return self.known(overrides).spec

    def known(self, overrides: Sequence[str], *, last: bool = False) -> "Named":
        """The typed configuration of one job, and its hash; kept for the next time.

        Args:
            overrides: of the job.
            last: nobody will ask again.

        Raises:
            ConfigError: it isn't valid.
            HydraException: what composing it would raise.
        """
        key = tuple(overrides)
        found = self._specs.pop(key, None) if last else self._specs.get(key)
        if found is None:
            spec = self._assembled(key) or parse(self.plain(key))
            found = Named(key, spec, run_hash(spec, self._names))
            if not last:
                self._specs[key] = found
        return found

    def task(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Those of a job's overrides that aren't Hydra's own."""
        return tuple(text for text in overrides if not self._parse(text)[0].is_hydra_override())

    def _assembled(self, overrides: Sequence[str]) -> RunSpec | None:
        """A spec of values that were checked before, or are now; None where it takes all of `parse`."""
        structure: tuple[str, ...] = ()
        texts: dict[str, tuple[str, ...]] = {}
        for text in overrides:
            _, is_structure, key = self._parsed.get(text) or self._parse(text)
            if is_structure:
                structure += (text,)
            else:
                texts[key] = (*texts[key], text) if key in texts else (text,)
        base = self._bases.get(structure) or self._base(structure)
        if base.spec is None:
            return None
        values = {}
        for key, same in texts.items():
            value = base.values.get(same)
            if value is None and same not in base.values:
                value = base.values[same] = self._value(base, key, same)
            if value is _ODD:
                return None
            values[key] = value
        return self._assembler.spec(base.spec, values)

    def _value(self, base: _Base, key: str, texts: Sequence[str]) -> object:
        """The value of one top key, with the overrides of its parts."""
        content = base.content and _patched(base.content, [self._parse(text)[0] for text in texts])
        if not content or key not in content:
            return _ODD
        spec = self._assembler.checked({key: content[key]})
        return _ODD if spec is None else getattr(spec, key)

    def plain(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The configuration of one job, resolved, without Hydra's part.

        Raises:
            HydraException: what composing it would raise.
        """
        base, values = self._split(overrides)
        content = None if base.content is None else _patched(base.content, values)
        return plain(self._applied(base, values)) if content is None else content

    def full(self, overrides: Sequence[str], number: int, master: DictConfig) -> DictConfig:
        """The configuration of one job with Hydra's part, as Hydra's own launchers make it.

        Args:
            overrides: of the job.
            number: which job it is.
            master: of the multirun; times and the like are resolved as there.
        """
        base, values = self._split(overrides)
        config = self._applied(base, values)
        parsed = [self._parse(text)[0] for text in overrides]
        task = [override for override in parsed if not override.is_hydra_override()]
        how = config.hydra.job.config.override_dirname
        config.hydra.overrides.task = [override.input_line for override in task]
        config.hydra.job.override_dirname = get_overrides_dirname(
            task, how.exclude_keys, how.item_sep, how.kv_sep
        )
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        OmegaConf.copy_cache(from_config=master, to_config=config)
        return config

    def _split(self, overrides: Sequence[str]) -> tuple[_Base, list[Override]]:
        """What the overrides that choose groups compose to, and the other ones."""
        structure, values = [], []
        for text in overrides:
            override, is_structure, _ = self._parse(text)
            if is_structure:
                structure.append(text)
            else:
                values.append(override)
        return self._base(tuple(structure)), values

    def _base(self, structure: tuple[str, ...]) -> _Base:
        if structure not in self._bases:
            config = compose(self.hydra, self.config_name, [*self.hydra_overrides, *structure])
            content = None if _refers(config) else plain(config)
            spec = None if content is None else self._assembler.checked(content)
            self._bases[structure] = _Base(config, content, spec)
        return self._bases[structure]

    def _parse(self, text: str) -> tuple[Override, bool, str]:
        """An override, whether it is one that the composition itself must see, and its top key."""
        if text not in self._parsed:
            loader = self.hydra.config_loader
            assert isinstance(loader, ConfigLoaderImpl)
            [override] = OverridesParser.create(config_loader=loader).parse_overrides([text])
            loader.validate_sweep_overrides_legal([override], RunMode.RUN, from_shell=True)
            chooses = self.groups.repository.group_exists(override.key_or_group) and not isinstance(
                override.value(), dict
            )
            top = override.key_or_group.partition(".")[0]
            self._parsed[text] = override, chooses or override.is_hydra_override(), top
        return self._parsed[text]

    @staticmethod
    def _applied(base: _Base, values: list[Override]) -> DictConfig:
        config = copy.deepcopy(base.config)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config


def _refers(config: DictConfig) -> bool:
    """Whether a value of the job's part refers to another one."""
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return "${" in repr(OmegaConf.to_container(job, resolve=False))


def _patched(content: dict[str, Any], values: list[Override]) -> dict[str, Any] | None:
    """A copy with the values in their places; None where that takes all of Hydra's rules.

    Parts that no value touches are shared with the original.
    """
    content = dict(content)
    own: set[tuple[str, ...]] = set()
    for override in values:
        if override.package is not None or not _PLAIN_KEY.fullmatch(override.key_or_group):
            return None
        *parents, last = override.key_or_group.split(".")
        node: Any = content
        for depth, name in enumerate(parents, start=1):
            if not isinstance(node.get(name), dict):
                return None
            if tuple(parents[:depth]) not in own:
                node[name] = dict(node[name])
                own.add(tuple(parents[:depth]))
            node = node[name]
        if "hydra" in (last, *parents[:1]) or not _patch(node, last, override):
            return None
    return content


def _patch(node: dict[str, Any], key: str, override: Override) -> bool:
    """Do to one mapping what an override says; False where it isn't a plain case."""
    value, old, there = override.value(), node.get(key), key in node
    if isinstance(old, dict) or old == "???":
        return False
    if override.is_delete():
        plain_case = value is None and old is not None
        if plain_case:
            del node[key]
        return plain_case
    allowed = old is None if override.is_add() else there or override.is_force_add()
    plain_case = allowed and _is_plain(value) and isinstance(value, list) >= isinstance(old, list)
    if plain_case:
        node[key] = value
    return plain_case


def _is_plain(value: Any) -> bool:
    """Whether a value stands for itself: no mapping to merge, no reference."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, str):
        return "${" not in value and value != "???"
    return value is None or isinstance(value, bool | int | float)
