"""Which jobs train together: packs of one shape, cut to what the machine holds, the longest first."""

import heapq
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from unitgain.data import Table, open_data, prepared_key
from unitgain.pack.shape import signature
from unitgain.pack.size import Cost, member_cost, members_on_cpu
from unitgain.spec import RunSpec
from unitgain.spec._shift import UniformNode
from unitgain.sweep.job import Ending, Job, Start

LEAST_MEMBERS = 8
"""Below this a pack isn't cut only to keep all workers busy: it would gain less than it loses."""
EFFICIENCY = 0.4
"""The share of a plain matrix product's speed that a training step of small matrices reaches."""
SECONDS_A_RUN = 0.015
"""What a run's files and its share of beginning and ending a pack take."""


class TableShape(NamedTuple):
    """What a pack must know of a table: features, outputs, and the rows of each part."""

    features: int
    outputs: int
    train: int
    val: int
    test: int


@final
@dataclass
class Tables:
    """The shapes of tables; each table and each split of it is opened once, and not weighed, which may take long."""

    _loaded: dict[str, Table] = field(default_factory=dict)
    _unloadable: dict[str, Exception] = field(default_factory=dict)
    _shapes: dict[str, TableShape | Exception] = field(default_factory=dict)

    def shape(self, spec: RunSpec) -> TableShape:
        """The shape of the table that a run trains on.

        Raises:
            UnitgainError: it can't be used.
            Exception: what a source of the user's own raises.
        """
        spec = spec.model_copy(update={"weighting": UniformNode()})
        key = prepared_key(spec)
        if key not in self._shapes:
            try:
                self._shapes[key] = self._open(spec)
            except Exception as error:
                self._shapes[key] = error
        found = self._shapes[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _open(self, spec: RunSpec) -> TableShape:
        data = repr(spec.data)
        if data in self._unloadable:
            raise self._unloadable[data]
        try:
            prepared = open_data(spec, self._loaded)
        except Exception as error:
            if data not in self._loaded:
                self._unloadable[data] = error
            raise
        return TableShape(
            prepared.n_features, prepared.n_outputs, *map(len, prepared.split.parts())
        )


@final
@dataclass(frozen=True)
class Limits:
    """What packs must keep to.

    Args:
        workers: how many packs train at a time.
        max_members: of one pack; None leaves it to memory and caches.
        memory: the share of the free memory that all workers together may take.
        gpu: whether runs that may train on a GPU will: a worker then cuts a pack itself, to what
            the GPU's memory holds.
        pack_bytes: the memory of a pack that trains elsewhere; None: a share of what is free here.
    """

    workers: int
    max_members: int | None = None
    memory: float = 0.5
    gpu: bool = False
    pack_bytes: float | None = None


@final
@dataclass(frozen=True)
class Pack:
    """Jobs that train together.

    Args:
        jobs: the members.
        shape: what they share, by key.
        table: the shape of their tables.
        start: from where they train.
        cost: of one member.
        flops: of the whole training.
    """

    jobs: tuple[Job, ...]
    shape: Mapping[str, Any]
    table: TableShape
    start: Start
    cost: Cost
    flops: float

    @property
    def bytes(self) -> int:
        """The memory that it takes while it trains."""
        return self.cost.bytes * len(self.jobs)


@final
@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    Args:
        packs: the longest first.
        failed: the jobs whose table can't be used, and why.
    """

    packs: tuple[Pack, ...]
    failed: tuple[tuple[Job, Ending], ...]

    def seconds(self, workers: int) -> float:
        """An estimate of how long the packs take."""
        return max(
            sum(map(estimated_seconds, mine)) for mine in shared_out(self.packs, max(workers, 1))
        )


def plan(jobs: Sequence[Job], starts: Mapping[int, Start], limits: Limits, tables: Tables) -> Plan:
    """Put jobs of one shape into packs.

    Args:
        jobs: those to train.
        starts: from where each does, by its number.
        limits: what packs must keep to.
        tables: opens what isn't open yet.
    """
    groups: dict[tuple[str, TableShape, Start], list[Job]] = {}
    kinds, failed = _Kinds(tables), []
    for job in jobs:
        try:
            table = kinds.table(job.spec)
        except Exception as error:
            failed.append((job, Ending.of_error(error)))
            continue
        key = kinds.shape(job.spec), table, starts[job.number]
        groups.setdefault(key, []).append(job)
    packs = [
        pack
        for (shape, table, start), members in groups.items()
        for pack in _cut(members, kinds.signatures[shape], table, start, limits)
    ]
    packs.sort(key=lambda pack: -pack.flops)
    return Plan(tuple(packs), tuple(failed))


def workers_needed(jobs: Sequence[Job]) -> int:
    """How many packs could train at a time at most: known before any table is."""
    kinds, sizes = _Kinds(Tables()), Counter[str]()
    sizes.update(kinds.shape(job.spec) for job in jobs)
    return sum(max(1, size // LEAST_MEMBERS) for size in sizes.values())


@final
class _Kinds:
    """What jobs must share to be one pack: found once for those whose specs share the values that it depends on.

    For as long as the jobs live: values are told apart by their identity.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._found: dict[tuple[int, ...], TableShape | Exception] = {}
        self._shapes: dict[tuple[object, ...], str] = {}
        self._optimizers: dict[int, tuple[object, ...]] = {}
        self.signatures: dict[str, Mapping[str, Any]] = {}

    def table(self, spec: RunSpec) -> TableShape:
        """As `Tables.shape`."""
        key = tuple([id(getattr(spec, name)) for name in _OF_TABLES])
        found = self._found.get(key)
        if found is None:
            try:
                found = self._tables.shape(spec)
            except Exception as error:
                found = error
            self._found[key] = found
        if isinstance(found, Exception):
            raise found
        return found

    def shape(self, spec: RunSpec) -> str:
        """A text that is the same for two specs whose `signature` is."""
        optimizer = self._optimizers.get(id(spec.optimizer))
        if optimizer is None:
            facts = signature(spec)
            optimizer = tuple(repr(facts[name]) for name in facts if name.startswith("optimizer"))
            self._optimizers[id(spec.optimizer)] = optimizer
        key = (*[id(getattr(spec, name)) for name in _OF_SHAPES], spec.monitor, *optimizer)
        text = self._shapes.get(key)
        if text is None:
            facts = signature(spec)
            text = self._shapes[key] = repr(facts)
            self.signatures.setdefault(text, facts)
        return text


_OF_TABLES = ("data", "split", "shift", "warm_start")
"""What `prepared_key` looks at, but for the weighting, which changes no shape."""
_OF_SHAPES = (
    "model", "activation", "norm", "dropout", "loss", "metrics", "weighting", "data", "probe",
    "trainer", "debug", "callbacks",
)  # fmt: skip
"""What `signature` looks at, but for the monitor and the optimizer, of which it leaves out the rates."""


def _cut(
    jobs: Sequence[Job],
    shape: Mapping[str, Any],
    table: TableShape,
    start: Start,
    limits: Limits,
) -> Iterator[Pack]:
    """Packs of nearly equal size of the jobs of one shape."""
    spec = jobs[0].spec
    cost = member_cost(spec, table.features, table.outputs)
    most = limits.max_members or len(jobs)
    on_cpu, memory = not limits.gpu or spec.trainer.accelerator == "cpu", limits.pack_bytes
    if memory is None:
        memory = limits.memory * free_memory() / limits.workers if on_cpu else math.inf
    most = max(1, int(min(most, members_on_cpu(cost) if on_cpu else most, memory / cost.bytes)))
    count = math.ceil(len(jobs) / most)
    count = max(count, min(limits.workers, len(jobs) // LEAST_MEMBERS))
    flops = cost.flops * _steps_left(spec, table, start)
    for members in np.array_split(np.arange(len(jobs)), count):
        chosen = tuple(jobs[i] for i in members)
        yield Pack(chosen, shape, table, start, cost, flops * len(chosen))


def _steps_left(spec: RunSpec, table: TableShape, start: Start) -> int:
    batches, debug = table.train / spec.data.batch_size, spec.debug
    steps = math.floor(batches) if spec.data.drop_last else math.ceil(batches)
    if debug is not None and debug.fast_dev_run:
        return min(steps, debug.fast_dev_run)
    if debug is not None and debug.overfit:
        steps = min(steps, debug.overfit)
    return steps * (spec.trainer.max_epochs - start.epoch)


def shared_out(packs: Sequence[Pack], count: int) -> list[list[Pack]]:
    """Packs for so many that work side by side: each goes to the one that has least to do.

    Args:
        packs: the longest first.
        count: at least 1.
    """
    shares: list[list[Pack]] = [[] for _ in range(count)]
    loads = [(0.0, number) for number in range(count)]
    for pack in packs:
        load, least = loads[0]
        shares[least].append(pack)
        heapq.heapreplace(loads, (load + estimated_seconds(pack), least))
    return shares


def estimated_seconds(pack: Pack) -> float:
    """How long a pack takes on one CPU worker of this machine, roughly."""
    return SECONDS_A_RUN * len(pack.jobs) + pack.flops / (EFFICIENCY * matmul_rate())


@cache
def matmul_rate() -> float:
    """Floating-point operations a second of a batch of small matrix products on one thread."""
    a_KBD = np.ones((16, 64, 64), np.float32)
    flops, count, start = 2 * a_KBD.size * a_KBD.shape[-1], 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < 0.02:
        np.matmul(a_KBD, a_KBD)
        count += 1
    return count * flops / seconds


def free_memory() -> float:
    """Bytes that can be used without swapping; without bound where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return next(
        (1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")),
        math.inf,
    )


def granted_memory() -> float:
    """Bytes that can be used, of those that Slurm has granted where it started this process."""
    given, megabyte = os.environ, 1024.0**2
    found = [free_memory()]
    with suppress(KeyError, ValueError):
        found.append(megabyte * float(given["SLURM_MEM_PER_NODE"]))
    with suppress(KeyError, ValueError):
        cpus = float(given["SLURM_CPUS_ON_NODE"])
        found.append(megabyte * cpus * float(given["SLURM_MEM_PER_CPU"]))
    return min(value for value in found if value > 0)
