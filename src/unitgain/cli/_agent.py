"""What ``wandb agent`` gives as arguments, in Hydra's words."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unitgain.errors import ConfigError

PARAMETERS = "WANDB_SWEEP_PARAM_PATH"
"""The environment variable that names the agent's file of parameters."""
_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_MEANS_MORE = ("true", "false", "null", "nan", "inf")


def from_agent(argv: Sequence[str]) -> list[str]:
    """The arguments, each parameter of a W&B sweep as Hydra reads its value.

    The agent writes ``key=value`` as Python prints the value, so that None, text with commas or lists of
    text would be read otherwise. It leaves the values themselves in a file.

    Args:
        argv: the arguments; without an agent they stay as they are.

    Raises:
        ConfigError: the agent's file can't be read.
    """
    path = os.environ.get(PARAMETERS)
    if not path:
        return list(argv)
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        values = {k: v["value"] for k, v in content.items() if isinstance(v, dict) and "value" in v}
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{PARAMETERS}: must name the parameters that wandb agent writes, but {path} can't be read; "
            "unset it to train without an agent"
        ) from error
    texts = {f"{key}={value}": f"{key}={hydra_text(value)}" for key, value in values.items()}
    return [texts.get(text, text) for text in argv]


def hydra_text(value: Any) -> str:
    r"""A value as Hydra's overrides write it.

    Example:
        >>> print(hydra_text([32, "two words", None, True]))
        [32,'two words',null,true]
        >>> print(hydra_text({"a": "it's"}))
        {a:'it\'s'}
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{','.join(map(hydra_text, value))}]"
        case dict():
            return "{" + ",".join(f"{k}:{hydra_text(v)}" for k, v in value.items()) + "}"
        case str() if not _WORD.fullmatch(value) or value.lower() in _MEANS_MORE:
            # Backslashes count only before a quote, there and at the end.
            text = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", value)
            tail = re.search(r"\\*$", text)
            return f"'{text}{tail[0] if tail else ''}'"
    return str(value)
