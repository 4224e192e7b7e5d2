r"""Label shift: p(x | y) stays, the classes' shares change, and the weight of a row is that of its class.

With :math:`w_y = q(y) / p(y)`, mean one under the source's shares. All that is needed of a row is
the posterior that some classifier gives it; source rows must not be those that the classifier was trained on.
Shapes: N source rows, M target rows, R rows of either kind, C classes.
"""

import abc
import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from unitgain.errors import ConfigError, DataError
from unitgain.shift._minimise import minimise
from unitgain.shift.calibration import Calibration, Calibrator, log_posteriors

_EM_STEPS = 5000


@final
@dataclass(frozen=True)
class LabelRatio:
    """Estimated weights of the classes, float64.

    Attributes:
        weight_C: w = q / p, mean one under the source's shares.
        source_C: the shares of the classes in the source.
        target_C: their estimated shares in the target.
        smallest_singular_value: of the matrix of predicted against true classes of the source,
            whose inverse multiplies the noise: where it is small, weights can't be told.
        calibration: what was done to posteriors first, if anything.
    """

    weight_C: Tensor
    source_C: Tensor
    target_C: Tensor
    smallest_singular_value: float
    calibration: Calibration | None

    def posteriors(self, posterior_RC: Tensor) -> Tensor:
        r"""Posteriors under the target's shares, calibrated first if those of the fit were."""
        if self.calibration is not None:
            posterior_RC = self.calibration(posterior_RC)
        return correct_posteriors(posterior_RC, self.weight_C)


class LabelEstimator(abc.ABC):
    """A way to estimate the weights of classes."""

    @torch.no_grad()
    def fit(self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor) -> LabelRatio:
        """Estimate the weights of classes.

        Args:
            source_NC: posteriors of held-out source rows.
            label_N: their classes, int64.
            target_MC: posteriors of target rows.

        Raises:
            DataError: posteriors aren't distributions over the same classes, a class has no source row, or the weights
                can't be told from these predictions.
        """
        source, target = (
            check_posteriors("source", source_NC),
            check_posteriors("target", target_MC),
        )
        classes = source.shape[1]
        if target.shape[1] != classes:
            raise DataError(
                f"target: must have posteriors of {classes} classes, has {target.shape[1]}; use one classifier"
            )
        labels = check_labels(label_N, len(source), classes)
        share_C = labels.bincount(minlength=classes).double() / len(labels)
        joint_CC = joint(source.argmax(1), labels, classes)
        least = float(torch.linalg.svdvals(joint_CC)[-1])
        weight_C, calibration = self._weights(source, labels, target)
        weight_C = weight_C / (share_C @ weight_C)
        return LabelRatio(weight_C, share_C, share_C * weight_C, least, calibration)

    @abc.abstractmethod
    def _weights(
        self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor
    ) -> tuple[Tensor, Calibration | None]:
        """Weights of 0 or above up to a factor, and how posteriors were calibrated."""


@final
@dataclass(frozen=True)
class BBSE(LabelEstimator):
    r"""Black-box shift estimation: :math:`w = \hat C^{-1} \hat\mu`.

    :math:`\hat C_{ij} = p(\hat y = i, y = j)` under the source, :math:`\hat\mu_i = q(\hat y = i)` under the target;
    weights below 0 are set to 0.

    Args:
        soft: whether a prediction is the posterior, or the likeliest class alone.

    Example:
        >>> posterior = torch.eye(2, dtype=torch.float64)
        >>> fitted = BBSE().fit(posterior, torch.tensor([0, 1]), posterior[[0, 0, 0, 1]])
        >>> fitted.weight_C
        tensor([1.5000, 0.5000], dtype=torch.float64)

    Reference:
        Lipton, Wang and Smola (2018), arXiv 1802.03916, proposition 2.
    """

    soft: bool = False

    def _weights(
        self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor
    ) -> tuple[Tensor, Calibration | None]:
        joint_CC, mean_C = _moments(source_NC, label_N, target_MC, self.soft)
        least = float(torch.linalg.svdvals(joint_CC)[-1])
        if least < 1e-12:
            raise DataError(
                f"source: predictions must tell all classes apart, the smallest singular value is {least:.1e}; "
                "use RLLS or MLLS"
            )
        return torch.linalg.solve(joint_CC, mean_C).clamp(min=0), None


@final
@dataclass(frozen=True)
class RLLS(LabelEstimator):
    r"""Regularised learning under label shift.

    :math:`\min_{w \ge 0} |\hat C w - \hat\mu| + \Delta |w - 1|`, with :math:`\Delta = 3 \alpha (b / 3 + \sqrt b)`,
    :math:`b = \tfrac2N \log(2 C / 0.05)`, a bound on the error of :math:`\hat C`.

    Args:
        soft: whether a prediction is the posterior, or the likeliest class alone.
        alpha: how much of the bound is used; 0.01 is what the paper's experiments use.

    Raises:
        ConfigError: alpha is below 0.

    Reference:
        Azizzadenesheli, Liu, Yang and Anandkumar (2019), arXiv 1903.09734, equation 4 and lemma 1.
    """

    soft: bool = False
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ConfigError(f"alpha: must be 0 or above, got {self.alpha:g}; 0.01 is usual")

    def _weights(
        self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor
    ) -> tuple[Tensor, Calibration | None]:
        joint_CC, mean_C = _moments(source_NC, label_N, target_MC, self.soft)
        logarithm = 2 * math.log(2 * len(mean_C) / 0.05) / len(source_NC)
        delta = 3 * self.alpha * (logarithm / 3 + math.sqrt(logarithm))

        def objective(weight_C: Tensor) -> Tensor:
            # Norms have no slope at 0; this much under the root gives them one.
            misfit = ((joint_CC @ weight_C - mean_C).square().sum() + 1e-18).sqrt()
            return misfit + delta * ((weight_C - 1).square().sum() + 1e-18).sqrt()

        return minimise(objective, torch.ones_like(mean_C), positive=True, tolerance=1e-9), None


@final
@dataclass(frozen=True)
class MLLS(LabelEstimator):
    r"""Maximum likelihood of the target's shares, by expectation maximisation over calibrated posteriors.

    :math:`q_y \leftarrow \frac1M \sum_m \frac{w_y p(y | x_m)}{\sum_c w_c p(c | x_m)}`, :math:`w = q / p`, where p is
    the source's mean of the same calibrated posteriors: both sides must be calibrated alike.

    Args:
        calibration: ``bias_corrected`` temperature scaling, ``temperature`` scaling or ``none``.

    Raises:
        ConfigError: another calibration.

    Reference:
        Saerens, Latinne and Decaestecker (2002), doi 10.1162/089976602753284446; Alexandari, Kundaje and Shrikumar
        (2020), arXiv 1901.06852, section 3.
    """

    calibration: Literal["bias_corrected", "temperature", "none"] = "bias_corrected"

    def __post_init__(self) -> None:
        if self.calibration not in ("bias_corrected", "temperature", "none"):
            raise ConfigError(
                "calibration: must be one of bias_corrected, temperature, none, "
                f"got {self.calibration}; choose one"
            )

    def _weights(
        self, source_NC: Tensor, label_N: Tensor, target_MC: Tensor
    ) -> tuple[Tensor, Calibration | None]:
        calibration = None
        if self.calibration != "none":
            bias = self.calibration == "bias_corrected"
            calibration = Calibrator(bias=bias).fit(source_NC, label_N)
            source_NC, target_MC = calibration(source_NC), calibration(target_MC)
        prior_C = source_NC.mean(0).clamp(min=torch.finfo(torch.float64).tiny)
        weight_C = torch.ones_like(prior_C)
        for _ in range(_EM_STEPS):
            share_C = correct_posteriors(target_MC, weight_C).mean(0)
            before, weight_C = weight_C, share_C / prior_C
            if float(((weight_C - before) * prior_C).abs().max()) < 1e-10:
                break
        return weight_C, calibration


def correct_posteriors(posterior_RC: Tensor, weight_C: Tensor) -> Tensor:
    r"""Posteriors under other shares of the classes: :math:`q(y | x) = w_y p(y | x) / \sum_c w_c p(c | x)`.

    Example:
        >>> correct_posteriors(torch.tensor([[0.5, 0.5]]), torch.tensor([1.5, 0.5]))
        tensor([[0.7500, 0.2500]])
    """
    weighted_RC = posterior_RC * weight_C
    total_R1 = weighted_RC.sum(1, keepdim=True)
    # A row whose posterior lies on classes of weight 0 alone keeps it.
    return torch.where(total_R1 > 0, weighted_RC / total_R1, posterior_RC)


def bootstrap_weights(
    estimator: LabelEstimator,
    source_NC: Tensor,
    label_N: Tensor,
    target_MC: Tensor,
    generator: torch.Generator,
    *,
    resamples: int = 200,
    level: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """The bootstrap interval of each class's weight, by percentiles over rows drawn anew in both parts.

    A drawn source part without some class is drawn again within classes.

    Returns:
        The lower and the upper ends (C,).

    Raises:
        ConfigError: fewer than two resamples, or a level outside (0, 1).
        DataError: as in `LabelEstimator.fit`.

    Reference:
        Efron and Tibshirani (1993), An introduction to the bootstrap, section 13.3.
    """
    if resamples < 2 or not 0 < level < 1:
        raise ConfigError(
            "bootstrap: must have 2 resamples or more and a level within (0, 1), "
            f"got {resamples} and {level:g}; 200 and 0.95 are usual"
        )
    found = []
    for _ in range(resamples):
        own = _drawn(len(source_NC), generator, source_NC)
        if len(torch.unique(label_N[own])) < source_NC.shape[1]:
            groups = [(label_N == c).nonzero()[:, 0] for c in range(source_NC.shape[1])]
            own = torch.cat([g[_drawn(len(g), generator, source_NC)] for g in groups])
        other = _drawn(len(target_MC), generator, target_MC)
        found.append(estimator.fit(source_NC[own], label_N[own], target_MC[other]).weight_C)
    weights = torch.stack(found)
    return weights.quantile((1 - level) / 2, 0), weights.quantile((1 + level) / 2, 0)


def _drawn(rows: int, generator: torch.Generator, like: Tensor) -> Tensor:
    index = torch.randint(rows, (rows,), generator=generator, device=generator.device)
    return index.to(like.device)


def joint(predicted_N: Tensor, label_N: Tensor, classes: int) -> Tensor:
    """The share of rows of each predicted (first) and true (second) class, (C, C)."""
    counts = (predicted_N * classes + label_N).bincount(minlength=classes * classes)
    return counts.view(classes, classes).double() / len(label_N)


def _moments(
    source_NC: Tensor, label_N: Tensor, target_MC: Tensor, soft: bool
) -> tuple[Tensor, Tensor]:
    """The joint matrix of predictions and classes (C, C), and the mean prediction of the target (C,)."""
    classes = source_NC.shape[1]
    if soft:
        of_class_NC = torch.eye(classes, dtype=source_NC.dtype, device=source_NC.device)[label_N]
        return source_NC.T @ of_class_NC / len(label_N), target_MC.mean(0)
    predicted_C = target_MC.argmax(1).bincount(minlength=classes).double() / len(target_MC)
    return joint(source_NC.argmax(1), label_N, classes), predicted_C


def check_posteriors(name: str, posterior_RC: Tensor) -> Tensor:
    """The posteriors in float64, rows summing to one exactly.

    Raises:
        DataError: not a matrix of rows and two classes or more whose rows are distributions.
    """
    posterior = log_posteriors(name, posterior_RC).exp()
    return posterior / posterior.sum(1, keepdim=True)


def check_labels(label_N: Tensor, rows: int, classes: int, *, every: bool = True) -> Tensor:
    """The labels; ``every`` class must occur among them.

    Raises:
        DataError: not one class index a row, or a class has no row.
    """
    if label_N.shape != (rows,) or label_N.is_floating_point():
        raise DataError(
            f"labels: must be {rows} class indices, got {tuple(label_N.shape)} of {label_N.dtype}; one a row"
        )
    counts = label_N.long().clamp(0, classes).bincount(minlength=classes)
    if bool((label_N < 0).any()) or len(counts) > classes:
        raise DataError(
            f"labels: must be from 0 to {classes - 1}, got {int(label_N.max())}; mend them"
        )
    if every and bool((counts == 0).any()):
        missing = int((counts == 0).nonzero()[0])
        raise DataError(
            f"labels: every class must have a source row, class {missing} has none; drop it"
        )
    return label_N.long()
