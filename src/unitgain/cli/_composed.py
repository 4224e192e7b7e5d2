"""The configuration that a command's overrides describe, checked as train checks it."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitgain.spec import RunSpec


def composed_spec(arguments: argparse.Namespace) -> "RunSpec":
    """Compose and check.

    Args:
        arguments: what ``arguments_of`` gives.

    Raises:
        ConfigError: with each fault.
    """
    from unitgain.cli._conf import CONFIG_NAME, Groups, compose, hydra_session, plain, without_null
    from unitgain.cli._refusals import explained

    name, overrides = arguments.config_name or CONFIG_NAME, list(arguments.overrides)
    with hydra_session(arguments) as hydra:
        if any(text.endswith("=null") for text in overrides):
            overrides = without_null(Groups.of(hydra, name, overrides), overrides)
        with explained(hydra, name, overrides):
            config = compose(hydra, name, overrides)
        from unitgain.cli._explain import check_one, check_values
        from unitgain.spec import parse

        check_values(hydra, name, overrides)
        check_one(hydra, name, config, overrides)
        return parse(plain(config))
