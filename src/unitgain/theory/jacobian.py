r"""The singular values of the input-output Jacobian of a deep network, at infinite width.

The Jacobian of L layers is the product of $D_l W_l$, D the diagonal of slopes. At the fixed point of lengths the
factors are free of each other, so the S-transforms of their squared singular values multiply:

$$S_{J J^T} = (S_{D^2} S_{W W^T})^L, \quad
S_{W W^T}(y) = \frac{1}{\sigma_w^2 (1 + y)} \; \mathrm{or} \; \frac{1}{\sigma_w^2}$$

for Gaussian and for orthogonal weights.

Legend: K order of a moment, M node, X point of a density.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unitgain.errors import ConfigError
from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import nodes

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_PATH = np.concatenate([np.linspace(0.0, 1.0, 121)[1:], np.linspace(1.0, 2.0, 121)[1:]])
_FAR = 50.0  # edges of the spectrum away, where the path to a point begins
_ABOVE = 1e-7  # the angle above the real axis at which a density is read
_NEWTON_STEPS = 6


@final
@dataclass(frozen=True)
class Jacobian:
    r"""The input-output Jacobian of L equal layers, at a fixed point of lengths, at infinite width.

    Args:
        activation: phi.
        q: The variance of the pre-activations.
        sigma_w: The standard deviation of the weights times the square root of their fan-in; orthogonal ones' scale.
        layers: L.
        orthogonal: Whether the weights are orthogonal rather than Gaussian.

    Raises:
        ConfigError: A number is outside its range.

    Example:
        >>> from unitgain.theory.activations import identity
        >>> Jacobian(identity(), 1.0, 1.0, layers=3).moments(4).round(9)
        array([ 1.,  4., 22., 140.])
        >>> Jacobian(identity(), 1.0, 1.0, layers=100, orthogonal=True).moments(4).round(9)
        array([1., 1., 1., 1.])

    Reference:
        Pennington et al. 2017, arXiv 1711.04735; Pennington et al. 2018, arXiv 1802.09979.
    """

    activation: Activation
    q: float
    sigma_w: float
    layers: int
    orthogonal: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ConfigError(f"layers: 1 or more are needed, but this is {self.layers}; raise it")
        for key, value in (("q", self.q), ("sigma_w", self.sigma_w)):
            if not 0.0 < value < math.inf:
                raise ConfigError(
                    f"{key}: a positive number is needed, but this is {value}; raise it"
                )

    @property
    def mean(self) -> float:
        r"""The mean squared singular value, $\chi_1^L$."""
        return float((self.sigma_w**2 * self._slope_moments(1)[0]) ** self.layers)

    @property
    def variance(self) -> float:
        r"""The variance of the squared singular values, in units of their squared mean.

        $$L (\mu_2 / \mu_1^2 - 1 - s_1), \quad \mu_k = E[\phi'(z)^{2k}], \quad
        s_1 = -1 \; \mathrm{or} \; 0$$

        for Gaussian and for orthogonal weights.

        Example:
            >>> from unitgain.theory.activations import relu
            >>> Jacobian(relu(), 1.0, 2**0.5, layers=10, orthogonal=True).variance
            10.0
        """
        mu_1, mu_2 = self._slope_moments(2)
        gaussian = 0.0 if self.orthogonal else 1.0
        return round(self.layers * (float(mu_2 / mu_1**2) - 1.0 + gaussian), 12)

    def moments(self, count: int) -> Array:
        r"""The means of the first powers of the squared singular values, as limits of infinite width.

        $$m_k = \frac{1}{k} [y^{k-1}] \left((1 + y) / S_{J J^T}(y)\right)^k$$

        by the theorem of Lagrange, with the series of $S_{D^2}$ from the moments of $\phi'^2$ in the same way.

        Shape:
            - return: (count,)

        Example:
            >>> from unitgain.theory.activations import relu
            >>> Jacobian(relu(), 1.0, 2**0.5, layers=1).moments(3).round(9)
            array([ 1.,  3., 11.])
        """
        mu_K = self._slope_moments(count)
        inverse = _inverse_s_transform(mu_K / mu_K[0] ** np.arange(1, count + 1))
        one_plus_y = np.zeros(count)
        one_plus_y[: min(2, count)] = 1.0
        if not self.orthogonal:
            inverse = np.convolve(inverse, one_plus_y)[:count]
        moments_K = np.empty(count)
        for k in range(1, count + 1):
            series = np.convolve(
                _power(one_plus_y, float(k)), _power(inverse, float(k * self.layers))
            )
            moments_K[k - 1] = series[k - 1] / k
        return moments_K * self.mean ** np.arange(1, count + 1)

    @property
    def edge(self) -> float:
        """The largest squared singular value of the limiting spectrum.

        Example:
            >>> from unitgain.theory.activations import identity
            >>> round(Jacobian(identity(), 1.0, 1.0, layers=1).edge, 9)
            4.0
        """
        weights_M, squares_M = self._distribution()
        # Outside the spectrum z falls as t rises, down to the edge.
        shares = np.linspace(0.0, 1.0, 2001)[1:-1]
        for _ in range(4):
            log_z = -self._log_f(shares / squares_M.max() + 0j, weights_M, squares_M)[0].real
            best = int(log_z.argmin())
            shares = np.linspace(shares[max(best - 1, 0)], shares[min(best + 1, 1998)], 2001)[1:-1]
        return float(np.exp(log_z.min()))

    def density(self, x: ArrayLike) -> Array:
        r"""The density of the squared singular values at points above 0, without the share that is exactly 0.

        $\rho(x) = -\Im \left[(1 + y) / (\pi z)\right]$ at z = x + i0, where y solves

        $$\frac{1}{z} = \frac{y}{1 + y} S_{J J^T}(y)$$

        followed from far outside the spectrum. It is right to 1e-5 of itself where x is not below 1e-6 of the edge;
        nan where it can't be followed.

        Shape:
            - x and return: any, the same

        Raises:
            ConfigError: There is one layer of orthogonal weights: the spectrum is that of sigma_w^2 phi'^2 itself.

        Example:
            >>> from unitgain.theory.activations import identity
            >>> one = Jacobian(identity(), 1.0, 1.0, layers=1)
            >>> one.density([1.0, 2.0]).round(6), round(math.sqrt(4.0 - 1.0) / (2.0 * math.pi), 6)
            (array([0.275664, 0.159155]), 0.275664)
        """
        if self.orthogonal and self.layers == 1:
            raise ConfigError(
                "layers: 2 or more are needed for a density with orthogonal weights, but this is 1; "
                "take sigma_w^2 phi'^2 itself"
            )
        points = np.asarray(x, dtype=np.float64)
        weights_M, squares_M = self._distribution()
        log_x = np.log(points.ravel())
        log_far = np.maximum(math.log(_FAR * self.edge), log_x + 1.0)
        t_X = np.asarray(np.exp(-log_far) / 1j * (self.mean / float(weights_M @ squares_M)))
        with np.errstate(all="ignore"):
            for part in _PATH:
                # Down the imaginary axis, then round to the real one.
                radius = log_far + min(part, 1.0) * (log_x - log_far)
                angle = 0.5 * math.pi * (1.0 - max(part - 1.0, 0.0)) + _ABOVE
                t_X = self._solved(t_X, radius + 1j * angle, weights_M, squares_M)
            y_X = _psi(t_X, weights_M, squares_M)[0]
        g_X = (1.0 + y_X) / np.exp(log_x + 1j * _ABOVE)
        return np.maximum(-g_X.imag / math.pi, 0.0).reshape(points.shape)

    def _solved(self, t_X: Complex, log_z: Complex, weights_M: Array, squares_M: Array) -> Complex:
        """The t near a start at which 1 / z is F(t), by Newton's method on logarithms."""
        for _ in range(_NEWTON_STEPS):
            log_f, slope = self._log_f(t_X, weights_M, squares_M)
            miss: Complex = log_f + log_z
            # Logarithms are known up to full turns.
            miss -= 2j * math.pi * np.round(miss.imag / (2.0 * math.pi))
            t_X = t_X - miss / slope
            if np.abs(miss).max() < 1e-13:
                break
        return t_X

    def _log_f(self, t_X: Complex, weights_M: Array, squares_M: Array) -> tuple[Complex, Complex]:
        """log(y / (1 + y) S(y)) with y = E[t phi'^2 / (1 - t phi'^2)], and its derivative by t."""
        y, slope = _psi(t_X, weights_M, squares_M)
        scale = 2.0 * math.log(self.sigma_w)
        log_f = np.log(y) - np.log(1.0 + y) + self.layers * (np.log(t_X / y) - scale)
        derivative = slope / (y * (1.0 + y)) + self.layers * (1.0 / t_X - slope / y)
        free = self.layers if self.orthogonal else 0
        log_f = log_f + free * np.log(1.0 + y)
        derivative = derivative + free * slope / (1.0 + y)
        return np.asarray(log_f, dtype=np.complex128), np.asarray(derivative, dtype=np.complex128)

    def _distribution(self) -> tuple[Array, Array]:
        """phi'^2 as a discrete distribution: probabilities and values."""
        at = nodes(self.activation, self.q)
        return at.weights_M / at.weights_M.sum(), at.slope_M**2

    def _slope_moments(self, count: int) -> Array:
        """E[phi'^2k] for k from 1 on."""
        weights_M, squares_M = self._distribution()
        return np.array([weights_M @ squares_M**k for k in range(1, count + 1)], dtype=np.float64)


def product_density(x: ArrayLike, layers: int) -> Array:
    r"""The density of the squared singular values of a product of L square Gaussian matrices, in closed form.

    $$x = \frac{\sin^{L+1} (L + 1) \varphi}{\sin \varphi \, \sin^L L \varphi}, \quad
    \rho = \frac{\sin^2 \varphi \, \sin^{L-1} L \varphi}{\pi \sin^L (L + 1) \varphi}$$

    the Fuss-Catalan distribution, for entries of variance 1 / n. It is 0 outside the spectrum.

    Shape:
        - x and return: any, the same

    Example:
        >>> product_density([1.0, 5.0], 1).round(6)
        array([0.275664, 0.      ])

    Reference:
        Haagerup and Moeller 2013, arXiv 1211.4457.
    """
    points = np.asarray(x, dtype=np.float64)
    n = layers
    edge = (n + 1.0) * math.exp(n * math.log1p(1.0 / n))
    inside = (points > 0.0) & (points < edge)
    log_x = np.log(np.where(inside, points, 0.5 * edge))
    low, high = np.zeros_like(log_x), np.full_like(log_x, math.pi / (n + 1.0))
    for _ in range(100):
        phi = 0.5 * (low + high)
        log_image = (
            (n + 1.0) * np.log(np.sin((n + 1.0) * phi))
            - np.log(np.sin(phi))
            - n * np.log(np.sin(n * phi))
        )
        low, high = np.where(log_image > log_x, phi, low), np.where(log_image > log_x, high, phi)
    log_density = (
        2.0 * np.log(np.sin(phi))
        + (n - 1.0) * np.log(np.sin(n * phi))
        - n * np.log(np.sin((n + 1.0) * phi))
    )
    return np.where(inside, np.exp(log_density) / math.pi, 0.0)


def _psi(t_X: Complex, weights_M: Array, squares_M: Array) -> tuple[Complex, Complex]:
    """E[t v / (1 - t v)] over the values v, and its derivative by t."""
    inverse_XM = 1.0 / (1.0 - t_X[:, None] * squares_M)
    masses_M = (weights_M * squares_M).astype(np.complex128)
    return t_X * (inverse_XM @ masses_M), np.square(inverse_XM) @ masses_M


def _inverse_s_transform(mu_K: Array) -> Array:
    r"""The series of 1 / S(y) of a distribution of mean 1, from its moments.

    With $\psi(t) = \sum \mu_k t^k$ and its inverse $\chi$, $S(y) = \chi(y) (1 + y) / y$ and, by the theorem
    of Lagrange, $[y^k] \chi = \frac{1}{k} [t^{k-1}] (t / \psi(t))^k$.
    """
    count = mu_K.size
    chi_over_y = np.array([_power(mu_K, -float(k))[k - 1] / k for k in range(1, count + 1)])
    s = chi_over_y.copy()
    s[1:] += chi_over_y[:-1]
    return _power(s, -1.0)


def _power(series: Array, exponent: float) -> Array:
    """A power of a power series with constant term 1, to the same order.

    Reference:
        Knuth, The Art of Computer Programming, volume 2, section 4.7, equation 9.
    """
    result = np.zeros_like(series)
    result[0] = 1.0
    for n in range(1, series.size):
        k = np.arange(1, n + 1)
        result[n] = float(((exponent + 1.0) * k / n - 1.0) @ (series[k] * result[n - k]))
    return result
