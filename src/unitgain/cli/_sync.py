"""``unitgain sync RUNS``: uploads run directories to Weights & Biases, whatever of them isn't there yet."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain sync`` is asked for."""
    given = _arguments(argv)
    runs = [path for each in given.runs for path in _runs_in(Path(each))]
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
        identify(path, project=given.project, entity=given.entity)
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
        usage="unitgain sync [-h] [--project NAME] [--entity NAME] [--jobs N] RUN [RUN ...]",
        description="Upload runs to Weights & Biases from their own files. What is there already is not sent "
        "again; a run that has grown since is completed.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="a run directory, or a folder of them"
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


def _runs_in(folder: Path) -> list[Path]:
    """The folder itself, if it is a run, or the runs in it.

    Raises:
        ConfigError: there is none.
    """
    from unitgain.cli._runs import check_run

    if folder.is_dir() and not (folder / "config.yaml").is_file():
        inside = sorted(path.parent for path in folder.glob("*/config.yaml"))
        if inside:
            return inside
    check_run(folder)
    return [folder]
