"""Tables drawn from a seed: the same ones in every process, whatever else was drawn before."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from unitgain.data._table import Floats, Table, table_from_arrays


def linear(
    n: int = 1000, noise: float = 0.1, seed: int = 0, n_features: int = 10, n_targets: int = 1
) -> Table:
    r"""A linear map with noise: ``y = x A + noise * e``, ``A_dt ~ N(0, 1/D)``.

    Args:
        n: Rows.
        noise: Standard deviation of the noise; the signal's is near 1.
        seed: Decides the draw.
        n_features: D, of ``x ~ N(0, 1)``.
        n_targets: T.
    """
    rng = np.random.default_rng(seed)
    a_DT = rng.normal(size=(n_features, n_targets)) / np.sqrt(n_features)
    x_ND = rng.normal(size=(n, n_features))
    y_NT = x_ND @ a_DT + noise * rng.normal(size=(n, n_targets))
    return table_from_arrays("linear", x_ND, y_NT, task="regression")


def friedman1(n: int = 1000, noise: float = 1.0, seed: int = 0, n_features: int = 10) -> Table:
    """``y = 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4 + noise * e``, x uniform in [0, 1].

    Args:
        n: Rows.
        noise: Standard deviation of the noise.
        seed: Decides the draw.
        n_features: D, five or more.

    Reference: Friedman (1991), Multivariate adaptive regression splines.
    """
    from sklearn.datasets import make_friedman1

    x_ND, y_N = make_friedman1(n, n_features=n_features, noise=noise, random_state=seed)
    return table_from_arrays("friedman1", x_ND, y_N, task="regression")


def sinc(
    n: int = 1000,
    noise: float = 0.25,
    seed: int = 0,
    inputs: Literal["normal", "uniform"] = "normal",
    center: float = 1.0,
    spread: float = 0.5,
) -> Table:
    """``y = sin(pi x) / (pi x) + noise * e`` of one feature.

    Args:
        n: Rows.
        noise: Standard deviation of the noise.
        seed: Decides the draw.
        inputs: ``normal`` draws x from N(center, spread^2), ``uniform`` from center +- spread.
        center: Middle of x.
        spread: Standard deviation (normal) or half width (uniform) of x.

    Reference: Sugiyama, Krauledat and Mueller (2007), Covariate shift adaptation by importance
    weighted cross validation, section 3.
    """
    rng = np.random.default_rng(seed)
    if inputs == "normal":
        x_N = rng.normal(center, spread, size=n)
    else:
        x_N = rng.uniform(center - spread, center + spread, size=n)
    y_N = np.sinc(x_N) + noise * rng.normal(size=n)
    return table_from_arrays("sinc", x_N[:, None], y_N, task="regression")


def teacher(
    n: int = 1000,
    noise: float = 0.1,
    seed: int = 0,
    n_features: int = 10,
    n_targets: int = 1,
    depth: int = 2,
    width: int = 32,
    sigma_w: float = 1.5,
) -> Table:
    """The output of a random tanh network on Gaussian features, with noise.

    ``h <- tanh(h W)`` ``depth`` times, ``W_ij ~ N(0, sigma_w^2 / fan_in)``, then a linear head.

    Args:
        n: Rows.
        noise: Standard deviation of the noise.
        seed: Decides the network and the draw.
        n_features: D, of ``x ~ N(0, 1)``.
        n_targets: T.
        depth: Hidden layers.
        width: Hidden units a layer.
        sigma_w: Gain of the weights.
    """
    rng = np.random.default_rng(seed)
    network = teacher_network(rng, (n_features, *[width] * depth, n_targets), sigma_w)
    x_ND = rng.normal(size=(n, n_features))
    y_NT = network(x_ND) + noise * rng.normal(size=(n, n_targets))
    return table_from_arrays("teacher", x_ND, y_NT, task="regression")


def teacher_network(
    rng: np.random.Generator, sizes: tuple[int, ...], sigma_w: float
) -> Callable[[Floats], Floats]:
    """A random tanh network with a linear head, see `teacher`."""
    weights = [
        rng.normal(size=(fan_in, fan_out)) * sigma_w / np.sqrt(fan_in)
        for fan_in, fan_out in pairwise(sizes)
    ]

    def network(x_ND: Floats) -> Floats:
        h_NH = x_ND
        for weight in weights[:-1]:
            h_NH = np.tanh(h_NH @ weight)
        return np.asarray(h_NH @ weights[-1], dtype=np.float64)

    return network


def moons(n: int = 1000, noise: float = 0.2, seed: int = 0) -> Table:
    """Two interleaving half circles of radius one.

    Args:
        n: Rows.
        noise: Standard deviation of the noise on both features.
        seed: Decides the draw.
    """
    from sklearn.datasets import make_moons

    return _classes("moons", *make_moons(n, noise=noise, random_state=seed))


def circles(n: int = 1000, noise: float = 0.1, seed: int = 0, factor: float = 0.5) -> Table:
    """A circle of radius ``factor`` in a circle of radius one.

    Args:
        n: Rows.
        noise: Standard deviation of the noise on both features.
        seed: Decides the draw.
        factor: Radius of the inner circle, below one.
    """
    from sklearn.datasets import make_circles

    return _classes("circles", *make_circles(n, noise=noise, random_state=seed, factor=factor))


def blobs(
    n: int = 1000, noise: float = 1.0, seed: int = 0, n_features: int = 2, n_classes: int = 3
) -> Table:
    """Gaussian clusters, one a class, with centres uniform in [-10, 10].

    Args:
        n: Rows.
        noise: Standard deviation of a cluster.
        seed: Decides the centres and the draw.
        n_features: D.
        n_classes: C.
    """
    from sklearn.datasets import make_blobs

    x_ND, y_N = make_blobs(
        n, n_features=n_features, centers=n_classes, cluster_std=noise, random_state=seed
    )
    return _classes("blobs", x_ND, y_N)


def _classes(name: str, x_ND: Any, y_N: Any) -> Table:
    return table_from_arrays(name, x_ND, y_N, task="classification")
