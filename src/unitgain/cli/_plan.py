"""The plan of a packed sweep, as the terminal shows it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitgain.cli._show import MANY
from unitgain.spec import Node
from unitgain.sweep.job import Ending
from unitgain.sweep.plan import Limits, Pack, Plan, estimated_seconds


def print_plan(
    plan: Plan,
    limits: Limits,
    tasks: Sequence[Sequence[Pack]],
    endings: Mapping[int, Ending],
    overrides: Mapping[int, tuple[str, ...]],
) -> None:
    """Print a row for each pack, and what all of them will take.

    Args:
        plan: the packs.
        limits: what they keep to.
        tasks: the packs of each task of a scheduler; none where this command's workers train them.
        endings: of the jobs that need no training.
        overrides: of the jobs, by number.
    """
    console = Console(highlight=False)
    if plan.packs:
        console.print(_table(plan, limits))
        if len(plan.packs) > MANY:
            console.print(f"and {len(plan.packs) - MANY} smaller packs")
        console.print()
    for number, ending in sorted(
        [(job.number, ending) for job, ending in plan.failed]
        + [(number, ending) for number, ending in endings.items() if ending.status == "failed"]
    ):
        line = f" ({' '.join(overrides[number])}) can't be trained: {ending.cause}"
        console.print(Text(f"job {number + 1}", "bold red") + Text(line), soft_wrap=True)
    done = Counter(e.status for e in endings.values() if e.status != "failed")
    for status, count in done.items():
        console.print(f"{count} of {len(overrides)} jobs {status} before, and are left out")
    console.print(_summary(plan, limits, tasks), soft_wrap=True)


def _table(plan: Plan, limits: Limits) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("pack", justify="right")
    table.add_column("runs", justify="right")
    differ = _differences(plan.packs)
    if differ[0]:
        table.add_column("shape", overflow="fold")
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    rows = list(zip(plan.packs, differ, strict=True))[:MANY]
    for number, (pack, shape) in enumerate(rows, start=1):
        cells = [str(number), str(len(pack.jobs))]
        cells += [" ".join(f"{key}={value}" for key, value in shape.items())] if shape else []
        time = "" if limits.gpu else _time(estimated_seconds(pack))
        table.add_row(*cells, _size(pack.bytes), time)
    return table


def _differences(packs: tuple[Pack, ...]) -> list[dict[str, str]]:
    """Of each pack the keys in which the packs differ."""
    known: dict[tuple[Any, ...], dict[str, str]] = {}
    flat = []
    for pack in packs:
        same = id(pack.shape), pack.table, pack.start, pack.jobs[0].spec.data.target
        if same not in known:
            known[same] = _facts(pack)
        flat.append(known[same])
    keys = dict.fromkeys(key for facts in flat for key in facts)
    differ = [key for key in keys if len({facts.get(key, "") for facts in flat}) > 1]
    return [{key: facts.get(key, "-") for key in differ} for facts in flat]


def _facts(pack: Pack) -> dict[str, str]:
    """What a pack's members share, as dotted keys and short values."""
    facts: dict[str, str] = {}
    for key, value in pack.shape.items():
        _flatten(key, value, facts)
    facts["data"] = pack.jobs[0].spec.data.target.rpartition(".")[2]
    facts |= {f"rows.{part}": str(getattr(pack.table, part)) for part in ("train", "val", "test")}
    facts["from_epoch"] = str(pack.start.epoch)
    return facts


def _flatten(key: str, value: Any, facts: dict[str, str]) -> None:
    if isinstance(value, Node):
        value = value.model_dump(mode="json", by_alias=True, serialize_as_any=True)
    if isinstance(value, Mapping):
        for name, item in value.items():
            _flatten(key if name == "_target_" else f"{key}.{name}", item, facts)
    elif isinstance(value, str):
        facts[key] = value.rpartition(".")[2]
    else:
        facts[key] = json.dumps(value, separators=(",", ":"))


def _summary(plan: Plan, limits: Limits, tasks: Sequence[Sequence[Pack]]) -> str:
    runs = sum(len(pack.jobs) for pack in plan.packs)
    if not runs:
        return "nothing is left to train"
    packs = f"{len(plan.packs)} packs" if len(plan.packs) > 1 else "one pack"
    text = f"{runs} runs in {packs}, "
    text += _of_tasks(tasks) if tasks else f"{limits.workers} at a time"
    if limits.gpu:
        return f"{text}; a GPU's worker cuts a pack to what its memory holds"
    seconds = _time(plan.seconds(1 if tasks else limits.workers))
    if tasks:
        return f"{text}; about {seconds} of work (an estimate, at this machine's speed)"
    return f"{text}; about {seconds} (an estimate), after the start of the workers"


def _of_tasks(tasks: Sequence[Sequence[Pack]]) -> str:
    longest = max(map(len, tasks))
    text = "one array task" if len(tasks) == 1 else f"{len(tasks)} array tasks"
    return f"{text} of up to {longest}" if longest > 1 and len(tasks) > 1 else text


def _size(count: float) -> str:
    """Bytes in few characters.

    Example:
        >>> _size(5e5), _size(3.21e9)
        ('0.5 MB', '3.2 GB')
    """
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _time(seconds: float) -> str:
    """Seconds in few characters.

    Example:
        >>> _time(0.02), _time(0.26), _time(75), _time(7300)
        ('< 0.1 s', '0.3 s', '75 s', '122 min')
    """
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
