"""Do target rows differ from validation rows: in their inputs, in the last hidden layer, in what the network says?

Shapes: N validation rows, M target rows, R rows of either kind, D columns.
"""

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unitgain.shift import MMD, Detection, Portfolio
from unitgain.stats.intervals import holm
from unitgain.train.representations import Representations

LEVEL = 0.05
"""Of all tests of all spaces together."""

PERMUTATIONS = 999
"""So that the least p-value of a permutation test stays below the level after adjusting for twelve tests."""

_EXACT_ROWS = 10_000
"""Of both parts: above them the kernel is one of random features, with time linear in rows."""
_RANDOM_FEATURES = 2_000
_COLUMNS = 128
"""Wider spaces are seen through so many leading principal components of both parts together."""


@final
@dataclass(frozen=True)
class SpaceDetection:
    """What the tests of one space found.

    Attributes:
        name: of the space.
        columns: that it has.
        tests: what each found by itself.
        adjusted: their p-values, adjusted for the tests of all spaces.
    """

    name: str
    columns: int
    tests: tuple[Detection, ...]
    adjusted: tuple[float, ...]

    @property
    def p_value(self) -> float:
        """The least of the adjusted p-values."""
        return min(self.adjusted)

    @property
    def clearest(self) -> Detection:
        """The test with the least p-value, of several the one with the least before adjusting."""
        pairs = zip(self.adjusted, self.tests, strict=True)
        return min(pairs, key=lambda pair: (pair[0], pair[1].p_value))[1]


@final
@dataclass(frozen=True)
class ShiftDetection:
    """Two-sample tests of several spaces at one family-wise level.

    Attributes:
        spaces: inputs first.
    """

    spaces: tuple[SpaceDetection, ...]

    @property
    def p_value(self) -> float:
        """That of no difference in any space."""
        return min(space.p_value for space in self.spaces)

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types."""
        return {
            "p_value": self.p_value,
            "level": LEVEL,
            "spaces": {
                space.name: {
                    "p_value": space.p_value,
                    "columns": space.columns,
                    "clearest": space.clearest.name,
                    "tests": {
                        test.name: {
                            "p_value": test.p_value,
                            "adjusted": adjusted,
                            "effect": test.effect,
                        }
                        for test, adjusted in zip(space.tests, space.adjusted, strict=True)
                    },
                }
                for space in self.spaces
            },
        }


def detect_shift(
    source: Representations, target: Representations, generator: torch.Generator
) -> ShiftDetection:
    """Test inputs, the last hidden layer and what a network says, each with the same portfolio.

    P-values are adjusted by Holm over all tests of all spaces.

    Args:
        source: validation rows.
        target: target rows.
        generator: draws permutations and halves.

    Raises:
        DataError: a part isn't finite or has fewer than four rows.

    Reference:
        Rabanser, Guennemann and Lipton (2019), arXiv 1810.11953, section 3; Lipton, Wang and Smola (2018), arXiv
        1802.03916, section 5.
    """
    pairs = {"inputs": (source.input_RD, target.input_RD)}
    if source.hidden_RH is not None and target.hidden_RH is not None:
        pairs["last hidden layer"] = (source.hidden_RH, target.hidden_RH)
    pairs["predictions"] = (source.independent, target.independent)
    columns = {name: source_ND.shape[1] for name, (source_ND, _) in pairs.items()}
    found = {name: _tests(*parts, generator) for name, parts in pairs.items()}
    adjusted = holm(np.array([test.p_value for tests in found.values() for test in tests])).tolist()
    spaces, start = [], 0
    for name, tests in found.items():
        own = tuple(adjusted[start : start + len(tests)])
        spaces.append(SpaceDetection(name, columns[name], tests, own))
        start += len(tests)
    return ShiftDetection(tuple(spaces))


def portfolio(rows: int) -> Portfolio:
    """The tests for so many rows of both parts."""
    features = _RANDOM_FEATURES if rows > _EXACT_ROWS else 0
    return Portfolio(
        tuple(
            replace(test, permutations=PERMUTATIONS, random_features=features)
            if isinstance(test, MMD)
            else test
            for test in Portfolio().tests
        )
    )


def _tests(
    source_ND: Tensor, target_MD: Tensor, generator: torch.Generator
) -> tuple[Detection, ...]:
    rows = len(source_ND) + len(target_MD)
    parts = leading(source_ND, target_MD)
    return tuple(test(*parts, generator) for test in portfolio(rows).tests)


def leading(source_ND: Tensor, target_MD: Tensor) -> tuple[Tensor, Tensor]:
    """Both parts, or their leading principal components where they are wide.

    Components are those of the pool, which no permutation of rows changes: tests stay valid.
    """
    if source_ND.shape[1] <= _COLUMNS:
        return source_ND, target_MD
    pool_RD = torch.cat([source_ND, target_MD])
    centred_RD = pool_RD - pool_RD.mean(0)
    axes_DD = torch.linalg.eigh(centred_RD.T @ centred_RD)[1][:, -_COLUMNS:]
    component_RC = centred_RD @ axes_DD
    return component_RC[: len(source_ND)], component_RC[len(source_ND) :]
