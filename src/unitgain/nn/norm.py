"""Normalization layers, members first.

Shapes: K members, B examples, D features.
"""

import abc
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from unitgain.nn.layout import ALIGNMENT
from unitgain.nn.share import WHOLE, Share, summed


class Norm(abc.ABC):
    """A normalization of activations x (K, B, D), member by member.

    A norm of one's own names its affine parameters and its buffers, says what they start from, and computes. It keeps
    no tensor itself: the MLP does, in one block for all layers and members.
    """

    @abc.abstractmethod
    def parameters(self) -> dict[str, float]:
        """Names of affine vectors (D,) and the value that each starts from."""

    @abc.abstractmethod
    def buffers(self) -> dict[str, float]:
        """Names of running statistics (D,) and the value that each starts from."""

    @abc.abstractmethod
    def __call__(
        self,
        x_KBD: Tensor,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
        rows: int | None,
    ) -> Tensor:
        """Normalize.

        Args:
            x_KBD: activations (K, B, D).
            parameters: by name, (K, 1, D).
            buffers: by name, (K, D), updated in place when training.
            training: whether statistics come from the batch.
            rows: how many rows of B are examples; the rest is padding and must not count. None: all.
        """

    @abc.abstractmethod
    def single(self, width: int) -> nn.Module:
        """The same norm for one member, as a torch.nn module whose state_dict has the names above."""

    @property
    @abc.abstractmethod
    def centres(self) -> bool:
        """Whether it removes each unit's mean over the batch, so that a bias in front of it does nothing."""


def _affine(x_KBD: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    if "weight" not in parameters:
        return x_KBD
    if "bias" not in parameters:
        return x_KBD * parameters["weight"]
    return torch.addcmul(parameters["bias"], x_KBD, parameters["weight"])


@final
class BatchNorm(Norm):
    r"""Batch normalization with running statistics a member.

    $y = \gamma (x - E_B[x]) / \sqrt{Var_B[x] + \epsilon} + \beta$, over the examples of one member.

    Args:
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        affine: whether gamma and beta are trained.

    Reference:
        Ioffe and Szegedy 2015, arXiv 1502.03167.
    """

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        self.eps, self.momentum, self.affine = eps, momentum, affine
        self._share = WHOLE

    def over(self, share: Share) -> "BatchNorm":
        """The same, with statistics of the whole batch where each of several processes has a part of it."""
        norm = BatchNorm(self.eps, self.momentum, self.affine)
        norm._share = share
        return norm

    def parameters(self) -> dict[str, float]:
        return {"weight": 1.0, "bias": 0.0} if self.affine else {}

    def buffers(self) -> dict[str, float]:
        return {"running_mean": 0.0, "running_var": 1.0}

    def __call__(
        self,
        x_KBD: Tensor,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
        rows: int | None,
    ) -> Tensor:
        members, batch, width = x_KBD.shape
        examples = batch if rows is None or not training else rows
        if training and not self._share.whole:
            y_KBD = _affine(self._over_processes(x_KBD[:, :examples], buffers), parameters)
            return fn.pad(y_KBD, (0, 0, 0, batch - examples))
        # Units of zeros fill up a member's last vector register, so that its bits don't depend on its neighbours.
        padding = -width % ALIGNMENT
        x, statistics, affine = x_KBD[:, :examples], buffers, parameters
        if padding:
            x = fn.pad(x, (0, padding))
            statistics = {name: fn.pad(value, (0, padding)) for name, value in buffers.items()}
            affine = {name: fn.pad(value, (0, padding)) for name, value in parameters.items()}
        # (B, K * D): torch's own kernel sees one long feature axis and is quicker than the formula spelled out.
        y = fn.batch_norm(
            x.transpose(0, 1).reshape(examples, -1),
            statistics["running_mean"].view(-1),
            statistics["running_var"].view(-1),
            affine["weight"].reshape(-1) if self.affine else None,
            affine["bias"].reshape(-1) if self.affine else None,
            training,
            self.momentum,
            self.eps,
        )
        y_KBD = y.view(examples, members, -1).transpose(0, 1)
        if padding:
            y_KBD = y_KBD[..., :width]
            for name, value in buffers.items():
                value.copy_(statistics[name][:, :width])
        if examples < batch:
            return fn.pad(y_KBD, (0, 0, 0, batch - examples))
        return y_KBD.contiguous()

    def _over_processes(self, x_KBD: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:
        """Normalized by the statistics of all processes' examples, which running ones take in too."""
        counted = fn.pad(x_KBD.sum(1), (0, 1), value=float(x_KBD.shape[1]))
        total_KD, count = (t := summed(counted, self._share))[:, :-1], t[0, -1].detach()
        mean_KD = total_KD / count
        spread_KBD = x_KBD - mean_KD.unsqueeze(1)
        square_KD = summed(spread_KBD.square().sum(1), self._share)
        with torch.no_grad():
            buffers["running_mean"].lerp_(mean_KD, self.momentum)
            buffers["running_var"].lerp_(square_KD / (count - 1), self.momentum)
        return spread_KBD * (square_KD / count + self.eps).rsqrt().unsqueeze(1)

    def single(self, width: int) -> nn.Module:
        return nn.BatchNorm1d(width, self.eps, self.momentum, self.affine)

    @property
    def centres(self) -> bool:
        return True


@final
class LayerNorm(Norm):
    r"""Layer normalization over the features of one example.

    $y = \gamma (x - E_D[x]) / \sqrt{Var_D[x] + \epsilon} + \beta$

    Reference:
        Ba et al. 2016, arXiv 1607.06450.
    """

    def __init__(self, eps: float = 1e-5, affine: bool = True) -> None:
        self.eps, self.affine = eps, affine

    def parameters(self) -> dict[str, float]:
        return {"weight": 1.0, "bias": 0.0} if self.affine else {}

    def buffers(self) -> dict[str, float]:
        return {}

    def __call__(
        self,
        x_KBD: Tensor,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
        rows: int | None,
    ) -> Tensor:
        return _affine(fn.layer_norm(x_KBD, x_KBD.shape[-1:], eps=self.eps), parameters)

    def single(self, width: int) -> nn.Module:
        return nn.LayerNorm(width, self.eps, self.affine)

    @property
    def centres(self) -> bool:
        return False


@final
class RMSNorm(Norm):
    r"""Root-mean-square normalization, $y = \gamma x / \sqrt{E_D[x^2] + \epsilon}$, over the features of one example.

    Reference:
        Zhang and Sennrich 2019, arXiv 1910.07467.
    """

    def __init__(self, eps: float = 1e-5, affine: bool = True) -> None:
        self.eps, self.affine = eps, affine

    def parameters(self) -> dict[str, float]:
        return {"weight": 1.0} if self.affine else {}

    def buffers(self) -> dict[str, float]:
        return {}

    def __call__(
        self,
        x_KBD: Tensor,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
        rows: int | None,
    ) -> Tensor:
        return _affine(fn.rms_norm(x_KBD, x_KBD.shape[-1:], eps=self.eps), parameters)

    def single(self, width: int) -> nn.Module:
        return nn.RMSNorm(width, self.eps, self.affine)

    @property
    def centres(self) -> bool:
        return False
