"""What a member's checkpoint holds: plain types, and tensors in torch.nn's shapes."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unitgain import __version__
from unitgain.data import earlier_run
from unitgain.errors import CheckpointError
from unitgain.pack.engine import Pack
from unitgain.runs import read_sealed
from unitgain.spec import RunSpec, run_hash

FORMAT = 1


def pack_member(pack: Pack, k: int, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """The checkpoint of member ``k`` as the bytes of ``torch.save``.

    ``torch.load`` reads it with ``weights_only=True``. Its ``state_dict`` loads into ``pack.mlp.unpack(k)``, an
    ordinary Sequential; ``optimizer`` holds the optimizer's tensors under the same names.

    Args:
        pack: whose member it is.
        k: which.
        state: as ``Pack.state`` gives; without the optimizer's and the probe's tensors for a checkpoint that is only
            evaluated.
        facts: plain values that go along: epoch, step, ...
    """
    optimizer = {
        name: pack.mlp.layout.member(state[f"optimizer.{name}"], k)
        for name in pack.optimizer.state
        if f"optimizer.{name}" in state
    }
    probe = {
        name: state[f"probe.{name}"][k].clone()
        for name in pack.probing.tensors()
        if f"probe.{name}" in state
    }
    content = {
        "format": FORMAT,
        "unitgain": __version__,
        "state_dict": pack.mlp.member_state(k, state),
        "optimizer": optimizer,
        "probe": probe,
        **facts,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpack_member(payload: bytes, path: Path) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        CheckpointError: it was written by another format.
    """
    content: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: must be a checkpoint of format {FORMAT}, got {content.get('format')}; "
            f"read it with unitgain {content.get('unitgain')}"
        )
    return content


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file.

    Raises:
        CheckpointError: the file is missing, damaged or of another format.
    """
    return unpack_member(read_sealed(path), path)


def check_belongs(content: Mapping[str, Any], spec: RunSpec, path: Path) -> None:
    """Refuse a checkpoint that another configuration wrote, or that began from weights which have changed.

    Raises:
        ConfigError: it began from a run that is no longer where it was.
        CheckpointError: so it is.
    """
    if content["config_hash"] != run_hash(spec.resolved()):
        raise CheckpointError(
            f"{path}: must be a checkpoint of this configuration, but config.yaml has changed since; "
            "restore config.yaml or train anew"
        )
    before = content.get("warm_start")
    if before is not None and before != origin_of(spec):
        raise CheckpointError(
            f"warm_start: must be the run that {path} began from, but the best checkpoint of "
            f"{spec.warm_start} is another one now; restore it or train anew"
        )


def origin_of(spec: RunSpec) -> dict[str, str] | None:
    """The run that a warm-started one begins from, and the sha256 of its best checkpoint; None without.

    Raises:
        ConfigError: there is no such run.
        CheckpointError: it has no best checkpoint.
    """
    if spec.warm_start is None:
        return None
    path = earlier_run(spec.warm_start).best_checkpoint
    if not path.is_file():
        raise CheckpointError(
            f"warm_start: must be a run with a best checkpoint, but {path} is missing; finish that run first"
        )
    return {"run": spec.warm_start, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def restore_member(pack: Pack, k: int, content: Mapping[str, Any]) -> None:
    """Put a checkpoint's tensors back into member ``k``."""
    pack.mlp.load_member_state(k, content["state_dict"])
    for name, block in pack.optimizer.state.items():
        pack.mlp.layout.load_member(block, k, content["optimizer"][name])
    for name, block in pack.probing.tensors().items():
        block[k].copy_(content["probe"][name])
