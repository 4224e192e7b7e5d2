"""``unitgain study NAME``: runs a study's sweep, checks its numbers, redraws its figure."""

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.cli._job import Outcome
    from unitgain.report.study import Check, Result, Study

STUDIES = Path("experiments")


def run(argv: Sequence[str]) -> int:
    """Run a study, or list them all."""
    arguments = _arguments(argv)
    from unitgain.report.study import find_study

    if arguments.list:
        return _list()
    study = find_study(arguments.study, STUDIES)
    plot = study.plot()
    began = time.perf_counter()
    outcomes, interrupted = _train(study, smoke=arguments.smoke)
    seconds = time.perf_counter() - began
    if interrupted:
        print("interrupted; the same command goes on")
        return Exit.INTERRUPTED
    results = _results(outcomes)
    measured = plot.measure(results)
    # A smoke run shows that everything works; its runs are too few to judge a claim by.
    checks = [] if arguments.smoke else study.expected.check(measured)
    figure = plot.save(results, _directory(study, smoke=True) if arguments.smoke else study.folder)
    _show(study, outcomes, seconds)
    _show_numbers(measured, checks)
    print(f"{'figure':8}{figure}")
    if arguments.smoke:
        print("a smoke run: too small to judge the claim")
        return Exit.FINISHED
    holds = all(check.holds for check in checks)
    print("the claim holds" if holds else "the claim does not hold")
    return Exit.FINISHED if holds else Exit.UNEXPECTED


COMMAND = Command("study", "repeat a study: its runs, its numbers, its figure", run)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage="unitgain study [-h] [--smoke] STUDY | --list",
        description="Run a study's sweep, check its numbers and redraw its figure. A study that was "
        "interrupted goes on, one that was run before is checked and drawn again.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "study", nargs="*", metavar="STUDY", help=f"a study's folder, or its name in {STUDIES}/"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a small version, which judges nothing"
    )
    parser.add_argument("--list", action="store_true", help="list the studies, and what they take")
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such option; see unitgain study --help")
    if given.list and (given.study or given.smoke):
        raise ConfigError("--list: must stand alone; leave out the rest")
    if not given.list and len(given.study) != 1:
        got = " ".join(given.study) or "nothing"
        raise ConfigError(
            f"unitgain study: must be given one study, got {got}; unitgain study --list shows them"
        )
    given.study = given.study[0] if given.study else None
    return given


def _list() -> int:
    from rich.console import Console
    from rich.table import Table

    from unitgain.report.study import Study, study_folders

    folders = study_folders(STUDIES)
    if not folders:
        raise ConfigError(f"{STUDIES}: must hold studies, but there are none; clone the repository")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("study", "takes", "claim"):
        table.add_column(column, overflow="fold")
    for folder in folders:
        study = Study.read(folder)
        table.add_row(study.name, study.expected.cost, study.expected.claim)
    Console(highlight=False).print(table)
    return Exit.FINISHED


def _directory(study: "Study", *, smoke: bool) -> Path:
    """Where the runs go: the same for each run of the study, so that it can go on."""
    sweeps = Path(os.environ.get("UNITGAIN_SWEEPS", "sweeps"))
    return sweeps / f"study-{study.name}{'-smoke' if smoke else ''}"


def _train(study: "Study", *, smoke: bool) -> "tuple[list[Outcome], bool]":
    """Train what isn't trained yet, packed."""
    from unitgain.cli._conf import CONFIG_NAME, compose, hydra_session
    from unitgain.cli._explain import check_folder, check_values
    from unitgain.cli._many import trained
    from unitgain.cli._refusals import explained
    from unitgain.cli._train import arguments_of

    directory = _directory(study, smoke=smoke)
    quoted = str(directory).replace("\\", "\\\\").replace("'", "\\'")
    overrides = [
        "hydra/launcher=packed",
        f"hydra.sweep.dir='{quoted}'",
        *study.command(smoke=smoke),
    ]
    with hydra_session(arguments_of(["-m", *overrides])) as hydra:
        with explained(hydra, CONFIG_NAME, overrides, multirun=True):
            config = compose(hydra, CONFIG_NAME, overrides)
        check_values(hydra, CONFIG_NAME, overrides, multirun=True)
        check_folder(config, "hydra.sweep.dir")
        task, interrupted = trained(hydra, CONFIG_NAME, config, overrides)
    return task.outcomes, interrupted


def _results(outcomes: "Sequence[Outcome]") -> "list[Result]":
    """What the runs that were trained left; their checkpoints, which no study reads, are removed.

    Raises:
        ConfigError: a run failed.
    """
    from unitgain.report.study import Result
    from unitgain.runs import RunDirectory

    failed = [outcome for outcome in outcomes if outcome.ending.status == "failed"]
    if failed:
        raise ConfigError(
            *(f"{' '.join(each.overrides)}: {each.ending.cause}" for each in failed[:10])
        )
    results = []
    for outcome in outcomes:
        assert outcome.directory is not None
        assert outcome.spec is not None
        shutil.rmtree(RunDirectory(outcome.directory).checkpoints_dir, ignore_errors=True)
        results.append(Result.of(outcome.directory, outcome.spec.resolved()))
    return results


def _show(study: "Study", outcomes: "Sequence[Outcome]", seconds: float) -> None:
    from collections import Counter

    counts = Counter(outcome.ending.status for outcome in outcomes)
    runs = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"\n{'claim':8}{study.expected.claim}")
    print(f"{'source':8}{study.expected.source}")
    print(f"{'runs':8}{runs}, in {seconds:.0f} s")


def _show_numbers(measured: "dict[str, float]", checks: "Sequence[Check]") -> None:
    from rich.console import Console
    from rich.table import Table

    from unitgain.cli._show import number

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("number")
    table.add_column("measured", justify="right")
    if checks:
        for column in ("expected", "", "meaning"):
            table.add_column(column, overflow="fold")
    known = {check.name: check for check in checks}
    for name, value in measured.items():
        check = known.get(name)
        if check is not None:
            row = (check.expected, "holds" if check.holds else "fails", check.meaning)
            table.add_row(name, number(value), *row)
        else:
            table.add_row(name, number(value))
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print()
