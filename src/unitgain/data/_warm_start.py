"""Features and targets of a run that begins from another run's weights: scaled as they were there."""

from pathlib import Path

from unitgain.data._checks import several
from unitgain.data._encoder import Encoder
from unitgain.data._table import Table
from unitgain.errors import ConfigError
from unitgain.runs import RunDirectory
from unitgain.spec import RunSpec, parse


def first_run(spec: RunSpec) -> RunSpec | None:
    """The run on whose training rows the features of a warm-started run were scaled.

    A run that begins from a warm-started run takes over what that one took over, so this is the
    beginning of the chain; None for a run that begins from its initializer.

    Raises:
        ConfigError: a link names no run directory, or the chain has no beginning.
        DataError: a link's config.yaml can't be read.
    """
    passed: list[str] = []
    while spec.warm_start is not None:
        if spec.warm_start in passed:
            raise ConfigError(
                f"warm_start: must lead to a run that began from its initializer, but {passed[0]} leads "
                "back to itself; name another run"
            )
        passed.append(spec.warm_start)
        spec = parse(earlier_run(spec.warm_start).read_config())
    return spec if passed else None


def earlier_run(path: str) -> RunDirectory:
    """The run directory that ``warm_start`` names.

    Raises:
        ConfigError: it isn't one.
    """
    run = RunDirectory(Path(path))
    if not run.config.is_file():
        fact = "has no config.yaml" if run.path.is_dir() else "is no folder"
        raise ConfigError(
            f"warm_start: must be the directory of an earlier run, but {path} {fact}; mend the path"
        )
    return run


def check_same_features(spec: RunSpec, table: Table, first: RunSpec, encoder: Encoder) -> None:
    """Refuse a table whose columns the earlier run doesn't know, and another scaling than its own.

    Raises:
        ConfigError: a line for each difference.
    """
    faults = [
        f"data.{key}: must be {was}, as in the run that warm_start={spec.warm_start} began with, got {now}; "
        f"set data.{key}={was}"
        for key, was, now in (
            ("scale", first.data.scale, spec.data.scale),
            ("impute", first.data.impute or "null", spec.data.impute or "null"),
        )
        if was != now
    ]
    had = [*encoder.numeric, *(category.name for category in encoder.categories)]
    has = [*table.feature_names, *(column.name for column in table.categorical)]
    if had != has:
        faults.append(
            f"data: must have the {len(had)} feature columns of warm_start={spec.warm_start}, in their order "
            f"({several(had)}), but {table.name} has {len(has)} ({several(has)}); mend the columns, or train "
            "without warm_start"
        )
    if faults:
        raise ConfigError(*faults)


def check_same_targets(spec: RunSpec, table: Table, before: Table) -> None:
    """Refuse a table whose targets or classes are others than the earlier run's.

    Raises:
        ConfigError: they are.
    """
    was, now = ([*t.class_names] or [*t.target_names] for t in (before, table))
    if (table.task, now) == (before.task, was):
        return
    what = {"classification": "classes", "regression": "targets"}
    raise ConfigError(
        f"data: must have the {len(was)} {what[before.task]} of warm_start={spec.warm_start}, in their order "
        f"({several(was)}), but {table.name} has the {len(now)} {what[table.task]} {several(now)}; mend the "
        "data, or train without warm_start"
    )
