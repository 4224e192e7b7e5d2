"""Which factor explains how much of a measured value: analysis of variance and a tree of splits.

Shapes: N runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@final
@dataclass(frozen=True)
class Effect:
    r"""How much of a value's variance one factor explains.

    Attributes:
        factor: its name.
        eta_squared: :math:`SS_b / SS_t`, the share of this sample's variance.
        omega_squared: the estimated share of the population's variance; eta squared less what chance alone explains,
            at least 0.
        p_value: of the F test that all levels have the same mean.
        levels: how many levels occur.
    """

    factor: str
    eta_squared: float
    omega_squared: float
    p_value: float
    levels: int


@final
@dataclass(frozen=True)
class EffectNode:
    """A group of runs, and the factor that splits it best.

    Attributes:
        condition: the levels that lead here from the parent, such as ``("relu",)``; empty at the root.
        rows: of the value's array.
        mean: of the group's values.
        factor: what splits the group; None at a leaf.
        share: of the root's sum of squares that this split explains.
        children: one for each level of the factor.
    """

    condition: str
    rows: Codes
    mean: float
    factor: str | None
    share: float
    children: tuple["EffectNode", ...]

    def leaves(self) -> "tuple[EffectNode, ...]":
        """The leaves below, in order; the node itself if it is one."""
        if not self.children:
            return (self,)
        return tuple(leaf for child in self.children for leaf in child.leaves())

    def shares(self) -> dict[str, float]:
        """The share of the root's variance by factor, over all splits of the tree."""
        total: dict[str, float] = {}
        if self.factor is not None:
            total[self.factor] = self.share
        for child in self.children:
            for factor, share in child.shares().items():
                total[factor] = total.get(factor, 0.0) + share
        return total


@final
@dataclass(frozen=True)
class Factor:
    """A factor's level for each run.

    Attributes:
        name: of the factor.
        code_N: the index of each run's level.
        levels: the levels' names, in order.
    """

    name: str
    code_N: Codes
    levels: tuple[str, ...]


def factor(name: str, values: Sequence[Any], most: int = 6) -> Factor:
    """Levels of any values; numbers with more than ``most`` distinct ones are cut at quantiles.

    Args:
        name: of the factor.
        values: N numbers, strings or other values with a text.
        most: levels of a numeric factor.

    Example:
        >>> factor("init", ["he", "xavier", "he"]).levels
        ('he', 'xavier')
        >>> factor("lr", [0.1, 0.001, 0.01]).levels
        ('0.001', '0.01', '0.1')
        >>> factor("lr", np.arange(100.0), most=2).levels
        ('0 to 49', '50 to 99')
    """
    if not all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values):
        texts = [str(value) for value in values]
        named, code_N = np.unique(np.array(texts, dtype=object), return_inverse=True)
        return Factor(name, code_N.astype(np.int64), tuple(named.tolist()))
    value_N = np.asarray(values, dtype=np.float64)
    distinct, code_N = np.unique(value_N, return_inverse=True)
    if len(distinct) <= most:
        return Factor(name, code_N.astype(np.int64), tuple(f"{value:g}" for value in distinct))
    inner = np.quantile(value_N, np.linspace(0, 1, most + 1)[1:-1])
    used, code_N = np.unique(np.searchsorted(inner, value_N, side="left"), return_inverse=True)
    parts = [value_N[code_N == level] for level in range(len(used))]
    names = tuple(f"{part.min():.3g} to {part.max():.3g}" for part in parts)
    return Factor(name, code_N.astype(np.int64), names)


def main_effect(given: Factor, value_N: Array) -> Effect:
    r"""One-way analysis of variance.

    .. math:: \omega^2 = \frac{SS_b - (g - 1) MS_w}{SS_t + MS_w}

    With one level, or as many levels as runs, nothing can be told: the shares are 0 and the p-value 1.

    Example:
        >>> effect = main_effect(factor("a", [0, 0, 1, 1]), np.array([1.0, 2.0, 5.0, 6.0]))
        >>> round(effect.eta_squared, 3), round(effect.omega_squared, 3), round(effect.p_value, 3)
        (0.941, 0.886, 0.03)

    Reference:
        Hays (1963), Statistics for Psychologists; Olejnik and Algina (2003), Psychological Methods 8, equation 3.
    """
    between, within, groups = _squares(given.code_N, value_N)
    total, rest = between + within, len(value_N) - groups
    if groups < 2 or rest < 1 or total == 0:
        return Effect(given.name, 0.0, 0.0, 1.0, groups)
    mean_within = within / rest
    omega = (between - (groups - 1) * mean_within) / (total + mean_within)
    ratio = np.inf if mean_within == 0 else between / (groups - 1) / mean_within
    p_value = float(fdtrc(groups - 1, rest, ratio)) if np.isfinite(ratio) else 0.0
    return Effect(given.name, float(between / total), max(0.0, float(omega)), p_value, groups)


def pair_effect(first: Factor, second: Factor, value_N: Array) -> float:
    r"""What two factors explain together beyond the sum of what each explains: their interaction's eta squared.

    Exact where every pair of levels has as many runs; else a first account of it, and never below 0.

    Example:
        >>> a, b = factor("a", [0, 0, 1, 1]), factor("b", [0, 1, 0, 1])
        >>> pair_effect(a, b, np.array([0.0, 1.0, 1.0, 0.0]))
        1.0
    """
    joint_N = first.code_N * len(second.levels) + second.code_N
    between, within, _ = _squares(joint_N, value_N)
    total = between + within
    if total == 0:
        return 0.0
    alone = sum(_squares(each.code_N, value_N)[0] for each in (first, second))
    return max(0.0, (between - alone) / total)


def effect_tree(
    factors: Sequence[Factor], value_N: Array, *, depth: int = 3, alpha: float = 0.05
) -> EffectNode:
    """Split runs again and again by the factor that explains most of what varies among them.

    A group is split by the factor with the largest omega squared, if its F test passes ``alpha`` divided by the number
    of factors tried (Bonferroni); each level becomes a child.

    Args:
        factors: of N runs each.
        value_N: their finite values.
        depth: of the tree.
        alpha: the level of the tests.

    Example:
        >>> levels = factor("init", ["he"] * 3 + ["normal"] * 3)
        >>> tree = effect_tree([levels], np.array([0.9, 0.91, 0.92, 0.1, 0.11, 0.12]))
        >>> tree.factor, round(tree.share, 2), [child.condition for child in tree.children]
        ('init', 1.0, ['he', 'normal'])
    """
    value_N = np.asarray(value_N, dtype=np.float64)
    total = float(((value_N - value_N.mean()) ** 2).sum())
    rows = np.arange(len(value_N))
    return _grow("", rows, tuple(factors), value_N, total, depth, alpha)


def _grow(
    condition: str,
    rows: Codes,
    factors: Sequence[Factor],
    value_N: Array,
    total: float,
    depth: int,
    alpha: float,
) -> EffectNode:
    value = value_N[rows]
    leaf = EffectNode(condition, rows, float(value.mean()), None, 0.0, ())
    if depth == 0 or not factors or total == 0:
        return leaf
    effects = [main_effect(_part(each, rows), value) for each in factors]
    best = max(range(len(effects)), key=lambda i: effects[i].omega_squared)
    if not (effects[best].omega_squared > 0 and effects[best].p_value <= alpha / len(factors)):
        return leaf
    chosen, others = factors[best], [f for i, f in enumerate(factors) if i != best]
    children = tuple(
        _grow(name, part, others, value_N, total, depth - 1, alpha)
        for level, name in enumerate(chosen.levels)
        if len(part := rows[chosen.code_N[rows] == level])
    )
    between, _, _ = _squares(chosen.code_N[rows], value)
    return EffectNode(condition, rows, leaf.mean, chosen.name, between / total, children)


def _part(given: Factor, rows: Codes) -> Factor:
    return Factor(given.name, given.code_N[rows], given.levels)


def _squares(code_N: Codes, value_N: Array) -> tuple[float, float, int]:
    """Sums of squares between and within groups, and how many groups there are."""
    mean = value_N.mean()
    groups = [value_N[code_N == code] for code in np.unique(code_N)]
    between = sum(len(g) * (g.mean() - mean) ** 2 for g in groups)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups)
    return float(between), float(within), len(groups)
