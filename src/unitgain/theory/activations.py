"""Activation functions with their slopes and kinks, elementwise in float64.

They are those that the configuration ships, and `from_callable` takes any other. Two calls of a shipped one with the
same arguments give the same object, so that what is known of it is computed once.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.errors import ConfigError
from unitgain.theory._differences import difference_quotient
from unitgain.theory._kinks import find_kinks
from unitgain.theory.kernels import erf_kernel, leaky_relu_kernel

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
Kernel = Callable[[float, float, float], tuple[float, float]]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@final
@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise function, its slope, and where either isn't smooth.

    The slope is the derivative almost everywhere, as automatic differentiation has it: a jump of the value adds
    nothing to it.

    Attributes:
        name: What to call it.
        value: phi, of a float64 array, to an array of the same shape.
        slope: phi', likewise; its value at a kink doesn't matter.
        kinks: Where phi or a derivative jumps, ascending.
        kernel: E[phi(u_1) phi(u_2)] and E[phi'(u_1) phi'(u_2)] in closed form, of the two variances and the
            correlation, where there is one.

    Example:
        >>> leaky_relu(0.1)
        Activation(name='leaky_relu', kinks=(0.0,))
    """

    name: str
    value: Function
    slope: Function
    kinks: tuple[float, ...] = ()
    kernel: Kernel | None = None

    def __repr__(self) -> str:
        return f"Activation(name={self.name!r}, kinks={self.kinks!r})"


@cache
def identity() -> Activation:
    """The identity x.

    Example:
        >>> identity().value(np.array([2.0]))
        array([2.])
    """
    return Activation("identity", np.positive, np.ones_like, (), partial(leaky_relu_kernel, 1.0))


@cache
def relu() -> Activation:
    """The rectifier max(x, 0).

    Example:
        >>> relu().value(np.array([-1.0, 2.0]))
        array([0., 2.])
    """
    return Activation(
        "relu",
        partial(np.maximum, 0.0),
        partial(_step, 0.0),
        (0.0,),
        partial(leaky_relu_kernel, 0.0),
    )


@cache
def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """The leaky rectifier: x above 0, negative_slope x below.

    Example:
        >>> leaky_relu(0.1).value(np.array([-1.0, 2.0]))
        array([-0.1,  2. ])
    """
    return Activation(
        "leaky_relu",
        partial(_leaky, negative_slope),
        partial(_step, negative_slope),
        (0.0,),
        partial(leaky_relu_kernel, negative_slope),
    )


@cache
def elu(alpha: float = 1.0) -> Activation:
    """The exponential linear unit: x above 0, alpha (exp(x) - 1) below.

    Example:
        >>> elu().value(np.array([-math.inf, 2.0]))
        array([-1.,  2.])
    """
    return Activation("elu", partial(_elu, 1.0, alpha), partial(_elu_slope, 1.0, alpha), (0.0,))


@cache
def selu() -> Activation:
    """The scaled exponential linear unit: unit variance, zero mean are its fixed point (Klambauer et al. 2017).

    Example:
        >>> selu().value(np.array([1.0])).round(4)
        array([1.0507])
    """
    value = partial(_elu, _SELU_SCALE, _SELU_ALPHA)
    return Activation("selu", value, partial(_elu_slope, _SELU_SCALE, _SELU_ALPHA), (0.0,))


@cache
def gelu(approximate: str = "none") -> Activation:
    """The Gaussian error linear unit x Phi(x), or with ``approximate="tanh"`` its approximation.

    Raises:
        ConfigError: ``approximate`` is neither none nor tanh.

    Example:
        >>> gelu().value(np.array([1.0])).round(4), gelu("tanh").value(np.array([1.0])).round(4)
        (array([0.8413]), array([0.8412]))
    """
    if approximate == "none":
        return Activation("gelu", _gelu, _gelu_slope)
    if approximate == "tanh":
        return Activation("gelu_tanh", _gelu_tanh, _gelu_tanh_slope)
    raise ConfigError(
        f"approximate: none or tanh is needed, but this is {approximate}; set one of the two"
    )


@cache
def silu() -> Activation:
    """The sigmoid linear unit x sigmoid(x).

    Example:
        >>> silu().value(np.array([1.0])).round(4)
        array([0.7311])
    """
    return Activation("silu", _silu, _silu_slope)


@cache
def softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    """The smooth rectifier log(1 + exp(beta x)) / beta, and x where beta x is above the threshold.

    Example:
        >>> softplus().value(np.array([0.0, 30.0])).round(4)
        array([ 0.6931, 30.    ])
    """
    value = partial(_softplus, beta, threshold)
    return Activation(
        "softplus", value, partial(_softplus_slope, beta, threshold), (threshold / beta,)
    )


@cache
def sigmoid() -> Activation:
    """The logistic function 1 / (1 + exp(-x)).

    Example:
        >>> sigmoid().value(np.array([0.0]))
        array([0.5])
    """
    return Activation("sigmoid", _sigmoid, _sigmoid_slope)


@cache
def tanh() -> Activation:
    """The hyperbolic tangent.

    Example:
        >>> tanh().slope(np.array([0.0]))
        array([1.])
    """
    return Activation("tanh", np.tanh, _tanh_slope)


@cache
def erf() -> Activation:
    """The error function.

    Example:
        >>> erf().value(np.array([1.0])).round(4)
        array([0.8427])
    """
    return Activation("erf", _erf, _erf_slope, (), erf_kernel)


def from_callable(
    value: Function,
    slope: Function | None = None,
    kinks: Iterable[float] | None = None,
    name: str | None = None,
) -> Activation:
    """An activation out of any elementwise function.

    Args:
        value: Takes a float64 array and gives one of the same shape, finite for every number.
        slope: Its derivative; None takes difference quotients of eighth order, which don't reach over a kink.
        kinks: Where the value or a derivative jumps; None looks for them between -16384 and 16384.
        name: What to call it; None takes the function's own name.

    Raises:
        ConfigError: The function doesn't keep the shape, or isn't finite.

    Example:
        >>> from_callable(lambda x: np.clip(x, -1.0, 1.0), name="hard_tanh").kinks
        (-1.0, 1.0)
    """
    called = name or str(getattr(value, "__name__", type(value).__name__))
    checked = _checked(value, called)
    derivative = None if slope is None else _checked(slope, f"the slope of {called}")
    if kinks is not None and derivative is not None:
        return Activation(called, checked, derivative, tuple(sorted(map(float, kinks))))
    found = find_kinks(checked, called)
    places = found.kinks if kinks is None else tuple(sorted(map(float, kinks)))
    if derivative is None:
        derivative = partial(difference_quotient, checked, places, found.step)
    return Activation(called, checked, derivative, places)


def _checked(function: Function, name: str) -> Function:
    """The function with its results in float64, after it was tried."""
    x = np.linspace(-3.0, 3.0, 24).reshape(4, 6)
    y = np.asarray(function(x.copy()))
    if y.shape != x.shape:
        raise ConfigError(
            f"activation: the shape must be kept, but {name} makes {y.shape} of {x.shape}; "
            "use an elementwise function"
        )
    if not np.isfinite(y).all():
        place = x.flat[int(np.flatnonzero(~np.isfinite(y))[0])]
        raise ConfigError(
            f"activation: finite entries must stay finite, but {name} doesn't at {place:.4g}; "
            "use a function that is defined for every number"
        )
    return partial(_in_float64, function)


def _in_float64(function: Function, x: Array) -> Array:
    return np.asarray(function(x), dtype=np.float64)


def _step(below: float, x: Array) -> Array:
    return np.where(x > 0.0, 1.0, below)


def _leaky(negative_slope: float, x: Array) -> Array:
    return np.where(x > 0.0, x, negative_slope * x)


def _elu(scale: float, alpha: float, x: Array) -> Array:
    return scale * np.where(x > 0.0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _elu_slope(scale: float, alpha: float, x: Array) -> Array:
    return scale * np.where(x > 0.0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def _erf(x: Array) -> Array:
    # Most activations need no scipy, whose import takes longer than their forecast.
    from scipy.special import erf as special

    result: Array = special(x)
    return result


def _erf_slope(x: Array) -> Array:
    return 2.0 / math.sqrt(math.pi) * np.exp(-x * x)


def _normal(x: Array) -> Array:
    """The normal distribution function."""
    from scipy.special import ndtr

    result: Array = ndtr(x)
    return result


def _gelu(x: Array) -> Array:
    return x * _normal(x)


def _gelu_slope(x: Array) -> Array:
    return _normal(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _gelu_tanh(x: Array) -> Array:
    return x * _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))


def _gelu_tanh_slope(x: Array) -> Array:
    gate = _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
    inner = 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * x * x)
    return gate + x * gate * (1.0 - gate) * inner


def _sigmoid(x: Array) -> Array:
    # By way of tanh no exponential overflows; below -16 the exponential itself is the more exact.
    return np.where(x < -16.0, np.exp(np.minimum(x, 0.0)), 0.5 * (1.0 + np.tanh(0.5 * x)))


def _sigmoid_slope(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return small / (1.0 + small) ** 2


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _silu_slope(x: Array) -> Array:
    return _sigmoid(x) + x * _sigmoid_slope(x)


def _softplus(beta: float, threshold: float, x: Array) -> Array:
    return np.where(beta * x > threshold, x, np.logaddexp(0.0, beta * x) / beta)


def _softplus_slope(beta: float, threshold: float, x: Array) -> Array:
    return np.where(beta * x > threshold, 1.0, _sigmoid(beta * x))


def _tanh_slope(x: Array) -> Array:
    return 4.0 * _sigmoid_slope(2.0 * x)
