"""``weighting.exponent=auto``: importance-weighted cross-validation chooses the exponent before training.

Shapes: N source rows that were left out once, E exponents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from unitgain.data import Prepared
from unitgain.runs import RunDirectory
from unitgain.shift import TargetRisk, importance_weighted_risk
from unitgain.spec import RunSpec, parse
from unitgain.train.cross_fit import EXPONENTS, FOLDS, CrossFit, cross_fit
from unitgain.train.settings import accelerator

Chosen = Mapping[str, Any]
"""The ``exponent`` and its ``cross_validation``, in plain types: what summary.json and checkpoints keep."""


def risks_of(fitted: CrossFit, weight_N: Tensor) -> tuple[TargetRisk, ...]:
    """The estimated target risk under each exponent.

    Args:
        fitted: losses of left-out rows.
        weight_N: their full weights, whatever the exponent was: the estimate is then unbiased for each.

    Reference:
        Sugiyama, Krauledat and Mueller (2007), JMLR 8, section 4.
    """
    return tuple(importance_weighted_risk(loss_N, weight_N) for loss_N in fitted.loss_EN)


def least(exponents: Sequence[float], risks: Sequence[TargetRisk]) -> float:
    """The exponent with the least estimated target risk; among equals the first."""
    values = [risk.interval.value for risk in risks]
    return exponents[values.index(min(values))]


def choose_exponent(spec: RunSpec, table: Prepared) -> Chosen:
    """Train without each fold of the source for each exponent, and take that with the least estimated target risk.

    It draws folds from ``weighting.seed`` and looks at no target label.

    Args:
        spec: of the run.
        table: of the run, with the weights of its rows.

    Raises:
        ConfigError: the source has too few rows, or some fold's loss is never finite.
    """
    assert table.importance is not None
    device = torch.device("cuda" if accelerator(spec) == "gpu" else "cpu")
    full_N = table.importance.full_N
    fitted = cross_fit(spec, table, full_N, EXPONENTS, device=device, plain=False)
    # Sample weights of the table count in the target's risk too.
    risks = risks_of(fitted, torch.from_numpy(table.eval_weight[fitted.rows]))
    intervals = [asdict(risk.interval) for risk in risks]
    compared = {"exponents": list(EXPONENTS), "risks": intervals, "folds": FOLDS}
    return {"exponent": least(EXPONENTS, risks), "cross_validation": compared}


def settle(
    specs: Sequence[RunSpec],
    tables: Sequence[Prepared],
    contents: Sequence[Mapping[str, Any]] | None,
) -> list[Prepared]:
    """The tables of a pack's members with chosen exponents, where these are to be chosen.

    Each member's choice is the one that it would make alone; a resumed run keeps the one in its checkpoint.

    Args:
        specs: one a member.
        tables: one a member.
        contents: of the checkpoints that members go on from; None: they begin.

    Raises:
        ConfigError: see `choose_exponent`.
    """
    made: dict[tuple[int, str], Prepared] = {}

    def of(k: int, spec: RunSpec, table: Prepared) -> Prepared:
        if not spec.weighting.chooses:
            return table
        chosen = contents[k]["weighting"] if contents else choose_exponent(spec, table)
        key = (id(table), repr(chosen))
        if key not in made:  # members that agree in all share a table still
            made[key] = table.with_exponent(chosen, spec.weighting.largest)
        return made[key]

    return [of(k, *each) for k, each in enumerate(zip(specs, tables, strict=True))]


def settled_spec(run: RunDirectory) -> RunSpec:
    """The configuration of a finished run, with the exponent that it was trained with in place of ``auto``.

    Raises:
        ConfigError: its config.yaml can't be parsed.
    """
    spec, summary = parse(run.read_config()), run.read_summary()
    if not spec.weighting.chooses or summary is None:
        return spec
    number = {"exponent": summary["weighting"]["exponent"]}
    return spec.model_copy(update={"weighting": spec.weighting.model_copy(update=number)})
