"""One HTML file that says what a folder of runs found: it needs no network and no other file.

Whatever comes from a run, a configuration or a folder's name is escaped by the template (Jinja's autoescape), in
figures by `unitgain.report.interactive`; a content security policy refuses everything from elsewhere.
"""

import base64
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unitgain import __version__
from unitgain.errors import DataError
from unitgain.report import views
from unitgain.report.comparison import shown
from unitgain.report.run_groups import RunGroup, few_groups, groups_of, values_of
from unitgain.report.shifted import MOST_PICTURES, MOST_RUNS, ShiftedRun, shifted_runs
from unitgain.report.shifted import heading as shift_heading
from unitgain.report.shifted import table_rows as shift_rows
from unitgain.report.views import SEED
from unitgain.runs import RunDirectory, RunsTable, atomic_write

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from unitgain.report.comparison import Comparison

_METRICS = 4
"""Columns of metrics in the table of runs, besides the chosen one."""


_FEATURES = 12
"""Of a figure of balance."""


@final
@dataclass(frozen=True)
class Question:
    """What a page asks of its runs.

    Attributes:
        metric: the metric that everything is about, such as ``test/accuracy``.
        by: the keys that runs are grouped by.
        higher: whether more of the metric is better.
        baseline: the group that others are compared with; None: the best one.
    """

    metric: str
    by: Sequence[str]
    higher: bool
    baseline: str | None = None


@final
@dataclass(frozen=True)
class _Cell:
    text: str
    number: bool = False
    value: str = ""
    status: bool = False


@final
@dataclass(frozen=True)
class _Plot:
    """A figure of the page, with what it can be switched between."""

    name: str
    title: str
    caption: str
    figures: "Sequence[Figure]"
    choices: Sequence[str] = field(default_factory=tuple)
    choice_label: str = "keys"


def write_page(
    table: RunsTable, question: Question, path: Path, *, title: str, command: Sequence[str]
) -> Path:
    """Write the page.

    Args:
        table: the runs, at least one.
        question: what is asked of them.
        path: of the HTML file.
        title: of the page.
        command: that makes it again.

    Raises:
        DataError: no run, or a metric, key or baseline that the runs don't have.
    """
    if not len(table):
        raise DataError("report: needs at least one run directory, but there is none")
    folder = files("unitgain.report")
    html = _template().render(
        title=title,
        place=str(path.parent),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        css=_verbatim(folder.joinpath("page.css").read_text("utf-8")),
        script=_verbatim(folder.joinpath("page.js").read_text("utf-8")),
        plotly=_verbatim(_plotly()),
        command=shlex.join(command),
        **_content(table, question),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, html.encode(), durable=False)
    return path


def _content(table: RunsTable, question: Question) -> dict[str, Any]:
    from unitgain.report.comparison_text import heading, rows, sentences

    groups = groups_of(table, question.by)
    found = _comparison(table, question)
    base = _baseline(table, question, groups)
    runs = _runs(table, question, base)
    shifted = shifted_runs(table)
    short_metric = question.metric.rpartition("/")[2]
    explained = views.effects(table, question.metric, views.varying_keys(table))
    plots, shift_plots = _plots(table, question, explained), _shift_plots(shifted)
    status = Counter(table.frame["status"].tolist())
    return {
        "metric": question.metric,
        "counts": status.most_common(),
        "sentences": _sentences(table, question, explained),
        "heading": heading(found) if found else [],
        "groups": rows(found) if found else [],
        "findings": list(sentences(found)) if found else [],
        "columns": [{"name": name, "number": number} for name, number in _columns(table, question)],
        "runs": runs,
        "failures": [run for run in runs if run["status"] != "finished"],
        "figures": plots,
        "shifted": {run.row: run for run in shifted},
        "pictures": {run.row: _pictures(run) for run in shifted[:MOST_PICTURES]},
        "shift_heading": shift_heading(short_metric),
        "shift_rows": shift_rows(shifted, short_metric),
        "shift_figures": shift_plots,
        "figure_data": {
            plot.name: [figure.to_plotly_json() for figure in plot.figures]
            for plot in (*plots, *shift_plots)
        },
        "baseline": {
            "name": runs[base]["name"],
            "anchor": runs[base]["anchor"],
            "why": f", of {question.baseline}"
            if question.baseline
            else f", the best in {question.metric}",
        },
    }


def _sentences(table: RunsTable, question: Question, found: "views.Effects | None") -> list[str]:
    import numpy as np

    value_N = values_of(table, question.metric)
    finite = int(np.isfinite(value_N).sum())
    keys = views.varying_keys(table)
    if len(table) == 1:
        return [f"One run{'' if finite else f', without {question.metric}'}."]
    seeds = table.frame[SEED].nunique() if SEED in table.frame.columns else 1
    vary = f"They differ in {', '.join(keys)}" if keys else "They differ in no key but the seed"
    over = f"{seeds} seeds" if seeds > 1 else "one seed"
    text = f"{len(table)} runs, {finite} of them with {question.metric}. {vary}, over {over}."
    sentences = [text]
    if found is not None:
        first = found.main[0]
        sentences.append(
            f"{first.factor} explains {first.eta_squared:.0%} of the variance of {question.metric}"
            + "".join(f", {e.factor} {e.eta_squared:.0%}" for e in found.main[1:4])
            + "."
        )
    return sentences


def _comparison(table: RunsTable, question: Question) -> "Comparison | None":
    """Groups against each other; None where there is nothing to compare."""
    import numpy as np

    from unitgain.report.comparison import Settings, compare

    if not question.by:
        return None
    settings = Settings(higher=question.higher, baseline=question.baseline)
    try:
        return compare(table, question.by, question.metric, settings, np.random.default_rng(0))
    except DataError:
        return None


def _columns(table: RunsTable, question: Question) -> list[tuple[str, bool]]:
    """Names of the table's columns, and whether they are numbers."""
    parts = [name for name in table.metric_columns if not name.startswith("train/")]
    others = [
        name for name in parts if name != question.metric and name.startswith(("val/", "test/"))
    ]
    metrics = [question.metric, *others][: _METRICS + 1]
    numeric = table.frame.select_dtypes("number").columns
    keys = [(key, key in numeric) for key in table.varying()]
    return [
        ("name", False),
        ("status", False),
        ("verdict", False),
        *keys,
        *((name, True) for name in metrics),
    ]


def _runs(table: RunsTable, question: Question, base: int) -> list[dict[str, Any]]:
    frame, columns = table.frame, _columns(table, question)
    config = [name for name in table.config_columns if name != SEED]
    baseline = {name: shown(frame[name].iloc[base]) for name in config}
    varying = table.varying()
    runs = []
    for row, record in enumerate(frame.to_dict("records")):
        values = {name: shown(record[name]) for name in config}
        runs.append(
            {
                "anchor": f"run-{row}",
                "name": record["name"],
                "status": record["status"],
                "cause": _text(record["cause"]),
                "verdict": _verdict(Path(record["run"])),
                "label": ", ".join(f"{key}={shown(record[key])}" for key in varying),
                "cells": [_cell(name, number, record[name]) for name, number in columns],
                "differences": [
                    (name, baseline[name], values[name])
                    for name in config
                    if values[name] != baseline[name]
                ],
                "command": _command(Path(record["run"])),
            }
        )
    return runs


def _cell(name: str, number: bool, value: Any) -> _Cell:
    if not number:
        return _Cell(_text(value), status=name == "status")
    if not _text(value):
        return _Cell("", True, "NaN")
    return _Cell(f"{value:.4g}", True, repr(float(value)))


def _text(value: Any) -> str:
    """A cell's text, empty where there is no value."""
    text = shown(value)
    return "" if text == "null" else text


def _verdict(run: Path) -> str:
    try:
        summary = RunDirectory(run).read_summary() or {}
    except DataError:
        return ""
    return str((summary.get("verdict") or {}).get("text") or "")


def _command(run: Path) -> str:
    lines = [shlex.join(["unitgain", "reproduce", str(run)])]
    try:
        overrides = RunDirectory(run).read_overrides()
    except DataError:
        return lines[0]
    return "\n".join([*lines, shlex.join(["unitgain", "train", *overrides])])


def _baseline(table: RunsTable, question: Question, groups: Sequence[RunGroup]) -> int:
    """The run that configurations are compared with: the best one, or the first of the baseline's."""
    import numpy as np

    named = [group.rows[0] for group in groups if group.values == question.baseline]
    if named:
        return named[0]
    value_N = values_of(table, question.metric)
    if not np.isfinite(value_N).any():
        return 0
    return int(np.nanargmax(value_N if question.higher else -value_N))


def _plots(table: RunsTable, question: Question, found: "views.Effects | None") -> list[_Plot]:
    from unitgain.report import interactive

    metric, keys = question.metric, views.varying_keys(table)
    few, note = few_groups(table, question.by, metric, higher=question.higher)
    note = f" {note}." if note else ""
    plots = []
    over = views.course_of(metric)
    if curves := views.curves(table, few, over):
        caption = f"{over} by epoch, mean and 95 % interval over the runs of each group.{note}"
        plots.append(
            _Plot("curves", "Learning curves", caption, [interactive.plot_curves(curves, over)])
        )
    pairs = views.key_pairs(found, keys, question.by)
    if pairs:
        maps = [interactive.plot_heatmap(views.heatmap(table, x, y, metric)) for x, y in pairs]
        names = [f"{x} and {y}" for x, y in pairs] if len(pairs) > 1 else []
        plots.append(_Plot("heatmap", "Means", f"Mean {metric} over two keys.", maps, names))
    if found is not None and found.tree.children:
        caption = (
            f"What splits the runs' {metric} best, from the top down; each box a group of runs."
        )
        plots.append(
            _Plot("effects", "Tree of effects", caption, [interactive.plot_effects(found)])
        )
    if (each := views.parallel(table, metric, keys)) is not None:
        caption = f"Every run, coloured by its {metric}."
        lines = interactive.plot_parallel(each)
        plots.append(_Plot("parallel", "Parallel coordinates", caption, [lines]))
    by_quantity = views.profiles(table, few, [q for _, q, _ in views.DEPTH_FIGURES.values()])
    for name, (heading, quantity, label) in views.DEPTH_FIGURES.items():
        if by_quantity[quantity]:
            drawn = interactive.plot_profiles(by_quantity[quantity], label)
            caption = f"{label[0].upper()}{label[1:]}, the median over each group's runs.{note}"
            plots.append(_Plot(name, heading, caption, [drawn]))
    if (both := views.foretold(table, few)) is not None:
        caption = (
            f"Slope of log10 gradient norm a layer before training, foretold and measured.{note}"
        )
        plots.append(
            _Plot(
                "foretold", "Theory against measurement", caption, [interactive.plot_foretold(both)]
            )
        )
    return plots


def _shift_plots(runs: Sequence[ShiftedRun]) -> list[_Plot]:
    """Reliability diagrams and balance of the first runs, switched between by run."""
    from unitgain.report import interactive

    plots = []
    for name, title, caption, chosen in (
        (
            "calibration",
            "Reliability",
            "Accuracy against confidence: validation rows, these weighted as the target, and target rows.",
            [(r.name, interactive.plot_calibration(r.calibration)) for r in runs if r.calibration],
        ),
        (
            "balance",
            "Balance",
            f"Difference of the means of target and source; the {_FEATURES} features that differ most.",
            [(r.name, interactive.plot_balance(r.balance()[:_FEATURES])) for r in runs],
        ),
    ):
        few = chosen[:MOST_RUNS]
        if few:
            rest = (
                "" if len(few) == len(chosen) else f" The first {len(few)} of {len(chosen)} runs."
            )
            names = [each for each, _ in few] if len(few) > 1 else []
            drawn = [figure for _, figure in few]
            plots.append(_Plot(name, title, caption + rest, drawn, names, "run"))
    return plots


def _pictures(run: ShiftedRun) -> list[tuple[str, str]]:
    """What a run's own figures show, and each as the address of an image."""
    return [
        (f"{run.name}: {text}", f"data:image/png;base64,{base64.b64encode(png).decode()}")
        for text, png in run.pictures()
    ]


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _verbatim(text: str) -> Any:
    """The project's own text, or a library's, that goes into the page as it is."""
    from markupsafe import Markup

    return Markup(text)


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    text = files("unitgain.report").joinpath("page.html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "default": _json_default}
    return environment.from_string(text)


def _json_default(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
