"""``unitgain sync RUNS``: uploads run directories to Weights & Biases, whatever of them isn't there yet."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain sync`` is asked for."""
    given = _arguments(argv)
    runs = [path for each in given.runs for path in _runs_in(Path(each), given.as_one)]
    from unitgain.upload import Uploader, identify, is_uploaded, must_be_logged_in, near, note

    left = list(dict.fromkeys(path.resolve() for path in runs))
    done = [path for path in left if is_uploaded(path)]
    left = [path for path in left if path not in done]
    if done:
        print(f"{len(done)} of {len(done) + len(left)} runs are uploaded already")
    if not left:
        return Exit.FINISHED
    must_be_logged_in()
    uploader = Uploader(given.jobs)
    for path in left:
        config = None if (path / "config.yaml").exists() else _first_config(path)
        identify(path, config, given.project, given.entity)
        note(uploader.inbox, path, ended=True)
    report = uploader.close(lambda path, url: print(f"{near(path)}  {url}", flush=True))
    for path, why in report.left.items():
        print(f"error: {near(path)}: not uploaded ({why})", file=sys.stderr)
    if report.left:
        print(
            f"error: W&B: {len(report.left)} of {len(left)} runs are left; the same command goes on with them",
            file=sys.stderr,
        )
    return Exit.UNEXPECTED if report.left else Exit.FINISHED


COMMAND = Command("sync", "upload runs to Weights & Biases, later or again", run)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        usage="unitgain sync [-h] [--as-one] [--project NAME] [--entity NAME] [--jobs N]\n"
        "                     RUN [RUN ...]",
        description="Upload runs to Weights & Biases from their own files. What is there already is not sent "
        "again; a run that has grown since is completed.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="a run directory, or a folder of them"
    )
    parser.add_argument(
        "--as-one", action="store_true", help="a folder of runs as one W&B run: a series each"
    )
    parser.add_argument("--project", help="where new runs belong, instead of logger.wandb.project")
    parser.add_argument("--entity", help="the user or team, instead of logger.wandb.entity")
    parser.add_argument("--jobs", type=int, default=8, metavar="N", help="at a time; 8")
    given = parsed(parser, argv, "sync")
    if not given.runs:
        raise ConfigError("unitgain sync: must be given run directories; write unitgain sync RUN")
    if given.jobs < 1:
        raise ConfigError(f"--jobs: must be at least 1, got {given.jobs}")
    return given


def _runs_in(folder: Path, as_one: bool) -> list[Path]:
    """The folder itself, if it is a run or all its runs are one; else the runs in it.

    Raises:
        ConfigError: there is none, or a run is to be many.
    """
    from unitgain.cli._runs import check_run

    is_run = (folder / "config.yaml").is_file()
    if as_one and is_run:
        raise ConfigError(f"--as-one: needs folders of runs, but {folder} is a run; leave it out")
    inside = sorted(path.parent for path in folder.glob("*/config.yaml"))
    if inside and not is_run:
        return [folder] if as_one else inside
    check_run(folder)
    return [folder]


def _first_config(folder: Path) -> dict[str, Any]:
    """The configuration that says where all runs of a folder belong."""
    from unitgain.runs import RunDirectory

    first = min(path.parent for path in folder.glob("*/config.yaml"))
    return RunDirectory(first).read_config()
