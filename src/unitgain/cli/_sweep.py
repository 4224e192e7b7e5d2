"""The jobs of a multirun, checked before the first one starts."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from unitgain.cli._conf import RESOLVER, compose, plain
from unitgain.errors import ConfigError
from unitgain.spec import RunSpec, parse, run_hash


def job_overrides(hydra: Hydra, config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job; None where the sweeper decides them as it goes."""
    if config.hydra.runtime.choices["hydra/sweeper"] != "basic":
        return None
    parameters = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    task = [*parameters, *config.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(task)
    return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]


@dataclass
class Checker:
    """Makes the typed configuration of each job.

    Composing costs a tenth of a second, so it is done once for each choice of groups, and values
    are patched in.

    Args:
        hydra: the session.
        config_name: the primary configuration.
        hydra_overrides: what the user overrides of Hydra's own configuration.
    """

    hydra: Hydra
    config_name: str
    hydra_overrides: Sequence[str]
    _composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)

    def spec(self, overrides: Sequence[str]) -> RunSpec:
        """The typed configuration of one job.

        Raises:
            ConfigError: it isn't valid.
        """
        structure = tuple(text for text in overrides if self._is_structure(text))
        values = [text for text in overrides if text not in structure]
        if structure not in self._composed:
            self._composed[structure] = compose(
                self.hydra, self.config_name, [*self.hydra_overrides, *structure]
            )
        config = copy.deepcopy(self._composed[structure])
        for override in OverridesParser.create().parse_overrides(values):
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return parse(plain(config))

    def _is_structure(self, text: str) -> bool:
        """Whether an override changes which keys there are: a group's option, an addition, a removal."""
        key = text.partition("=")[0]
        if text.startswith(("+", "~")) or "@" in key or "/" in key:
            return True
        loader = self.hydra.config_loader
        return "." not in key and bool(loader.get_group_options(key, ObjectType.CONFIG))


def check_jobs(checker: Checker, jobs: list[list[str]], config: DictConfig) -> None:
    """Look at every job of a multirun.

    Raises:
        ConfigError: with each fault once and the jobs that have it; or two jobs are the same run.
    """
    faults: dict[str, list[int]] = {}
    hashes: dict[str, int] = {}
    twins: list[str] = []
    for index, overrides in enumerate(jobs):
        try:
            first = hashes.setdefault(run_hash(checker.spec(overrides)), index)
        except ConfigError as error:
            for line in error.lines:
                faults.setdefault(line, []).append(index)
            continue
        if first != index and _named_by_hash(config):
            twins.append(
                f"jobs must differ in what changes a result, but {_describe(overrides)} is the "
                f"same run as {_describe(jobs[first])}; drop one"
            )
    lines = [_with_jobs(line, at, jobs) for line, at in faults.items()]
    if lines or twins:
        raise ConfigError(*lines, *twins)


def _named_by_hash(config: DictConfig) -> bool:
    subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(subdir, dict)
    return RESOLVER in str(subdir["subdir"])


def _with_jobs(line: str, at: list[int], jobs: list[list[str]]) -> str:
    if len(at) == len(jobs):
        return line
    return f"{line} (in {len(at)} of {len(jobs)} jobs, first: {_describe(jobs[at[0]])})"


def _describe(overrides: list[str]) -> str:
    return " ".join(overrides) or "the one without overrides"
