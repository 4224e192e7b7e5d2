"""``unitgain evaluate RUN`` and ``unitgain resume RUN``: commands on a run directory."""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.runs import Claims

SAME_BITS = 0.0
ROUNDING = 1e-5
"""Relative difference up to which two numbers are the same on another machine, in float32."""


def evaluate(argv: Sequence[str]) -> int:
    """Recompute the test metrics of a run from its best checkpoint, and compare."""
    directory = run_directory(
        "evaluate", argv, "recompute the test metrics of a run from its best checkpoint"
    )
    from rich.console import Console

    from unitgain.cli._show import metrics_table
    from unitgain.runs import RunDirectory
    from unitgain.train import evaluate as evaluate_run

    metrics = evaluate_run(directory)
    Console(highlight=False).print(metrics_table(metrics))
    summary = RunDirectory(directory).read_summary() or {}
    recorded = summary.get("metrics", {})
    line, status = _comparison(metrics, recorded)
    print(line)
    return status


def resume(argv: Sequence[str]) -> int:
    """Go on with an interrupted run from its last checkpoint."""
    directory = run_directory(
        "resume", argv, "go on with an interrupted run from its last checkpoint"
    )
    from unitgain.cli._processes import followed, is_follower
    from unitgain.runs import Claims, RunDirectory

    if is_follower(RunDirectory(directory).read_config().get("trainer", {}).get("devices", 1)):
        return followed()
    claims = Claims()
    try:
        if RunDirectory(directory).status not in ("finished", "diverged"):
            claims.wait(directory)
        return _resume(directory, claims)
    finally:
        claims.close()


def _resume(directory: Path, claims: "Claims") -> int:
    from unitgain.runs import RunDirectory
    from unitgain.spec import parse
    from unitgain.sweep.job import Guard

    run = RunDirectory(directory)
    spec = parse(run.read_config())
    if run.status == "finished":
        print(f"{directory} is finished: nothing to resume")
        return Exit.FINISHED
    if run.status == "diverged":
        raise ConfigError(
            f"{directory}: must be an interrupted run, but its loss diverged, as it would again; "
            "train with a lower optimizer.lr"
        )
    from unitgain.cli._job import draw_in_time, exit_of
    from unitgain.cli._show import show_run
    from unitgain.train import fit
    from unitgain.upload import uploading, wants_upload

    with uploading(wanted=wants_upload(run.read_config()), hold=True):
        [result] = fit([spec], [directory], resume=True, watch=Guard(claims))
        show_run(result, draw_in_time(spec, result))
    return exit_of(result)


EVALUATE = Command("evaluate", "recompute the test metrics of a run directory", evaluate)
RESUME = Command("resume", "go on with an interrupted run directory", resume)


def run_directory(command: str, argv: Sequence[str], summary: str) -> Path:
    """The run directory that is the command's one argument.

    Raises:
        ConfigError: it isn't one.
    """
    parser = argparse.ArgumentParser(
        usage=f"unitgain {command} [-h] RUN",
        description=f"{summary[0].upper()}{summary[1:]}.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="*", metavar="RUN", help="a run directory, as train made it")
    given = parsed(parser, argv, command)
    if len(given.run) != 1 or not given.run[0]:
        got = " ".join(given.run) or "nothing"
        raise ConfigError(
            f"unitgain {command}: must be given one run directory, got {got}; "
            f"write unitgain {command} RUN"
        )
    directory = Path(given.run[0])
    check_run(directory)
    return directory


def check_run(directory: Path) -> None:
    """Refuse what isn't a run directory.

    Raises:
        ConfigError: there is no such folder, or it holds no run.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: must be a run directory, but there is no such folder")
    if not (directory / "config.yaml").is_file():
        inside = sorted(path.parent.name for path in directory.glob("*/config.yaml"))
        hint = f"; did you mean {directory / inside[0]}?" if inside else ""
        raise ConfigError(f"{directory}: must be a run directory, but has no config.yaml{hint}")


def _comparison(computed: Mapping[str, float], recorded: Mapping[str, float]) -> tuple[str, Exit]:
    """Whether metrics are those of summary.json: a line, and the exit status."""
    shared = [key for key in computed if key in recorded]
    if not shared:
        return "summary.json has no such metrics to compare with", Exit.FINISHED
    name, difference = max(
        ((key, _difference(computed[key], recorded[key])) for key in shared),
        key=lambda pair: pair[1],
    )
    if difference == SAME_BITS:
        return "equal to summary.json, to the last bit", Exit.FINISHED
    if difference <= ROUNDING:
        return (
            f"equal to summary.json up to rounding ({name}: {difference:.0e} of the value); "
            "another machine or number of threads does that",
            Exit.FINISHED,
        )
    return (
        f"differs from summary.json: {name} is {computed[name]!r}, recorded {recorded[name]!r}",
        Exit.UNEXPECTED,
    )


def _difference(computed: float, recorded: float) -> float:
    """Difference relative to the greater one; infinite where one alone isn't finite."""
    if computed == recorded or (math.isnan(computed) and math.isnan(recorded)):
        return 0.0
    scale = max(abs(computed), abs(recorded))
    relative = abs(computed - recorded) / scale
    return relative if math.isfinite(relative) else math.inf
