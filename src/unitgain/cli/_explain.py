"""From what Hydra refuses to one line an override: key, what it got, what is accepted."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from unitgain.cli._conf import Groups, Loader, compose, plain
from unitgain.cli._refusals import REFUSALS, explained, one_line, reason
from unitgain.errors import ConfigError
from unitgain.spec import close_match, may_be_null, parse, takes_one


def check_values(
    hydra: Hydra, config_name: str, overrides: list[str], *, multirun: bool = False
) -> None:
    """Refuse what composes and can't be meant: several values without -m, several options of one part.

    Raises:
        ConfigError: with each fault.
    """
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    for override in parser.parse_overrides(overrides):
        several = override.is_sweep_override() and not multirun
        if several or any(_too_many(each) for each in _alternatives(override)):
            raise ConfigError(*Explainer(hydra, config_name, multirun).lines(overrides))


def check_one(hydra: Hydra, config_name: str, config: DictConfig, overrides: list[str]) -> None:
    """Look at the configuration of a single job, before anything is written.

    Raises:
        ConfigError: with each fault.
    """
    with explained(hydra, config_name, overrides):
        parse(plain(config))
    check_folder(config, "hydra.run.dir")


def check_folder(config: DictConfig, key: str) -> None:
    """Refuse to write into the working directory because nothing was said.

    Raises:
        ConfigError: the key is empty.
    """
    if not str(OmegaConf.select(config, key) or "").strip():
        raise ConfigError(
            f"{key}: must be a folder, got nothing; leave it out, or give one (. for this one)"
        )


@dataclass(frozen=True)
class Explainer:
    """Tries the overrides one after another and says what is wrong with each that is refused.

    Args:
        hydra: the session.
        config_name: the primary configuration.
        multirun: whether several values of a key are a job each, and not a fault.
    """

    hydra: Hydra
    config_name: str
    multirun: bool = False

    def lines(self, overrides: list[str]) -> list[str]:
        """One line for each fault, of Hydra's grammar, of keys and options, and of the schema."""
        parsed, lines = _parsed(overrides)
        folders = [text for text in overrides if text.startswith("hydra.searchpath=")]
        base = None if lines else self._with_options(parsed)
        options_hold = base is not None
        try:
            base = base or compose(self.hydra, self.config_name, folders)
        except ConfigError as error:
            return [*lines, *error.lines]
        except REFUSALS as error:
            return [*lines, f"{self.config_name}.yaml: {one_line(error)}"]
        groups = Groups.of(self.hydra, self.config_name, folders)
        trial = _Trial(self, groups, base)
        # Options before keys, because an option brings its keys along.
        for override in sorted(parsed, key=lambda each: not groups.options(each.key_or_group)):
            if not (options_hold and groups.options(override.key_or_group)):
                trial.add(override)
        for text in dict.fromkeys(overrides):
            lines += trial.faults.get(text, [])
        return [*lines, *_schema_faults(trial.config)]

    def _with_options(self, parsed: list[Override]) -> DictConfig | None:
        """What composing got to before it refused a value: the options hold, values may be set again."""
        loader = self.hydra.config_loader
        settings = all(
            not (each.is_add() or each.is_delete() or each.is_sweep_override() or _too_many(each))
            for each in parsed
        )
        return loader.with_options if settings and isinstance(loader, Loader) else None


@dataclass
class _Trial:
    """What has been accepted so far, and what hasn't."""

    explainer: Explainer
    groups: Groups
    config: DictConfig
    options: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def add(self, override: Override) -> None:
        """Try one override; of several values, each, and go on with the first that is accepted."""
        group, text = override.key_or_group, str(override.input_line)
        faults = self.faults.setdefault(text, [])
        if override.is_sweep_override() and not self.explainer.multirun:
            faults.append(_several(text))
            return
        if group.split(".")[0] in self.refused:
            # The keys that a refused option would have brought can't be judged.
            return
        accepted = None
        for alternative in _alternatives(override):
            try:
                candidate = self._applied(alternative)
            except (*REFUSALS, ConfigError) as error:
                faults.append(self._line(alternative, error))
            else:
                accepted = accepted or (alternative, candidate)
        is_option = bool(self.groups.options(group))
        if accepted is not None:
            self.config = accepted[1]
            self.options += [str(accepted[0].input_line)] if is_option else []
        elif is_option:
            self.refused.add(override.package or group)

    def _applied(self, override: Override) -> DictConfig:
        if line := _too_many(override):
            raise ConfigError(line)
        if self.groups.options(override.key_or_group):
            texts = [*self.options, str(override.input_line)]
            return compose(self.explainer.hydra, self.explainer.config_name, texts)
        config = copy.deepcopy(self.config)
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
        return config

    def _line(self, override: Override, error: Exception) -> str:
        group, package, text = override.key_or_group, override.package, str(override.input_line)
        key = f"{group}@{package}" if package else group
        if isinstance(error, ConfigError):
            return error.lines[0]
        if override.is_delete():
            return f"{key}: no such key or option in force, so ~ has nothing to take away"
        if override.is_add() and ("Multiple values" in str(error) or "already at" in str(error)):
            return f"{key}: is there already; leave out the plus: {text.lstrip('+')}"
        if options := self.groups.options(group):
            return _no_option(key, override.value(), options, error)
        return self._unknown(override, key, error)

    def _unknown(self, override: Override, key: str, error: Exception) -> str:
        """What to say where neither a group nor a key has that name."""
        group, package = override.key_or_group, override.package
        if package is not None:
            meant = close_match(group, self.groups.names())
            hint = f"; did you mean {meant}@{package}?" if meant else ""
            return f"{key}: no such group {group}{hint}"
        if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
            got = str(override.input_line).partition("=")[2] or "nothing"
            return _no_key(key, got, self.config, self.groups.names())
        return f"{key}: {reason(error.__cause__ or error)}"


def _parsed(overrides: list[str]) -> tuple[list[Override], list[str]]:
    """The overrides that can be read, and a line for each that can't."""
    parser = OverridesParser.create()
    parsed: list[Override] = []
    lines = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException as error:
            lines.append(_syntax(text, error))
    return parsed, lines


def _schema_faults(config: DictConfig) -> list[str]:
    try:
        parse(plain(config))
    except ConfigError as error:
        return list(error.lines)
    except REFUSALS as error:
        return [one_line(error)]
    return []


def _no_option(key: str, value: Any, options: list[str], error: Exception) -> str:
    listed = ", ".join(options)
    if value is None and may_be_null(key.rpartition("@")[2]):
        return f"{key}: null can't be one of several values; run the jobs without it apart"
    wanted = list(value) if isinstance(value, list) else ["null" if value is None else value]
    wrong = next((each for each in wanted if each not in options), None)
    if wrong is None:
        return f"{key}: {one_line(error)}"
    meant = None if value is None else close_match(str(wrong), options)
    hint = f"did you mean {meant}? " if meant else ""
    return f"{key}: no option {wrong}; {hint}options: {listed}"


def _too_many(override: Override) -> str | None:
    """What to say of several options where a part of the run is one; None where that isn't so."""
    group, value = override.key_or_group, override.value()
    if not (isinstance(value, list) and len(value) > 1 and takes_one(override.package or group)):
        return None
    key = override.get_key_element().lstrip("+")
    texts = ",".join(map(str, value))
    return f"{key}: must be one option, got [{texts}]; a job for each is -m {key}={texts}"


def _several(text: str) -> str:
    key, _, value = text.partition("=")
    as_list = f"; a list is written {key}=[{value}]" if "," in value and "(" not in value else ""
    return f"{text}: several values need -m, a job for each{as_list}"


def _syntax(text: str, error: Exception) -> str:
    if "=" not in text and not text.startswith("~"):
        return f"{text}: must be key=value, got no equals sign"
    reason = next(iter(str(error).splitlines()), "").removeprefix("LexerNoViableAltException: ")
    key, _, value = text.partition("=")
    if value.count("[") != value.count("]") or value.count("{") != value.count("}"):
        return f"{text}: can't be read; a bracket is left open or closed twice"
    detail = "" if reason.startswith(text) else f" ({reason})"
    quoted = value.replace("'", "").replace('"', "")
    return f"""{text}: can't be read{detail}; quote what is special, as in "{key}='{quoted}'\""""


def _alternatives(override: Override) -> list[Override]:
    """The overrides that one with several values stands for."""
    if not override.is_sweep_override():
        return [override]
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        texts = [f"{key}={value.start}"]
    else:
        texts = [f"{key}={each}" for each in override.sweep_string_iterator()]
    return OverridesParser.create().parse_overrides(texts)


def _no_key(key: str, got: str, base: DictConfig, groups: list[str]) -> str:
    """What to say of a key that isn't there: what was probably meant, and what is."""
    parts = key.split(".")
    node: Any = base
    depth = 0
    while depth < len(parts) and isinstance(node, DictConfig) and parts[depth] in node:
        node, depth = node._get_node(parts[depth]), depth + 1
    parent = ".".join(parts[:depth])
    if not isinstance(node, DictConfig):
        count = "a list" if isinstance(node, ListConfig) else "one value"
        return f"{key}: no such key, got {got}; {parent} is {count}"
    found = {str(name) for name in node} | set(groups if depth == 0 else ())
    names = sorted(name for name in found - {"hydra", "_target_"} if "/" not in name)
    hint = _meant(parts, depth, names, base)
    plus = f"a new key needs a plus: +{key}={got}; " if _is_open(parent, node) else ""
    return f"{key}: no such key, got {got}; {hint}{plus}keys here: {', '.join(names) or 'none'}"


def _meant(parts: list[str], depth: int, names: list[str], base: DictConfig) -> str:
    close = close_match(parts[depth], names)
    if close is not None:
        return f"did you mean {'.'.join([*parts[:depth], close, *parts[depth + 1 :]])}? "
    same = [path for path in _paths(base) if path.rpartition(".")[2] == parts[-1]]
    return f"did you mean {' or '.join(same[:3])}? " if same else ""


def _paths(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key, node in config.items_ex(resolve=False):
        path = f"{prefix}{key!s}"
        if path == "hydra":
            continue
        yield path
        if isinstance(node, DictConfig):
            yield from _paths(node, f"{path}.")


def _is_open(parent: str, node: DictConfig) -> bool:
    """Whether the user may add keys: to collections, and to components of the user's own."""
    target = str(OmegaConf.select(node, "_target_", default="unitgain"))
    return parent in ("metrics", "logger", "callbacks.extra", "probe.extra") or not (
        target.startswith(("unitgain", "torch.nn")) or target == "auto"
    )
