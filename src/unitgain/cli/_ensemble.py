"""``unitgain ensemble DIR``: a sweep's runs as one model."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from unitgain.stats.intervals import Interval
    from unitgain.train.ensemble import Found, Verdict

_SHOWN = 5


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain ensemble`` is asked for."""
    given = _arguments(argv)
    import numpy as np
    from rich.console import Console

    from unitgain.cli._show import near, prose
    from unitgain.train.ensemble import ensemble_of, save
    from unitgain.train.ensemble_members import read_members

    found = ensemble_of(
        read_members(given.folder),
        np.random.default_rng(given.seed),
        metric=given.metric.removeprefix("val/"),
        size=given.size,
        bags=given.bags,
        level=given.level,
    )
    module, numbers = save(found, given.out or given.folder / "ensemble")
    console = Console(highlight=False)
    for sentence in _sentences(found):
        prose(console, sentence)
    console.print()
    console.print(_table(found))
    console.print()
    for name, place in (("module", module), ("numbers", numbers)):
        console.print(f"[bold]{name:9}[/bold]{near(place)}", soft_wrap=True)
    return Exit.FINISHED


COMMAND = Command("ensemble", "make one model of a sweep's runs, chosen on validation rows", run)


def _sentences(found: "Found") -> Iterator[str]:
    from unitgain.cli._show import number

    names = [path.name for path in found.members.directories]
    order = [int(k) for k in (-found.weight_K).argsort(kind="stable") if found.weight_K[k]]
    first = ", ".join(f"{names[k]} {found.weight_K[k]:.2f}" for k in order[:_SHOWN])
    more = f" and {len(order) - _SHOWN} more" if len(order) > _SHOWN else ""
    yield f"{len(order)} of {len(names)} runs, with weights: {first}{more}."
    if order == [found.best]:
        yield "No mean of runs is better on validation rows than the best run alone: the ensemble is that run."
    if found.members.left_out:
        yield f"{found.members.left_out} runs that aren't finished are left out."
    single, both = found.validation
    yield (
        f"val/{found.metric}, which chose them: {number(both)}; of the best run, {names[found.best]}, {number(single)}."
    )
    if found.members.table.task != "classification":
        return
    if found.members.rows["val"].importance_N is not None:
        yield "Probabilities are not calibrated: validation rows have weights."
    else:
        own, best = found.temperature, found.best_temperature
        right = (
            "; none can be fitted where every validation row is right" if 1.0 in (own, best) else ""
        )
        yield (
            f"Temperature {own:.2f}, fitted on validation rows; {best:.2f} for the best run, below{right}."
        )


def _table(found: "Found") -> "Table":
    from rich.table import Table

    from unitgain.report.comparison_text import between

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("test")
    for name in ("best run", "ensemble", "difference", f"{100 * found.level:g} % interval"):
        table.add_column(name, justify="right")
    for name, verdict in found.test.items():
        best, ensemble = (between(each)[0] for each in (verdict.best, verdict.ensemble))
        table.add_row(name, best, ensemble, *between(_above_rounding(verdict)))
    return table


def _above_rounding(verdict: "Verdict") -> "Interval":
    """The difference, or zero where it is the rounding of the two values alone."""
    from unitgain.stats.intervals import Interval

    gap = verdict.difference
    size = max(abs(verdict.best.value), abs(verdict.ensemble.value))
    small = max(abs(gap.value), abs(gap.low), abs(gap.high)) < 1e-5 * size
    return Interval(0.0, 0.0, 0.0) if small else gap


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or out of range.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain ensemble [-h] DIR [options]",
        description="Choose runs of a sweep by greedy selection on validation rows, average what "
        "they predict, calibrate, judge on test rows; writes ensemble.pt2 and ensemble.json.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folder", nargs="*", metavar="DIR", help="of a sweep")
    add("--metric", default="val/loss", help="that members are chosen by; val/loss")
    add("--size", type=int, default=25, help="the largest number of additions; 25")
    add("--bags", type=int, default=20, help="random halves of the runs to choose from; 20")
    add("--level", type=float, default=0.95, help="of intervals over test rows; 0.95")
    add("--seed", type=int, default=0, help="of the bags and the bootstrap; 0")
    add("--out", type=Path, metavar="FOLDER", help="where to; DIR/ensemble")
    given = parsed(parser, argv, "ensemble")
    if len(given.folder) != 1 or not given.folder[0]:
        raise ConfigError(
            f"unitgain ensemble: must be given the folder of one sweep, got "
            f"{' '.join(given.folder) or 'nothing'}; write unitgain ensemble DIR"
        )
    given.folder = Path(given.folder[0])
    for name, usual in (("size", 25), ("bags", 20)):
        value = getattr(given, name)
        if value < 1:
            raise ConfigError(f"--{name}: must be 1 or more, got {value}; {usual} is usual")
    if not 0 < given.level < 1:
        raise ConfigError(f"--level: must be between 0 and 1, got {given.level:g}; 0.95 is usual")
    if given.seed < 0:
        raise ConfigError(f"--seed: must be 0 or more, got {given.seed}; 0 is usual")
    if "/" in given.metric and not given.metric.startswith("val/"):
        raise ConfigError(
            f"--metric: must be one of validation rows, got {given.metric}; write --metric val/loss"
        )
    if given.out is not None and given.out.exists() and not given.out.is_dir():
        raise ConfigError(f"--out: must be a folder, but {given.out} is a file; choose another")
    return given
