"""The mean-field theory of a deep network: how lengths, correlations and gradients change with depth."""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unitgain.errors import ConfigError
from unitgain.theory._fixed_length import LARGEST, SLOW, fixed_length
from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import Moments, moments, pair_expectation

Array = NDArray[np.float64]

_DEPTH_SCALES = 6.0
_MOST_STEPS = 200
_LAST_STEP = 1e-13
_ROUNDING = 1e-10
_FLAT = 1e-7  # a slope that difference quotients of large numbers can't tell from one
_ALIGNED = 1e-9  # correlations nearer to one can't be told from it
_FAR = 1e4  # a length that stands for larger ones, where pairs cost less than at the largest
_ASIDE = 0.05  # how far a length is moved from q* to see whether it comes back


@final
class Phase(StrEnum):
    """What becomes of a signal and its gradient with depth.

    - ordered: chi_1 < 1; gradients vanish, inputs become alike.
    - critical: chi_1 = 1 within 1e-4, a depth scale of more than 10 000 layers.
    - chaotic: chi_1 > 1; gradients explode, similar inputs part.
    - half-stable: the fixed point of lengths attracts from one side at most: the lengths of a real network leave
      it, and what is computed at it holds for as long as they haven't.
    - unbounded: lengths grow without end.
    """

    ORDERED = "ordered"
    CRITICAL = "critical"
    CHAOTIC = "chaotic"
    HALF_STABLE = "half-stable"
    UNBOUNDED = "unbounded"


@final
@dataclass(frozen=True)
class MeanField:
    r"""A deep network of one activation, weights of variance sigma_w^2 / fan_in, biases of variance sigma_b^2.

    $$V(q) = \frac{\sigma_w^2}{\rho} E[\phi(\sqrt{q} z)^2] + \sigma_b^2, \quad
    C(c) = \left(\sigma_w^2 E[\phi(u_1) \phi(u_2)] + \sigma_b^2\right) / q^*$$

    with the share rho of units that dropout keeps, which enters the maps of one input alone: the masks of two inputs
    are independent. What is asked for is computed once.

    Args:
        activation: phi.
        sigma_w: The standard deviation of the weights times the square root of their fan-in.
        sigma_b: The standard deviation of the biases.
        keep: rho, one minus the probability of dropout.
        q_0: The variance of the first pre-activations, from which lengths go to their fixed point.

    Raises:
        ConfigError: A number is outside its range.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> field = MeanField(tanh(), sigma_w=1.0, sigma_b=0.05**0.5)
        >>> field.phase.value, round(field.chi_1, 3), round(field.trainable_depth, 1)
        ('ordered', 0.759, 21.8)

    Reference:
        Poole et al. 2016, arXiv 1606.05340, equations 3 to 5; Schoenholz et al. 2017, arXiv 1611.01232
        (depth scales, dropout).
    """

    activation: Activation
    sigma_w: float
    sigma_b: float = 0.0
    keep: float = 1.0
    q_0: float = 1.0

    def __post_init__(self) -> None:
        for key, value in (("sigma_w", self.sigma_w), ("sigma_b", self.sigma_b)):
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{key}: 0 or more is needed, but this is {value}; raise it")
        if not 0.0 < self.keep <= 1.0:
            raise ConfigError(
                f"keep: a share above 0, up to 1 is needed, but this is {self.keep}; give 1 - p"
            )
        if not 0.0 < self.q_0 < math.inf:
            raise ConfigError(
                f"q_0: a positive variance is needed, but this is {self.q_0}; raise it"
            )

    def length_map(self, q: ArrayLike) -> Array:
        """V(q), the variance of the next layer's pre-activations.

        Shape:
            - q and return: any, the same

        Example:
            >>> from unitgain.theory.activations import relu
            >>> MeanField(relu(), sigma_w=2.0, sigma_b=1.0).length_map([1.0, 3.0]).round(12)
            array([3., 7.])
        """
        second = moments(self.activation, q).second
        return self.sigma_w**2 / self.keep * second + self.sigma_b**2

    def correlation_map(self, correlation: ArrayLike, q: float | None = None) -> Array:
        """C(c), the correlation of two inputs' pre-activations in the next layer.

        Shape:
            - correlation and return: any, the same

        Args:
            correlation: From -1 to 1.
            q: The variance of both; None takes that of the fixed point.

        Example:
            >>> from unitgain.theory.activations import relu
            >>> MeanField(relu(), sigma_w=2**0.5).correlation_map([0.0, 1.0]).round(4)
            array([0.3183, 1.    ])
        """
        length = self._pair_length if q is None else q
        value = pair_expectation(self.activation, length, length, correlation).value
        return (self.sigma_w**2 * value + self.sigma_b**2) / self._after(length)

    def correlation_slope(self, correlation: ArrayLike) -> Array:
        """C'(c) = sigma_w^2 E[phi'(u_1) phi'(u_2)] q / V(q) at the fixed point of lengths, where V(q) = q.

        Shape:
            - correlation and return: any, the same

        Example:
            >>> from unitgain.theory.activations import relu
            >>> MeanField(relu(), sigma_w=2**0.5).correlation_slope([-1.0, 1.0]).round(12)
            array([0., 1.])
        """
        length = self._pair_length
        slope = pair_expectation(self.activation, length, length, correlation).slope
        return self.sigma_w**2 * slope * (length / self._after(length))

    def _after(self, length: float) -> float:
        """V(q), which is q at a fixed point to all digits."""
        return length if length == self.q_star else float(self.length_map(length))

    @cached_property
    def q_star(self) -> float:
        """The variance of pre-activations deep in the network: where V(q) = q, 0, or infinity."""
        held = float(self.length_map(0.0))
        if self.sigma_w == 0.0:
            return held

        def gap(q: Array) -> Array:
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                return np.log(self.length_map(q) / q)

        return fixed_length(gap, self.q_0, held)

    @property
    def _length(self) -> float:
        """Where expectations are taken: q*, or far out where lengths are unbounded."""
        return min(self.q_star, LARGEST)

    @property
    def _pair_length(self) -> float:
        """Where expectations of pairs are taken."""
        return self.q_star if math.isfinite(self.q_star) else _FAR

    @cached_property
    def _moments(self) -> Moments:
        return moments(self.activation, self._length)

    @property
    def chi_1(self) -> float:
        """The factor a layer by which a squared gradient grows: sigma_w^2 E[phi'^2] / rho at q*."""
        return self.sigma_w**2 / self.keep * float(self._moments.slope_second)

    @property
    def slope(self) -> float:
        """The decades a layer by which the norm of the gradient grows towards the input: log10(chi_1) / 2."""
        return 0.5 * math.log10(self.chi_1) if self.chi_1 > 0.0 else -math.inf

    @property
    def chi_q(self) -> float:
        """V'(q*), the factor a layer by which a small deviation from q* changes."""
        return self.sigma_w**2 / self.keep * float(self._moments.growth)

    @cached_property
    def c_star(self) -> float:
        """The correlation that two inputs' pre-activations tend to: C(c) = c.

        C is a power series with coefficients of 0 or more, so it is convex and one point attracts every start in
        [0, 1).
        """
        if self.q_star == 0.0:
            return 1.0
        if self.keep == 1.0 and self._aligns():
            return 1.0
        c = 0.0
        for _ in range(_MOST_STEPS):
            # Tangents of a convex function lie below it: from the left, no step goes beyond the root.
            gap, slope = float(self.correlation_map(c)) - c, float(self.correlation_slope(c))
            # Where phi jumps the slope is not that of the map, and a step of the map itself is safe.
            step = gap / (1.0 - slope) if slope < 1.0 else gap
            if abs(step) <= _LAST_STEP * max(c, _LAST_STEP):
                break
            c = min(max(c + step, 0.0), 1.0)
            if self.keep == 1.0 and c > 1.0 - _ALIGNED:
                return 1.0
        return c

    def _aligns(self) -> bool:
        """Whether nearly equal inputs become equal."""
        if float(self.correlation_slope(1.0)) > 1.0 + _FLAT:
            return False
        if self.activation.kernel is not None or not self.activation.kinks:
            return True
        # At a jump of phi the map is steeper than its slope says.
        near = 1.0 - 1e-6
        return float(self.correlation_map(near)) >= near - _ROUNDING

    @cached_property
    def chi_c(self) -> float:
        """C'(c*), the factor a layer by which a small deviation from c* shrinks.

        Where lengths collapse or are unbounded it is chi_1.
        """
        if self.q_star == 0.0 or math.isinf(self.q_star):
            return self.chi_1
        if self.c_star == 1.0:
            return self.chi_1
        return float(self.correlation_slope(self.c_star))

    @property
    def xi_q(self) -> float:
        """The layers over which a deviation from q* changes by a factor of e."""
        return _layers(self.chi_q)

    @property
    def xi_c(self) -> float:
        """The layers over which a deviation from c* changes by a factor of e: 1 / |log chi_c|."""
        return _layers(self.chi_c)

    @property
    def xi_gradient(self) -> float:
        """The layers over which a squared gradient changes by a factor of e: 1 / |log chi_1|."""
        return _layers(self.chi_1)

    @property
    def trainable_depth(self) -> float:
        """About the depth up to which such a network trains: 6 xi_c."""
        return _DEPTH_SCALES * self.xi_c

    @cached_property
    def phase(self) -> Phase:
        """What becomes of signals and gradients with depth."""
        if math.isinf(self.q_star):
            return Phase.UNBOUNDED
        if self.q_star > 0.0 and not self._attracts():
            return Phase.HALF_STABLE
        if self.chi_1 > 0.0 and abs(math.log(self.chi_1)) < SLOW:
            return Phase.CRITICAL
        return Phase.ORDERED if self.chi_1 < 1.0 else Phase.CHAOTIC

    def _attracts(self) -> bool:
        """Whether lengths come back to q* from both sides, or stay wherever they are, as with relu."""
        near = self.q_star * np.array([1.0 - _ASIDE, 1.0 + _ASIDE])
        away = (self.length_map(near) / near - 1.0) * np.array([-1.0, 1.0])
        if (away < -SLOW * _ASIDE).all():
            return True
        far = self.q_star * np.array([0.5, 2.0])
        return bool((np.abs(self.length_map(far) / far - 1.0) < SLOW).all())


def _layers(chi: float) -> float:
    """1 / |log chi|."""
    if chi <= 0.0:
        return 0.0
    rate = abs(math.log(chi))
    return 1.0 / rate if rate > _ROUNDING else math.inf
