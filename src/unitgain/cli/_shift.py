"""``unitgain shift RUN``: should this run correct for the shift between its source and its target?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit

if TYPE_CHECKING:
    from unitgain.report.shift import ClassShares
    from unitgain.train.correction import Correction


def shift(argv: Sequence[str]) -> int:
    """Compare a run with its twin that corrects, or doesn't; text, shift.json and a figure."""
    from unitgain.cli._runs import run_directory

    directory = run_directory(
        "shift", argv, "should a run correct for the shift between its source and its target"
    )
    report_shift(directory)
    return Exit.FINISHED


COMMAND = Command("shift", "should a run correct for the shift of its target rows", shift)


def report_shift(directory: Path) -> None:
    """Analyse a run's shift, print what was found, and leave shift.json and figures in the run.

    These are shift.png and, of a classification, calibration.png; a run with ``figures=false`` gets none.
    """
    from rich.console import Console

    from unitgain.cli._shift_text import blocks
    from unitgain.cli._show import near, prose
    from unitgain.report.calibration import calibration_figure
    from unitgain.runs import RunDirectory, atomic_write
    from unitgain.train.correction import correction_of

    found = correction_of(directory)
    run, console = RunDirectory(directory), Console(highlight=False)
    path = directory / "shift.json"
    atomic_write(path, json.dumps(_plain(found.as_dict()), indent=2).encode() + b"\n")
    console.print()
    for block in blocks(found):
        if isinstance(block, str):
            prose(console, block)
        else:
            console.print()
            console.print(block)
            console.print()
    places = {"shift": path}
    if found.spec.figures:
        places["figure"] = _draw(found, run.figures_dir)
        if found.calibration:
            curves = [each.as_dict() for each in found.calibration]
            places["calibration"] = calibration_figure(curves, run.figures_dir)[0]
    for name, place in places.items():
        console.print(f"[bold]{name:13}[/bold]{near(place)}", soft_wrap=True)


def _plain(value: object) -> object:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _draw(found: "Correction", folder: Path) -> Path:
    from unitgain.report.shift import ShiftPicture, shift_figure

    table = found.table
    name = found.spec.shift.target.rpartition(".")[2]
    picture = ShiftPicture(
        f"{name}, weights by {found.spec.weighting.target.rpartition('.')[2]}; "
        f"correct: {found.risk.gate.answer}",
        table.x[table.split.train],
        table.x[table.split.test],
        found.weights.full_N,
        found.weights.truth_N,
        table.feature_names,
        found.weights.balance.before_D.numpy(),
        found.weights.balance.after_D.numpy(),
        _class_shares(found),
    )
    return shift_figure(picture, folder)[0]


def _class_shares(found: "Correction") -> "ClassShares | None":
    """What the panel of class shares shows; None where class weights are not what to use."""
    from unitgain.report.shift import ClassShares

    label = found.label
    if label is None or label.intervals is None:
        return None
    source_C = label.ratio.source_C
    # True weights have mean one under the shares of training rows.
    true_C = None if label.truth_C is None else label.truth_C * label.train_C
    return ClassShares(
        label.class_names,
        source_C.numpy(),
        label.ratio.target_C.numpy(),
        label.intervals.share_2C[0].numpy(),
        label.intervals.share_2C[1].numpy(),
        None if true_C is None else true_C.numpy(),
    )
