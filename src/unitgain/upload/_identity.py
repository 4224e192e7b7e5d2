"""Which W&B run a run directory is: wandb.json, which holds what has been uploaded too."""

import configparser
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from unitgain.errors import ConfigError, DataError
from unitgain.runs import RunDirectory, atomic_write

TARGET = "unitgain.train.loggers.wandb"
DEFAULTS: dict[str, Any] = {
    "project": "unitgain",
    "entity": None,
    "group": None,
    "job_type": "train",
    "quantities": ["grad_preactivation", "grad_weight"],
    "checkpoints": False,
}
"""Of the logger, for runs that were trained without it."""
_CLOUD = "https://api.wandb.ai"
_IN_SWEEP = re.compile(r"[0-9a-f]{12}")


@final
@dataclass(frozen=True)
class Identity:
    """A run directory's run at W&B.

    Args:
        id: of the W&B run, the same for as long as the directory lives.
        project: where it belongs.
        entity: the user or team; None is the default one.
        sweep: of W&B that asked for the run.
        url: of the run's page, once there is one.
        uploaded: a hash of the files as they were when all of them had arrived.
        figures: hashes of those that have arrived, by name.
    """

    id: str
    project: str
    entity: str | None = None
    sweep: str | None = None
    url: str | None = None
    uploaded: str | None = None
    figures: Mapping[str, str] = field(default_factory=dict)

    def save(self, directory: Path, *, durable: bool = True) -> None:
        """Write wandb.json.

        Args:
            directory: of the run.
            durable: as in `atomic_write`.
        """
        content = json.dumps(asdict(self), indent=2).encode() + b"\n"
        atomic_write(directory / "wandb.json", content, durable=durable)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The logger's arguments in a run's configuration, or what they are by default."""
    nodes = (config.get("logger") or {}).values()
    node: Mapping[str, Any] = next((each for each in nodes if each.get("_target_") == TARGET), {})
    return DEFAULTS | {key: node[key] for key in DEFAULTS if key in node}


def group_of(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """The group that is asked for; of a job of a multirun, which is named by its hash, the multirun."""
    if settings["group"] is not None or not _IN_SWEEP.fullmatch(directory.name):
        group: str | None = settings["group"]
        return group
    return directory.resolve().parent.name


def identify(
    directory: Path,
    config: Mapping[str, Any] | None = None,
    project: str | None = None,
    entity: str | None = None,
) -> Identity:
    """Who the run is at W&B: as wandb.json says, which is written where there is none yet.

    A run that ``wandb agent`` asked for is the one that it means.

    Args:
        directory: of the run.
        config: resolved, as in config.yaml, which is read without it.
        project: in the place of the configuration's, for a run that has not been uploaded.
        entity: likewise.

    Raises:
        DataError: wandb.json or config.yaml can't be read.
    """
    path = directory / "wandb.json"
    before = _read(path) if path.exists() else None
    known = before or _new(directory, config or RunDirectory(directory).read_config())
    if known.url is None:
        known = replace(known, project=project or known.project, entity=entity or known.entity)
    if known != before:
        known.save(directory, durable=False)
    return known


def _new(directory: Path, config: Mapping[str, Any]) -> Identity:
    settings = settings_of(config)
    project, entity = settings["project"], settings["entity"]
    sweep = os.environ.get("WANDB_SWEEP_ID")
    if sweep and (run := os.environ.get("WANDB_RUN_ID")):
        project = os.environ.get("WANDB_PROJECT") or project
        return Identity(run, project, os.environ.get("WANDB_ENTITY") or entity, sweep)
    found = re.search(r"[0-9a-f]{12}$", directory.resolve().name)
    name = found[0] if found else secrets.token_hex(6)
    return Identity(f"{name}-{secrets.token_hex(3)}", project, entity)


def _read(path: Path) -> Identity:
    try:
        content = json.loads(path.read_bytes())
        return Identity(**{each.name: content[each.name] for each in fields(Identity)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"wandb.json must say which W&B run a directory is: {path} can't be read; remove it and the run "
            "is uploaded as a new one"
        ) from error


def members_of(directory: Path) -> list[Path]:
    """The runs in a multirun's folder; none for a run."""
    return (
        []
        if (directory / "config.yaml").exists()
        else sorted(path.parent for path in directory.glob("*/config.yaml"))
    )


def state_of(directory: Path) -> str:
    """A hash of what is uploaded of a run or of a multirun: it changes as the run grows."""
    if members := members_of(directory):
        states = "".join(f"{member.name} {state_of(member)}\n" for member in members)
        return hashlib.sha256(states.encode()).hexdigest()[:16]
    run, digest = RunDirectory(directory), hashlib.sha256()
    figures = sorted(run.figures_dir.glob("*.png"))
    for path in (run.config, run.overrides, run.metrics, run.gradients, run.summary, *figures):
        digest.update(path.name.encode() + b"\0")
        digest.update(path.read_bytes() if path.exists() else b"-")
    return digest.hexdigest()[:16]


def is_uploaded(directory: Path) -> bool:
    """Whether W&B has all that the directory holds, without asking the server.

    Raises:
        DataError: wandb.json can't be read.
    """
    path = directory / "wandb.json"
    return path.exists() and _read(path).uploaded == state_of(directory)


def server() -> tuple[str, bool]:
    """W&B's address, and whether a key for it is there, in the environment or in netrc; it isn't asked."""
    url = os.environ.get("WANDB_BASE_URL") or _configured() or _CLOUD
    if os.environ.get("WANDB_API_KEY"):
        return url, True
    try:
        known = netrc(os.environ.get("NETRC")).authenticators(urlsplit(url).hostname or "")
    except (OSError, NetrcParseError):
        known = None
    return url, known is not None


def wandb_mode(mode: str) -> str:
    """``online``, ``offline`` or ``disabled``; "auto" follows WANDB_MODE, else a key's being there.

    Args:
        mode: the logger's argument.
    """
    if mode != "auto":
        return mode
    known = os.environ.get("WANDB_MODE")
    if known in ("online", "offline", "disabled"):
        return known
    return "online" if server()[1] else "offline"


def wants_upload(config: Mapping[str, Any]) -> bool:
    """Whether a run of this configuration is uploaded while it trains."""
    nodes = (config.get("logger") or {}).values()
    return any(
        n.get("_target_") == TARGET and wandb_mode(n.get("mode", "auto")) == "online" for n in nodes
    )


def _configured() -> str | None:
    """The address in the settings that ``wandb login --host`` writes."""
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    parser = configparser.ConfigParser()
    try:
        parser.read([Path(folder).expanduser() / "settings", Path("wandb/settings")])
    except (OSError, configparser.Error, UnicodeDecodeError, RuntimeError):
        return None
    return parser.get("default", "base_url", fallback=None)


def must_be_logged_in() -> None:
    """Refuse to go on without a key.

    Raises:
        ConfigError: there is none.
    """
    url, known = server()
    if not known:
        raise ConfigError(
            f"W&B: needs a key for {url}, and there is none; run wandb login, or set WANDB_API_KEY"
        )
