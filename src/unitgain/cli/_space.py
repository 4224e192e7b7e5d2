"""From Hydra's sweeps on the command line to the distributions that Optuna draws from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep, Transformer
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from unitgain.errors import ConfigError


@final
@dataclass(frozen=True)
class Space:
    """What a search varies, and what it leaves as it is.

    Args:
        fixed: the overrides of every trial.
        parameters: the distribution of each key that varies.
    """

    fixed: tuple[str, ...]
    parameters: Mapping[str, BaseDistribution]

    @classmethod
    def of(cls, params: Mapping[str, Any], typed: Sequence[str], loader: ConfigLoader) -> "Space":
        """That of ``hydra.sweeper.params`` and the command line, which has the last word.

        Raises:
            ConfigError: with each fault.
        """
        texts = [f"{key}={_text(value)}" for key, value in _flat(params)] + list(typed)
        parser = OverridesParser.create(config_loader=loader)
        fixed: dict[str, str] = {}
        parameters: dict[str, BaseDistribution] = {}
        lines = []
        for text in texts:
            [override] = parser.parse_overrides([text])
            key = override.get_key_element()
            fixed.pop(key, None)
            parameters.pop(key, None)
            if not override.is_sweep_override():
                fixed[key] = text
                continue
            try:
                parameters[key] = distribution(override)
            except (ConfigError, ValueError, TypeError) as error:
                reason = "; ".join(str(error).splitlines())
                lines.append(f"{key}: must be a space that can be searched, but {reason}")
        if lines:
            raise ConfigError(*lines)
        return cls(tuple(fixed.values()), parameters)

    def overrides(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The overrides of one trial."""
        return (*self.fixed, *(f"{key}={_text(value)}" for key, value in params.items()))

    def trials(self) -> Iterator[dict[str, Any]]:
        """Trials that show whether the space can be: one of first values, and one for each other end or choice."""
        ends = {key: _ends(each) for key, each in self.parameters.items()}
        first = {key: values[0] for key, values in ends.items()}
        yield first
        for key, values in ends.items():
            yield from (first | {key: value} for value in values[1:])

    def grid(self) -> dict[str, list[Any]]:
        """Every value of each parameter.

        Raises:
            ConfigError: some parameter has no end of them.
        """
        lines = [
            f"hydra/sweeper/sampler: grid takes a list of values for each key, but {key} is an interval of real "
            f"numbers; write {key}=choice(...) or {key}=range(...)"
            for key, each in self.parameters.items()
            if isinstance(each, FloatDistribution) and each.step is None
        ]
        if lines:
            raise ConfigError(*lines)
        return {key: _values(each) for key, each in self.parameters.items()}


def distribution(override: Override) -> BaseDistribution:
    """What a sweep of Hydra's grammar draws from.

    | written | drawn |
    | --- | --- |
    | ``a,b,c``, ``choice(a,b,c)``, ``glob(*)`` | one of them |
    | ``range(2,9)``, ``range(0,1,0.25)`` | a number of the range, its end left out as in any sweep of Hydra's |
    | ``interval(0,1)`` | a real number |
    | ``int(interval(1,8))`` | a whole number, both ends counted |
    | ``tag(log, ...)`` | the same on a logarithmic scale |

    Raises:
        ConfigError: it is empty, or a tag or step that can't be.

    Example:
        >>> [override] = OverridesParser.create().parse_overrides(["lr=tag(log,interval(1e-4,1e-1))"])
        >>> distribution(override)
        FloatDistribution(high=0.1, log=True, low=0.0001, step=None)
    """
    sweep = override.value()
    log = _is_log(sweep)
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        assert low is not None
        assert high is not None
        if low > high:
            raise ConfigError(f"interval({low},{high}) begins above its end")
        _check_log(log, low)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(sweep, RangeSweep):
        values = sorted(sweep.range())
        if not values:
            raise ConfigError(f"range({sweep.start},{sweep.stop},{sweep.step}) is empty")
        if not sweep.shuffle:
            return _of_range(values, abs(sweep.step), log)
        return CategoricalDistribution(values)
    if log:
        raise ConfigError("tag(log, ...) is for intervals and ranges, not for choices")
    choices = [_choice(value) for value in override.sweep_iterator()]
    if not choices:
        raise ConfigError(f"{override.input_line} has no values")
    return CategoricalDistribution(list(dict.fromkeys(choices)))


def _of_range(values: Sequence[Any], step: float, log: bool) -> BaseDistribution:
    low, high = values[0], values[-1]
    _check_log(log, low)
    if log and step != 1:
        raise ConfigError(f"a range on a logarithmic scale has steps of 1, got {step}")
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=log, step=int(step))
    if log:
        raise ConfigError("a range on a logarithmic scale has whole numbers; write interval(...)")
    return FloatDistribution(low, high, step=step)


def _check_log(log: bool, low: float) -> None:
    if log and low <= 0:
        raise ConfigError(f"a logarithmic scale begins above 0, got {low}")


def _is_log(sweep: object) -> bool:
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if tags - {"log"}:
        raise ConfigError(
            f"the tag {min(tags - {'log'})} says nothing here; the one there is is log"
        )
    return bool(tags)


def _choice(value: Any) -> Any:
    """A choice as Optuna keeps it: a number or a truth value, else its text on the command line."""
    return value if isinstance(value, bool | int | float) else Transformer.str(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _ends(each: BaseDistribution) -> list[Any]:
    if isinstance(each, CategoricalDistribution):
        return list(each.choices)
    assert isinstance(each, IntDistribution | FloatDistribution)
    return list(dict.fromkeys((each.low, each.high)))


def _values(each: BaseDistribution) -> list[Any]:
    if isinstance(each, CategoricalDistribution):
        return list(each.choices)
    if isinstance(each, IntDistribution):
        return list(range(each.low, each.high + 1, each.step))
    assert isinstance(each, FloatDistribution)
    assert each.step is not None
    count = round((each.high - each.low) / each.step) + 1
    return [each.low + i * each.step for i in range(count)]
