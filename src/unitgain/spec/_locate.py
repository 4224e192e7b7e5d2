"""From a dotted path to the object, and from a node to what its target gives: all of it, here."""

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import BuiltinFunctionType, ModuleType
from typing import Any

from unitgain.errors import ConfigError, UnitgainError
from unitgain.spec._allow import allowed_prefixes, is_allowed, refusal, remedy
from unitgain.spec._base import Component, Custom
from unitgain.spec._faults import close_match, join

_TORCH_OPERATORS = ("torch", "torch._C._nn")
"""What torch.nn.functional's operators that are written in C give as the module they are from."""


def locate(path: str) -> Any:
    """The public callable that a dotted path names, if the configuration may use it.

    It may when both the path and the module that defines what is found there are allowed: a path
    to ``os.system`` through a module that happens to import ``os`` isn't.

    Args:
        path: ``package.module.name``, under an allowed prefix.

    Raises:
        ConfigError: the path isn't allowed, leads nowhere, or to something that isn't callable.

    Example:
        >>> locate("unitgain.spec.parse").__name__
        'parse'
        >>> locate("torch.load")
        Traceback (most recent call last):
        unitgain.errors.ConfigError: _target_: must lie under unitgain, torch.nn, torch.optim, ...
    """
    return _locate(path, "")


def instantiate(
    node: Component | Mapping[str, Any], *, _key_: str = "", _partial_: bool = False, **extra: Any
) -> Any:
    """Call the target of a node with the node's arguments; nested nodes first.

    Args:
        node: a component, or a mapping with ``_target_`` and keyword arguments. With
            ``_partial_: true`` the result is the target with its arguments bound.
        _key_: the node's dotted key, for errors.
        _partial_: the same as ``_partial_: true`` in the node.
        extra: arguments that the program gives beside the configuration's.

    Raises:
        ConfigError: the target isn't allowed or can't be found, takes no such argument, lacks one,
            or refuses a value.

    Example:
        >>> instantiate({"_target_": "unitgain.spec.parse", "config": {"seed": 3}}).seed
        3
    """
    target_path, arguments, partial = _read(node, _key_)
    target = _locate(target_path, _key_)
    values = {name: _nested(value, join(_key_, name)) for name, value in arguments.items()}
    lines = [
        f"{join(_key_, name)}: is given by the program itself; leave it out"
        for name in values
        if name in extra
    ]
    partial = partial or _partial_
    lines += _argument_faults(target, target_path, {**extra, **values}, partial, _key_)
    if lines:
        raise ConfigError(*lines)
    if partial:
        return functools.partial(target, **extra, **values)
    return _call(target, target_path, {**extra, **values}, _key_)


def _read(node: Component | Mapping[str, Any], key: str) -> tuple[str, dict[str, Any], bool]:
    """Target, arguments and whether they are to be bound alone."""
    if isinstance(node, Component):
        return node.target, node.arguments(), isinstance(node, Custom) and node.partial
    target = node.get("_target_")
    if not isinstance(target, str):
        raise ConfigError(
            f"{join(key, '_target_')}: must be the dotted path of a callable, got {target!r}"
        )
    arguments = {name: value for name, value in node.items() if name not in _RESERVED}
    return target, arguments, bool(node.get("_partial_", False))


_RESERVED = ("_target_", "_partial_")


def _nested(value: Any, key: str) -> Any:
    if isinstance(value, Component) or (isinstance(value, Mapping) and "_target_" in value):
        return instantiate(value, _key_=key)
    if isinstance(value, Mapping):
        return {name: _nested(item, join(key, str(name))) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(item, f"{key}.{index}") for index, item in enumerate(value)]
    return value


def _call(target: Callable[..., Any], path: str, arguments: dict[str, Any], key: str) -> Any:
    try:
        return target(**arguments)
    except UnitgainError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{key or '_target_'}: {path} refuses its arguments {arguments}: {error}"
        ) from error


def _argument_faults(
    target: Callable[..., Any], path: str, given: dict[str, Any], partial: bool, key: str
) -> list[str]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = inspect.Parameter
    if any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters):
        names = set(given)
    else:
        names = {
            p.name
            for p in parameters
            if p.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        }
    accepted = ", ".join(sorted(names)) or "no arguments"
    lines = []
    for name in given:
        if name not in names:
            meant = close_match(name, names)
            hint = f"did you mean {meant}? " if meant else ""
            lines.append(f"{join(key, name)}: no argument of {path}; {hint}it takes {accepted}")
    required = [
        p.name
        for p in parameters
        if p.default is kinds.empty and p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    ]
    if not partial:
        missing = [name for name in required if name not in given]
        lines += [f"{join(key, name)}: is required by {path}, got nothing" for name in missing]
    return lines


def _locate(path: str, key: str) -> Any:
    target_key = join(key, "_target_")
    for reason, way_out in refusal(path):
        raise ConfigError(f"{target_key}: {reason}; {way_out}")
    found = _walk(path, target_key)
    home = _defining_module(found)
    if not is_allowed(home) and not _is_torch_operator(path, found, home):
        raise ConfigError(
            f"{target_key}: must be defined under {', '.join(allowed_prefixes())}, but {path} is "
            f"from {home}; {remedy(home)}"
        )
    if not callable(found) or isinstance(found, ModuleType):
        raise ConfigError(f"{target_key}: must be a callable, but {path} is {_kind(found)}")
    return found


def _walk(path: str, key: str) -> Any:
    """Follow a dotted path through modules, each under its own name or allowed, to one name at its end.

    Methods are no targets: called with a ``self`` from the configuration, they get past what their
    class is there to keep.
    """
    parts = path.split(".")
    found: Any = _import(parts[0], path, key)
    for count in range(2, len(parts) + 1):
        so_far, name = ".".join(parts[:count]), parts[count - 1]
        if not isinstance(found, ModuleType):
            owner = so_far.rpartition(".")[0]
            raise ConfigError(
                f"{key}: must name a class or a function of a module, but in {path} the part {owner} "
                f"is {_kind(found)}; write a function that calls it"
            )
        following = getattr(found, name, None)
        if following is None:
            following = _submodule(found, so_far, path, key)
        if isinstance(following, ModuleType) and not _is_own(following, so_far):
            raise ConfigError(
                f"{key}: must lead through modules under {', '.join(allowed_prefixes())}, but in "
                f"{path} the part {so_far} is the module {following.__name__}"
            )
        found = following
    return found


def _is_own(module: ModuleType, path: str) -> bool:
    return module.__name__ == path or is_allowed(module.__name__)


def _submodule(package: ModuleType, name: str, path: str, key: str) -> Any:
    try:
        return _import(name, path, key)
    except _MissingError:
        raise _nowhere(package, name.rpartition(".")[2], path, key) from None


class _MissingError(ConfigError):
    """The module that was asked for isn't there at all."""


def _import(module: str, path: str, key: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise _MissingError(
                f"{key}: needs the module {missing} for {path}, which can't be found; install it, "
                "or put its folder on PYTHONPATH"
            ) from error
        raise ConfigError(f"{key}: {module} can't be imported for {path}: {error}") from error
    except UnitgainError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{key}: {module} can't be imported for {path}: {reason}") from error


def _nowhere(owner: ModuleType, name: str, path: str, key: str) -> ConfigError:
    public = [each for each in dir(owner) if not each.startswith("_")]
    meant = close_match(name, public)
    parent = path.split(f".{name}", maxsplit=1)[0]
    hint = f"; did you mean {parent}.{meant}?" if meant else ""
    return ConfigError(f"{key}: must name something that exists, but {parent} has no {name}{hint}")


def _defining_module(found: Any) -> str:
    if isinstance(found, ModuleType):
        return found.__name__
    home = getattr(found, "__module__", None)
    return home if isinstance(home, str) else type(found).__module__


def _is_torch_operator(path: str, found: Any, home: str) -> bool:
    parent = path.rpartition(".")[0]
    return (
        parent == "torch.nn.functional"
        and isinstance(found, BuiltinFunctionType)
        and home in _TORCH_OPERATORS
    )


def _kind(found: Any) -> str:
    return "a module" if isinstance(found, ModuleType) else f"a {type(found).__name__}"
