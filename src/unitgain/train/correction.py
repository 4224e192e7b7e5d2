"""Should a run correct for the shift between its source and its target? All that is known without target labels, and
what the test labels then say.

Shapes: N training rows, M target rows, D features.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from unitgain.data import Prepared, prepare
from unitgain.errors import ConfigError, DataError
from unitgain.pack.engine import Pack
from unitgain.runs import RunDirectory
from unitgain.shift import Balance, Diagnostics, balance, diagnose
from unitgain.spec import RunSpec, parse
from unitgain.train.coverage import Coverage, conformal_coverage, input_weights
from unitgain.train.cross_fit import train_unrecorded
from unitgain.train.detection import LEVEL, ShiftDetection, detect_shift
from unitgain.train.evaluate import opened
from unitgain.train.exponent import settled_spec
from unitgain.train.label_shift import LabelShift, label_shift_of
from unitgain.train.reliability import Reliability, reliabilities
from unitgain.train.representations import Reader, Representations
from unitgain.train.scores import Scores
from unitgain.train.settings import accelerator, process_settings
from unitgain.train.target_risk import CrossValidation, cross_validate

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of training rows.

    Attributes:
        full_N: the estimated weight of every training row, with mean one.
        truth_N: the true ones; None where they aren't known.
        estimated: diagnostics of the former.
        true: those of the latter.
        error: the relative error |w - w*| / |w*|; None without the truth.
        balance: source means against target means, before and after weighting.
    """

    full_N: Floats
    truth_N: Floats | None
    estimated: Diagnostics
    true: Diagnostics | None
    error: float | None
    balance: Balance

    @classmethod
    def of(cls, table: Prepared) -> "Weights":
        """Those of a run that corrects."""
        assert table.importance is not None
        train, ratio = table.split.train, table.shifted.ratio
        full_N = torch.from_numpy(table.importance.full_N[train])
        truth_N = None if ratio is None else torch.from_numpy(ratio[train])
        source_ND, target_MD = (torch.from_numpy(table.x[r]) for r in (train, table.split.test))
        return cls(
            full_N.numpy(),
            None if truth_N is None else truth_N.numpy(),
            diagnose(full_N),
            None if truth_N is None else diagnose(truth_N),
            table.importance.error,
            balance(source_ND, target_MD, full_N),
        )

    def as_dict(self, names: tuple[str, ...]) -> dict[str, Any]:
        """All of it in plain types, without the rows; ``names`` are those of the features."""
        columns = zip(names, self.balance.before_D, self.balance.after_D, strict=True)
        return {
            "weights": asdict(self.estimated),
            "truth": None if self.true is None else asdict(self.true),
            "weight_error": self.error,
            "balance": {
                name: {"before": float(before), "after": float(after)}
                for name, before, after in columns
            },
        }


@final
@dataclass(frozen=True, eq=False)
class Correction:
    """What correcting a run for its shift does.

    Attributes:
        spec: of the corrected run.
        table: of the corrected run, with its weights.
        weights: of its training rows.
        detection: tests of validation rows against target rows, as the run sees them.
        risk: the target's loss without its labels, and whether to correct.
        label: class weights; None in a regression, and where ``no_label`` says why.
        no_label: why class weights can't be estimated.
        coverage: of conformal sets on target rows.
        calibration: of the run's posteriors; none in a regression.
        plain: metrics of the run without correction, by part.
        corrected: metrics with it.
    """

    spec: RunSpec
    table: Prepared
    weights: Weights
    detection: ShiftDetection
    risk: CrossValidation
    label: LabelShift | None
    no_label: str | None
    coverage: tuple[Coverage, ...]
    calibration: tuple[Reliability, ...]
    plain: Mapping[str, float]
    corrected: Mapping[str, float]

    def answer(self) -> str:
        """The gate's answer in words, with what stands against it."""
        if self.risk.gate.answer == "yes" and self.detection.p_value > LEVEL:
            return (
                f"{self.risk.answer} Yet target rows are not shown to differ from validation rows: "
                "weights that follow chance would look as good here."
            )
        return self.risk.answer

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain types, without the rows."""
        shifted, parts = self.table.shifted, self.table.split.parts()
        risk = self.risk.as_dict()
        risk["gate"]["text"] = self.answer()
        return {
            "weighting": self.spec.weighting.model_dump(mode="json", by_alias=True),
            "shift": {
                **self.spec.shift.model_dump(mode="json", by_alias=True),
                "kind": shifted.kind,
                "bound": shifted.bound,
                "ess_share": shifted.ess_share,
            },
            "rows": {
                name: len(rows) for name, rows in zip(("train", "val", "test"), parts, strict=True)
            },
            **self.weights.as_dict(self.table.feature_names),
            "detection": self.detection.as_dict(),
            **risk,
            "label": None if self.label is None else self.label.as_dict(),
            "no_label": self.no_label,
            "coverage": [each.as_dict() for each in self.coverage],
            "calibration": [each.as_dict() for each in self.calibration],
            "plain": dict(self.plain),
            "corrected": dict(self.corrected),
        }


def correction_of(directory: Path, *, folds: int = 5) -> Correction:
    """Compare a run with its twin that corrects, or doesn't.

    A run without weighting is compared with one that takes the default classifier's weights. Nothing is written.

    Args:
        directory: of a finished run.
        folds: of the cross-fit.

    Raises:
        ConfigError: the run isn't finished, can't be trained with weights, or was on a GPU that isn't there.
        CheckpointError: its best checkpoint is missing, damaged or another configuration's.
        DataError: the data can't be read again, or weights can't be estimated.
    """
    given = settled_spec(_finished(directory))
    spec = given if given.weighting.corrects else _with(given, "unitgain.shift.Classifier")
    device = torch.device("cuda" if accelerator(spec) == "gpu" else "cpu")
    run, twin, table = _both(directory, given, spec, device)
    plain, corrected = (twin, run) if given.weighting.corrects else (run, twin)
    seeded = torch.Generator().manual_seed
    seed, val, test = spec.weighting.seed, table.split.val, table.split.test
    with process_settings(spec):
        risk = cross_validate(
            directory, spec, table, folds=folds, device=device, generator=seeded(seed)
        )
        seen = run.read(val), run.read(test)
        # A corrected network's posteriors are the target's already.
        label, no_label = _label(table, plain.read(val), plain.read(test), seeded(seed))
        class_weight_C = label.ratio.weight_C if label is not None and label.holds else None
        weights = input_weights(table)
        return Correction(
            spec=spec,
            table=table,
            weights=Weights.of(table),
            detection=detect_shift(*seen, seeded(seed)),
            risk=risk,
            label=label,
            no_label=no_label,
            coverage=conformal_coverage(table, *seen, weights, class_weight_C),
            calibration=reliabilities(table, *seen, weights[0], class_weight_C),
            plain=plain.metrics,
            corrected=corrected.metrics,
        )


@final
@dataclass(frozen=True, eq=False)
class _Trained:
    """A run or its twin: its metrics, and what it makes of rows."""

    metrics: Mapping[str, float]
    read: Reader

    @classmethod
    def of(cls, spec: RunSpec, pack: Pack, table: Prepared) -> "_Trained":
        return cls(Scores(spec).of_parts(pack), Reader(pack, table))


def _both(
    directory: Path, given: RunSpec, spec: RunSpec, device: torch.device
) -> tuple[_Trained, _Trained, Prepared]:
    """The run from its best checkpoint, its twin, trained here, and the table of the one that corrects."""
    with opened(directory) as (_, module):
        own = module.tables[0]
        run = _Trained.of(given, module.pack, own)
    corrects = given.weighting.corrects
    other = _with(given, "unitgain.shift.Uniform") if corrects else spec
    table = prepare(own.shifted, node=other.data, weighting=other.weighting, fitted=own)
    twin = _Trained.of(other, train_unrecorded(other, [table], device), table)
    return run, twin, own if corrects else table


def _finished(directory: Path) -> RunDirectory:
    run = RunDirectory(Path(directory))
    status, cause = run.standing()
    if status == "damaged":
        raise ConfigError(f"{directory}: must be a finished run, but it is damaged: {cause}")
    if status != "finished":
        ways = {"diverged": "train with a lower optimizer.lr", "failed": "train it again"}
        raise ConfigError(
            f"{directory}: must be a finished run, but it is {status}; "
            f"{ways.get(status, f'unitgain resume {directory}')}"
        )
    return run


def _with(spec: RunSpec, estimator: str) -> RunSpec:
    """The same run with another weighting, its exponent and bound kept."""
    common = {name: getattr(spec.weighting, name) for name in ("exponent", "largest", "seed")}
    return parse(spec.resolved() | {"weighting": {"_target_": estimator, **common}})


def _label(
    table: Prepared, source: Representations, target: Representations, generator: torch.Generator
) -> tuple[LabelShift | None, str | None]:
    """Class weights, or why there are none."""
    if table.task != "classification":
        return None, None
    try:
        return label_shift_of(table, source, target, generator), None
    except DataError as error:
        return None, error.lines[0]
