"""What a member's checkpoint holds: plain types, and tensors in torch.nn's shapes."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unitgain import __version__
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
    """Refuse a checkpoint that another configuration wrote.

    Raises:
        CheckpointError: so it is.
    """
    if content["config_hash"] != run_hash(spec.resolved()):
        raise CheckpointError(
            f"{path}: must be a checkpoint of this configuration, but config.yaml has changed since; "
            "restore config.yaml or train anew"
        )


def restore_member(pack: Pack, k: int, content: Mapping[str, Any]) -> None:
    """Put a checkpoint's tensors back into member ``k``."""
    pack.mlp.load_member_state(k, content["state_dict"])
    for name, block in pack.optimizer.state.items():
        pack.mlp.layout.load_member(block, k, content["optimizer"][name])
    for name, block in pack.probing.tensors().items():
        block[k].copy_(content["probe"][name])
