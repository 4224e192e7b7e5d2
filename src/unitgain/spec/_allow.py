"""Which dotted paths a configuration may name: the one place where that is decided.

A configuration can come from a colleague, a sweep server or a checkpoint of someone else's, and
whatever it names in ``_target_`` is called. So only what lies under these prefixes is: the
project, torch's layers and optimizers, torchmetrics, Lightning, and the prefixes that the user
gives in the environment variable ``UNITGAIN_ALLOW``, comma-separated:

    UNITGAIN_ALLOW=mypackage,myproject.models unitgain train activation._target_=mypackage.swish
"""

import os
from collections.abc import Iterator

SHIPPED = ("unitgain", "torch.nn", "torch.optim", "torchmetrics", "lightning")
VARIABLE = "UNITGAIN_ALLOW"


def allowed_prefixes() -> tuple[str, ...]:
    """The shipped prefixes and the user's own, as they are at the moment."""
    own = (prefix.strip().rstrip(".") for prefix in os.environ.get(VARIABLE, "").split(","))
    return (*SHIPPED, *(prefix for prefix in own if prefix))


def is_allowed(path: str) -> bool:
    """Whether a dotted path is an allowed prefix or lies under one.

    Example:
        >>> is_allowed("torch.nn.ReLU"), is_allowed("torch.load"), is_allowed("torch.nnx.ReLU")
        (True, False, False)
    """
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in allowed_prefixes())


def refusal(path: str) -> Iterator[tuple[str, str]]:
    """Why a path can't be a target, judged by its text alone: reason and remedy, or nothing."""
    parts = path.split(".")
    if not all(part.isidentifier() for part in parts):
        yield f"must be the dotted path of a callable, got {path!r}", "write it as package.name"
    elif any(part.startswith("_") for part in parts):
        yield f"must name public things alone, got {path}", "leave out parts that begin with _"
    elif not is_allowed(path):
        yield f"must lie under {', '.join(allowed_prefixes())}, got {path}", remedy(path)


def remedy(path: str) -> str:
    """How a user lets a path in that is trusted."""
    return f"if you trust it, set {VARIABLE}={path.split('.', maxsplit=1)[0]}"
