"""``unitgain doctor``: what is wrong with a network at initialization, and what heals it."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.cli._command import Command, Exit, parsed
from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from unitgain.spec import RunSpec
    from unitgain.train.diagnosis import Diagnosis, Proposal

HEALED = Path("healed.yaml")
_SUFFIXES = (".yaml", ".yml")
_DESCRIPTION = """\
Look at a network at initialization, on a batch of its data: what its gradients do, what theory says of it, and which
changes heal it; each change is tried.

TARGET is one of
  key=value ...        a configuration, as for unitgain train; the default one where nothing is given
  RUN                  a run directory
  config.yaml          a configuration in a file, as runs hold it
  package.module:Name  a torch.nn.Module or LightningModule of your own, or a function that makes one
  file.py:name         likewise
"""


def run(argv: Sequence[str]) -> int:
    """Diagnose what is named, and heal it if asked to."""
    arguments = _arguments(argv)
    if _is_module(arguments.target):
        _report(_of_module(arguments), arguments, None)
        return Exit.FINISHED
    if arguments.apply is not None:
        _check_free(Path(arguments.apply))
    with _configured(arguments) as subject:
        from unitgain.train.run_diagnosis import diagnose_run

        diagnosis = diagnose_run(subject.spec, arguments.seeds, sharp=arguments.sharpness)
        _report(diagnosis, arguments, subject)
        if arguments.apply is None:
            return Exit.FINISHED
        return _apply(subject, diagnosis, arguments)


COMMAND = Command("doctor", "say what is wrong with a network at initialization, and heal it", run)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What was typed.

    Raises:
        ConfigError: an option that isn't there, or that doesn't suit the target.
    """
    parser = argparse.ArgumentParser(
        usage="unitgain doctor [options] [TARGET]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help=argparse.SUPPRESS)
    for name, metavar, text in (
        ("--apply", "[FILE]", f"write a configuration that heals it, by default to {HEALED}"),
        ("--seeds", "N", "how many seeds are measured (3); for configurations"),
        ("--data", "TARGET", "what gives batches; for modules of your own"),
        ("--input", "SHAPE", "of a synthetic example, such as 64 or 3,32,32; likewise"),
        ("--config-dir", "DIR", "a folder of options of your own, as for unitgain train"),
    ):
        parser.add_argument(name, metavar=metavar, help=text)
    parser.add_argument("--sharpness", action="store_true", help="the top Hessian eigenvalue, too")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    given = parsed(parser, _with_file(argv), "doctor")
    _check(given)
    given.seeds = _whole("--seeds", given.seeds or "3")
    given.input = given.input and [_whole("--input", part) for part in given.input.split(",")]
    return given


def _with_file(argv: Sequence[str]) -> list[str]:
    """The arguments, with the file of ``--apply`` written out where it was left out."""
    words = list(argv)
    if "--apply" in words:
        after = words.index("--apply") + 1
        if after == len(words) or not words[after].endswith(_SUFFIXES):
            words.insert(after, str(HEALED))
    return words


def _check(given: argparse.Namespace) -> None:
    if _is_module(given.target):
        for name, value in (("--seeds", given.seeds), ("--config-dir", given.config_dir)):
            if value:
                raise ConfigError(f"{name}: is for configurations, but {given.target[0]} is none")
        if given.apply:
            raise ConfigError(
                "--apply: writes a configuration, which a module of your own has none of; leave it "
                "out, and type the lines of Python that are shown"
            )
        return
    for name, value in (("--data", given.data), ("--input", given.input)):
        if value:
            raise ConfigError(f"{name}: is for modules of your own; set data=... instead")


def _whole(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"{option}: must be whole numbers of at least 1, got {text}")
    return int(text)


def _is_module(target: Sequence[str]) -> bool:
    """Whether it is one name with a colon, and no override."""
    return len(target) == 1 and ":" in target[0] and "=" not in target[0]


@dataclass(frozen=True)
class Subject:
    """A configuration to look at.

    Args:
        spec: itself.
        hydra: the session, in which changed configurations can be composed.
        overrides: that give it; None where that isn't known.
        before: what became of it, for a run that has ended.
    """

    spec: "RunSpec"
    hydra: "Hydra"
    overrides: list[str] | None
    before: str | None = None

    def with_change(self, proposal: "Proposal") -> list[str] | None:
        """The overrides that give a changed run; None where they aren't known, or would give another."""
        from unitgain.cli._healed import gives, spelled_out
        from unitgain.train.run_diagnosis import merged

        if self.overrides is None or proposal.spec is None:
            return None
        for typed in (self.overrides, spelled_out(self.hydra, self.overrides)):
            overrides = list(merged(typed, proposal.steps))
            if gives(self.hydra, overrides, proposal.spec):
                return overrides
        return None


@contextmanager
def _configured(arguments: argparse.Namespace) -> Iterator[Subject]:
    from unitgain.cli._composed import composed_in
    from unitgain.cli._conf import CONFIG_NAME, hydra_session
    from unitgain.cli._train import arguments_of

    target = arguments.target
    place = Path(target[0]) if len(target) == 1 and "=" not in target[0] else None
    flags = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    with hydra_session(arguments_of(flags)) as hydra:
        if place is None or target[0].startswith("~"):
            yield Subject(composed_in(hydra, target, CONFIG_NAME), hydra, list(target))
        elif place.is_dir():
            yield _of_run(hydra, place)
        elif place.suffix in _SUFFIXES:
            yield Subject(_of_file(place), hydra, None)
        else:
            raise ConfigError(
                f"{target[0]}: must be a run directory, a .yaml file, overrides or module:Name, but "
                "there is no such folder; see unitgain doctor --help"
            )


def _of_run(hydra: "Hydra", directory: Path) -> Subject:
    from unitgain.cli._runs import check_run
    from unitgain.runs import RunDirectory
    from unitgain.spec import parse

    check_run(directory)
    run = RunDirectory(directory)
    spec = parse(run.read_config())
    typed = run.read_overrides() if run.overrides.exists() else None
    summary = run.read_summary() or {}
    verdict = (summary.get("verdict") or {}).get("text", "")
    before = f"{run.status}; {verdict}" if verdict else run.status
    return Subject(spec, hydra, typed, before)


def _of_file(path: Path) -> "RunSpec":
    import yaml

    from unitgain.spec import parse

    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: must be a configuration in YAML, but: {reason}") from error
    if not isinstance(content, dict) or "defaults" in content:
        raise ConfigError(
            f"{path}: must be a whole configuration, as in a run's config.yaml; for one with "
            "defaults give its overrides, such as experiment=name"
        )
    return parse(content)


def _of_module(arguments: argparse.Namespace) -> "Diagnosis":
    from unitgain.spec import load

    [target] = arguments.target
    name, found = target.rpartition(":")[2], load(target)
    from unitgain.train.own_diagnosis import diagnose_module
    from unitgain.train.own_model import as_module, given_for

    module = as_module(found, target)
    given = given_for(module, name, arguments.data, arguments.input)
    return diagnose_module(module, given, name, sharp=arguments.sharpness)


def _apply(subject: Subject, diagnosis: "Diagnosis", arguments: argparse.Namespace) -> int:
    """Write the configuration of the first change that heals."""
    healing = next((each for each in diagnosis.proposals if each.heals), None)
    if healing is None:
        fact = "nothing that was tried heals it" if diagnosis.faulty else "there is nothing to heal"
        print(f"\n{fact}: no file was written", file=sys.stderr)
        return Exit.UNEXPECTED if diagnosis.faulty else Exit.FINISHED
    from unitgain.cli._healed import write

    assert healing.spec is not None
    reason = f"{healing.text}, since {diagnosis.verdict.text}"
    # A folder of options can't be named beside the file's own: then every key is written out.
    overrides = None if arguments.config_dir else subject.with_change(healing)
    written = write(subject.hydra, overrides, healing.spec, reason, Path(arguments.apply))
    if not arguments.json:
        print(f"\nwritten to {arguments.apply}; this trains it:\n  {written}")
    return Exit.FINISHED


def _check_free(path: Path) -> None:
    """Refuse to write over what someone else wrote."""
    from unitgain.cli._healed import MARK

    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(
            f"--apply: must name a file that isn't there yet, but {path} is; choose another"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(
            f"--apply: must name a file in a folder that exists, got {path}; make the folder"
        )


def _report(diagnosis: "Diagnosis", arguments: argparse.Namespace, subject: Subject | None) -> None:
    before = None if subject is None else subject.before
    if arguments.json:
        content = diagnosis.as_dict() | ({} if before is None else {"run": before})
        print(json.dumps(_finite(content), indent=2))
        return
    from unitgain.cli._show_doctor import show

    flags = ["--config-dir", arguments.config_dir] if arguments.config_dir else []

    def command(proposal: "Proposal") -> list[str] | None:
        overrides = None if subject is None else subject.with_change(proposal)
        return None if overrides is None else ["unitgain", "train", *flags, *overrides]

    show(diagnosis, before, command)


def _finite(value: object) -> object:
    """Plain values, with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
