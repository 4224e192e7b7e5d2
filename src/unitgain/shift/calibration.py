r"""Calibration of posteriors by a temperature and biases.

Shapes: N rows to fit on, R rows, C classes.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor
from torch.nn import functional as fn

from unitgain.errors import DataError
from unitgain.shift._minimise import minimise


@final
@dataclass(frozen=True)
class Calibration:
    r"""Posteriors mapped to :math:`softmax(\log p / T + b)`.

    Attributes:
        temperature: T.
        bias_C: b, its sum zero.
    """

    temperature: float
    bias_C: Tensor

    def __call__(self, posterior_RC: Tensor) -> Tensor:
        """The calibrated posteriors (R, C), float64."""
        log_RC = log_posteriors("posteriors", posterior_RC)
        return (log_RC / self.temperature + self.bias_C).softmax(1)


@final
@dataclass(frozen=True)
class Calibrator:
    """Temperature scaling, with a bias for each class or without.

    Args:
        bias: whether there are biases; without them, the temperature alone can't mend a wrong share of a class.

    Example:
        >>> import torch
        >>> posterior = torch.tensor([[0.9, 0.1]]).repeat(10, 1)
        >>> label = torch.tensor([0] * 6 + [1] * 4)
        >>> Calibrator().fit(posterior, label)(posterior)[0]
        tensor([0.6000, 0.4000], dtype=torch.float64)

    Reference:
        Guo, Pleiss, Sun and Weinberger (2017), arXiv 1706.04599, section 4.2; Alexandari, Kundaje and Shrikumar (2020),
        arXiv 1901.06852, equation 4.
    """

    bias: bool = True

    def fit(self, posterior_NC: Tensor, label_N: Tensor) -> Calibration:
        """The temperature and biases with the least log loss on rows that the classifier wasn't trained on.

        Raises:
            DataError: posteriors aren't distributions over classes.
        """
        log_NC = log_posteriors("posteriors", posterior_NC)
        classes = log_NC.shape[1]

        def loss(theta_P: Tensor) -> Tensor:
            scaled_NC = log_NC * theta_P[0].exp() + (theta_P[1:] if self.bias else 0.0)
            # The smallest ridge on biases settles their sum, and what a class without rows would do.
            return fn.cross_entropy(scaled_NC, label_N) + 1e-6 * theta_P[1:].square().sum()

        theta_P = minimise(loss, log_NC.new_zeros(1 + classes), tolerance=1e-8)
        bias_C = theta_P[1:] - theta_P[1:].mean()
        return Calibration(float((-theta_P[0]).exp()), bias_C)


def log_posteriors(name: str, posterior_RC: Tensor) -> Tensor:
    """The logarithm of posteriors in float64, kept above that of 1e-12.

    Raises:
        DataError: not a matrix of rows and two classes or more whose rows are distributions.
    """
    if posterior_RC.ndim != 2 or posterior_RC.shape[1] < 2 or len(posterior_RC) == 0:
        raise DataError(
            f"{name}: must be posteriors of rows over two classes or more, "
            f"has shape {tuple(posterior_RC.shape)}; give one row a probability vector"
        )
    posterior = posterior_RC.detach().double()
    wrong = ~(((posterior.sum(1) - 1).abs() < 1e-3) & (posterior >= 0).all(1))
    if bool(wrong.any()):
        raise DataError(
            f"{name}: rows must be distributions, {int(wrong.sum())} of {len(posterior)} are not; apply softmax"
        )
    return posterior.clamp(min=1e-12).log()
