"""From what Hydra refuses to one line an override: key, what it got, what is accepted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from unitgain.cli._conf import compose, plain
from unitgain.errors import ConfigError
from unitgain.spec import close_match, parse

REFUSALS = (HydraException, OmegaConfBaseException, ValueError)
"""What composing raises for a fault of the user's; Hydra throws bare ValueErrors at some of them."""


_ADVICE = ("See https", "Search path", "Config search path", "Check that", "provider=")


@contextmanager
def explained(
    hydra: Hydra, config_name: str, overrides: list[str], *, multirun: bool = False
) -> Iterator[None]:
    """Turn what composing refuses inside the block into one ConfigError with every fault.

    Raises:
        ConfigError: something was refused.
    """
    try:
        yield
    except REFUSALS as error:
        lines = Explainer(hydra, config_name, multirun).lines(overrides)
        raise ConfigError(*(lines or [one_line(error)])) from error


def check_one(hydra: Hydra, config_name: str, config: DictConfig, overrides: list[str]) -> None:
    """Look at the configuration of a single job, before anything is written.

    Raises:
        ConfigError: with each fault.
    """
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    if any(override.is_sweep_override() for override in parser.parse_overrides(overrides)):
        raise ConfigError(*Explainer(hydra, config_name).lines(overrides))
    with explained(hydra, config_name, overrides):
        parse(plain(config))


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
        lines: list[str] = []
        base = self._base(overrides, lines)
        if base is None:
            return lines
        found: dict[str, list[str]] = {}
        kept: list[str] = []
        bad_groups: set[str] = set()
        for override in _groups_first(self._parsed(overrides, lines), self._is_group):
            # The keys that a refused option would have brought can't be judged.
            if override.key_or_group.split(".")[0] in bad_groups:
                continue
            good, faults = self._try(override, kept, base)
            found.setdefault(str(override.input_line), []).extend(faults)
            if good is not None:
                kept.append(good)
            elif self._is_group(override):
                bad_groups.add(override.package or override.key_or_group)
        for text in dict.fromkeys(overrides):
            lines += found.get(text, [])
        return [*lines, *self._schema_faults(kept)]

    def _try(
        self, override: Override, kept: list[str], base: DictConfig
    ) -> tuple[str | None, list[str]]:
        """The override, or the first of its values that is accepted, and what is wrong with others."""
        text = str(override.input_line)
        if override.is_sweep_override() and not self.multirun:
            return None, [_several(text)]
        good, faults = None, []
        for alternative in _alternatives(override):
            error = self._refusal([*kept, alternative])
            if error is None:
                good = good or alternative
            else:
                faults.append(self._line(alternative, error, base))
        return good, faults

    def _base(self, overrides: list[str], lines: list[str]) -> DictConfig | None:
        """The configuration without the user's overrides, but with the user's folders."""
        folders = [text for text in overrides if text.startswith("hydra.searchpath=")]
        try:
            return compose(self.hydra, self.config_name, folders)
        except ConfigError as error:
            lines += error.lines
        except REFUSALS as error:
            lines.append(f"{self.config_name}.yaml: {one_line(error)}")
        return None

    def _parsed(self, overrides: list[str], lines: list[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.hydra.config_loader)
        parsed = []
        for text in overrides:
            try:
                parsed += parser.parse_overrides([text])
            except (OverrideParseException, HydraException) as error:
                lines.append(_syntax(text, error))
        return parsed

    def _refusal(self, overrides: list[str]) -> Exception | None:
        try:
            compose(self.hydra, self.config_name, overrides)
        except (*REFUSALS, ConfigError) as error:
            return error
        return None

    def _schema_faults(self, overrides: list[str]) -> list[str]:
        try:
            parse(plain(compose(self.hydra, self.config_name, overrides)))
        except ConfigError as error:
            return list(error.lines)
        except REFUSALS as error:
            return [one_line(error)]
        return []

    def _is_group(self, override: Override) -> bool:
        return bool(self._options(override.key_or_group))

    def _options(self, group: str) -> list[str]:
        loader = self.hydra.config_loader
        return (
            sorted(loader.get_group_options(group, ObjectType.CONFIG)) if "." not in group else []
        )

    def _line(self, text: str, error: Exception, base: DictConfig) -> str:
        if isinstance(error, ConfigError):
            return error.lines[0]
        override = OverridesParser.create().parse_overrides([text])[0]
        group, package = override.key_or_group, override.package
        key = f"{group}@{package}" if package else group
        if override.is_delete():
            return f"{key}: no such key or option in force, so ~ has nothing to take away"
        if override.is_add() and ("Multiple values" in str(error) or "already at" in str(error)):
            return f"{key}: is there already; leave out the plus: {text.lstrip('+')}"
        if options := self._options(group):
            return self._no_option(key, override.value(), options, str(error))
        return self._unknown(key, text, error, base)

    def _unknown(self, key: str, text: str, error: Exception, base: DictConfig) -> str:
        """What to say where neither a group nor a key has that name."""
        groups = list(self.hydra.list_all_config_groups())
        group, at, package = key.partition("@")
        if at:
            meant = close_match(group, groups)
            hint = f"; did you mean {meant}@{package}?" if meant else ""
            return f"{key}: no such group {group}{hint}"
        if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
            return _no_key(key, text.partition("=")[2] or "nothing", base, groups)
        return f"{key}: {_reason(error.__cause__ or error)}"

    def _no_option(self, key: str, value: Any, options: list[str], message: str) -> str:
        listed = ", ".join(options)
        if value is None:
            return f"{key}: no option null; leave it out with ~{key}, or choose one of {listed}"
        wanted = list(value) if isinstance(value, list) else [value]
        wrong = next((each for each in wanted if each not in options), None)
        if wrong is None:
            return f"{key}: {one_line(message)}"
        meant = close_match(str(wrong), options)
        hint = f"did you mean {meant}? " if meant else ""
        return f"{key}: no option {wrong}; {hint}options: {listed}"


def one_line(error: object) -> str:
    """What an error says, without line breaks, links and Hydra's advice; its key in front, if known."""
    key = error.full_key if isinstance(error, OmegaConfBaseException) else None
    return f"{key}: {_reason(error)}" if key else _reason(error)


def _reason(error: object) -> str:
    if isinstance(error, OmegaConfBaseException) and error.msg:
        return error.msg.splitlines()[0]
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(_ADVICE)]
    return " ".join(kept[:3])


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


def _groups_first(overrides: list[Override], is_group: Any) -> list[Override]:
    """Options before keys, because an option brings its keys along."""
    return sorted(overrides, key=lambda override: not is_group(override))


def _alternatives(override: Override) -> Iterator[str]:
    """The overrides that one with several values stands for."""
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        yield str(override.input_line)
        return
    for value in override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"


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
