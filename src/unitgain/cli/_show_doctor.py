"""A diagnosis, as the terminal shows it."""

import math
import shlex
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitgain.train.diagnosis import Diagnosis, Measured, Predicted, Proposal

ROWS, MOST = 9, 6
_MUTED = "bright_black"
_BAD = {"healthy": "green", "unknown": "yellow"}


def show(
    diagnosis: Diagnosis,
    before: str | None,
    command: Callable[[Proposal], list[str] | None],
) -> None:
    """The verdict, the layers, the whole, and what was tried.

    Args:
        diagnosis: all of it.
        before: what became of the run, if it was one.
        command: what trains a proposal; None where that isn't known.
    """
    console = Console(highlight=False)
    console.print()
    console.print(Text(diagnosis.name, "bold") + Text(f": {diagnosis.facts}"))
    if before is not None:
        console.print(Text("the run ", "bold") + Text(before))
    console.print()
    verdict, colon, rest = diagnosis.verdict.text.partition(":")
    colour = _BAD.get(diagnosis.verdict.label, "red")
    console.print(Text(verdict, f"bold {colour}") + Text(f"{colon}{rest}"))
    console.print()
    console.print(_layers(diagnosis.measured, diagnosis.predicted))
    console.print()
    console.print(_whole(diagnosis))
    for caveat in diagnosis.predicted.caveats if diagnosis.predicted else ():
        console.print(Text("note    ", "bold") + Text(f"{caveat}."))
    if diagnosis.faulty:
        console.print()
        _show_proposals(console, diagnosis, command)


def _layers(measured: Measured, predicted: Predicted | None) -> Table:
    """A row for some of the layers: measured, and beside it theory."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("layer", justify="right", no_wrap=True)
    gradient = measured.values["grad_preactivation"]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [("gradient", gradient / gradient[-1], _power)]
    columns.append(("square", measured.values["activation_second_moment"], _short))
    columns.append(("cosine", measured.values["activation_correlation"], _fixed))
    theory = {} if predicted is None else _theory(predicted)
    for name, values in (
        ("silent", measured.values["silent_fraction"]),
        ("saturated", measured.values["saturated_fraction"]),
    ):
        if np.nan_to_num(values).max(initial=0.0) > 0.005:
            columns.append((name, values, _share))
    for name, _, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
        if name in theory:
            table.add_column("theory", justify="right", style=_MUTED, no_wrap=True)
    for i in _thinned(len(measured.names)):
        cells = [measured.names[i]]
        for name, values, written in columns:
            cells.append(written(float(values[i])))
            if name in theory:
                beside = theory[name]
                cells.append(written(beside[i]) if i < len(beside) else "")
        table.add_row(*cells)
    return table


def _theory(predicted: Predicted) -> dict[str, Sequence[float]]:
    return {
        "gradient": [10.0**x if x > -300 else 0.0 for x in predicted.log10_gradient_L],
        "square": predicted.second_moment_L,
        "cosine": predicted.correlation_L,
    }


def _thinned(layers: int) -> list[int]:
    """The first, the last two and some between."""
    if layers <= ROWS + 1:
        return list(range(layers))
    hidden = np.linspace(0, layers - 2, ROWS).round().astype(int)
    return [*map(int, hidden), layers - 1]


def _whole(diagnosis: Diagnosis) -> Table:
    measured, predicted = diagnosis.measured, diagnosis.predicted
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    error = f" +- {measured.error:.3f}" if math.isfinite(measured.error) else ""
    slope = f"{_signed(measured.slope)}{error} decades of gradient a layer, towards the input"
    if predicted is not None:
        slope += f"; theory {_signed(predicted.slope)}"
    table.add_row("slope", slope)
    if predicted is not None and predicted.phase is not None:
        table.add_row("phase", _phase(predicted))
    if diagnosis.gains is not None:
        high, low = (_power(gain) for gain in diagnosis.gains)
        text = f"singular values from {high} down to {low}, outputs by inputs"
        table.add_row("Jacobian", text)
    if diagnosis.sharpness is not None:
        text = f"{_power(diagnosis.sharpness)}, the largest eigenvalue of the loss's Hessian"
        table.add_row("sharpness", text)
    return table


def _phase(predicted: Predicted) -> str:
    text = f"{predicted.phase}"
    if predicted.chi_1 is not None:
        text += f", chi_1 = {predicted.chi_1:.4g}"
    depth = predicted.trainable_depth
    if depth is not None and depth < 1e4:
        text += f"; such networks train up to about {depth:.0f} layers"
    return text


def _show_proposals(
    console: Console,
    diagnosis: Diagnosis,
    command: Callable[[Proposal], list[str] | None],
) -> None:
    proposals = diagnosis.proposals[:MOST]
    if not proposals:
        console.print("No change is known that would heal this network.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    theory = any(each.predicted is not None for each in proposals)
    table.add_column("what was tried", overflow="fold")
    table.add_column("slope", justify="right", no_wrap=True)
    if theory:
        table.add_column("theory", justify="right", style=_MUTED, no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for each in proposals:
        name = each.text if each.spec is None else " ".join(each.steps)
        beside = ["" if each.predicted is None else _signed(each.predicted)] if theory else []
        word = Text("heals", "green") if each.heals else Text(each.verdict.label, _MUTED)
        table.add_row(name, _signed(each.measured.slope), *beside, word)
    console.print(table)
    best = proposals[0]
    if not best.heals:
        console.print("None of these is enough.")
        return
    console.print()
    if best.spec is None:
        console.print(f"The first of them, {best.text}:")
        console.print(Text("\n".join(f"  {line}" for line in best.steps)), soft_wrap=True)
    elif (words := command(best)) is not None:
        console.print(f"The first of them, {best.text}:")
        console.print(Text(f"  {shlex.join(words)}"), soft_wrap=True)
    else:
        console.print(f"The first of them is {best.text}; --apply writes it into a file.")


def _signed(value: float) -> str:
    """A slope; what rounds to zero has no sign.

    Example:
        >>> _signed(-0.6307), _signed(-0.00003), _signed(float("nan"))
        ('-0.631', '0.000', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:+.3f}" if abs(value) >= 5e-4 else "0.000"


def _power(value: float) -> str:
    """A number that may span decades.

    Example:
        >>> _power(1.0), _power(0.0321), _power(1.24e-31), _power(0.0)
        ('1.00', '0.0321', '1.2e-31', '0')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-" if math.isnan(value) else "inf"
    return f"{value:#.3g}" if 1e-2 <= abs(value) < 1e3 else f"{value:.1e}"


def _short(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if 1e-3 <= abs(value) < 100 or value == 0 else f"{value:.1e}"


def _fixed(value: float) -> str:
    return "" if math.isnan(value) else f"{value + 0.0:.3f}".replace("-0.000", "0.000")


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"
