"""``unitgain diff RUN_A RUN_B``: what differs between two runs."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.cli._command import Command, Exit, parsed
from unitgain.cli._runs import check_run
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.runs import Differences

_DIGITS = 12
_PROSE = ("verdict/text", "forecast/name")


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain diff`` is asked for."""
    a, b = _arguments(argv)
    from unitgain.runs import compare_runs

    found = compare_runs(a, b)
    if not found.any:
        print("no difference in configuration, environment, data and results")
        return Exit.FINISHED
    _show(found, a, b)
    return Exit.DIFFERENT


COMMAND = Command("diff", "what differs between two runs: configuration, environment, results", run)


def _show(found: "Differences", a: Path, b: Path) -> None:
    print(f"A  {a}\nB  {b}")
    _section("configuration", found.config)
    _section("environment", found.environment)
    print(f"\n{'data':15}{_fingerprints(found.data)}")
    bits = "the same" if found.numerics[0] == found.numerics[1] else "not the same"
    print(f"{'numerics':15}{_fingerprints(found.numerics)}: {bits} bits can be expected")
    shown = {key: pair for key, pair in found.results.items() if key not in _PROSE}
    numbers = {key: pair for key, pair in shown.items() if all(map(_is_number, pair))}
    _section("results", numbers)
    _section("results" if not numbers else "", {k: v for k, v in shown.items() if k not in numbers})
    if found.history is not None:
        print(f"\n{'first':15}{found.history}")


def _section(title: str, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    """A heading and a line a difference; nothing without any."""
    if not pairs:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(title, overflow="fold")
    numeric = all(_is_number(value) for pair in pairs.values() for value in pair)
    for name in ("A", "B"):
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    if numeric:
        table.add_column("B - A", justify="right")
    for key, (x, y) in pairs.items():
        last = [f"{y - x:+.3g}"] if numeric else []
        table.add_row(key, _text(x), _text(y), *last)
    console = Console(highlight=False)
    console.print()
    console.print(table)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _fingerprints(pair: tuple[Any, Any]) -> str:
    x, y = (str(value or "unknown")[:_DIGITS] for value in pair)
    return f"the same ({x})" if pair[0] == pair[1] else f"{x} and {y}"


def _arguments(argv: Sequence[str]) -> tuple[Path, Path]:
    """The two run directories.

    Raises:
        ConfigError: they aren't two, or no run directories.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain diff [-h] RUN_A RUN_B",
        description="What differs between two runs: configuration, versions and machine, data, "
        "metrics, and the first epoch with another number. Exit status: 0 no difference, "
        "1 a difference, 2 no answer.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="two run directories")
    given = parsed(parser, argv, "diff")
    if len(given.runs) != 2 or not all(given.runs):
        raise ConfigError(
            f"unitgain diff: must be given two run directories, got "
            f"{' '.join(given.runs) or 'nothing'}; write unitgain diff RUN_A RUN_B"
        )
    a, b = (Path(path) for path in given.runs)
    check_run(a)
    check_run(b)
    return a, b
