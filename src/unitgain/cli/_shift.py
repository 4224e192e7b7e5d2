"""``unitgain shift RUN``: should this run correct for the shift between its source and its target?"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unitgain.train.correction import Correction

FEATURES = 5
"""Rows of the balance table."""
UNBALANCED = 0.1


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
    """Analyse a run's shift, print what was found, and leave shift.json and figures/shift.png in the run."""
    from rich.console import Console

    from unitgain.cli._show import near, prose
    from unitgain.runs import RunDirectory, atomic_write
    from unitgain.train.correction import correction_of

    found = correction_of(directory)
    run, console = RunDirectory(directory), Console(highlight=False)
    path = directory / "shift.json"
    atomic_write(path, json.dumps(_plain(found.as_dict()), indent=2).encode() + b"\n")
    console.print()
    for block in _blocks(found):
        if isinstance(block, str):
            prose(console, block)
        else:
            console.print()
            console.print(block)
            console.print()
    places = {"shift": path, "figure": _draw(found, run.figures_dir)}
    for name, place in places.items():
        console.print(f"[bold]{name:8}[/bold]{near(place)}", soft_wrap=True)


def _plain(value: object) -> object:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _blocks(found: "Correction") -> Iterator["str | RenderableType"]:
    yield _split(found)
    yield _weights(found)
    yield _balance(found)
    yield _balance_table(found)
    yield _detection(found)
    yield _metrics_table(found)
    yield _risk(found)
    yield f"Should it correct? {found.answer()}"


def _split(found: "Correction") -> str:
    rows = [len(part) for part in found.table.split.parts()]
    shifted, name = found.table.shifted, found.spec.shift.target.rpartition(".")[2]
    text = (
        f"Source: {rows[0]} training and {rows[1]} validation rows; target: {rows[2]} rows. Shift: {name} "
        f"({shifted.kind})."
    )
    if shifted.bound == shifted.bound:
        text += (
            f" The populations' weights are at most {shifted.bound:.3g}, and leave "
            f"{shifted.ess_share:.0%} of the source's rows effective."
        )
    return text


def _weights(found: "Correction") -> str:
    weights, name = found.weights, found.spec.weighting.target.rpartition(".")[2]
    text = (
        f"Weights by {name}: {weights.ess:.0f} effective of {weights.rows} training rows, the largest with "
        f"{weights.max_share:.1%} of the sum, tail index {weights.pareto_k:.2f}."
    )
    if found.truth is not None:
        text += (
            f" True weights: {found.truth.ess:.0f} effective; the estimate's relative error is "
            f"{found.weight_error:.2f}."
        )
    return text


def _balance(found: "Correction") -> str:
    columns = (found.balance.before_D, found.balance.after_D)
    before, after = (int((each.abs() > UNBALANCED).sum()) for each in columns)
    return (
        f"Means of source and target differ by more than {UNBALANCED} standard deviations in {before} of "
        f"{len(columns[0])} features, after weighting in {after}:"
    )


def _balance_table(found: "Correction") -> "RenderableType":
    from rich.table import Table

    before, after = found.balance.before_D, found.balance.after_D
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for name, side in (("feature", "left"), ("before", "right"), ("after", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for d in before.abs().argsort(descending=True)[:FEATURES].tolist():
        table.add_row(found.table.feature_names[d], f"{before[d]:+.2f}", f"{after[d]:+.2f}")
    return table


def _detection(found: "Correction") -> str:
    result = found.detection
    least = min(zip(result.adjusted, result.detections, strict=True), key=lambda pair: pair[0])[1]
    differ = "differ" if result.p_value <= 0.05 else "are not shown to differ"
    return (
        f"Inputs of validation and target rows {differ}: p = {result.p_value:.2g} over "
        f"{len(result.detections)} tests, {least.name} the clearest with an effect of {least.effect:.2f}."
    )


def _metrics_table(found: "Correction") -> "RenderableType":
    from rich.table import Table

    from unitgain.cli._show import number

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("target rows")
    for name in ("without", "with correction"):
        table.add_column(name, justify="right")
    for key, value in found.corrected.items():
        part, _, metric = key.partition("/")
        if part == "test":
            table.add_row(metric, number(found.plain[key]), number(value))
    return table


def _risk(found: "Correction") -> str:
    def shown(risk: object) -> str:
        interval = risk.interval  # type: ignore[attr-defined]
        return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"

    return (
        f"Target loss without target labels, of models trained on four fifths: {shown(found.weighted_risk)} by "
        f"importance weighting, {shown(found.robust_risk)} doubly robust. Least at exponent "
        f"{found.best_exponent:g} of {', '.join(f'{e:g}' for e in found.fitted.exponents)} (the run's is "
        f"{found.spec.weighting.exponent:g})."
    )


def _draw(found: "Correction", folder: Path) -> Path:
    from unitgain.report.shift import ShiftPicture, shift_figure

    table = found.table
    train, truth = table.split.train, table.shifted.ratio
    name = found.spec.shift.target.rpartition(".")[2]
    answer = found.gate.answer
    picture = ShiftPicture(
        f"{name}, weights by {found.spec.weighting.target.rpartition('.')[2]}; correct: {answer}",
        table.x[train],
        table.x[table.split.test],
        found.full_weight[train],
        None if truth is None else truth[train],
        table.feature_names,
        found.balance.before_D.numpy(),
        found.balance.after_D.numpy(),
    )
    return shift_figure(picture, folder)[0]
