"""Random streams keyed by what they are for: the same numbers in any pack, on any device, after any interruption."""

import hashlib

import torch


def stream(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one member, e.g. ``stream(seed, "order", epoch)``.

    Example:
        >>> stream(0, "init", 1) == stream(0, "init", 1), stream(0, "init", 1) == stream(1, "init", 1)
        (True, False)
    """
    text = "/".join(map(str, (seed, *purpose))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream."""
    return torch.Generator().manual_seed(stream(seed, *purpose))
