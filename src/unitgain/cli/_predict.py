"""``unitgain predict``: what theory says of a configuration, without data and without training."""

import argparse
import gc
import json
from collections.abc import Sequence
from pathlib import Path

from unitgain.cli._command import Command, Exit
from unitgain.cli._composed import composed_spec
from unitgain.errors import ConfigError

FIGURE = "forecast.png"
KINDS = ("png", "svg")

HELP = f"""\
usage: unitgain predict [group=option ...] [key=value ...] [--plot [PATH]] [--json]

Whether the gradient of a network will vanish, explode or flow, and what would mend it, by theory
alone. Takes what unitgain train takes; loads no data and trains nothing.

  unitgain predict activation=tanh init=mean_field init.sigma_w=1.58 model.depth=50

flags:
  --plot [PATH]         draw the maps of lengths and correlations, the forecast and
                        the phase diagram; {FIGURE} if no PATH is given
  --json                print the numbers of every layer as JSON
  -cd, --config-dir DIR add a folder of options: DIR/init/mine.yaml is init=mine
  -cn, --config-name X  compose X.yaml instead of train.yaml
  -h, --help            show this; unitgain train --help lists groups and keys
"""


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain predict`` is asked for."""
    # As for train: imports leave little to collect.
    gc.disable()
    try:
        return _run(argv)
    finally:
        gc.enable()


COMMAND = Command("predict", "tell before training whether gradients will flow", run)


def _run(argv: Sequence[str]) -> int:
    own, arguments = _arguments(argv)
    if arguments.help:
        print(HELP, end="")
        return Exit.FINISHED
    place = None if own.plot is None else _figure_path(own.plot)
    spec = composed_spec(arguments)
    from unitgain.forecast import forecast_of, remedies, sentence

    forecast, found = forecast_of(spec), remedies(spec)
    if own.json:
        content = {**forecast.as_dict(), "text": sentence(forecast)}
        content["remedies"] = [remedy.as_dict() for remedy in found]
        print(json.dumps(content, indent=2))
    else:
        from unitgain.cli._show_forecast import show_forecast

        show_forecast(spec, forecast, found)
    if place is not None:
        from unitgain.report import forecast_figure

        forecast_figure(spec, place)
        if not own.json:
            print(f"{'figure':8}{place}")
    return Exit.FINISHED


def _arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, argparse.Namespace]:
    """The command's own flags, and Hydra's with the overrides.

    Raises:
        ConfigError: a flag that there isn't, or one of train's that has no use here.
    """
    from unitgain.cli._train import arguments_of

    own, rest = argparse.Namespace(plot=None, json=False), []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--json":
            own.json = True
        elif word == "--plot":
            # What is no path is the next override.
            is_path = words and "=" not in words[0] and not words[0].startswith(("-", "~"))
            own.plot = words.pop(0) if is_path else FIGURE
        elif word.startswith("--plot="):
            own.plot = word.removeprefix("--plot=")
        else:
            rest.append(word)
    arguments = arguments_of(rest)
    for name in ("run", "multirun", "cfg", "info", "package", "hydra_help", "shell_completion"):
        if getattr(arguments, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: belongs to unitgain train; leave it out here")
    return own, arguments


def _figure_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lstrip(".") not in KINDS:
        raise ConfigError(
            f"--plot: must be a path that ends in .png or .svg, got {text or 'nothing'}"
        )
    if path.parent.exists() and not path.parent.is_dir():
        raise ConfigError(f"--plot: must be in a folder, but {path.parent} is a file")
    return path
