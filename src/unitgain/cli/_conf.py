"""Where conf/ is, and how a configuration is composed of it and made plain."""

import copy
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from unitgain.errors import ConfigError

CONFIG_NAME = "train"
RESOLVER = "unitgain.run_id"


def conf_dir() -> Path:
    """The folder conf/: inside the package when installed, beside src/ in a checkout.

    Raises:
        ConfigError: there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "conf", package.parents[1] / "conf")
    for candidate in candidates:
        if (candidate / f"{CONFIG_NAME}.yaml").is_file():
            return candidate
    places = " and ".join(str(candidate) for candidate in candidates)
    raise ConfigError(f"conf/{CONFIG_NAME}.yaml must be there, but {places} lack it; install again")


class Loader(ConfigLoaderImpl):
    """Hydra's own, which keeps what it composed of the options, before it set the values of keys.

    Whoever explains why a value is refused needs just that, and composing is most of the work.
    """

    with_options: DictConfig | None = None

    def _load_configuration_impl(self, *arguments: Any, **keywords: Any) -> DictConfig:
        self.with_options = None
        return super()._load_configuration_impl(*arguments, **keywords)

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        config = super()._compose_config_from_defaults_list(defaults, repo)
        # A value that is refused may leave the configuration changed.
        self.with_options = copy.deepcopy(config)
        OmegaConf.set_struct(self.with_options, True)
        return config


@contextmanager
def hydra_session(arguments: Namespace) -> Iterator[Hydra]:
    """Hydra with the search path of the command line, until the block ends.

    Args:
        arguments: what Hydra's own parser gives; ``config_path`` and ``config_dir`` count here.

    Raises:
        ConfigError: a folder that isn't there.
    """
    version.setbase("1.3")
    OmegaConf.register_new_resolver(RESOLVER, _run_id, replace=True)
    main = _folder("--config-path", arguments.config_path) if arguments.config_path else conf_dir()
    search_path = create_config_search_path(f"file://{main}")
    if arguments.config_dir is not None:
        search_path.prepend(
            provider="command-line",
            path=f"file://{_folder('--config-dir', arguments.config_dir)}",
            anchor=SearchPathQuery(provider="schema", path=None),
        )
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra(task_name=CONFIG_NAME, config_loader=Loader(search_path))
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    finally:
        GlobalHydra.instance().clear()


def compose(hydra: Hydra, config_name: str, overrides: list[str]) -> DictConfig:
    """Compose one configuration; what sweeps is left at its default.

    Raises:
        ConfigError: a folder of ``hydra.searchpath`` isn't there.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = hydra.compose_config(
            config_name=config_name,
            overrides=overrides,
            run_mode=RunMode.RUN,
            validate_sweep_overrides=False,
        )
    _report(caught)
    return config


def _report(caught: list[warnings.WarningMessage]) -> None:
    """Make Hydra's warning of a missing folder an error, and pass the others on."""
    for warning in caught:
        text = str(warning.message)
        if text.startswith("provider=hydra.searchpath") and "is not available" in text:
            folder = text.split("path=", 1)[1].removesuffix(" is not available.")
            raise ConfigError(
                f"hydra.searchpath: must list folders that exist, got {folder}; "
                "a relative one is taken from the working directory"
            )
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@dataclass(frozen=True)
class Groups:
    """The groups and their options, in conf/ and in the folders that the user adds.

    Hydra's own listing copies its whole repository at each question; this asks one copy.

    Args:
        repository: where the options are looked up.
    """

    repository: IConfigRepository

    @classmethod
    def of(cls, hydra: Hydra, config_name: str, overrides: list[str]) -> "Groups":
        """Those of a session; of the overrides, hydra.searchpath counts."""
        folders = [text for text in overrides if text.startswith("hydra.searchpath=")]
        loader = hydra.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, repository = loader._parse_overrides_and_create_caching_repo(config_name, folders)
        return cls(repository)

    def options(self, group: str) -> list[str]:
        """The options of a group; none where there is no such group."""
        if not group or "." in group:
            return []
        return sorted(set(self.repository.get_group_options(group, ObjectType.CONFIG)))

    def names(self, parent: str = "") -> list[str]:
        """Every group that has options, but for Hydra's own."""
        found = []
        for name in sorted(set(self.repository.get_group_options(parent, ObjectType.GROUP))):
            group = f"{parent}/{name}" if parent else name
            if group != "hydra":
                found += [group, *self.names(group)] if self.options(group) else self.names(group)
        return found


def without_null(groups: Groups, overrides: list[str]) -> list[str]:
    """The overrides, ``group=null`` written as Hydra understands it: ~group takes the option away."""
    from unitgain.spec import may_be_null

    def written(text: str) -> str:
        key, _, value = text.partition("=")
        group, _, package = key.partition("@")
        empties = value == "null" and may_be_null(package or group) and groups.options(group)
        return f"~{key}" if empties else text

    return [written(text) for text in overrides]


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration of the job alone, resolved: mappings, lists and scalars."""
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(job, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _run_id(*, _root_: DictConfig) -> str:
    from unitgain.spec import run_hash

    return run_hash(plain(_root_))


def _folder(option: str, value: str) -> Path:
    folder = Path(value).absolute()
    if not folder.is_dir():
        raise ConfigError(f"{option}: must be a folder that exists, got {value}")
    return folder
