"""Studies: a folder with a claim, the runs that test it, and the numbers that decide.

A study's folder holds ``study.yaml`` (the runs: overrides and the sweep), ``expected.json`` (the claim, and its numbers
with their tolerances), ``plot.py`` (from results to numbers and the figure), ``README.md`` and ``figure.png``. What
trains the runs is elsewhere: nothing here needs torch.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from unitgain.errors import ConfigError, explained
from unitgain.report._style import save
from unitgain.runs import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STUDY, EXPECTED, PLOT = "study.yaml", "expected.json", "plot.py"
_PARTS = {"overrides": list, "sweep": dict}
_KEEPS = "checkpoints"


@final
@dataclass(frozen=True)
class Result:
    """One run of a study, after it.

    Args:
        directory: of the run; what isn't read here, such as its gradients, is there.
        config: its resolved configuration.
        summary: how it ended.
    """

    directory: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, directory: Path, config: Mapping[str, Any]) -> "Result":
        """That of a run directory whose configuration is known."""
        return cls(directory, config, RunDirectory(directory).read_summary() or {})

    def key(self, name: str) -> Any:
        """The value of a dotted key of the configuration.

        Example:
            >>> Result(Path(), {"model": {"depth": 3}}, {}).key("model.depth")
            3
        """
        return reduce(lambda node, part: node[part], name.split("."), self.config)

    def metric(self, name: str) -> float:
        """A metric such as ``test/accuracy``; NaN where the run has none, as one that diverged at once."""
        return float(self.summary.get("metrics", {}).get(name, math.nan))


@final
@dataclass(frozen=True)
class Check:
    """A number of a study beside what is expected of it.

    Args:
        name: of the number.
        measured: what the runs gave.
        expected: in words, such as ``at least 0.9``.
        holds: whether it is so.
        meaning: what the number is.
    """

    name: str
    measured: float
    expected: str
    holds: bool
    meaning: str


@final
@dataclass(frozen=True)
class Expected:
    """What ``expected.json`` says.

    Args:
        claim: what the study tests, in a sentence.
        source: where the claim is from.
        cost: what all runs take, in words.
        holds: whether the claim held when the figure was drawn.
        verdict: what came out then, with the numbers.
        numbers: by name, with ``meaning`` and either ``value`` and ``tolerance``, or ``least``, ``most`` or both.
    """

    claim: str
    source: str
    cost: str
    holds: bool
    verdict: str
    numbers: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Expected":
        """That of a study's folder.

        Raises:
            ConfigError: the file is missing, can't be parsed or lacks a part.
        """
        path = folder / EXPECTED
        content = _content(path, json.loads)
        words = dict.fromkeys(("claim", "source", "cost", "verdict"), str)
        parts = {**words, "holds": bool, "numbers": dict}
        _check_parts(path, content, parts, required=tuple(parts))
        for name, number in content["numbers"].items():
            if not isinstance(number, dict) or not _is_bound(number):
                raise ConfigError(
                    f"{path}: a number must have a meaning and either value and tolerance, or "
                    f"least, most or both, but {name} is {number}"
                )
        return cls(**content)

    def check(self, measured: Mapping[str, float]) -> list[Check]:
        """Compare, in the order of the file.

        Raises:
            ConfigError: a number wasn't measured.

        Example:
            >>> share = {"meaning": "cells that agree", "least": 0.9}
            >>> expected = Expected("", "", "", True, "", {"share": share})
            >>> [check.holds for check in expected.check({"share": 0.95})]
            [True]
        """
        missing = [name for name in self.numbers if name not in measured]
        if missing:
            raise ConfigError(
                f"{PLOT}: numbers must give every number of {EXPECTED}, but {', '.join(missing)} "
                f"is missing; it gave {', '.join(measured) or 'nothing'}"
            )
        return [_checked(name, measured[name], wanted) for name, wanted in self.numbers.items()]


@final
@dataclass(frozen=True)
class Study:
    """A study's folder.

    Args:
        folder: with ``study.yaml``.
        overrides: of all its runs.
        sweep: the values of each swept key.
        expected: the claim and its numbers.
        smoke: what replaces both in a smoke run: more overrides, and fewer values.
        keeps_checkpoints: whether the runs' checkpoints stay, for ``plot.py`` to load.
    """

    folder: Path
    overrides: tuple[str, ...]
    sweep: Mapping[str, Any]
    expected: Expected
    smoke: Mapping[str, Any] = field(default_factory=dict)
    keeps_checkpoints: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """The study in a folder.

        Raises:
            ConfigError: a file is missing or isn't as it must be.
        """
        path = folder / STUDY
        content = _content(path, _from_yaml)
        _check_parts(path, content, {**_PARTS, "smoke": dict, "keep": str}, required=("sweep",))
        smoke = content.get("smoke", {})
        _check_parts(path, smoke, _PARTS, required=(), key="smoke.")
        keep = content.get("keep")
        if keep not in (None, _KEEPS):
            raise ConfigError(f"{path}: keep must be {_KEEPS}, or be left out, got {keep}")
        if not (folder / PLOT).is_file():
            raise ConfigError(f"{folder}: must hold {PLOT} beside {STUDY}, but doesn't")
        overrides = tuple(map(str, content.get("overrides", [])))
        expected = Expected.read(folder)
        return cls(folder, overrides, content["sweep"], expected, smoke, keep is not None)

    @property
    def name(self) -> str:
        """That of the folder."""
        return self.folder.resolve().name

    def command(self, *, smoke: bool = False) -> list[str]:
        """The overrides of the multirun, in Hydra's syntax.

        Example:
            >>> expected = Expected("", "", "", True, "", {})
            >>> Study(Path(), ("norm=layer",), {"seed": [0, 1]}, expected).command()
            ['norm=layer', 'seed=0,1']
        """
        more = self.smoke if smoke else {}
        sweep = {**self.sweep, **more.get("sweep", {})}
        overrides = [*self.overrides, *map(str, more.get("overrides", []))]
        return overrides + [f"{key}={_values(values)}" for key, values in sweep.items()]

    def plot(self) -> "Plot":
        """What ``plot.py`` defines.

        Raises:
            ConfigError: it can't be run, or lacks a function.
        """
        path = self.folder / PLOT
        spec = spec_from_file_location(f"{self.name}_plot", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        with explained(self.name, str(path), f"{PLOT} must be Python that can be run", "mend it"):
            spec.loader.exec_module(module)
        found = vars(module)
        missing = [name for name in ("numbers", "draw") if not callable(found.get(name))]
        if missing:
            raise ConfigError(
                f"{path}: must define numbers(results) and draw(results), but lacks "
                f"{' and '.join(missing)}"
            )
        return Plot(path, found["numbers"], found["draw"])


@final
@dataclass(frozen=True)
class Plot:
    """The two functions of a ``plot.py``.

    Args:
        path: of the file.
        numbers: the numbers that decide on the claim, by name.
        draw: the figure.
    """

    path: Path
    numbers: Callable[[Sequence[Result]], Mapping[str, float]]
    draw: Callable[[Sequence[Result]], "Figure"]

    def measure(self, results: Sequence[Result]) -> dict[str, float]:
        """The numbers of these runs."""
        with explained("numbers", str(self.path), "must give a number for each name", "mend it"):
            return {name: float(value) for name, value in self.numbers(results).items()}

    def save(self, results: Sequence[Result], folder: Path) -> Path:
        """Draw the figure of these runs into ``figure.png``."""
        with explained("draw", str(self.path), "must give a matplotlib Figure", "mend it"):
            return save(self.draw(results), folder, "figure", kinds=("png",))[0]


def find_study(name: str, studies: Path) -> Study:
    """The study that a name or a path means.

    Args:
        name: a folder, or the name of one in ``studies``.
        studies: the folder of all studies.

    Raises:
        ConfigError: there is none.
    """
    for folder in (Path(name), studies / name):
        if (folder / STUDY).is_file():
            return Study.read(folder)
    known = ", ".join(folder.name for folder in study_folders(studies)) or "none"
    raise ConfigError(
        f"{name}: must be a folder with {STUDY}, or the name of one in {studies}, but isn't; "
        f"there: {known}"
    )


def study_folders(studies: Path) -> list[Path]:
    """The folders of all studies."""
    return sorted(path.parent for path in studies.glob(f"*/{STUDY}"))


def _from_yaml(data: bytes) -> Any:
    import yaml

    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _content(path: Path, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    try:
        content = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: must be there and readable, but isn't: {reason}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping, but holds a {type(content).__name__}")
    return cast("dict[str, Any]", content)


def _check_parts(
    path: Path,
    content: Mapping[str, Any],
    kinds: Mapping[str, type],
    required: Sequence[str],
    key: str = "",
) -> None:
    lines = [
        f"{path}: {key}{name} must be one of {', '.join(kinds)}, but isn't"
        for name in content
        if name not in kinds
    ]
    lines += [
        f"{path}: must have {key}{name}, but lacks it" for name in required if name not in content
    ]
    lines += [
        f"{path}: {key}{name} must be a {kind.__name__}, got {content[name]!r}"
        for name, kind in kinds.items()
        if name in content and not isinstance(content[name], kind)
    ]
    if lines:
        raise ConfigError(*lines)


def _values(values: Any) -> str:
    return ",".join(map(str, values)) if isinstance(values, list) else str(values)


def _is_bound(number: Mapping[str, Any]) -> bool:
    bounds = set(number) - {"meaning"}
    kinds = ({"value", "tolerance"}, {"least"}, {"most"}, {"least", "most"})
    return "meaning" in number and bounds in kinds


def _checked(name: str, measured: float, wanted: Mapping[str, Any]) -> Check:
    """Compare a number; NaN holds nowhere."""
    least, most = wanted.get("least", -math.inf), wanted.get("most", math.inf)
    words = {
        "value": "{value:g} +- {tolerance:g}",
        "least most": "{least:g} to {most:g}",
        "least": "at least {least:g}",
        "most": "at most {most:g}",
    }
    if "value" in wanted:
        least = wanted["value"] - wanted["tolerance"]
        most = wanted["value"] + wanted["tolerance"]
    kind = "value" if "value" in wanted else " ".join(k for k in ("least", "most") if k in wanted)
    holds = bool(least <= measured <= most)
    return Check(name, measured, words[kind].format(**wanted), holds, str(wanted["meaning"]))
