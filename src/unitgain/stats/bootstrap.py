"""Location of a few values, and its confidence interval: of normal theory or by the bootstrap.

Shapes: N values, B resamples, C conditions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean  # type: ignore[attr-defined]
from scipy.stats import t as student_t  # type: ignore[attr-defined]

from unitgain.errors import ConfigError, DataError
from unitgain.stats.intervals import Array, Interval

Method = Literal["student", "bca", "percentile"]
Location = Literal["mean", "iqm", "median"]

RESAMPLES = 9999
_TRIM = 0.25


def interquartile_mean(values_N: Array, axis: int = -1) -> Any:
    r"""The mean of the middle half: without :math:`\lfloor N / 4 \rfloor` values at either end.

    Args:
        values_N: any shape.
        axis: along which.

    Example:
        >>> float(interquartile_mean(np.array([1.0, 2.0, 4.0, 100.0])))
        3.0

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.2; the same as ``rliable.metrics.aggregate_iqm``.
    """
    return trim_mean(values_N, _TRIM, axis=axis)


LOCATIONS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "iqm": interquartile_mean,
    "median": np.median,
}
"""What a sample can be summed up by."""


def location_interval(
    values_N: Array,
    rng: np.random.Generator,
    *,
    location: Location = "mean",
    method: Method = "student",
    level: float = 0.95,
) -> Interval:
    r"""The mean, interquartile mean or median of a sample with its confidence interval.

    ``student``: :math:`\bar x \pm t_{N - 1} s / \sqrt N`, exact for normal values; of the interquartile mean, with
    :math:`g = \lfloor N / 4 \rfloor` values cut off at either end and the winsorised deviation :math:`s_w`,
    :math:`\pm t_{N - 2 g - 1} s_w / ((1 - 2 g / N) \sqrt N)`. ``bca`` and ``percentile``: by the bootstrap, which
    covers less than it says where N is below about ten.

    Args:
        values_N: finite values.
        rng: of the resamples.
        location: which.
        method: how; the median has no ``student``.
        level: the probability to cover.

    Returns:
        The interval; its ends are NaN of a single value, and the value itself where all are equal.

    Raises:
        ConfigError: an unknown location or method, or a level outside (0, 1).
        DataError: no value, or one that isn't finite.

    Example:
        >>> interval = location_interval(np.array([1.0, 2.0, 3.0]), np.random.default_rng(0))
        >>> round(interval.low, 3), interval.value, round(interval.high, 3)
        (-0.484, 2.0, 4.484)

    Reference:
        Tukey and McLaughlin (1963), Sankhya A 25, for the trimmed mean; Efron (1987), doi
        10.1080/01621459.1987.10478410, for BCa.
    """
    check_level(level)
    values = check_values(values_N)
    _check_choice("location", location, LOCATIONS)
    _check_choice("method", method, get_args(Method))
    if method == "student" and location == "median":
        raise ConfigError("interval: the median has no Student interval; choose bca or percentile")
    value = float(LOCATIONS[location](values))
    if len(values) == 1:
        return Interval(value, math.nan, math.nan)
    if values.max() == values.min():
        return Interval(value, value, value)
    if method == "student":
        return _student(values, value, _TRIM if location == "iqm" else 0.0, level)
    return _bootstrap(values, location, value, method, level, rng)


def stratified_interval(
    values_C: Sequence[Array],
    rng: np.random.Generator,
    *,
    location: Location = "iqm",
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """A location of the values of several conditions together, seeds being resampled within each condition.

    The percentile bootstrap: conditions are those that they are, and only seeds are a sample.

    Args:
        values_C: the values of each condition; numbers of seeds may differ.
        rng: of the resamples.
        location: of all values together.
        level: the probability to cover.
        resamples: B.

    Raises:
        ConfigError: an unknown location, or a level outside (0, 1).
        DataError: a condition without a value, or a value that isn't finite.

    Example:
        >>> interval = stratified_interval([np.zeros(3), np.ones(3)], np.random.default_rng(0))
        >>> interval.value, interval.low, interval.high
        (0.5, 0.5, 0.5)

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.1.
    """
    check_level(level)
    _check_choice("location", location, LOCATIONS)
    conditions = [check_values(values) for values in values_C]
    if not conditions:
        raise DataError("values: must be of one condition or more, got none; give one array each")
    of = LOCATIONS[location]
    drawn_BN = np.concatenate(
        [rng.choice(values, (resamples, len(values))) for values in conditions], axis=1
    )
    ends = np.quantile(of(drawn_BN, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(of(np.concatenate(conditions))), float(ends[0]), float(ends[1]))


def check_values(values_N: Array | Sequence[float]) -> NDArray[np.float64]:
    """The same as float64.

    Raises:
        DataError: not a vector of at least one value, all finite.
    """
    values = np.asarray(values_N, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"values: must be a vector of one value or more, got shape {values.shape}")
    if wrong := int((~np.isfinite(values)).sum()):
        raise DataError(
            f"values: must be finite, {wrong} of {len(values)} are not; leave diverged runs out, or count them as "
            "the worst value"
        )
    return values


def check_level(level: float) -> None:
    """Refuse a level that is no probability.

    Raises:
        ConfigError: so it is.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level: must be between 0 and 1, got {level:g}; 0.95 is usual")


def _check_choice(name: str, given: str, known: Sequence[str] | dict[str, Any]) -> None:
    if given not in known:
        raise ConfigError(f"{name}: must be one of {', '.join(known)}, got {given}")


def _student(values: Array, value: float, trim: float, level: float) -> Interval:
    size = len(values)
    cut = int(trim * size)
    ordered = np.sort(values)
    winsorised = np.clip(ordered, ordered[cut], ordered[size - cut - 1])
    error = winsorised.std(ddof=1) / ((1 - 2 * cut / size) * math.sqrt(size))
    half = float(student_t.ppf((1 + level) / 2, size - 2 * cut - 1) * error)
    return Interval(value, value - half, value + half)


def _bootstrap(
    values: Array, location: str, value: float, method: str, level: float, rng: np.random.Generator
) -> Interval:
    found = bootstrap(
        (values,),
        LOCATIONS[location],
        confidence_level=level,
        n_resamples=RESAMPLES,
        batch=1000,
        method="BCa" if method == "bca" else "percentile",
        rng=rng,
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))
