"""Packs on a GPU: time, share of what the device can do, memory, and equality with runs alone.

Shapes: K members, B examples.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.baselines import in_memory, synchronize, template
from benchmarks.measure import interleaved, ratio
from benchmarks.work import OFF, Work, pack_of
from unitgain.pack.engine import Pack
from unitgain.train.fit import process_settings

TITLE = "Time of a member's step on a GPU, depth 10, width 64, batch 128, Adam: one run at a time / packed"
WORK = Work(10, 64, 128, "adam")
MEMBERS = (1, 8, 64, 512, 4096)
ROUNDS = 5
EPOCHS = 8
"""Epochs that a pack is timed for."""
SINGLE_EPOCHS = 20
"""Epochs that a single run is timed for."""
MATRIX = 8192
"""Rows and columns of the product that tells the device's arithmetic."""
COPIED = 2**30
"""Bytes of the copy that tells its memory."""
COMPARED = 64
"""Members of the pack that is compared with runs alone, at ``ALONE`` of them."""
ALONE = (0, 1, 31, 63)
FLOAT = 4
# Full batches alone, so that every step has the same arithmetic.
FULL = {"_target_": "unitgain.data.sources.digits", "batch_size": WORK.batch, "drop_last": True}


def run() -> dict[str, Any]:
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks: gpu needs a CUDA device, and none is here")
    return measured(torch.device("cuda"))


def measured(device: torch.device) -> dict[str, Any]:
    """Everything, on any device."""
    [spec] = WORK.specs(1, accelerator="cpu")
    with process_settings(spec):
        ceilings = device_ceilings(device)
        single = single_runs(device)
        torch.use_deterministic_algorithms(True)  # As in a fit.
        packs = {str(members): of_pack(device, members, ceilings) for members in MEMBERS}
        same = equality(device)
    for row in packs.values():
        each = row["microseconds_a_member_step"]
        row["eager/pack"] = round(single["eager"] / each, 1)
        row["template/pack"] = round(single["template"] / each, 1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "bar": "none",
        "device": name,
        "ceilings": {key: round(value, 1) for key, value in ceilings.items()},
        "microseconds_a_step_of_a_single_run": single,
        "K": packs,
        "equality": same,
    }


def device_ceilings(device: torch.device) -> dict[str, float]:
    """GFLOP/s of a large float32 product, without TF32, and GB/s of a large copy, read and written."""
    a, b = (torch.randn(MATRIX, MATRIX, device=device) for _ in range(2))
    source = torch.zeros(COPIED // FLOAT, device=device)
    target, product = torch.empty_like(source), torch.empty_like(a)
    seconds = interleaved(
        {
            "product": lambda: synchronized(device, lambda: torch.mm(a, b, out=product)),
            "copy": lambda: synchronized(device, lambda: target.copy_(source)),
        },
        ROUNDS,
    )
    return {
        "fp32_gflops": 2 * MATRIX**3 / min(seconds["product"]) / 1e9,
        "copy_gbytes_a_second": 2 * COPIED / min(seconds["copy"]) / 1e9,
    }


def synchronized(device: torch.device, function: Callable[[], object]) -> float:
    """Seconds until the device is done."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def single_runs(device: torch.device) -> dict[str, float]:
    """Microseconds of a step of the raw eager loop and of the template, what each begins with left out."""

    def more(function: Callable[[Work, int, torch.device], float]) -> float:
        return function(WORK, 1 + SINGLE_EPOCHS, device) - function(WORK, 1, device)

    seconds = interleaved(
        {"eager": partial(more, in_memory), "template": partial(more, template)}, ROUNDS
    )
    steps = SINGLE_EPOCHS * len(WORK.batches())
    return {name: round(statistics.median(s) / steps * 1e6, 1) for name, s in seconds.items()}


def of_pack(device: torch.device, members: int, ceilings: dict[str, float]) -> dict[str, Any]:
    """One K: with the probe off, what a step takes of the device, and what the probe adds."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    pack = WORK.pack(members, device, EPOCHS, probe=OFF, data=FULL)
    timed = {
        "epoch": lambda: synchronized(device, partial(train, pack)),
        "orders": lambda: synchronized(device, partial(orders, pack)),
    }
    seconds = interleaved(timed, ROUNDS)
    row: dict[str, Any] = {}
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) - before
        row["peak_bytes_a_member"] = round(peak / members)
        row["peak/arithmetic"] = round(peak / members / bytes_kept(), 3)
    probed = WORK.pack(members, device, EPOCHS, data=FULL)
    with_probe = interleaved(
        {
            "with": lambda: synchronized(device, partial(train, probed)),
            "without": lambda: synchronized(device, partial(train, pack)),
        },
        ROUNDS,
    )
    steps = EPOCHS * pack.steps_per_epoch
    step = statistics.median(seconds["epoch"]) / steps
    return {
        "microseconds_a_step": round(step * 1e6, 1),
        "microseconds_a_member_step": round(step / members * 1e6, 3),
        "share_of_fp32": round(flops() * members / step / 1e9 / ceilings["fp32_gflops"], 4),
        "share_of_bandwidth": round(
            bytes_moved() * members / step / 1e9 / ceilings["copy_gbytes_a_second"], 4
        ),
        "share_of_ordering_rows": ratio(seconds["orders"], seconds["epoch"]),
        "with_default_probe": ratio(with_probe["with"], with_probe["without"]),
        **row,
    }


def train(pack: Pack) -> None:
    """Some epochs."""
    for epoch in range(EPOCHS):
        pack.train_epoch(epoch)


def orders(pack: Pack) -> None:
    """Every member's order through its rows, for as many epochs, which the host draws."""
    for epoch in range(EPOCHS):
        pack.data.epoch(epoch)


def flops() -> int:
    """Floating-point operations of a member's step in matrix products: three a layer, but for the input's gradient."""
    products = [2 * WORK.batch * fan_in * fan_out for fan_in, fan_out in WORK.layers]
    return 3 * sum(products) - products[0]


def bytes_moved() -> int:
    """Bytes that a member's step moves at least, if nothing stays in caches between kernels.

    Of each matrix product its two factors and its result; of each activation, forward and backward, what is read and
    written; of the optimizer parameters, gradient and state read, parameters and state written.
    """
    numbers = 0
    for i, (fan_in, fan_out) in enumerate(WORK.layers):
        product = WORK.batch * fan_in + fan_in * fan_out + WORK.batch * fan_out
        numbers += (3 if i else 2) * product
    numbers += 5 * WORK.batch * WORK.width * WORK.depth
    numbers += WORK.parameters * (3 + 2 * WORK.states)
    return FLOAT * numbers


def bytes_kept() -> int:
    """Bytes of a member: parameters, the optimizer's state, and a step's activations."""
    return FLOAT * (WORK.parameters * (1 + WORK.states) + WORK.activations)


def equality(device: torch.device) -> dict[str, Any]:
    """Members of a pack against the same runs alone, after some epochs: how many bitwise, and how far apart."""
    specs = WORK.specs(COMPARED, EPOCHS)
    together = pack_of(specs, device)
    train(together)
    bitwise, largest = 0, 0.0
    for k in ALONE:
        alone = pack_of([specs[k]], device)
        train(alone)
        mine, its = together.mlp.member_state(k), alone.mlp.member_state(0)
        bitwise += all(torch.equal(mine[name], its[name]) for name in mine)
        largest = max([largest, *(float((mine[n] - its[n]).abs().max()) for n in mine)])
    return {"members": len(ALONE), "bitwise": bitwise, "largest_difference": largest}
