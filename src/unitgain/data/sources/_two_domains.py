"""Tables of two Gaussian domains: the ratio of their densities and its moments are known in closed form."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unitgain.data._domains import Domains
from unitgain.data._gaussian_ratio import GaussianRatio
from unitgain.data._table import Floats, Table, Task, table_from_arrays
from unitgain.data.sources._generated import teacher_network

Labels = npt.NDArray[Any]


def gaussian_shift(
    task: Task = "regression",
    n_source: int = 1000,
    n_target: int = 1000,
    noise: float = 0.25,
    seed: int = 0,
    n_features: int = 2,
    target_mean: float = 1.0,
    target_spread: float = 1.0,
) -> Table:
    """Source rows from N(0, I), target rows from N(mu, target_spread^2 I), one function of both.

    With t the sum of the features over sqrt(D) and f = sin(pi t / 2): ``y = f + noise * e`` for
    regression; for classification y is 1 with probability sigmoid(f / noise). From
    target_spread^2 = 2 up the weights have no second moment.

    Args:
        task: ``classification`` or ``regression``.
        n_source: Source rows; the first ones.
        n_target: Target rows.
        noise: Standard deviation of the noise, or the width of the sigmoid.
        seed: Decides the draw.
        n_features: D.
        target_mean: The length of mu; all its components are equal.
        target_spread: The target's standard deviation in each feature.
    """

    def labels(x_ND: Floats) -> Labels:
        f_N: Floats = np.sin(np.pi / 2 * x_ND.sum(axis=1) / np.sqrt(n_features))
        if task == "regression":
            return f_N + noise * rng.normal(size=len(f_N))
        return (f_N + noise * rng.logistic(size=len(f_N)) > 0).astype(np.int64)

    rng, ratio = np.random.default_rng(seed), GaussianRatio(target_mean, target_spread, n_features)
    return _drawn("gaussian_shift", task, ratio, (n_source, n_target), rng, labels)


def sinc_shift(
    n_source: int = 1000,
    n_target: int = 1000,
    noise: float = 0.25,
    seed: int = 0,
    center: float = 1.0,
    spread: float = 0.5,
    target_center: float = 2.0,
    target_spread: float = 0.25,
) -> Table:
    """``y = sin(pi x) / (pi x) + noise * e``, source x from N(center, spread^2), target x from another Gaussian.

    The defaults are those published: E[w^2] = 14.866, an effective share of 6.7 %.

    Args:
        n_source: Source rows; the first ones.
        n_target: Target rows.
        noise: Standard deviation of the noise.
        seed: Decides the draw.
        center: Mean of source x.
        spread: Standard deviation of source x.
        target_center: Mean of target x.
        target_spread: Standard deviation of target x.

    Reference: Sugiyama, Krauledat and Mueller (2007), Covariate shift adaptation by importance
    weighted cross validation, section 3.
    """

    def labels(z_ND: Floats) -> Labels:
        return np.sinc(center + spread * z_ND[:, 0]) + noise * rng.normal(size=len(z_ND))

    ratio = GaussianRatio((target_center - center) / spread, target_spread / spread, 1)
    rng = np.random.default_rng(seed)
    table = _drawn("sinc_shift", "regression", ratio, (n_source, n_target), rng, labels)
    return replace(table, x=center + spread * table.x)


def teacher_shift(
    n_source: int = 1000,
    n_target: int = 1000,
    noise: float = 0.1,
    seed: int = 0,
    n_features: int = 10,
    n_targets: int = 1,
    depth: int = 2,
    width: int = 32,
    sigma_w: float = 1.5,
    target_mean: float = 1.0,
    target_spread: float = 1.0,
) -> Table:
    """The output of a random tanh network, as in `teacher`, with source and target rows from two Gaussians.

    Source rows are from N(0, I), target rows from N(mu, target_spread^2 I).

    Args:
        n_source: Source rows; the first ones.
        n_target: Target rows.
        noise: Standard deviation of the noise.
        seed: Decides the network and the draw.
        n_features: D.
        n_targets: T.
        depth: Hidden layers.
        width: Hidden units a layer.
        sigma_w: Gain of the weights.
        target_mean: The length of mu; all its components are equal.
        target_spread: The target's standard deviation in each feature.
    """
    rng = np.random.default_rng(seed)
    network = teacher_network(rng, (n_features, *[width] * depth, n_targets), sigma_w)

    def labels(x_ND: Floats) -> Labels:
        return network(x_ND) + noise * rng.normal(size=(len(x_ND), n_targets))

    ratio = GaussianRatio(target_mean, target_spread, n_features)
    return _drawn("teacher_shift", "regression", ratio, (n_source, n_target), rng, labels)


def _drawn(
    name: str,
    task: Task,
    ratio: GaussianRatio,
    sizes: tuple[int, int],
    rng: np.random.Generator,
    labels: Callable[[Floats], Labels],
) -> Table:
    """Source rows, then target rows, then their labels."""
    source, target = (rng.normal(size=(n, ratio.n_features)) for n in sizes)
    x_ND = np.concatenate([source, ratio.centre + ratio.scale * target])
    domains = Domains(
        target=np.repeat([False, True], sizes),
        ratio=ratio.ratio(x_ND),
        bound=ratio.bound,
        ess_share=ratio.ess_share,
    )
    return table_from_arrays(name, x_ND, labels(x_ND), task=task, domains=domains)
