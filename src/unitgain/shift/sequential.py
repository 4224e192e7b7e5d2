r"""Sequential tests of exchangeability: is a stream still what the reference was?

A score gets a conformal p-value, its rank among all scores so far; a martingale bets against
p-values being uniform. By Ville's inequality it ever reaches :math:`1 / \alpha` with probability
:math:`\alpha` at most, over the whole stream and however often one looks.

Shapes: N rows of the reference, B rows of a batch, D features, S scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from unitgain.errors import ConfigError, DataError

Floats = NDArray[np.float64]

_BETS = np.array([-1.0, 0.0, 1.0])[:, None]
_CHUNK = 256


@final
class ConformalPValues:
    r"""Smoothed conformal p-values of scores, each among the reference and the stream before it.

    :math:`p = (\#\{greater\} + u\,\#\{equal\}) / n` among the n scores so far, its own included,
    with u uniform: independent and uniform on [0, 1] while reference and stream are exchangeable.
    A row costs O(log n) and a comparison with the latest 256 rows; batches of any size give the
    same numbers.

    Args:
        reference_NS: scores of the reference. What the scores were learned from must be other
            rows.
        generator: breaks ties.

    Raises:
        DataError: the reference is no matrix, has no rows or isn't finite.

    Example:
        >>> p_values = ConformalPValues(np.arange(9.0)[:, None], np.random.default_rng(0))
        >>> bool(p_values(np.array([[100.0]]))[0, 0] < 0.1)
        True

    Reference:
        Vovk, Gammerman and Shafer (2022), Algorithmic Learning in a Random World, second edition,
        equation 8.1.
    """

    def __init__(self, reference_NS: Floats, generator: np.random.Generator) -> None:
        reference = _finite("reference", reference_NS)
        if not len(reference):
            raise DataError("reference: must have rows, it has none; take held-out rows")
        self._sorted_SN = np.sort(reference.T, axis=1)
        self._recent_BS = np.empty((0, reference.shape[1]))
        self._generator = generator

    def __call__(self, scores_BS: Floats) -> Floats:
        """(B, S) p-values of the stream's next rows; small where scores are large.

        Raises:
            DataError: scores aren't finite, or are others than the reference's.
        """
        scores = _finite("stream", scores_BS)
        if scores.shape[1] != len(self._sorted_SN):
            raise DataError(
                f"stream: must have the reference's {len(self._sorted_SN)} scores, "
                f"it has {scores.shape[1]}; give both the same columns"
            )
        chunks = [scores[start : start + _CHUNK] for start in range(0, len(scores), _CHUNK)]
        return np.concatenate([self._of(chunk) for chunk in chunks] or [scores])

    def _of(self, scores_BS: Floats) -> Floats:
        greater_SB = np.empty(scores_BS.T.shape)
        equal_SB = np.empty_like(greater_SB)
        n = self._sorted_SN.shape[1]
        for s, (known_N, new_B) in enumerate(zip(self._sorted_SN, scores_BS.T, strict=True)):
            right_B = np.searchsorted(known_N, new_B, side="right")
            greater_SB[s] = n - right_B
            equal_SB[s] = right_B - np.searchsorted(known_N, new_B, side="left") + 1
        greater_BS, equal_BS = greater_SB.T, equal_SB.T
        past_RS = np.concatenate([self._recent_BS, scores_BS])
        first = len(self._recent_BS)
        for b, row_S in enumerate(scores_BS):
            before_RS = past_RS[: first + b]
            greater_BS[b] += (before_RS > row_S).sum(axis=0)
            equal_BS[b] += (before_RS == row_S).sum(axis=0)
        n_B1 = n + first + 1 + np.arange(len(scores_BS))[:, None]
        self._remember(past_RS)
        uniform_BS = self._generator.random(scores_BS.shape)
        return np.asarray((greater_BS + uniform_BS * equal_BS) / n_B1)

    def _remember(self, past_RS: Floats) -> None:
        """Sort the latest rows in once there are enough of them to be worth a copy."""
        if len(past_RS) >= _CHUNK:
            together_SN = np.concatenate([self._sorted_SN, past_RS.T], axis=1)
            # A stable sort of two sorted runs is a merge.
            self._sorted_SN = np.sort(together_SN, axis=1, kind="stable")
            past_RS = past_RS[:0]
        self._recent_BS = past_RS


@final
class SimpleJumper:
    r"""Martingales that bet on small or large p-values, and may change their mind.

    The capital of each bet :math:`\epsilon \in \{-1, 0, 1\}` is multiplied by
    :math:`1 + \epsilon (p - 1/2)`, after a share J of all capital was dealt out evenly. In
    logarithms, so that nothing overflows.

    Args:
        n_scores: S, martingales side by side.
        jump: J.

    Raises:
        ConfigError: J isn't in (0, 1].

    Example:
        >>> jumper = SimpleJumper(1)
        >>> log_BS = jumper(np.full((100, 1), 0.05))
        >>> bool(log_BS[-1, 0] > math.log(20))
        True

    Reference:
        Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman (2021), Retrain or not retrain,
        arXiv 2102.10439, algorithm 1.
    """

    def __init__(self, n_scores: int, jump: float = 0.01) -> None:
        if not 0 < jump <= 1:
            raise ConfigError(f"jump: must be above 0 and at most 1, got {jump:g}; 0.01 is usual")
        self._jump = jump
        self._share_ES = np.full((len(_BETS), n_scores), 1 / len(_BETS))
        self._log_S = np.zeros(n_scores)

    def __call__(self, p_BS: Floats) -> Floats:
        """(B, S) logarithms of the martingales after each of the next p-values."""
        log_BS = np.empty(p_BS.shape)
        for b, p_S in enumerate(p_BS):
            dealt_ES = (1 - self._jump) * self._share_ES + self._jump / len(_BETS)
            capital_ES = dealt_ES * (1 + _BETS * (p_S - 0.5))
            growth_S = capital_ES.sum(axis=0)
            self._share_ES = capital_ES / growth_S
            self._log_S = self._log_S + np.log(growth_S)
            log_BS[b] = self._log_S
        return log_BS


@final
@dataclass(frozen=True, eq=False)
class StreamScores:
    """Numbers of a row that change where its distribution does.

    For each feature its value and its distance from the median (which a change of scale moves),
    then the distance from the mean in whitened features (which a change of correlation moves).

    Args:
        median_D: of the rows it was fitted on.
        mean_D: theirs.
        whiten_DD: what makes their covariance the identity.
    """

    median_D: Floats
    mean_D: Floats
    whiten_DD: Floats

    @classmethod
    def fit(cls, rows_ND: Floats) -> "StreamScores":
        """Fit on rows that are neither in the reference nor in the stream.

        Raises:
            DataError: the rows aren't finite or fewer than two.
        """
        rows = _finite("rows", rows_ND)
        if len(rows) < 2:
            raise DataError(f"rows: must be 2 or more, they are {len(rows)}; add rows")
        mean_D = rows.mean(axis=0)
        _, singular_K, axes_KD = np.linalg.svd(rows - mean_D, full_matrices=False)
        spread_K = singular_K / math.sqrt(len(rows))
        some_K = spread_K > 1e-9 * spread_K.max(initial=0)
        whiten_DK = axes_KD[some_K].T / spread_K[some_K]
        return cls(np.median(rows, axis=0), mean_D, whiten_DK)

    def __call__(self, rows_BD: Floats) -> Floats:
        """(B, 2 D + 1) scores: D values, D distances from the median, the whitened distance."""
        whitened_BK = (rows_BD - self.mean_D) @ self.whiten_DD
        distance_B1 = np.linalg.norm(whitened_BK, axis=1, keepdims=True)
        return np.concatenate([rows_BD, np.abs(rows_BD - self.median_D), distance_B1], axis=1)


@final
class SequentialTest:
    r"""One alarm for many scores of a stream, with one false-alarm rate.

    The evidence is the mean of the scores' martingales, itself a martingale: the chance that it
    ever reaches :math:`1 / \alpha` without a change is :math:`\alpha` at most. A score has moved where its
    own martingale reaches :math:`S / \alpha` (Bonferroni). After a long quiet stream the evidence has
    fallen, by J times 2/3 a row at most, and a change takes longer to find.

    Args:
        reference_NS: scores of rows that nothing was learned from.
        generator: breaks ties.
        alpha: the false-alarm rate over the whole stream.
        jump: J of `SimpleJumper`.

    Attributes:
        rows: of the stream, so far.
        alarm_row: the row, counted from 1, at which the evidence first reached its threshold.
        log_evidence: now.
        log_largest_S: largest logarithm of each score's martingale so far.

    Raises:
        ConfigError: alpha isn't in (0, 1), or J is out of range.
        DataError: the reference has no rows or isn't finite.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> test = SequentialTest(draw.normal(size=(200, 1)), np.random.default_rng(1))
        >>> _ = test.update(draw.normal(size=(100, 1)))
        >>> test.alarm_row
        >>> _ = test.update(draw.normal(2, 1, size=(100, 1)))
        >>> 100 < test.alarm_row < 150
        True

    Reference:
        Ville (1939); Vovk et al. (2021), arXiv 2102.10439, section 3.
    """

    def __init__(
        self,
        reference_NS: Floats,
        generator: np.random.Generator,
        *,
        alpha: float = 0.05,
        jump: float = 0.01,
    ) -> None:
        if not 0 < alpha < 1:
            raise ConfigError(f"alpha: must be between 0 and 1, got {alpha:g}; 0.05 is usual")
        self._p_values = ConformalPValues(reference_NS, generator)
        n_scores = reference_NS.shape[1]
        self._martingales = SimpleJumper(n_scores, jump)
        self.log_threshold = -math.log(alpha)
        self.rows = 0
        self.alarm_row: int | None = None
        self.log_evidence = 0.0
        self.log_largest_S: Floats = np.zeros(n_scores)

    def update(self, scores_BS: Floats) -> Floats:
        """Take the stream's next rows.

        Returns:
            (B,) natural logarithms of the evidence after each of them.

        Raises:
            DataError: scores aren't finite, or are others than the reference's.
        """
        p_BS = self._p_values(scores_BS)
        if not len(p_BS):
            return np.empty(0)
        log_BS = self._martingales(p_BS)
        evidence_B = np.asarray(logsumexp(log_BS, axis=1)) - math.log(log_BS.shape[1])
        over = np.flatnonzero(evidence_B >= self.log_threshold)
        if self.alarm_row is None and len(over):
            self.alarm_row = self.rows + int(over[0]) + 1
        self.rows += len(p_BS)
        self.log_evidence = float(evidence_B[-1])
        self.log_largest_S = np.maximum(self.log_largest_S, log_BS.max(axis=0))
        return evidence_B

    def moved(self) -> NDArray[np.bool_]:
        """(S,) whether each score's own martingale has reached S / alpha."""
        moved: NDArray[np.bool_] = self.log_largest_S >= self.log_threshold + math.log(
            len(self.log_largest_S)
        )
        return moved


@final
@dataclass(frozen=True)
class Effect:
    """How far one score is from the reference, whatever the number of rows.

    Attributes:
        name: of the score.
        difference: of the means, in standard deviations of the reference.
        distance: the largest one between distribution functions, in [0, 1].
    """

    name: str
    difference: float
    distance: float


def effects(names: Sequence[str], reference_NS: Floats, window_MS: Floats) -> list[Effect]:
    """Effect sizes of the latest rows of a stream, a score each.

    Args:
        names: (S,)
        reference_NS: scores of the reference.
        window_MS: those of the stream's latest rows.

    Example:
        >>> effects(["x"], np.array([[-1.0], [1.0]]), np.array([[3.0], [3.0]]))
        [Effect(name='x', difference=3.0, distance=1.0)]
    """
    found = []
    for name, one_N, other_M in zip(names, reference_NS.T, window_MS.T, strict=True):
        spread = float(one_N.std()) or 1.0
        points = np.concatenate([one_N, other_M])
        below_one = np.searchsorted(np.sort(one_N), points, side="right") / len(one_N)
        below_other = np.searchsorted(np.sort(other_M), points, side="right") / len(other_M)
        difference = float(other_M.mean() - one_N.mean()) / spread
        found.append(Effect(name, difference, float(np.abs(below_one - below_other).max())))
    return found


def _finite(name: str, rows: Floats) -> Floats:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2:
        raise DataError(f"{name}: must be rows of scores, it has shape {rows.shape}; add an axis")
    odd_N = ~np.isfinite(rows).all(axis=1)
    if odd_N.any():
        raise DataError(
            f"{name}: must be finite, but {odd_N.sum()} of {len(rows)} rows aren't "
            f"(row {int(np.flatnonzero(odd_N)[0])}); mend them"
        )
    return rows
