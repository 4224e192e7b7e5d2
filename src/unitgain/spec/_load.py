"""What a user names on the command line beside a configuration: in a module, or in a file."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from unitgain.errors import ConfigError, explained
from unitgain.spec._locate import locate


def load(target: str) -> Any:
    """What ``package.module:name`` or ``file.py:name`` means.

    A dotted path must be allowed, as in a configuration; a file that is named is run as ``python file.py`` would.

    Args:
        target: with a colon between the module or file and the name.

    Raises:
        ConfigError: it isn't allowed, can't be imported or isn't there.
    """
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        return _from_file(target, Path(place), name)
    try:
        return locate(f"{place}.{name}")
    except ConfigError as error:
        lines = (line.removeprefix("_target_: ") for line in error.lines)
        raise ConfigError(*(f"{target}: {line}" for line in lines)) from error


def _from_file(target: str, path: Path, name: str) -> Any:
    if not path.is_file():
        raise ConfigError(f"{target}: must name a file that exists, but there is no {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # So that the file finds its neighbours, and what it defines finds the file.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module
    with explained(target, str(path), "must be a file that can be run", "mend it"):
        spec.loader.exec_module(module)
    found = vars(module).get(name)
    if found is None:
        there = ", ".join(key for key in vars(module) if not key.startswith("_")) or "nothing"
        raise ConfigError(f"{target}: must name what {path} defines, but it defines {there}")
    return found
