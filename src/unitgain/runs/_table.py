"""Many runs as one table."""

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from unitgain.errors import ConfigError
from unitgain.runs._options import Scalar
from unitgain.runs._read import Row, find_runs, read_rows

if TYPE_CHECKING:
    import pandas as pd

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\s*([^\s=<>!]+)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*")
_FACTS = ("run", "name", "status", "cause", "verdict")


def read_runs(paths: Sequence[Path], environment: bool = False) -> "RunsTable":
    """Read every run directory at and below some paths into one table.

    A run that is unfinished, failed, diverged, interrupted or damaged is a row too, and its
    ``status`` and ``cause`` say so; nothing that is wrong with one run keeps the others from being
    read.

    Args:
        paths: folders: run directories, sweeps, or anything above them.
        environment: also read what each run was made with, as columns ``environment/...``.

    Raises:
        ConfigError: a path that isn't a folder.
    """
    return RunsTable.of_rows(read_rows(find_runs(paths), environment))


@final
class RunsTable:
    """Runs and what is known of them, one row a run.

    The columns of the configuration are the keys that a user types: ``init`` holds the option
    (``he``), ``init.mode`` its argument. A key that a run doesn't have, or that is null, is missing.

    | columns | what they are |
    | --- | --- |
    | ``run``, ``name`` | the directory, and the run's name or that of its directory |
    | ``status``, ``cause`` | finished, diverged, interrupted, failed, running, stale, unfinished or damaged, and why |
    | ``init``, ``optimizer.lr``, ... | the resolved configuration |
    | ``test/accuracy``, ... | loss and metrics of the best state, on each part |
    | ``best/value``, ``best/epoch`` | the best of the monitored metric, and its epoch from 0 |
    | ``verdict``, ``verdict/slope``, ... | what the probe found |
    | ``forecast``, ``forecast/chi_1``, ... | what theory said before |
    | ``epoch``, ``seconds``, ``parameters``, ... | other facts of summary.json |
    | ``environment/...`` | versions, machine, fingerprints, where asked for |

    Args:
        frame: the rows.
        config_columns: which columns are of the configuration, in its order.
        metric_columns: which columns are metrics, in the order of summary.json.

    Example:
        >>> rows = [{"run": "a", "init": "he", "seed": 0, "test/loss": 0.5},
        ...         {"run": "b", "init": "lecun", "seed": 0, "test/loss": 0.25}]
        >>> table = RunsTable.of_rows(rows)
        >>> table.varying(), table.metric_columns
        (('init',), ('test/loss',))
        >>> table.where("init=he", "test/loss<1").frame["run"].tolist()
        ['a']
    """

    def __init__(
        self, frame: "pd.DataFrame", config_columns: Sequence[str], metric_columns: Sequence[str]
    ) -> None:
        self.frame = frame
        self.config_columns = tuple(config_columns)
        self.metric_columns = tuple(metric_columns)

    @classmethod
    def of_rows(cls, rows: Sequence[Row]) -> "RunsTable":
        """A table of flat rows: what a row lacks is missing in it."""
        import pandas as pd

        names = list(dict.fromkeys((*_FACTS, *(name for row in rows for name in row))))
        config = [name for name in names if _is_config(name)]
        metrics = [name for name in names if name.startswith(("train/", "val/", "test/"))]
        taken = {*_FACTS, *config, *metrics}
        order = [*_FACTS, *config, *metrics, *(name for name in names if name not in taken)]
        series = {name: _column([row.get(name) for row in rows]) for name in order}
        return cls(pd.DataFrame(series), config, metrics)

    def __len__(self) -> int:
        return len(self.frame)

    def varying(self) -> tuple[str, ...]:
        """The columns of the configuration that tell these runs apart.

        An argument that some runs lack since they use another option (``init.mode`` where ``init``
        differs) counts only if it differs where it is there. Runs without a readable configuration
        don't count.
        """
        config = list(self.config_columns)
        known = self.frame.loc[self.frame[config].notna().any(axis=1), config] if config else None
        if known is None or len(known) < 2:
            return ()
        options = [name for name in config if any(c.startswith(f"{name}.") for c in config)]
        return tuple(name for name in config if _varies(known, name, options))

    def where(self, *conditions: str) -> "RunsTable":
        """The runs that meet every condition.

        Args:
            conditions: ``KEY=VALUE``, ``KEY=A,B`` (any of them), ``KEY!=VALUE``, and ``<``, ``<=``,
                ``>``, ``>=`` for numbers. A key is any column, the value as one types it on the
                command line; ``null`` is what is missing or NaN, and meets no ``<`` or ``>``.

        Raises:
            ConfigError: what is no condition, a key that no run has, or an order of texts.
        """
        frame = self.frame
        for condition in conditions:
            frame = frame[self._mask(frame, condition)]
        return RunsTable(frame.reset_index(drop=True), self.config_columns, self.metric_columns)

    def select(self, *columns: str) -> "RunsTable":
        """The same runs with some columns, in the order given.

        Raises:
            ConfigError: a key that no run has.
        """
        for name in columns:
            self.check(name)
        kept = set(columns)
        return RunsTable(
            self.frame[list(dict.fromkeys(columns))],
            [name for name in self.config_columns if name in kept],
            [name for name in self.metric_columns if name in kept],
        )

    def check(self, column: str) -> None:
        """Refuse a key that no run has.

        Raises:
            ConfigError: saying which was meant, perhaps.
        """
        if column not in self.frame.columns:
            close = difflib.get_close_matches(column, list(self.frame.columns), n=1)
            hint = f"did you mean {close[0]}?" if close else "unitgain runs DIR --all shows all"
            raise ConfigError(f"{column}: must be a column of the runs, but none has it; {hint}")

    def _mask(self, frame: "pd.DataFrame", condition: str) -> list[bool]:
        match = _CONDITION.fullmatch(condition)
        if match is None or not match[3]:
            raise ConfigError(
                f"{condition}: must be a condition; write KEY=VALUE, KEY=A,B, KEY!=VALUE or KEY<NUMBER"
            )
        key, sign, text = match.groups()
        self.check(key)
        values = _values(frame[key])
        if sign in _OPERATORS:
            return _compared(condition, sign, text, values)
        wanted = [text, *_alternatives(text)]
        met = [any(_same(value, each) for each in wanted) for value in values]
        return [not yes for yes in met] if sign == "!=" else met


def _is_config(name: str) -> bool:
    return "/" not in name and name not in {*_FACTS, *_SUMMARY}


_SUMMARY = ("epoch", "step", "steps_per_epoch", "parameters", "seconds", "forecast", "diverged")


def _column(values: Sequence[Scalar]) -> "pd.Series[Any]":
    """A column of one kind: true or false, whole numbers, numbers, else texts."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if None in values else "bool")
    if kinds == {int} and all(abs(value) < 2**63 for value in values if isinstance(value, int)):
        return pd.Series(values, dtype="Int64" if None in values else "int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    texts = [value if value is None or isinstance(value, str) else _text(value) for value in values]
    return pd.Series(texts, dtype="str")


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(column: "pd.Series[Any]") -> list[Any]:
    """Plain values, None where one is missing or NaN."""
    missing = column.isna().tolist()
    return [None if gone else value for gone, value in zip(missing, column.tolist(), strict=True)]


def _varies(known: "pd.DataFrame", name: str, options: Iterable[str]) -> bool:
    column = known[name]
    if column.nunique() > 1:
        return True
    if not column.isna().any() or column.isna().all():
        return False
    above = [option for option in options if name.startswith(f"{option}.")]
    if not above:
        return True
    parent = known[max(above, key=len)]
    return bool((column.isna().groupby(parent, dropna=False).nunique() > 1).any())


def _compared(condition: str, sign: str, text: str, values: Sequence[Any]) -> list[bool]:
    bound = _number(text)
    numbers = [None if value is None else _number(value) for value in values]
    if bound is None or any(
        n is None and v is not None for n, v in zip(numbers, values, strict=True)
    ):
        raise ConfigError(
            f"{condition}: {sign} must compare numbers, but there are texts; use = or !="
        )
    return [number is not None and _OPERATORS[sign](number, bound) for number in numbers]


def _alternatives(text: str) -> list[str]:
    """The parts of ``A,B``, if it isn't a list in brackets."""
    return [] if text.startswith(("[", "{")) else [part.strip() for part in text.split(",")]


def _same(value: Any, text: str) -> bool:
    if value is None:
        return text == "null"
    if isinstance(value, bool):
        return text.lower() == _text(value)
    number, wanted = _number(value), _number(text)
    if number is not None and wanted is not None:
        return number == wanted
    return str(value).replace(" ", "") == text.replace(" ", "")


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None
