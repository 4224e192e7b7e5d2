"""What ``unitgain shift`` left in runs: weights, balance, the gate's answer, metrics with and without correction."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unitgain.report._shift_panels import WEIGHTED, short
from unitgain.report._style import MUTED, style
from unitgain.report.calibration import draw_calibration
from unitgain.runs import RunDirectory, RunsTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RUNS = 9
"""Runs that get a figure of their own."""

MOST_PICTURES = 4
"""Runs whose own figures go into a page: some 150 kB each."""

_MOST_ROWS = 24
"""Runs that one figure has a row for."""


@final
@dataclass(frozen=True, eq=False)
class ShiftedRun:
    """A run with a ``shift.json``.

    Attributes:
        row: of the table.
        folder: of the run.
        name: of the run.
        content: of the file.
    """

    row: int
    folder: Path
    name: str
    content: Mapping[str, Any]

    @property
    def answer(self) -> str:
        """The gate's answer: yes, no or cannot tell."""
        return str(self.content["gate"]["answer"])

    @property
    def text(self) -> str:
        """The gate's answer with its reasons."""
        return str(self.content["gate"]["text"])

    @property
    def shift(self) -> str:
        """The shift's name."""
        return _name(self.content["shift"])

    @property
    def weighting(self) -> str:
        """The name of the estimator of the weights."""
        return _name(self.content["weighting"])

    @property
    def calibration(self) -> Sequence[Mapping[str, Any]]:
        """Curves of `unitgain.report.calibration`; none in a regression."""
        curves: Sequence[Mapping[str, Any]] = self.content["calibration"]
        return curves

    def effective(self, which: str) -> float:
        """The effective share of training rows.

        Args:
            which: "weights", the estimate's, or "truth", NaN where it isn't known.
        """
        found = self.content[which]
        return math.nan if found is None else found["ess"] / found["rows"]

    def test(self, metric: str) -> tuple[float, float]:
        """A metric of the target rows without correction and with it; NaN where there is none."""
        both = (self.content[way].get(f"test/{metric}") for way in ("plain", "corrected"))
        without, corrected = (math.nan if value is None else float(value) for value in both)
        return without, corrected

    def metrics(self) -> list[tuple[str, str, str]]:
        """The metrics of target rows, each with its value without correction and with it."""
        names = [key for key in self.content["corrected"] if key.startswith("test/")]
        return [
            (name, *map(_number, self.test(name)))
            for name in (key.removeprefix("test/") for key in names)
        ]

    def pictures(self) -> list[tuple[str, bytes]]:
        """What figures of the run's own show, and their PNG."""
        found = {"split": "its split", "shift": "its weights and what they balance"}
        paths = {
            RunDirectory(self.folder).figures_dir / f"{name}.png": text
            for name, text in found.items()
        }
        return [(text, path.read_bytes()) for path, text in paths.items() if path.is_file()]

    def balance(self) -> list[tuple[str, float, float]]:
        """Features with the standardised difference of their means before and after weighting, the largest first."""
        rows = [(name, ends["before"], ends["after"]) for name, ends in self._balance.items()]
        known = [row for row in rows if None not in row]
        return sorted(known, key=lambda row: -abs(row[1]))

    @property
    def _balance(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.content["balance"]
        return found


def shifted_runs(table: RunsTable) -> list[ShiftedRun]:
    """The runs of a table that have a whole ``shift.json``, in its order."""
    found = []
    columns = zip(table.frame["run"].tolist(), table.frame["name"].tolist(), strict=True)
    for row, (place, name) in enumerate(columns):
        try:
            content = json.loads((Path(place) / "shift.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.keys() >= _PARTS:
            found.append(ShiftedRun(row, Path(place), str(name), content))
    return found


_PARTS = {
    "weighting",
    "shift",
    "weights",
    "truth",
    "weight_error",
    "balance",
    "gate",
    "plain",
    "corrected",
    "calibration",
}
"""Of a ``shift.json`` that is whole."""


def heading(metric: str) -> list[str]:
    """Columns of `table_rows`.

    Args:
        metric: that is shown without correction and with it.
    """
    return [
        "run",
        "shift",
        "weights",
        "effective rows",
        "largest share",
        "tail index",
        "error against the truth",
        f"{metric} without",
        "with correction",
        "correct?",
    ]


def table_rows(runs: Sequence[ShiftedRun], metric: str) -> list[list[str]]:
    """A row a run: its weights, a metric of its target rows without correction and with it, and the gate's answer.

    Args:
        runs: of one table.
        metric: such as "accuracy".
    """
    rows = []
    for run in runs:
        found, error = run.content["weights"], run.content["weight_error"]
        without, corrected = run.test(metric)
        rows.append(
            [
                run.name,
                run.shift,
                run.weighting,
                f"{found['ess']:.0f} of {found['rows']}",
                f"{found['max_share']:.1%}",
                "" if found["pareto_k"] is None else f"{found['pareto_k']:.2f}",
                "" if error is None else f"{error:.2f}",
                _number(without),
                _number(corrected),
                run.answer,
            ]
        )
    return rows


def correction_figures(
    runs: Sequence[ShiftedRun], metric: str, width: float
) -> "dict[str, Figure]":
    """Figures for print by name: what correction does over all runs, and each run's calibration.

    Args:
        runs: of one table.
        metric: such as "accuracy".
        width: in inches.
    """
    if not runs:
        return {}
    figures = {"correction": draw_correction(runs[:_MOST_ROWS], metric, width)}
    for run in [run for run in runs if run.calibration][:MOST_RUNS]:
        figures[f"calibration_{run.row}"] = draw_calibration(
            run.calibration, width=width, title=run.name
        )
    return figures


@style(small=True)
def draw_correction(runs: Sequence[ShiftedRun], metric: str, width: float = 6.9) -> "Figure":
    """A metric of target rows without correction and with it, and the share of training rows that stay effective.

    Args:
        runs: a row each, named with the gate's answer.
        metric: such as "accuracy".
        width: in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 0.8 + 0.22 * len(runs)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_pairs(left, [run.test(metric) for run in runs], ("without correction", "with it"))
    shares = [(run.effective("truth"), run.effective("weights")) for run in runs]
    _draw_pairs(right, shares, ("true weights", "estimated"))
    names = [f"{short(run.name)}: {run.answer}" for run in runs]
    left.set_yticks(range(len(runs)), names)
    left.set_ylim(len(runs) - 0.5, -0.5)
    left.set(xlabel=f"{metric} of target rows")
    right.set(xlabel="effective share of training rows", xlim=(0, 1.04))
    return figure


def _draw_pairs(axes: "Axes", pairs: Sequence[tuple[float, float]], names: tuple[str, str]) -> None:
    """Two numbers a row, joined; what isn't known isn't drawn."""
    places = range(len(pairs))
    first, second = ([pair[at] for pair in pairs] for at in (0, 1))
    axes.hlines(places, first, second, color="#c8c8c8", lw=1)
    axes.plot(first, places, "o", mfc="white", mec=MUTED, ms=6.5, label=names[0])
    axes.plot(second, places, "o", color=WEIGHTED, ms=4, label=names[1])
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _name(component: Mapping[str, Any]) -> str:
    return str(component["_target_"]).rpartition(".")[2]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
