"""Gaussian expectations of a product in closed form: the arc-cosine kernels and the kernel of the error function."""

import math


def arc_cosine(order: int, correlation: float) -> float:
    r"""The arc-cosine kernel k_n between two unit vectors, of order 0, 1 or 2.

    $$k_n = J_n(\theta) / \pi, \quad \cos \theta = c$$
    $$J_0 = \pi - \theta, \quad J_1 = \sin \theta + (\pi - \theta) \cos \theta$$
    $$J_2 = 3 \sin \theta \cos \theta + (\pi - \theta)(1 + 2 \cos^2 \theta)$$

    It is 2 E[(u_1)_+^n (u_2)_+^n] for standard normal u of correlation c.

    Raises:
        ValueError: The order is another one.

    Example:
        >>> arc_cosine(0, 0.0), arc_cosine(1, 1.0)
        (0.5, 1.0)

    Reference:
        Cho and Saul 2009, Kernel methods for deep learning, equations 3 to 7.
    """
    c = min(1.0, max(-1.0, correlation))
    sine = math.sqrt((1.0 - c) * (1.0 + c))
    opening = math.atan2(sine, -c)  # pi - theta; acos(c) would lose digits at c near 1
    if order == 0:
        return opening / math.pi
    if order == 1:
        return (sine + opening * c) / math.pi
    if order == 2:
        return (3.0 * sine * c + opening * (1.0 + 2.0 * c * c)) / math.pi
    raise ValueError(f"order: 0, 1 or 2 is needed, but this is {order}; use pair_expectation")


def leaky_relu_kernel(
    negative_slope: float, q_a: float, q_b: float, correlation: float
) -> tuple[float, float]:
    r"""E[phi(u_1) phi(u_2)] and E[phi'(u_1) phi'(u_2)] of x above 0, a x below.

    With phi(x) = a x + (1 - a) max(x, 0):

    $$\sqrt{q_a q_b} \left((1 - a)^2 k_1 / 2 + a c\right), \quad (1 - a)^2 k_0 / 2 + a$$

    Example:
        >>> leaky_relu_kernel(0.0, 2.0, 2.0, 1.0)
        (1.0, 0.5)

    Reference:
        Cho and Saul 2009, Kernel methods for deep learning, equations 5 and 6 (a = 0).
    """
    bend = 0.5 * (1.0 - negative_slope) ** 2
    value = bend * arc_cosine(1, correlation) + negative_slope * correlation
    slope = bend * arc_cosine(0, correlation) + negative_slope
    length = q_a if q_a == q_b else math.sqrt(q_a) * math.sqrt(q_b)
    return length * value, slope


def erf_kernel(q_a: float, q_b: float, correlation: float) -> tuple[float, float]:
    r"""E[phi(u_1) phi(u_2)] and E[phi'(u_1) phi'(u_2)] of the error function.

    $$\frac{2}{\pi} \arcsin \frac{2 c \sqrt{q_a q_b}}{\sqrt{(1 + 2 q_a)(1 + 2 q_b)}}, \quad
    \frac{4}{\pi} \left((1 + 2 q_a)(1 + 2 q_b) - 4 c^2 q_a q_b\right)^{-1/2}$$

    Example:
        >>> value, slope = erf_kernel(0.5, 0.5, 1.0)
        >>> round(value * 3, 12), round(slope * math.pi / 4 * math.sqrt(3), 12)
        (1.0, 1.0)

    Reference:
        Williams 1998, Computation with infinite neural networks, equation 11.
    """
    covariance = correlation * math.sqrt(q_a) * math.sqrt(q_b)
    lengths = (1.0 + 2.0 * q_a) * (1.0 + 2.0 * q_b)
    # The determinant of I + 2 Sigma, without the cancellation of its two large terms.
    rest = 1.0 + 2.0 * (q_a + q_b) + 4.0 * q_a * q_b * (1.0 - correlation) * (1.0 + correlation)
    value = 2.0 / math.pi * math.atan2(2.0 * covariance, math.sqrt(rest))
    return value, 4.0 / math.pi / math.sqrt(rest if rest > 0.0 else lengths)
