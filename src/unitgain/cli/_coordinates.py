"""``unitgain coordinate-check``: whether layers learn alike at every width."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.pack.coordinates import Coordinates
    from unitgain.spec import RunSpec

FLAT = 0.25
"""Slopes below this are taken for none: what a finite width adds fades as its root."""

HELP = """\
usage: unitgain coordinate-check [group=option ...] [key=value ...] [--widths W,W,...] [--steps N]
                                 [--seeds N] [--plot PATH]

Trains a few steps at each width and fits how the change of each layer's pre-activations depends on
the width: with init=spectral not at all, so that a learning rate that is good at one width is
good at every one. Takes what unitgain train takes, but for model.width.

  unitgain coordinate-check init=spectral init.base_width=64 --widths 64,128,256,512,1024

flags:
  --widths W,W,...      widths of the hidden layers (64,128,256,512,1024)
  --steps N             steps of the optimizer (4)
  --seeds N             seeds to average over, trained as one pack (4)
  --plot PATH           where the figure goes, .png or .svg (coordinate_check.png)
  -cd, --config-dir DIR add a folder of options: DIR/init/mine.yaml is init=mine
  -cn, --config-name X  compose X.yaml instead of train.yaml
  -h, --help            show this; unitgain train --help lists groups and keys
"""


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain coordinate-check`` is asked for."""
    from unitgain.cli._train import arguments_of

    own, rest = _own(argv)
    if own.help:
        print(HELP, end="")
        return Exit.FINISHED
    from unitgain.cli._composed import composed_spec

    spec = composed_spec(arguments_of(rest))
    if not isinstance(spec.model.width, int):
        raise ConfigError(
            f"model.width: must be one number, which is replaced by --widths, "
            f"got {list(spec.model.width)}; leave it out"
        )
    import torch

    from unitgain.data import open_data
    from unitgain.pack.coordinates import coordinate_check
    from unitgain.report.coordinates import coordinates_figure

    torch.set_num_threads(spec.trainer.threads)
    table = open_data(spec)
    found = coordinate_check(spec, table, own.widths, own.steps, own.seeds)
    _show(spec, found, own.steps)
    coordinates_figure(found.widths, found.size_WL, found.change_WL, own.steps, own.plot)
    print(f"{'figure':8}{own.plot}")
    return Exit.FINISHED


COMMAND = Command("coordinate-check", "tell whether layers learn alike at every width", run)


def _own(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's own flags, and the rest.

    Raises:
        ConfigError: a flag has no value, or one that won't do.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    for flag, default in (("widths", "64,128,256,512,1024"), ("steps", "4"), ("seeds", "4")):
        parser.add_argument(f"--{flag}", default=default)
    parser.add_argument("--plot", default="coordinate_check.png")
    try:
        own, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}; give one") from error
    own.widths = tuple(_count("--widths", text) for text in own.widths.split(","))
    if len(set(own.widths)) < 2:
        raise ConfigError(f"--widths: must be at least two, got {own.widths[0]}; give 64,256")
    own.steps, own.seeds = _count("--steps", own.steps), _count("--seeds", own.seeds)
    own.plot = Path(own.plot)
    if own.plot.suffix not in (".png", ".svg"):
        raise ConfigError(f"--plot: must be a path that ends in .png or .svg, got {own.plot}")
    return own, rest


def _count(flag: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{flag}: must be a whole number above 0, got {text or 'nothing'}")
    return int(text)


def _show(spec: "RunSpec", found: "Coordinates", steps: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("width")
    for head in (*map(str, found.widths), "slope", "(untrained)"):
        table.add_column(head, justify="right")
    slope_L, start_L = found.change_slopes.tolist(), found.size_slopes.tolist()
    for i, (slope, start) in enumerate(zip(slope_L, start_L, strict=True)):
        name = "output" if i == len(slope_L) - 1 else f"layer {i + 1}"
        numbers = (f"{value:.3g}" for value in found.change_WL[:, i])
        table.add_row(name, *numbers, *(_slope(each) for each in (slope, start)))
    console = Console(highlight=False)
    console.print()
    console.print(f"change of pre-activations (RMS) in {steps} steps")
    console.print(table)
    console.print()
    # The output's initial weights add a part that fades with the width under every rule: it may only grow.
    wrong = [abs(s) for s in slope_L[:-1]] + [max(slope_L[-1], 0.0)]
    known = [(s, i) for i, s in enumerate(wrong) if not math.isnan(s)]
    if not known:
        print("nothing changes: no gradient reaches the layers in so few steps; try more --steps")
        return
    steepest, layer = max(known)
    place = "the output" if layer == len(slope_L) - 1 else f"layer {layer + 1}"
    if steepest < FLAT:
        print(f"layers learn alike at every width: no slope beyond {FLAT}")
        return
    growth = "grows" if slope_L[layer] > 0 else "shrinks"
    spectral = spec.init.target == "unitgain.nn.init.spectral"
    remedy = "try fewer --steps or wider layers" if spectral else "try init=spectral"
    print(f"how much {place} learns {growth} with the width, slope {slope_L[layer]:+.2f}; {remedy}")


def _slope(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"
