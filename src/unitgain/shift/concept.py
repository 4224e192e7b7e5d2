r"""Concept shift: is the answer, given the features, what it was in the source? With labelled rows of both parts.

Shapes: N source rows, M target rows, R rows of both, D features, K directions, P numbers that a model is fitted to,
O outputs (targets of a regression, or classes), T tested products of a direction and an output, B draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as fn

from unitgain.errors import ConfigError, DataError
from unitgain.shift._rows import Scaler, check_parts, check_rows, shuffled_order
from unitgain.stats.intervals import Interval, normal_interval, permutation_p_value

LEAST_ROWS = 10
"""Labelled rows a part below which nothing is said."""


@final
@dataclass(frozen=True)
class ConceptTest:
    """Whether labels move from source to target at equal features.

    Attributes:
        p_value: of no such move at all, above 0.
        statistic: the largest of the standardised covariances.
        effect: how far the target's answers lie above the source's at equal features, in standard deviations of the
            source's answers, with its interval: of the output where that is clearest.
        direction: along which the covariance is largest: -1 for a constant move, otherwise a feature.
        output: of the largest covariance: a target, or a class.
        text: the finding in words.
    """

    p_value: float
    statistic: float
    effect: Interval
    direction: int
    output: int
    text: str


@torch.no_grad()
def detect_concept_shift(
    source_ND: Tensor,
    source_y: Tensor,
    target_MD: Tensor,
    target_y: Tensor,
    generator: torch.Generator,
    *,
    predictions: tuple[Tensor, Tensor] | None = None,
    folds: int = 5,
    draws: int = 1999,
    level: float = 0.95,
) -> ConceptTest:
    r"""Test whether the answer is independent of the part d, given the features: the generalised covariance measure.

    :math:`T_{jo} = \sqrt{R}\, \bar Z_{jo} / sd(Z_{jo})` of :math:`Z_{jo} = (d - e(x)) (y_o - m_o(x))
    \varphi_j(x)`,
    with :math:`\varphi` a one and the standardised features. The propensity e is a logistic regression, the
    response m a ridge or logistic regression of both parts together, both of features, squares and (where rows allow)
    products, and both fitted without the row's fold. The p-value is that of :math:`\max |T|` under a Gaussian
    multiplier bootstrap. It is right if e and m together converge fast enough; a wrong m costs power but not the
    level as long as e is right.

    The effect is :math:`\sum (d - e) (y - m) / \sum (d - e)^2`: the mean move of the answer at equal
    features, over rows that both parts could hold.

    Args:
        source_ND: labelled source rows, which no model of ``predictions`` was trained on.
        source_y: their answers: int64 classes (N,), or numbers (N,) or (N, O).
        target_MD: labelled target rows.
        target_y: their answers.
        generator: draws folds and multipliers.
        predictions: outputs of a model for source and target rows, (N, P) and (M, P); m sees them beside features.
        folds: of cross-fitting.
        draws: of the bootstrap.
        level: of the effect's interval.

    Raises:
        ConfigError: fewer than two folds, no draws, or a level outside (0, 1).
        DataError: a part has fewer than ten rows, something isn't finite, columns or kinds of answers differ, or an
            output or class does not vary in the source.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> x, z = torch.randn(200, 1, generator=draw), torch.randn(50, 1, generator=draw)
        >>> same = detect_concept_shift(x, x.sin(), z, z.sin() + 0.01, draw)
        >>> moved = detect_concept_shift(x, x.sin(), z, z.sin() + 2, draw)
        >>> moved.p_value < 0.01, moved.direction
        (True, -1)

    Reference:
        Shah and Peters (2020), arXiv 1804.07203, sections 3.1 and 3.3; Scheidegger, Hoerrmann and Buehlmann (2022),
        arXiv 2111.04361, for directions; Robinson (1988), doi 10.2307/1912705, for the effect.
    """
    _check_settings(folds, draws, level)
    rows = _Rows.of(source_ND, source_y, target_MD, target_y, predictions)
    surprise_R, residual_RO = _residuals(rows, folds, generator)
    standard_RD = rows.standard_RD
    phi_RK = torch.cat([torch.ones_like(surprise_R)[:, None], standard_RD], 1)
    varies_K = phi_RK.abs().amax(0) > 0
    product_RT = surprise_R[:, None, None] * phi_RK[:, varies_K, None] * residual_RO[:, None, :]
    statistic_T, p_value = _largest(product_RT.flatten(1), draws, generator)
    count = residual_RO.shape[1]
    best = int(statistic_T.argmax())
    direction = int(varies_K.nonzero()[best // count, 0]) - 1
    clearest = int(statistic_T[:count].argmax())
    # Of two classes one alone is looked at: the second.
    first = int(rows.classes == 2)
    unit = float(rows.answers_RO[: rows.source, clearest + first].std(correction=0))
    effect = _effect(surprise_R, residual_RO[:, clearest], unit, level)
    output = best % count + first
    text = _text(p_value, effect, direction, output, bool(rows.classes), 1 - level)
    return ConceptTest(p_value, float(statistic_T.max()), effect, direction, output, text)


def _check_settings(folds: int, draws: int, level: float) -> None:
    if folds < 2 or draws < 1 or not 0 < level < 1:
        raise ConfigError(
            "concept shift: must have 2 folds or more, draws and a level within (0, 1), "
            f"got {folds}, {draws} and {level:g}; 5, 1999 and 0.95 are usual"
        )


@final
@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of both parts, the source's first, checked and standardised.

    Attributes:
        source: N, how many are of the source.
        standard_RD: their features, standardised; 0 where a column is constant.
        extra_RP: a model's outputs for them, standardised; P is 0 where there is none.
        answers_RO: their answers as numbers.
        classes: how many classes the answers are of, 0 in a regression.
    """

    source: int
    standard_RD: Tensor
    extra_RP: Tensor
    answers_RO: Tensor
    classes: int

    @classmethod
    def of(
        cls,
        source_ND: Tensor,
        source_y: Tensor,
        target_MD: Tensor,
        target_y: Tensor,
        predictions: tuple[Tensor, Tensor] | None,
    ) -> "_Rows":
        source, target = check_parts(source_ND, target_MD)
        counts = (len(source), len(target))
        answers_RO, classes = _answers(source_y, target_y, counts)
        scaler = Scaler.of(source, target)
        standard_RD = torch.cat([scaler(source), scaler(target)])
        extra_RP = standard_RD[:, :0] if predictions is None else _outputs(predictions, counts)
        return cls(len(source), standard_RD, extra_RP, answers_RO, classes)


def _outputs(predictions: tuple[Tensor, Tensor], counts: Sequence[int]) -> Tensor:
    """A model's outputs for the rows of both parts, standardised."""
    names = ("predictions of the source", "predictions of the target")
    pair = [check_rows(n, p) for n, p in zip(names, predictions, strict=True)]
    for name, part, count in zip(names, pair, counts, strict=True):
        if len(part) != count:
            raise DataError(f"{name}: must hold {count} rows, holds {len(part)}; one a row")
    checked = check_parts(*pair)
    scaler = Scaler.of(*checked)
    return torch.cat([scaler(part) for part in checked])


def _residuals(rows: _Rows, folds: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What features leave open of a row's part, d - e (R,), and of its answer, y - m (R, O), by models of other folds.

    Of two classes the second one's residuals alone: the first one's are their negatives.
    """
    answers_RO, source = rows.answers_RO, rows.source
    design_RP = _design(rows.standard_RD)
    richer_RP = torch.cat([design_RP, rows.extra_RP], 1)
    part_R = torch.zeros(len(answers_RO)).to(design_RP)
    part_R[source:] = 1.0
    values_RD = torch.cat([rows.standard_RD, answers_RO], 1)
    fold_R = _fold_numbers(values_RD, source, folds, generator)
    propensity_R, fitted_RO = torch.empty_like(part_R), torch.empty_like(answers_RO)
    for fold in range(folds):
        out, kept = fold_R == fold, fold_R != fold
        propensity_R[out] = _logistic(design_RP[kept], part_R[kept].long(), design_RP[out], 2)[:, 1]
        fitted_RO[out] = _response(richer_RP[kept], answers_RO[kept], richer_RP[out], rows.classes)
    residual_RO = answers_RO - fitted_RO
    return part_R - propensity_R, residual_RO[:, 1:] if rows.classes == 2 else residual_RO


def _answers(source_y: Tensor, target_y: Tensor, rows: Sequence[int]) -> tuple[Tensor, int]:
    """Answers of all rows as numbers (R, O), classes as ones and zeros; and how many classes, 0 in a regression."""
    for name, y, count in zip(("source", "target"), (source_y, target_y), rows, strict=True):
        if count < LEAST_ROWS:
            raise DataError(
                f"{name}: must have at least {LEAST_ROWS} labelled rows, has {count}; label more"
            )
        if len(y) != count:
            raise DataError(f"answers of the {name}: must be {count}, are {len(y)}; one a row")
    whole = [not y.is_floating_point() for y in (source_y, target_y)]
    if whole[0] != whole[1]:
        raise DataError(
            "answers: must be classes (int64) or numbers in both parts, are of "
            f"{source_y.dtype} and {target_y.dtype}; convert one"
        )
    if whole[0]:
        labels = torch.cat([source_y, target_y]).long()
        if labels.ndim != 1 or int(labels.min()) < 0:
            raise DataError(
                "answers: must be one class index of 0 or above a row, are of shape "
                f"{tuple(labels.shape)} with least {int(labels.min())}; mend them"
            )
        result, classes = fn.one_hot(labels).double(), int(labels.max()) + 1
    else:
        pair = [y[:, None] if y.ndim == 1 else y for y in (source_y, target_y)]
        one = check_rows("answers of the source", pair[0])
        result = torch.cat([one, check_rows("answers of the target", pair[1], one.shape[1])])
        classes = 0
    spread_O = result[: rows[0]].std(0, correction=0)
    if bool((spread_O <= 1e-12).any()):
        constant = int(spread_O.argmin())
        raise DataError(
            f"answers of the source: must vary, {'class' if classes else 'output'} {constant} "
            "does not; drop it"
        )
    return result, classes


def _design(rows_RD: Tensor) -> Tensor:
    """Features, then squares, then products as long as there are 20 rows for each number."""
    count, features = rows_RD.shape
    parts = [rows_RD]
    if 2 * features * 20 <= count:
        parts.append(rows_RD.square() - 1)
    if features > 1 and features * (features + 3) // 2 * 20 <= count:
        i, j = torch.triu_indices(features, features, 1)
        parts.append(rows_RD[:, i] * rows_RD[:, j])
    return torch.cat(parts, 1)


def _fold_numbers(values_RD: Tensor, source: int, folds: int, generator: torch.Generator) -> Tensor:
    """The fold of each row, equally many of each part, by an order that depends on values alone."""
    fold_R = torch.empty(len(values_RD), dtype=torch.int64, device=values_RD.device)
    for start, stop in ((0, source), (source, len(values_RD))):
        order = start + shuffled_order(values_RD[start:stop], generator)
        fold_R[order] = torch.arange(stop - start, device=fold_R.device) % folds
    return fold_R


def _response(design_RP: Tensor, answers_RO: Tensor, at_XP: Tensor, classes: int) -> Tensor:
    """What a ridge regression (penalty 1), or a logistic one of classes, says of other rows."""
    if classes:
        return _logistic(design_RP, answers_RO.argmax(1), at_XP, classes)
    mean_P, mean_O = design_RP.mean(0), answers_RO.mean(0)
    centred_RP = design_RP - mean_P
    gram_PP = centred_RP.T @ centred_RP + torch.eye(len(mean_P)).to(design_RP)
    slope_PO = torch.linalg.solve(gram_PP, centred_RP.T @ (answers_RO - mean_O))
    predicted_XO: Tensor = mean_O + (at_XP - mean_P) @ slope_PO
    return predicted_XO


def _logistic(design_RP: Tensor, label_R: Tensor, at_XP: Tensor, classes: int) -> Tensor:
    """Probabilities of classes (X, C); 0 for those that no row holds."""
    from sklearn.linear_model import LogisticRegression

    found = label_R.bincount().nonzero()[:, 0]
    result_XC = at_XP.new_zeros(len(at_XP), classes)
    if len(found) == 1:
        result_XC[:, int(found[0])] = 1.0
        return result_XC
    model = LogisticRegression(max_iter=1000)  # type: ignore[no-untyped-call]
    model.fit(design_RP.cpu().numpy(), label_R.cpu().numpy())
    given = model.predict_proba(at_XP.cpu().numpy())  # type: ignore[no-untyped-call]
    probability = torch.from_numpy(given)
    result_XC[:, found] = probability.to(at_XP)
    return result_XC


def _largest(product_RT: Tensor, draws: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Standardised sizes of all means (T,), and the p-value of the largest.

    Sums of standardised products with Gaussian multipliers are Gaussian with the products' correlation matrix, so they
    are drawn from it at once.
    """
    spread_T = product_RT.std(0, correction=0)
    scale_T = torch.where(spread_T > 0, spread_T, torch.ones_like(spread_T))
    statistic_T = (math.sqrt(len(product_RT)) * product_RT.mean(0) / scale_T).abs()
    centred_RT = (product_RT - product_RT.mean(0)) / scale_T
    values_T, vectors_TT = torch.linalg.eigh(centred_RT.T @ centred_RT / len(product_RT))
    root_TT = vectors_TT * values_T.clamp(min=0).sqrt() @ vectors_TT.T
    numbers_BT = torch.randn(
        draws, len(values_T), dtype=torch.float64, generator=generator, device=generator.device
    )
    drawn_B = (numbers_BT.to(root_TT) @ root_TT).abs().amax(1)
    return statistic_T, permutation_p_value(float(statistic_T.max()), drawn_B.cpu().numpy())


def _effect(surprise_R: Tensor, residual_R: Tensor, unit: float, level: float) -> Interval:
    """The mean move of one output, in its units, with a sandwich standard error."""
    energy = float(surprise_R.square().mean())
    value = float((surprise_R * residual_R).mean()) / energy
    influence_R = surprise_R * (residual_R - value * surprise_R)
    error = float(influence_R.square().mean().sqrt()) / energy / math.sqrt(len(surprise_R))
    return normal_interval(value / unit, error / unit, level)


def _text(
    p_value: float,
    effect: Interval,
    direction: int,
    output: int,
    classes: bool,
    threshold: float,
) -> str:
    what = f"{'class' if classes else 'output'} {output}"
    where = "everywhere alike" if direction < 0 else f"along feature {direction}"
    size = (
        f"the mean move is {effect.value:.2f} ({effect.low:.2f} to {effect.high:.2f}) "
        "of the answers' standard deviation"
    )
    if p_value > threshold:
        return f"no concept shift is seen (p = {p_value:.2g}): {size} at equal features"
    return f"answers differ at equal features (p = {p_value:.2g}), most in {what}, {where}: {size}"
