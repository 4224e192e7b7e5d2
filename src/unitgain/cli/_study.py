"""``unitgain study NAME``: runs a study's sweep, checks its numbers, redraws its figure."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError, UnitgainError

if TYPE_CHECKING:
    from unitgain.cli._job import Outcome
    from unitgain.report.study import Check, Result, Study

STUDIES, EXPECTED = Path("experiments"), "expected.json"


def run(argv: Sequence[str]) -> int:
    """Run studies, or list them."""
    arguments = _arguments(argv)
    from unitgain.report.study import Study, find_study

    if arguments.list:
        return _list([Study.read(folder) for folder in _folders()])
    if arguments.all:
        return _run_all([Study.read(folder) for folder in _folders()], smoke=arguments.smoke)
    studies = [find_study(name, STUDIES) for name in arguments.study]
    if len(studies) > 1:
        return _run_all(studies, smoke=arguments.smoke)
    return _run_one(studies[0], smoke=arguments.smoke).exit


COMMAND = Command("study", "repeat a study: its runs, its numbers, its figure", run)


@dataclass(frozen=True)
class _Judged:
    """How a study ended.

    Args:
        words: for the table of all studies.
        exit: the status of a command that ran this study alone.
        as_recorded: whether that is what ``expected.json`` records.
        seconds: it took.
    """

    words: str
    exit: int
    as_recorded: bool
    seconds: float


def _run_one(study: "Study", *, smoke: bool) -> _Judged:
    """Train, measure, draw and judge.

    Raises:
        ConfigError: a run failed, or a file of the study can't be used.
    """
    began = time.perf_counter()

    def judged(words: str, status: int, *, as_recorded: bool) -> _Judged:
        return _Judged(words, status, as_recorded, time.perf_counter() - began)

    plot = study.plot()
    outcomes, interrupted = _train(study, smoke=smoke)
    trained_s = time.perf_counter() - began
    if interrupted:
        print("interrupted; the same command goes on")
        return judged("interrupted", Exit.INTERRUPTED, as_recorded=False)
    results = _results(outcomes, keep=study.keeps_checkpoints)
    measured = plot.measure(results)
    # A smoke run shows that everything works; its runs are too few to judge a claim by.
    checks = [] if smoke else study.expected.check(measured)
    figure = plot.save(results, _directory(study, smoke=True) if smoke else study.folder)
    _show(study, outcomes, trained_s)
    _show_numbers(measured, checks)
    print(f"{'figure':8}{figure}")
    if smoke:
        print("a smoke run: too small to judge the claim")
        return judged("runs", Exit.FINISHED, as_recorded=True)
    holds, recorded = all(check.holds for check in checks), study.expected.holds
    known = "" if holds == recorded else f", against what {EXPECTED} records"
    print(f"{_words(holds=holds)}{known}")
    status = Exit.FINISHED if holds else Exit.CLAIM_FAILS
    return judged(_words(holds=holds) + known, status, as_recorded=holds == recorded)


def _run_all(studies: "Sequence[Study]", *, smoke: bool) -> int:
    """One study after another; one that fails leaves the others alone."""
    ended: dict[str, _Judged] = {}
    for study in studies:
        print(f"\n== {study.name} ==", flush=True)
        try:
            ended[study.name] = _run_one(study, smoke=smoke)
        except UnitgainError as error:
            for line in error.lines:
                print(f"error: {line}", file=sys.stderr)
            ended[study.name] = _Judged("error", Exit.USER_ERROR, as_recorded=False, seconds=0)
        if ended[study.name].exit == Exit.INTERRUPTED:
            break
    print()
    _show_table(
        ("study", "seconds", "verdict"),
        [(name, f"{each.seconds:.0f}", each.words) for name, each in ended.items()],
    )
    unlike = [name for name, each in ended.items() if not each.as_recorded]
    print()
    if not unlike:
        print(f"{len(ended)} studies end as {EXPECTED} records")
        return Exit.FINISHED
    print(f"{len(unlike)} of {len(ended)} studies don't end as {EXPECTED} records")
    first = ended[unlike[0]]
    return first.exit if first.exit != Exit.FINISHED else Exit.CLAIM_FAILS


def _words(*, holds: bool) -> str:
    return "the claim holds" if holds else "the claim does not hold"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage="unitgain study [-h] [--smoke] STUDY... | --all [--smoke] | --list",
        description="Run a study's sweep, check its numbers and redraw its figure. A study that was "
        "interrupted goes on, one that was run before is checked and drawn again.",
        epilog=f"The exit status is 0 if the claim holds and {Exit.CLAIM_FAILS} if not; of several, "
        f"0 if each claim holds, or doesn't, as {EXPECTED} records.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "study", nargs="*", metavar="STUDY", help=f"a study's folder, or its name in {STUDIES}/"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a small version, which judges nothing"
    )
    parser.add_argument("--all", action="store_true", help=f"run every study of {STUDIES}/")
    parser.add_argument("--list", action="store_true", help="list the studies, and what they take")
    given = parsed(parser, argv, "study")
    if given.list and (given.study or given.smoke or given.all):
        raise ConfigError("--list: must stand alone; leave out the rest")
    if given.all and given.study:
        raise ConfigError(f"--all: must have no study beside it; leave out {given.study[0]}")
    if not given.list and not given.all and not given.study:
        raise ConfigError(
            "unitgain study: must be given a study, got nothing; unitgain study --list shows them"
        )
    return given


def _folders() -> list[Path]:
    """Those of all studies.

    Raises:
        ConfigError: there are none here.
    """
    from unitgain.report.study import study_folders

    folders = study_folders(STUDIES)
    if not folders:
        raise ConfigError(f"{STUDIES}: must hold studies, but there are none; clone the repository")
    return folders


def _list(studies: "Sequence[Study]") -> int:
    _show_table(
        ("study", "held", "takes", "claim"),
        [
            (study.name, "yes" if expected.holds else "no", expected.cost, expected.claim)
            for study in studies
            for expected in [study.expected]
        ],
    )
    return Exit.FINISHED


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


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


def _results(outcomes: "Sequence[Outcome]", *, keep: bool) -> "list[Result]":
    """What the runs that were trained left; checkpoints that the study doesn't keep are removed.

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
        if not keep:
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
