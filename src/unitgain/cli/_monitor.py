"""``unitgain monitor RUN STREAM``: is what a run is given still what it was validated on?"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.cli._command import Command, Exit, parsed
from unitgain.cli._runs import check_run
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.train.monitor import RunMonitor

_SHOWN = 5


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain monitor`` is asked for."""
    given = _arguments(argv)
    from unitgain.data.streams import Follow, stream_batches
    from unitgain.train.monitor import RunMonitor

    monitor = RunMonitor(given.run, alpha=given.alpha, seed=given.seed)
    follow = Follow(given.every, given.idle) if given.follow else None
    batches = stream_batches(
        given.stream,
        monitor.columns,
        rows=given.batch,
        separator="\t" if given.separator == "tab" else given.separator,
        follow=follow,
    )
    status = Exit.FINISHED
    try:
        for frame in batches:
            known = monitor.test.alarm_row
            monitor.update(str(given.stream), frame)
            if monitor.test.alarm_row != known:
                print(f"alarm at row {monitor.test.alarm_row}", flush=True)
                if given.stop_at_alarm:
                    break
    except KeyboardInterrupt:
        print("interrupted; until here:")
        status = Exit.INTERRUPTED
    _finish(given.run, monitor)
    return status if monitor.test.alarm_row is None else Exit.DRIFT


COMMAND = Command("monitor", "watch whether a stream drifts from what a run was validated on", run)


def _finish(directory: Path, monitor: "RunMonitor") -> None:
    """Write monitor.json and monitor.png, and say what they hold."""
    from unitgain.report.monitor import monitor_figure
    from unitgain.runs import atomic_write

    content = monitor.report()
    path = directory / "monitor.json"
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode())
    figure = monitor_figure(content, directory)
    for line in _lines(content):
        print(line)
    print(f"{'figure':9}{figure}")
    print(f"{'numbers':9}{path}")


def _lines(content: dict[str, Any]) -> list[str]:
    first = content["alarm_row"]
    verdict = "no drift found" if first is None else f"drift: alarm at row {first}"
    lines = [
        f"{verdict}; {content['rows']} rows against {content['reference_rows']} of validation",
        f"{'evidence':9}10^{content['log10_evidence']:.2f} now, 10^{content['log10_largest']:.2f} at "
        f"most; the alarm is at {1 / content['alpha']:g}",
    ]
    moved = [row for row in content["scores"] if row["moved"]]
    # Without an alarm too a score may have moved by itself; otherwise the largest effects.
    shown = moved or content["scores"][:_SHOWN]
    title = "moved" if moved else "largest"
    lines += [
        f"{title:9}{row['name']} ({row['kind']}): {row['difference']:+.2f} sd, "
        f"KS {row['distance']:.2f} in the last {content['window']} rows"
        for row in shown
    ]
    if content["unknown_categories"]:
        lines.append(
            f"{'unknown':9}{content['unknown_categories']} cells hold untrained categories"
        )
    return lines


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or out of range.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain monitor [-h] [options] RUN STREAM",
        description="Test a stream of rows, one after another, against a run's validation rows; "
        "writes monitor.json and monitor.png into RUN. Exit status: 0 no alarm, 4 alarm.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="*", metavar="RUN STREAM", help="a run, a CSV or .parquet")
    parser.add_argument("--alpha", type=float, default=0.05, help="false alarms, of whole streams")
    parser.add_argument("--batch", type=int, default=256, help="rows read at a time")
    parser.add_argument("--separator", default=",", help="between cells of a CSV; tab for tabs")
    parser.add_argument("--seed", type=int, default=0, help="of what breaks ties")
    parser.add_argument("--follow", action="store_true", help="wait for rows of a growing CSV")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two looks")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds without rows: the end")
    parser.add_argument("--stop-at-alarm", action="store_true", help="end at the alarm")
    given = parsed(parser, argv, "monitor")
    if len(given.paths) != 2 or not all(given.paths):
        raise ConfigError(
            f"unitgain monitor: must be given a run directory and a stream, got "
            f"{' '.join(given.paths) or 'nothing'}; write unitgain monitor RUN STREAM"
        )
    _check_ranges(given)
    given.run, given.stream = (Path(path) for path in given.paths)
    check_run(given.run)
    if not given.stream.is_file():
        fact = "it is a folder" if given.stream.is_dir() else "there is none"
        raise ConfigError(f"{given.stream}: a stream must be a file, but {fact}; mend the path")
    return given


def _check_ranges(given: argparse.Namespace) -> None:
    if not 0 < given.alpha < 1:
        raise ConfigError(f"--alpha: must be between 0 and 1, got {given.alpha:g}; 0.05 is usual")
    if given.batch < 1:
        raise ConfigError(f"--batch: must be 1 or more, got {given.batch}; 256 is usual")
    if not given.every > 0 or not given.idle > 0:
        raise ConfigError(
            f"--every, --idle: must be above 0 seconds, got {given.every:g} and {given.idle:g}"
        )
    if given.seed < 0:
        raise ConfigError(f"--seed: must be 0 or more, got {given.seed}; 0 is usual")
    if len(given.separator) != 1 and given.separator != "tab":
        raise ConfigError(f"--separator: must be one character or tab, got {given.separator}")
