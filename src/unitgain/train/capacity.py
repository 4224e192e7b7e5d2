"""How many members of a pack a GPU's memory holds, found by a short trial."""

from collections.abc import Callable

import torch

from unitgain.data import open_data
from unitgain.pack.build import build_mlp, build_pack
from unitgain.spec import RunSpec
from unitgain.train.scores import Scores

_FEW, _MANY = 8, 32
_STEPS = 2


def members_that_fit(spec: RunSpec, share: float) -> int:
    """The largest pack of such runs whose training stays within a share of the free memory of the present GPU.

    Args:
        spec: of any of the runs.
        share: of the memory that is free now.
    """
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()

    def peak(members: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        trial(spec, members, torch.device("cuda"))
        return torch.cuda.max_memory_allocated() - before

    return members_within(share * free, peak)


def members_within(budget: float, peak: Callable[[int], float]) -> int:
    """The most members whose peak stays within a budget: the straight line through the peaks of two small packs.

    Args:
        budget: bytes.
        peak: the bytes that so many members take; one that runs out of memory raises ``torch.OutOfMemoryError``.

    Example:
        >>> members_within(1000.0, lambda members: 200 + 4 * members)
        200
    """
    try:
        few, many = peak(_FEW), peak(_MANY)
    except torch.OutOfMemoryError:
        return _FEW
    each = max((many - few) / (_MANY - _FEW), 1.0)
    return max(int(_FEW + (budget - few) / each), 1)


def trial(spec: RunSpec, members: int, device: torch.device) -> None:
    """Do with so many copies of a run, for a few steps, what takes memory in training: a measured step among them."""
    specs = [spec] * members
    tables = [open_data(spec)] * members
    mlp = build_mlp(specs, tables, fill=False).to(device)
    pack = build_pack(specs, tables, mlp, device, fresh=False)
    steps = iter(range(_STEPS))
    # What a fit keeps beside the pack: the epoch's start, the best epoch, and copies on their way to the host.
    kept = [pack.state(), pack.state()]
    pack.train_epoch(0, stop=lambda: next(steps, None) is None)
    scores = Scores(spec)
    for part in ("train", "val"):
        scores.of(pack, part)
    kept.clear()
