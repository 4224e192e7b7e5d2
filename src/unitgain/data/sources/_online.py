"""Data sets that scikit-learn downloads, once, into its own folder (SCIKIT_LEARN_DATA)."""

from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any, Unpack

from unitgain.data._frame import ColumnRoles, header_faults, named_columns, table_from_frame
from unitgain.data._table import Table, Task, table_from_arrays
from unitgain.errors import DataError, no_warnings_of_errors


def california_housing() -> Table:
    """California housing: 20640 districts, 8 features, median house value."""
    from sklearn.datasets import fetch_california_housing

    bunch = _fetched("california_housing", fetch_california_housing)
    return table_from_arrays(
        "california_housing",
        bunch.data,
        bunch.target,
        task="regression",
        feature_names=bunch.feature_names,
        target_names=bunch.target_names,
    )


def covertype() -> Table:
    """Forest cover types: 581012 patches, 54 features (44 of them 0 or 1), 7 classes."""
    from sklearn.datasets import fetch_covtype

    bunch = _fetched("covertype", fetch_covtype)
    return table_from_arrays(
        "covertype",
        bunch.data,
        bunch.target,
        task="classification",
        feature_names=bunch.feature_names,
        constant_ok=True,
    )


def openml(
    data_id: int,
    task: Task,
    target_column: str | Sequence[str] | None = None,
    **roles: Unpack[ColumnRoles],
) -> Table:
    """A data set of openml.org.

    Columns that OpenML declares nominal are categorical, and those it tells to ignore are left
    out.

    Args:
        data_id: The number in the data set's address.
        task: ``classification`` or ``regression``.
        target_column: By default what OpenML says.
        **roles: What other columns are for, see `ColumnRoles`.

    Raises:
        DataError: Where it can't be fetched, and every fault of its columns at once.
    """
    from sklearn.datasets import fetch_openml

    name = f"openml {data_id}"
    bunch = _fetched(
        name,
        lambda: fetch_openml(data_id=data_id, as_frame=True, parser="auto", n_retries=0),
    )
    frame = bunch.frame
    if faults := header_faults([str(column) for column in frame.columns]):
        raise DataError(*(f"{name}: {fault}" for fault in faults))
    targets = _targets(name, bunch.target_names if target_column is None else target_column)
    taken = named_columns(targets, roles)
    nominal = [
        str(column)
        for column in frame.select_dtypes("category").columns
        if str(column) not in taken
    ]
    roles["categorical"] = (*roles.get("categorical", ()), *nominal)
    return table_from_frame(name, frame, task, targets, roles)


def _targets(name: str, columns: str | Sequence[str]) -> tuple[str, ...]:
    targets = (columns,) if isinstance(columns, str) else tuple(columns)
    if not targets:
        raise DataError(f"{name}: OpenML names no target for it; set data.target_column")
    return targets


def _fetched(name: str, fetch: Callable[[], Any]) -> Any:
    """What ``fetch`` returns; a network that refuses is a `DataError` with a way round it."""
    try:
        with no_warnings_of_errors():
            return fetch()
    except (OSError, HTTPException, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{name}: it must be downloaded, but scikit-learn says: {reason}; where the network "
            f"forbids it, fetch it elsewhere, save it as a CSV file and set data=csv data.path=FILE "
            f"data.target_column=NAME"
        ) from error
