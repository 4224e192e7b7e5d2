"""``unitgain report DIR...``: one HTML page, and figures for a paper, of any runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.report.page import Question
    from unitgain.runs import RunsTable

PAGE = "report.html"


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain report`` is asked for."""
    given = _arguments(argv)
    from unitgain.report.page import write_page
    from unitgain.runs import read_runs

    table = read_runs(given.folders).where(*given.where)
    if not len(table):
        raise ConfigError(
            f"{' '.join(map(str, given.folders))}: must hold runs, but there are none"
        )
    question = _question(table, given)
    out = given.out or given.folders[0] / PAGE
    title = given.title or given.folders[0].resolve().name
    path = write_page(table, question, out, title=title, command=["unitgain", "report", *argv])
    print(f"{'report':8}{path}")
    if given.figures is not None:
        from unitgain.report.sweep_figures import write_figures

        paths = write_figures(table, question, given.figures, given.columns)
        names = sorted({each.stem for each in paths})
        print(f"{'figures':8}{given.figures}: {', '.join(names)}")
    return Exit.FINISHED


COMMAND = Command("report", "one HTML page, and a paper's figures, of many runs", run)


def _question(table: "RunsTable", given: argparse.Namespace) -> "Question":
    from unitgain.cli._compare import is_higher_better
    from unitgain.report.page import Question
    from unitgain.report.views import varying_keys

    metric = given.metric or _usual_metric(table)
    table.check(metric)
    if metric not in table.metric_columns:
        known = ", ".join(table.metric_columns)
        raise ConfigError(
            f"--metric: must be a metric of the runs, but {metric} isn't; choose of {known}"
        )
    keys = [key for key in given.by.split(",") if key] or varying_keys(table)
    for key in keys:
        table.check(key)
    higher = is_higher_better(metric, given.better)
    return Question(metric=metric, by=keys, higher=higher, baseline=given.baseline)


def _usual_metric(table: "RunsTable") -> str:
    """What most of the runs monitor.

    Raises:
        ConfigError: no run has any metric.
    """
    frame = table.frame
    if "best/monitor" in frame and frame["best/monitor"].notna().any():
        return str(frame["best/monitor"].mode().iloc[0])
    if not table.metric_columns:
        raise ConfigError(
            "report: needs a run with metrics, but none of them has any; train them first"
        )
    return table.metric_columns[0]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: one that there isn't, is missing or out of range.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain report [-h] DIR... [options]",
        description="Write one self-contained HTML page about runs: what differs, by how much, what "
        "theory said, what failed and how to do it again. --figures writes a paper's figures too.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folders", nargs="*", type=Path, metavar="DIR", help="runs, sweeps, or what holds them")
    add("--metric", metavar="NAME", help="what it is about; the metric that the runs monitor")
    add("--by", default="", metavar="KEY[,KEY]", help="keys whose values make the groups; all")
    add("--baseline", metavar="GROUP", help="the group to compare with; else the best")
    add("--where", action="append", default=[], metavar="KEY=VALUE", help="only such runs")
    add("--better", choices=("higher", "lower"), help="of a metric of your own")
    add("--title", metavar="TEXT", help="of the page; the folder's name")
    add("--out", type=Path, metavar="FILE", help=f"the page; {PAGE} in the first DIR")
    add("--figures", type=Path, metavar="FOLDER", help="also write figures as PDF, SVG and PNG")
    add("--columns", type=int, choices=(1, 2), default=1, help="of a paper that figures span; 1")
    given = parsed(parser, argv, "report")
    if not given.folders:
        raise ConfigError(
            "unitgain report: must be given folders with runs, got none; write unitgain report DIR"
        )
    if given.out is not None and given.out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out: must end in .html, got {given.out}; write --out {PAGE}")
    return given
