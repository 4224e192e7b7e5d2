"""``unitgain reproduce RUN``: does a run come out the same when it is trained again?"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.cli._command import Command, Exit, parsed
from unitgain.cli._runs import check_run
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from unitgain.train.reproduce import Reproduction

_DIGITS = 12


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain reproduce`` is asked for."""
    given = _arguments(argv)
    from unitgain.train.reproduce import reproduce

    if given.keep is not None:
        return _told(reproduce(given.run, given.keep), given.keep)
    with tempfile.TemporaryDirectory(prefix="unitgain-") as folder:
        return _told(reproduce(given.run, Path(folder) / "run"), None)


COMMAND = Command("reproduce", "train a run again and compare it with what was recorded", run)


def _told(found: "Reproduction", kept: Path | None) -> Exit:
    """Print what was found; the last line is the answer."""
    code = [_commit(commit) for commit in found.commits]
    same_code = found.commits[0] == found.commits[1] and "with changes" not in code[0]
    print(f"{'code':10}{code[0]}" + ("" if same_code else f", now {code[1]}"))
    print(f"{'data':10}the same ({found.fingerprints[0][:_DIGITS]})")
    if not found.tolerance:
        print(f"{'numerics':10}the same ({found.fingerprints[1][:_DIGITS]})")
    for name, (recorded, now) in found.numerics.items():
        print(f"{'numerics':10}{name}: {recorded}, now {now}")
    for name in found.missing:
        print(f"{'missing':10}{name}: not compared")
    if kept is not None:
        print(f"{'run':10}{kept}")
    if found.difference is not None:
        print(f"differs (recorded and now): {found.difference}")
        return Exit.DIFFERENT
    kind = f"within {found.tolerance:g}" if found.tolerance else "bit-identical"
    print(f"{kind}: {', '.join(found.compared)}")
    return Exit.FINISHED


def _commit(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "no commit known"
    changes = " with changes that aren't committed" if git["dirty"] else ""
    return f"commit {git['commit'][:_DIGITS]}{changes}"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
        ConfigError: no run directory, or more than one.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain reproduce [-h] [--keep DIR] RUN",
        description="Train a run again, with its configuration, seed, device and threads, and "
        "compare history, gradient flow, weights and metrics: bit by bit where the numerics "
        "fingerprint is the recorded one, else within tolerances. Exit status: 0 the same, "
        "1 different, 2 no answer. The run itself isn't touched.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("run", nargs="*", metavar="RUN", help="a run directory")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the new run there")
    given = parsed(parser, argv, "reproduce")
    if len(given.run) != 1 or not given.run[0]:
        raise ConfigError(
            f"unitgain reproduce: must be given one run directory, got "
            f"{' '.join(given.run) or 'nothing'}; write unitgain reproduce RUN"
        )
    given.run = Path(given.run[0])
    check_run(given.run)
    if given.keep is not None and _is_used(given.keep):
        raise ConfigError(f"--keep: must be a new or empty folder, but {given.keep} isn't")
    return given


def _is_used(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))
