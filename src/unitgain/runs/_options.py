"""Resolved configurations as the keys and values that a user would type on the command line."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Scalar = str | int | float | bool | None

# Where the name of an option isn't the snake case of its target's last part.
_NAMES = {
    "torch.nn.ELU": "elu",
    "torch.nn.GELU": "gelu",
    "torch.nn.Identity": "identity",
    "torch.nn.LeakyReLU": "leaky_relu",
    "torch.nn.ReLU": "relu",
    "torch.nn.SELU": "selu",
    "torch.nn.Sigmoid": "sigmoid",
    "torch.nn.SiLU": "silu",
    "torch.nn.Softplus": "softplus",
    "torch.nn.Tanh": "tanh",
    "unitgain.data.shifts.NoShift": "none",
    "unitgain.nn.BatchNorm": "batch",
    "unitgain.nn.LayerNorm": "layer",
    "unitgain.nn.RMSNorm": "rms",
    "unitgain.nn.init.bias_constant": "constant",
    "unitgain.nn.init.bias_normal": "normal",
    "unitgain.nn.init.bias_uniform": "uniform",
    "unitgain.nn.init.bias_zeros": "zeros",
    "unitgain.pack.optim.AdamW": "adamw",
    "unitgain.pack.optim.RMSprop": "rmsprop",
    "unitgain.shift.RuLSIF": "rulsif",
    "unitgain.shift.Uniform": "none",
}
_NOTHING = {"norm": "none", "dropout": "none"}
"""What the identity is called where it is no activation."""
_LEFT_OUT = {"bias_init": "from_init"}
"""What stands for an option that is null."""
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def option_name(group: str, target: str) -> str:
    """The option of a group that a ``_target_`` is; a target of one's own is its dotted path.

    Example:
        >>> option_name("init", "unitgain.nn.init.he"), option_name("shift", "unitgain.data.shifts.PCATilt")
        ('he', 'pca_tilt')
        >>> option_name("norm", "torch.nn.Identity"), option_name("init", "mine.he")
        ('none', 'mine.he')
    """
    if target == "torch.nn.Identity" and group in _NOTHING:
        return _NOTHING[group]
    if target in _NAMES:
        return _NAMES[target]
    if not target.startswith("unitgain."):
        return target
    return _CAPITAL.sub("_", target.rpartition(".")[2]).lower()


def flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    """Dotted keys and plain values: an option's name for its ``_target_``, a text for a list.

    Example:
        >>> dict(flat({"seed": 0, "init": {"_target_": "unitgain.nn.init.he", "mode": "fan_in"}}))
        {'seed': 0, 'init': 'he', 'init.mode': 'fan_in'}
        >>> dict(flat({"split": {"fractions": [0.6, 0.2, 0.2]}, "bias_init": None, "metrics": {}}))
        {'split.fractions': '[0.6,0.2,0.2]', 'bias_init': 'from_init'}
    """
    for key, value in config.items():
        yield from _flat(str(key), value)


def _flat(key: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "_target_":
                yield key, option_name(key, str(item))
            else:
                yield from _flat(f"{key}.{name}", item)
    elif value is None:
        yield key, _LEFT_OUT.get(key)
    elif isinstance(value, str | int | float):
        yield key, value
    else:
        yield key, typed(value)


def typed(value: Any) -> str:
    """A value as one types it.

    Example:
        >>> typed([1e-05, True, None, "a"])
        '[1e-05,true,null,a]'
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(typed(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{typed(item)}' for name, item in value.items())}}}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
