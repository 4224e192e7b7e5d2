"""The configuration that a command's overrides describe, checked as train checks it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from unitgain.spec import RunSpec


def composed_spec(arguments: argparse.Namespace) -> "RunSpec":
    """Compose and check, in a session of its own.

    Args:
        arguments: what ``arguments_of`` gives.

    Raises:
        ConfigError: with each fault.
    """
    from unitgain.cli._conf import CONFIG_NAME, hydra_session

    with hydra_session(arguments) as hydra:
        return composed_in(hydra, arguments.overrides, arguments.config_name or CONFIG_NAME)


def composed_in(hydra: "Hydra", given: Sequence[str], name: str) -> "RunSpec":
    """Compose and check.

    Args:
        hydra: the session.
        given: the overrides.
        name: of the configuration that they change.

    Raises:
        ConfigError: with each fault.
    """
    from unitgain.cli._conf import Groups, compose, plain, without_null
    from unitgain.cli._refusals import explained

    overrides = list(given)
    if any(text.endswith("=null") for text in overrides):
        overrides = without_null(Groups.of(hydra, name, overrides), overrides)
    with explained(hydra, name, overrides):
        config = compose(hydra, name, overrides)
    from unitgain.cli._explain import check_one, check_values
    from unitgain.spec import parse

    check_values(hydra, name, overrides)
    check_one(hydra, name, config, overrides)
    return parse(plain(config))
