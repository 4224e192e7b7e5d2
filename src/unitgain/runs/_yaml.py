"""YAML in which every number reads back as the number it was, here and in OmegaConf."""

import re
from functools import cache
from typing import Any

# YAML 1.1 takes 1e-3 for a text, OmegaConf for a number: with its rule on both sides of the file, a
# text that looks like a number is quoted, and a number that was typed in by hand is one.
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
         |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
         |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
         |[-+]?\.(?:inf|Inf|INF)
         |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


def to_yaml(content: Any) -> bytes:
    r"""Plain mappings, lists and scalars as YAML, in the order they come.

    Example:
        >>> to_yaml({"lr": 1e-05, "name": "1e-5"})
        b"lr: 1.0e-05\nname: '1e-5'\n"
    """
    if isinstance(content, dict) and content:
        # Runs of one sweep differ in a few keys: the text of the others is there already.
        return b"".join(_entry(repr(entry), *entry) for entry in content.items())
    return _dump(content)


def _entry(identity: str, key: Any, value: Any) -> bytes:
    """One entry of a mapping, from the cache where an equal one was written before."""
    if identity not in _ENTRIES:
        if len(_ENTRIES) >= _MOST_ENTRIES:
            _ENTRIES.clear()
        _ENTRIES[identity] = _dump({key: value})
    return _ENTRIES[identity]


_ENTRIES: dict[str, bytes] = {}
_MOST_ENTRIES = 4096


def _dump(content: Any) -> bytes:
    import yaml

    dumper, _ = _classes()
    text: str = yaml.dump(
        content, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text.encode()


def from_yaml(data: bytes) -> Any:
    """The content of a YAML file.

    Raises:
        ValueError: ``data`` isn't YAML.

    Example:
        >>> from_yaml(b"lr: 1e-5")
        {'lr': 1e-05}
    """
    import yaml

    _, loader = _classes()
    try:
        return yaml.load(data, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


@cache
def _classes() -> tuple[Any, Any]:
    """The writer and the reader: in C where PyYAML was built so, which is ten times as fast."""
    import yaml

    class Dumper(yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper):  # type: ignore[misc]
        """A safe dumper with the rule for numbers above."""

        def ignore_aliases(self, _data: Any) -> bool:
            """A value that occurs twice is written twice: configurations are for people."""
            return True

    class Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
        """A safe loader with the rule for numbers above."""

    for kind in (Dumper, Loader):
        kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    return Dumper, Loader
