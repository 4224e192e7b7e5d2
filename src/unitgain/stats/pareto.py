"""Tails of samples, by the generalised Pareto distribution."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def tail_index(values_N: Array) -> float:
    r"""The shape k of the generalised Pareto distribution of what exceeds a high threshold.

    The largest :math:`\min(N / 5, 3 \sqrt N)` values are taken; the threshold is the largest value below them. The
    estimate is drawn to 1/2 with the weight of ten values, as in Pareto-smoothed importance sampling.

    Args:
        values_N: a sample.

    Returns:
        The shape; NaN where the tail would have fewer than five values, minus infinity where they are all equal.

    Reference:
        Vehtari, Simpson, Gelman, Yao and Gabry (2015), arXiv 1507.02646, sections 2 and 3, and appendix C.
    """
    count = math.ceil(min(0.2 * len(values_N), 3 * math.sqrt(len(values_N))))
    if count < 5:
        return math.nan
    ordered = np.sort(values_N)
    excess = ordered[-count:] - ordered[-count - 1]
    if excess[-1] <= 0 or excess[-1] == excess[0]:
        return -math.inf
    shape = generalised_pareto_shape(excess[excess > 0])
    return (count * shape + 5) / (count + 10)


def generalised_pareto_shape(excess_N: Array) -> float:
    r"""The shape k of a generalised Pareto distribution, by Zhang and Stephens' empirical Bayes estimate.

    The density is :math:`\sigma^{-1} (1 + k y / \sigma)^{-1/k - 1}`. With :math:`\theta = -k / \sigma`, the profile
    likelihood :math:`\ell(\theta) = \log(-\theta / k(\theta)) - k(\theta) - 1`, where
    :math:`k(\theta) = \frac{1}{N} \sum_n \log(1 - \theta y_n)`, is averaged over a grid under a weak prior.

    Args:
        excess_N: what exceeds the threshold, above 0, in any order.

    Example:
        >>> u = (np.arange(4000) + 0.5) / 4000
        >>> round(generalised_pareto_shape((u ** -0.5 - 1) / 0.5), 2)
        0.5

    Reference:
        Zhang and Stephens (2009), doi 10.1198/tech.2009.08017, with k of the opposite sign.
    """
    y = np.sort(excess_N)
    size = len(y)
    points = 30 + math.isqrt(size)
    quartile = y[max(int(size / 4 + 0.5) - 1, 0)]
    grid = 1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))
    theta = grid / (3 * quartile) + 1 / y[-1]
    shape = np.log1p(-theta[:, None] * y).mean(1)
    likelihood = size * (np.log(-theta / shape) - shape - 1)
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    return float(np.log1p(-(weight @ theta) * y).mean())
