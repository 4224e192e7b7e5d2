"""Metrics of all members of a pack at once, on the device that the predictions are on, without waiting for it.

Each is a function of a split's predictions and targets that gives a tensor (K,), float64 for float64 predictions and
float32 for all others. Counts and ranks are integers and sums run in float64, within a member. A member whose
predictions aren't numbers gets NaN, and the others what they get without it.
Shapes: K members, N rows, C classes, T targets.
"""

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor

from unitgain.errors import ConfigError

if TYPE_CHECKING:
    from torchmetrics import Metric

PackedMetric = Callable[[Tensor, Tensor], Tensor]

BINS = 15
"""Of the calibration error; a confidence of exactly 1 has one more for itself."""
_CHUNK = 2**24  # elements of the table of ranks; it bounds auroc's memory, and changes no bit


def accuracy(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    r"""The share of rows whose most probable class is right, (K,).

    :math:`\frac{1}{N} \sum_n [\arg\max_c p_{nc} = y_n]`, the first of equally probable classes counting.

    Args:
        probabilities_KNC: the probabilities of the classes.
        target_KN: class indices, int64.

    Example:
        >>> accuracy(torch.tensor([[[0.9, 0.1], [0.2, 0.8]]]), torch.tensor([[0, 0]]))
        tensor([0.5000])
    """
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    right_K = (predicted_KN == target_KN).mean(-1, dtype=torch.float64)
    return as_result(right_K + 0 * confidence_KN.sum(-1), probabilities_KNC)


def f1_macro(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    r"""The F1 score of each class, averaged over the classes that occur among targets or predictions, (K,).

    :math:`F_1 = 2 TP / (2 TP + FP + FN)`; the same as torchmetrics' ``multiclass_f1_score(average="macro")``.

    Args:
        probabilities_KNC: the probabilities of the classes.
        target_KN: class indices, int64.

    Example:
        >>> f1_macro(torch.tensor([[[0.9, 0.1], [0.2, 0.8]]]), torch.tensor([[0, 0]]))
        tensor([0.3333])
    """
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    hit_KN = (predicted_KN == target_KN).double()
    zero_KC = hit_KN.new_zeros(len(target_KN), probabilities_KNC.shape[-1])
    one_KN = torch.ones_like(hit_KN)
    true_KC = zero_KC.scatter_add(1, target_KN, hit_KN)
    # 2 TP + FP + FN: how often the class is predicted, and how often it is the target.
    named_KC = zero_KC.scatter_add(1, target_KN, one_KN).scatter_add_(1, predicted_KN, one_KN)
    score_K = (2 * true_KC / named_KC.clamp(min=1)).sum(-1) / (named_KC > 0).sum(-1)
    return as_result(score_K + 0 * confidence_KN.sum(-1), probabilities_KNC)


def auroc(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    r"""The area under the ROC curve, one class against the rest, averaged over classes, (K,).

    From the ranks :math:`r_n` of a class's probabilities, ties at their mean rank: with P rows of the class and Q of
    others, :math:`(\sum_{n: y_n = c} r_n - P (P + 1) / 2) / (P Q)`. Exact: no thresholds. Two classes: the area of the
    second. A class that no row or every row has counts as zero. All as torchmetrics' ``multiclass_auroc`` and
    ``binary_auroc`` with ``thresholds=None``.

    Args:
        probabilities_KNC: the probabilities of the classes.
        target_KN: class indices, int64.

    Example:
        >>> auroc(torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]]]), torch.tensor([[0, 1, 1]]))
        tensor([0.7500])

    Reference:
        Hanley and McNeil (1982), doi 10.1148/radiology.143.1.7063747: the area is the Mann-Whitney statistic.
    """
    members, rows, classes = probabilities_KNC.shape
    first = 1 if classes == 2 else 0
    step = max(1, _CHUNK // (members * rows))
    areas = [
        _areas(probabilities_KNC[:, :, c : c + step], target_KN, c)
        for c in range(first, classes, step)
    ]
    area_K = torch.cat(areas, -1).mean(-1)
    return as_result(area_K + 0 * probabilities_KNC.sum((1, 2)), probabilities_KNC)


def _areas(probabilities_KNC: Tensor, target_KN: Tensor, first: int) -> Tensor:
    """The areas (K, C) of neighbouring classes, ``first`` on.

    One integer holds a probability's bits, which order numbers from 0 up as their values do, and in its last bit
    whether the row is of the class: sorting integers alone gives the ranks of the class. Among ties its rows come
    last; a second sort with the last bit inverted brings them first, and the mean of the two is the mean rank. Without
    a row of the class right behind another of the same probability there are no such ties.
    """
    if probabilities_KNC.dtype not in (torch.float32, torch.float64):
        probabilities_KNC = probabilities_KNC.float()
    integer = torch.int64 if probabilities_KNC.dtype == torch.float64 else torch.int32
    device, (_, rows, classes) = target_KN.device, probabilities_KNC.shape
    class_C1 = torch.arange(first, first + classes, device=device).unsqueeze(-1)
    own_KCN = target_KN.unsqueeze(1) == class_C1
    bits_KCN = probabilities_KNC.transpose(1, 2).contiguous().view(integer)
    key_KCN = torch.add(own_KCN, bits_KCN, alpha=2)
    rank_N = torch.arange(rows, device=device, dtype=integer)
    sorted_KCN = _sort(key_KCN.clone())
    last_KC = ((sorted_KCN & 1) * rank_N).sum(-1)
    first_KC = last_KC
    if device.type != "cpu" or bool((sorted_KCN[..., 1:] ^ sorted_KCN[..., :-1] == 1).any()):
        first_KC = (((_sort(key_KCN ^ 1) & 1) ^ 1) * rank_N).sum(-1)
    own_KC = own_KCN.sum(-1)
    wins_KC = 0.5 * (last_KC + first_KC - own_KC * (own_KC - 1)).double()
    return wins_KC / (own_KC * (rows - own_KC)).clamp(min=1)


def _sort(keys: Tensor) -> Tensor:
    """Integers sorted along the last dimension, in place on CPU."""
    if keys.device.type != "cpu":
        return keys.sort(-1).values
    # NumPy's vectorised sort is some twenty times quicker than torch's, which carries the indices.
    keys.numpy().sort(-1)
    return keys


def ece(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    r"""The expected calibration error in 15 even bins of the largest probability, (K,).

    :math:`\sum_b \frac{N_b}{N} |acc_b - conf_b|`; the same as torchmetrics' ``multiclass_calibration_error`` with
    ``n_bins=15, norm="l1"``.

    Args:
        probabilities_KNC: the probabilities of the classes.
        target_KN: class indices, int64.

    Example:
        >>> ece(torch.tensor([[[0.9, 0.1], [0.2, 0.8]]]), torch.tensor([[0, 0]]))
        tensor([0.4500])

    Reference:
        Guo et al. (2017), arXiv 1706.04599, equation 3.
    """
    confidence_KN, predicted_KN = probabilities_KNC.max(-1)
    bin_KN = confidence_bins(confidence_KN)
    gap_KN = confidence_KN.double() - (predicted_KN == target_KN).double()
    gap_KB = gap_KN.new_zeros(len(gap_KN), BINS + 1).scatter_add_(1, bin_KN, gap_KN)
    return as_result(gap_KB.abs().sum(-1) / gap_KN.shape[-1], probabilities_KNC)


def confidence_bins(confidence_KN: Tensor) -> Tensor:
    """The bin of each confidence, from 0 to `BINS`: exactly 1 has its own, as in torchmetrics; NaN falls there too.

    Args:
        confidence_KN: largest probabilities.
    """
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence_KN.dtype, device=confidence_KN.device)
    return torch.bucketize(confidence_KN, edges, right=True) - 1


def log_loss(probabilities_KNC: Tensor, target_KN: Tensor) -> Tensor:
    r"""The mean negative logarithm of the target's probability, (K,).

    :math:`-\frac{1}{N} \sum_n \log p_{n y_n}`, p kept off 0 and 1 by the type's epsilon, as scikit-learn does.

    Args:
        probabilities_KNC: the probabilities of the classes.
        target_KN: class indices, int64.

    Example:
        >>> log_loss(torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]), torch.tensor([[0, 1]]))
        tensor([0.4581])
    """
    epsilon = torch.finfo(probabilities_KNC.dtype).eps
    own_KN = probabilities_KNC.gather(-1, target_KN.unsqueeze(-1)).squeeze(-1)
    log_KN = own_KN.clamp(epsilon, 1 - epsilon).log()
    return as_result(-log_KN.mean(-1, dtype=torch.float64), probabilities_KNC)


def mae(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    r"""The mean absolute error over rows and targets, (K,): :math:`\frac{1}{NT} \sum |o - y|`.

    Args:
        prediction_KNT: the predictions.
        target_KNT: the targets.
    """
    error_KNT = prediction_KNT - target_KNT
    return as_result(error_KNT.abs().mean((1, 2), dtype=torch.float64), prediction_KNT)


def mse(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    r"""The mean squared error over rows and targets, (K,): :math:`\frac{1}{NT} \sum (o - y)^2`.

    Args:
        prediction_KNT: the predictions.
        target_KNT: the targets.
    """
    return as_result(_mean_square(prediction_KNT, target_KNT), prediction_KNT)


def rmse(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    r"""The root of the mean squared error over rows and targets, (K,).

    Args:
        prediction_KNT: the predictions.
        target_KNT: the targets.
    """
    return as_result(_mean_square(prediction_KNT, target_KNT).sqrt(), prediction_KNT)


def _mean_square(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    error_KNT = prediction_KNT - target_KNT
    return error_KNT.square().mean((1, 2), dtype=torch.float64)


def r2(prediction_KNT: Tensor, target_KNT: Tensor) -> Tensor:
    r"""The coefficient of determination, averaged over targets, (K,).

    :math:`1 - \sum_n (o_n - y_n)^2 / \sum_n (y_n - \bar y)^2`. Of a constant target it is 1 where every prediction is
    exact and 0 where not, as in torchmetrics, which however takes any two sums below 1e-4 for zero: here targets in
    small units keep their score.

    Args:
        prediction_KNT: the predictions.
        target_KNT: the targets.

    Example:
        >>> r2(torch.tensor([[[1.0], [2.0], [2.0]]]), torch.tensor([[[1.0], [2.0], [3.0]]]))
        tensor([0.5000])
    """
    target = target_KNT.double()
    residual_KT = (prediction_KNT.double() - target).square().sum(1)
    total_KT = (target - target.mean(1, keepdim=True)).square().sum(1)
    constant_KT = (target == target[:, :1]).all(1)
    missed_KT = residual_KT.clamp(max=1).ceil()  # 0 or 1, and NaN of NaN, which sign() would make 0
    score_KT = 1 - torch.where(constant_KT, missed_KT, residual_KT / total_KT)
    return as_result(score_KT.mean(-1), prediction_KNT)


def as_result(value_K: Tensor, like: Tensor) -> Tensor:
    """A metric (K,) in the type that predictions of this type have their metrics in."""
    return value_K.to(torch.promote_types(like.dtype, torch.float32))


@final
class MemberwiseMetric:
    """A metric of torchmetrics, computed for one member after another.

    A metric for binary classification gets the probabilities of the second class, all others of classification get
    those of all classes; with one target, predictions and targets of regression are vectors (N,). A member with
    predictions that aren't finite gets NaN, and the metric isn't asked.

    Args:
        metric: any metric that gives one number.
    """

    def __init__(self, metric: "Metric") -> None:
        self.metric = metric
        # torchmetrics' binary metrics share no base class: their names are the sign.
        self._is_binary = any(
            base.__module__.startswith("torchmetrics.") and base.__name__.startswith("Binary")
            for base in type(metric).__mro__
        )

    @property
    def takes_weights(self) -> bool:
        """Whether it is updated with predictions, targets and ``weight``."""
        return list(inspect.signature(type(self.metric).update).parameters)[3:4] == ["weight"]

    def __call__(
        self, prediction_KNT: Tensor, target: Tensor, weight_KN: Tensor | None = None
    ) -> Tensor:
        """The metric of each member (K,).

        Args:
            prediction_KNT: probabilities of classes, or predictions.
            target: class indices (K, N), or targets (K, N, T).
            weight_KN: how much each row counts, for a metric that takes weights.

        Raises:
            ConfigError: the metric gives more than one number, or is a binary one and the classes aren't two.
        """
        if self._is_binary and prediction_KNT.shape[-1] != 2:
            raise ConfigError(
                f"metrics: {type(self.metric).__name__} needs two classes, the data has {prediction_KNT.shape[-1]}; "
                "choose the multiclass metric"
            )
        finite = prediction_KNT.isfinite().all(-1).all(-1).tolist()
        values = [
            self._of_member(
                prediction_KNT[k], target[k], [] if weight_KN is None else [weight_KN[k]]
            )
            if finite[k]
            else prediction_KNT.new_full((), torch.nan)
            for k in range(len(finite))
        ]
        return as_result(torch.stack(values), prediction_KNT)

    def _of_member(self, prediction_NT: Tensor, target: Tensor, weight: list[Tensor]) -> Tensor:
        if self._is_binary:
            prediction_NT = prediction_NT[:, 1]
        elif target.is_floating_point() and prediction_NT.shape[-1] == 1:
            prediction_NT, target = prediction_NT[:, 0], target[:, 0]
        self.metric.to(prediction_NT.device).reset()
        self.metric.update(prediction_NT, target, *weight)
        value = self.metric.compute()
        self.metric.reset()
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ConfigError(
                f"metrics: {type(self.metric).__name__} must give one number, got {_outcome(value)}; choose an average"
            )
        return value.reshape(()).to(prediction_NT)


def _outcome(value: object) -> str:
    return f"{value.numel()} numbers" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def as_metric(obj: object) -> PackedMetric:
    """The packed metric that an object of the configuration stands for.

    Args:
        obj: a metric of torchmetrics, computed for one member after another; or a function that maps predictions of
            all members and their targets to (K,).

    Raises:
        ConfigError: the object is neither.

    Example:
        >>> as_metric(accuracy) is accuracy
        True
    """
    from torchmetrics import Metric

    if isinstance(obj, Metric):
        return MemberwiseMetric(obj)
    if callable(obj):
        return cast(PackedMetric, obj)
    raise ConfigError(
        f"metrics: must be a metric of torchmetrics or a function, got {type(obj).__name__}; see unitgain.pack.metrics"
    )


def higher_is_better(metric: object) -> bool:
    """Whether more of a metric is better: whether a checkpoint's monitor looks for the largest value.

    Args:
        metric: the name of one of ours or of ``loss``, with or without a split in front; one of our functions; or a
            metric of torchmetrics.

    Raises:
        ConfigError: the metric doesn't say.

    Example:
        >>> higher_is_better("val/loss"), higher_is_better(accuracy)
        (False, True)
    """
    if isinstance(metric, str):
        name = metric.rpartition("/")[2]
        if name in _SHIPPED:
            return _SHIPPED[name][1]
        raise ConfigError(
            f"monitor: must name one of {', '.join(_SHIPPED)}, or a metric of its own, got {metric}"
        )
    for function, higher in _SHIPPED.values():
        if metric is function:
            return higher
    from torchmetrics import Metric

    inner = metric.metric if isinstance(metric, MemberwiseMetric) else metric
    if isinstance(inner, Metric) and inner.higher_is_better is not None:
        return bool(inner.higher_is_better)
    raise ConfigError(
        f"monitor: needs a metric that says whether more of it is better, {_name(inner)} doesn't; "
        "set higher_is_better in a subclass of torchmetrics.Metric, or monitor val/loss"
    )


def _name(metric: object) -> str:
    return metric.__name__ if isinstance(metric, FunctionType) else type(metric).__name__


_SHIPPED: dict[str, tuple[PackedMetric | None, bool]] = {
    "loss": (None, False),
    "accuracy": (accuracy, True),
    "f1_macro": (f1_macro, True),
    "auroc": (auroc, True),
    "ece": (ece, False),
    "log_loss": (log_loss, False),
    "mae": (mae, False),
    "mse": (mse, False),
    "rmse": (rmse, False),
    "r2": (r2, True),
}
"""What can be monitored without a metric of the user's own, and whether more of it is better."""
