"""A forecast, as the terminal shows it."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitgain.forecast import Forecast, Remedy, sentence
from unitgain.spec import RunSpec
from unitgain.theory.bands import HEALTHY_DECADES
from unitgain.theory.mean_field import Phase

MOST_REMEDIES = 6
_WIDE = 100
"""Columns from which there is room for words beside a remedy."""

_PHASES = {
    Phase.ORDERED: "gradients shrink towards the input",
    Phase.CRITICAL: "gradients keep their size",
    Phase.CHAOTIC: "gradients grow towards the input",
    Phase.HALF_STABLE: "lengths leave q* on one side",
    Phase.UNBOUNDED: "lengths grow without end",
}
_COLOURS = {"healthy": "green", "vanishing": "red", "exploding": "red", "unknown": "yellow"}


def show_forecast(spec: RunSpec, forecast: Forecast, remedies: Sequence[Remedy]) -> None:
    """What depth does, the verdict, and what would mend it where something is to mend."""
    console = Console(highlight=False)
    widths = sorted(set(spec.model.widths))
    units = f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
    console.print()
    title = Text(forecast.name, "bold")
    console.print(
        title + Text(f": {forecast.hidden} hidden layers of {units} units"), soft_wrap=True
    )
    console.print()
    if forecast.phase is not None:
        console.print(_numbers(forecast))
        console.print()
    verdict, _, rest = sentence(forecast).partition(":")
    console.print(Text(verdict, f"bold {_COLOURS[forecast.label]}") + Text(f":{rest}."))
    for caveat in forecast.caveats:
        console.print(Text("note: ", "bold") + Text(f"{caveat}."))
    if forecast.label in ("vanishing", "exploding"):
        console.print()
        _show_remedies(console, remedies)
    console.print()


def _numbers(forecast: Forecast) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="bright_black")
    phase, hidden = forecast.phase, forecast.hidden
    assert phase is not None
    low, high = (forecast.ratio * 10 ** (sign * forecast.spread) for sign in (-1, 1))
    table.add_row("phase", phase.value, _PHASES[phase])
    table.add_row("q*", _number(forecast.q_star), "variance of pre-activations at depth")
    table.add_row("chi_1", _number(forecast.chi_1), "growth a layer of the squared gradient")
    table.add_row("xi_c", _layers(forecast.xi_c), _settles(forecast))
    table.add_row("trainable depth", _layers(forecast.trainable_depth), "6 xi_c")
    table.add_row("slope", f"{forecast.slope:+.4f}", "decades a layer of the norm, to the input")
    told = f"gradient norm, layer 1 over layer {hidden}"
    table.add_row("first to last", _number(forecast.ratio), told)
    if math.isfinite(forecast.spread) and forecast.spread > 0:
        table.add_row(
            "", f"{_number(low)} to {_number(high)}", "for two thirds of draws, one example"
        )
    return table


def _show_remedies(console: Console, remedies: Sequence[Remedy]) -> None:
    if not remedies:
        console.print("No single change that theory knows of heals this network.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("what heals it, by theory", overflow="fold")
    table.add_column("slope", justify="right", no_wrap=True)
    table.add_column("decades", justify="right", no_wrap=True)
    words = console.width >= _WIDE
    if words:
        table.add_column("")
    for remedy in remedies[:MOST_REMEDIES]:
        table.add_row(
            " ".join(remedy.overrides),
            f"{_flat(remedy.slope):+.4f}",
            f"{_flat(remedy.decades):.2f}",
            *([Text(remedy.text, "bright_black")] if words else []),
        )
    console.print(table)
    console.print(Text(f"Healthy is up to {HEALTHY_DECADES:g} decades.", "bright_black"))


def _settles(forecast: Forecast) -> str:
    reached = forecast.correlation_L[-2]
    return f"inputs' correlation settles; {reached:.2f} at layer {forecast.hidden}"


def _flat(value: float) -> float:
    """Zero for what rounds to it, so that it has no sign."""
    return 0.0 if abs(value) < 5e-5 else value


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "infinite"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:.1e}"


def _layers(count: float) -> str:
    if math.isinf(count) or count > 1e4:
        return "any" if math.isinf(count) else "over 10000 layers"
    return f"{count:.3g} layers"
