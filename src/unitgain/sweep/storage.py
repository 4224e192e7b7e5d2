"""Where a study is kept: in memory, in a journal file, or in a database."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unitgain.errors import ConfigError

if TYPE_CHECKING:
    import optuna

Direction = Literal["minimize", "maximize"]

TRIES = 4
"""So often a database is asked before it is said not to be there."""


def open_study(
    name: str | None,
    storage: str | None,
    directions: Sequence[Direction],
    sampler: "optuna.samplers.BaseSampler",
    pruner: "optuna.pruners.BasePruner | None" = None,
) -> "optuna.Study":
    """A study, new or as it was left.

    Args:
        name: of the study.
        storage: a URL, or the path of a journal file; None is in memory.
        directions: minimize or maximize, one for each objective.
        sampler: proposes the trials.
        pruner: ends some of them early; None ends none.

    Raises:
        ConfigError: the storage can't be used, or the study has other objectives.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=None if storage is None else _opened(storage),
            directions=list(directions),
            sampler=sampler,
            pruner=pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    except ImportError as error:
        raise ConfigError(
            f"hydra.sweeper.storage: needs a driver for {public(storage or '')}, but {error.__cause__ or error}; "
            "pip install it, which is 'psycopg[binary]' for PostgreSQL"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"hydra.sweeper.storage: must be a journal file or the URL of a database that can be used, but "
            f"{public(storage or '')} raised {type(error).__name__}: {public(reason)}"
        ) from error
    there = [direction.name.lower() for direction in study.directions]
    if there != list(directions):
        raise ConfigError(
            f"hydra.sweeper.direction: must be as the study {name} began, {', '.join(there)}, got "
            f"{', '.join(directions)}; choose another hydra.sweeper.study_name"
        )
    return study


def _opened(storage: str) -> "optuna.storages.BaseStorage":
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

        for _ in range(TRIES - 1):
            # Whoever comes first makes the tables, and the others fail while that goes on.
            with suppress(IntegrityError, OperationalError, ProgrammingError):
                return RDBStorage(storage)
            time.sleep(0.5)
        return RDBStorage(storage)
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def public(text: str) -> str:
    """A text without the password of a URL in it.

    Example:
        >>> public("postgresql://me:secret@host/db")
        'postgresql://me:***@host/db'
    """
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
