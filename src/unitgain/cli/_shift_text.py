"""What ``unitgain shift`` says: sentences and tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from unitgain.report.shift import UNBALANCED

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from unitgain.data import Prepared
    from unitgain.train.correction import Correction
    from unitgain.train.label_shift import LabelShift

FEATURES = 5
"""Rows of the balance table."""
CLASSES = 10
"""Rows of the table of classes: those whose shares move most."""

_EFFECTS = {
    "kolmogorov_smirnov": ("Kolmogorov-Smirnov", "distance"),
    "mmd": ("MMD", "MMD²"),
    "classifier_linear": ("classifier, linear", "ROC area"),
    "classifier_quadratic": ("classifier, quadratic", "ROC area"),
}
"""What tests are called, and what their effects are."""

_KINDS = {
    "none": "Source and target are of one distribution: weights can only add noise.",
    "covariate": "p(y | x) is unchanged, so weights of inputs are what can correct for it.",
    "label": "Class shares alone differ: weights of classes correct for it, and weights of inputs are no substitute.",
    "domain": "Between domains labels may depend on inputs otherwise too: weights mend what inputs explain, "
    "and labelled target rows alone show the rest.",
    "concept": "Labels depend on inputs otherwise in the target: no weights of source rows mend that, "
    "and without labels of target rows it can't be seen.",
    "corruption": "Target inputs were corrupted: a density ratio to weight by need not exist, and what follows can "
    "detect the shift but is no correction of it.",
}
"""What weights of source rows can do about each kind of shift."""

_MADE = {
    "none": "nothing moved",
    "covariate": "inputs were moved",
    "concept": "labels were changed",
    "corruption": "inputs were corrupted",
}
"""What is known by construction to have moved instead of class shares."""


def blocks(found: "Correction") -> Iterator["str | RenderableType"]:
    """Paragraphs and tables, in order."""
    yield _split(found)
    yield _KINDS[found.table.shifted.kind]
    yield _weights(found)
    yield _balance(found)
    yield _balance_table(found)
    yield _detection(found)
    yield _detection_table(found)
    yield from _label(found)
    yield "By the labels of target rows, which a benchmark has:"
    yield _metrics_table(found)
    yield from _absent(found.table, found.corrected)
    if found.calibration:
        yield _calibration(found)
    yield "Conformal sets of the run, calibrated on validation rows, with these weighted as below:"
    yield _coverage_table(found)
    yield _risk(found)
    yield f"Should it correct? {found.answer()}"
    if found.label is not None and found.label.holds:
        yield _class_advice(found.label, found.table.shifted.kind)


def _split(found: "Correction") -> str:
    rows = [len(part) for part in found.table.split.parts()]
    shifted, name = found.table.shifted, found.spec.shift.target.rpartition(".")[2]
    text = (
        f"Source: {rows[0]} training and {rows[1]} validation rows; target: {rows[2]} rows. Shift: {name} "
        f"({shifted.kind})."
    )
    if not math.isnan(shifted.bound):
        most = f"are at most {shifted.bound:.3g}" if shifted.bound < math.inf else "have no bound"
        text += (
            f" The populations' weights {most}, and leave {shifted.ess_share:.0%} of the source's rows "
            "effective."
        )
    return text


def _weights(found: "Correction") -> str:
    weights, name = found.weights.estimated, found.spec.weighting.target.rpartition(".")[2]
    text = (
        f"Weights by {name}: {weights.ess:.0f} effective of {weights.rows} training rows, the largest with "
        f"{weights.max_share:.1%} of the sum, tail index {weights.tail}."
    )
    if found.weights.true is not None:
        text += (
            f" True weights: {found.weights.true.ess:.0f} effective, tail index "
            f"{found.weights.true.tail}; the estimate's relative error is {found.weights.error:.2f}."
        )
    return text


def _balance(found: "Correction") -> str:
    columns = (found.weights.balance.before_D, found.weights.balance.after_D)
    before, after = (int((each.abs() > UNBALANCED).sum()) for each in columns)
    return (
        f"Means of source and target differ by more than {UNBALANCED} standard deviations in {before} of "
        f"{len(columns[0])} features, after weighting in {after}:"
    )


def _balance_table(found: "Correction") -> "RenderableType":
    before, after = found.weights.balance.before_D, found.weights.balance.after_D
    table = _table("feature", "before", "after")
    for d in before.abs().argsort(descending=True)[:FEATURES].tolist():
        table.add_row(found.table.feature_names[d], f"{before[d]:+.2f}", f"{after[d]:+.2f}")
    return table


def _detection(found: "Correction") -> str:
    from unitgain.train.detection import LEVEL

    spaces = found.detection.spaces
    count = sum(len(space.tests) for space in spaces)
    seen = found.detection.p_value <= LEVEL
    return (
        f"Validation and target rows {'differ' if seen else 'are not shown to differ'}: {count} tests at one level "
        f"of {LEVEL:.0%}, p-values adjusted for all of them:"
    )


def _detection_table(found: "Correction") -> "RenderableType":
    table = _table(
        "what", "p adjusted", "clearest test", "effect", text=("clearest test", "effect")
    )
    for space in found.detection.spaces:
        test = space.clearest
        name, unit = _EFFECTS.get(test.name, (test.name, "effect"))
        table.add_row(
            f"{space.name} ({space.columns})",
            f"{space.p_value:.2g}",
            name,
            f"{unit} {test.effect:.2f}",
        )
    return table


def _label(found: "Correction") -> Iterator["str | RenderableType"]:
    """Class weights in full where they are what to use, in a sentence where not, nothing for a regression."""
    label = found.label
    if found.no_label is not None:
        yield f"Class weights can't be estimated. {found.no_label}"
    if label is None:
        return
    if not label.holds:
        yield _no_label_shift(label)
        return
    yield (
        f"Class weights, if p(x | y) is unchanged, of {len(found.table.split.val)} validation rows' posteriors "
        f"without correction; the smallest singular value of their confusion matrix is "
        f"{label.ratio.smallest_singular_value:.2g}. {_assumption(label)}"
    )
    yield _class_table(label)
    yield "Posteriors of target rows, calibrated and corrected by the likelihood's weights (MLLS):"
    yield _posterior_table(label)


def _no_label_shift(label: "LabelShift") -> str:
    from unitgain.train.detection import LEVEL

    if label.p_value > LEVEL:
        return f"Class shares: predicted classes are not shown to move (p = {label.p_value:.2g})."
    text = f"Class shares: predicted classes move (p = {label.p_value:.2g})"
    if label.remainder.p_value is None:
        return f"{text}; too few rows tell whether class shares alone explain it."
    return (
        f"{text}, but class weights leave inputs different (p = {label.remainder.p_value:.2g}): "
        "p(x | y) has moved too, and posteriors are not corrected for shares alone."
    )


def _assumption(label: "LabelShift") -> str:
    from unitgain.train.detection import LEVEL

    rows, p_value = label.remainder.rows, label.remainder.p_value
    if p_value is None:
        return "Too few rows are left to test that assumption."
    left = "are not shown to differ" if p_value > LEVEL else "still differ: the assumption fails"
    return f"With {rows} source rows kept by these weights, inputs {left} (p = {p_value:.2g})."


def _class_advice(label: "LabelShift", kind: str) -> str:
    """What the gate, which weighs inputs, doesn't answer."""
    from unitgain.train.detection import LEVEL

    if kind in _MADE:
        return (
            f"For class shares: no. They look as if they alone had moved, but here {_MADE[kind]}, and too few "
            "rows tell the two apart."
        )

    if label.p_value > LEVEL:
        return f"For class shares: no, predicted classes are not shown to move (p = {label.p_value:.2g})."
    if label.indicated:
        return f"For class shares: yes, predicted classes move (p = {label.p_value:.2g}); correct posteriors."
    return "For class shares: cannot tell, the assumption behind class weights is not borne out."


def _class_table(label: "LabelShift") -> "RenderableType":
    ratio, truth_C = label.ratio, label.truth_C
    assert label.intervals is not None
    table = _table("class", "source", "target", "w by MLLS (95 %)", *label.others)
    if truth_C is not None:
        table.add_column("true w", justify="right")
    order = (ratio.target_C - ratio.source_C).abs().argsort(descending=True, stable=True).tolist()
    for c in sorted(order[:CLASSES]):
        low, high = (f"{end:.2f}" for end in label.intervals.weight_2C[:, c].tolist())
        cells = [
            label.class_names[c],
            f"{ratio.source_C[c]:.3f}",
            f"{ratio.target_C[c]:.3f}",
            f"{ratio.weight_C[c]:.2f} ({low} to {high})",
            *("-" if w_C is None else f"{w_C[c]:.2f}" for w_C in label.others.values()),
        ]
        table.add_row(*cells, *(() if truth_C is None else (f"{truth_C[c]:.2f}",)))
    if len(order) > CLASSES:
        table.add_row(f"and {len(order) - CLASSES} more")
    return table


def _posterior_table(label: "LabelShift") -> "RenderableType":
    from unitgain.cli._show import number

    table = _table("target rows", *label.scores)
    for metric in next(iter(label.scores.values())):
        table.add_row(metric, *(number(scores[metric]) for scores in label.scores.values()))
    return table


def _metrics_table(found: "Correction") -> "RenderableType":
    from unitgain.cli._show import number

    table = _table("target rows", "without", "with correction")
    for key, value in found.corrected.items():
        part, _, metric = key.partition("/")
        if part == "test":
            table.add_row(metric, number(found.plain[key]), number(value))
    return table


def _absent(table: "Prepared", metrics: Mapping[str, float]) -> Iterator[str]:
    """What no target row is of, which areas of several classes suffer from."""
    if table.n_classes < 3 or "test/auroc" not in metrics:
        return
    here = set(table.y[table.split.test].tolist())
    names = [name for c, name in enumerate(table.class_names) if c not in here]
    if names:
        shown = ", ".join(names[:CLASSES]) + (" and more" if len(names) > CLASSES else "")
        yield f"No target row is of class {shown}; auroc counts each class without rows as zero."


def _calibration(found: "Correction") -> str:
    from unitgain.report.calibration import curve_name

    errors = (f"{each.ece:.3f} ({curve_name(each.as_dict())})" for each in found.calibration)
    return f"Expected calibration error of the run: {', '.join(errors)}."


def _coverage_table(found: "Correction") -> "RenderableType":
    from unitgain.cli._show import number
    from unitgain.train.coverage import COVERAGE

    classes = found.table.task == "classification"
    size = "mean classes" if classes else "mean width"
    table = _table(f"{COVERAGE:.0%} sets, weighted by", "hold the answer", size, "unbounded")
    many = len({each.answer for each in found.coverage}) > 1
    for each in found.coverage:
        name = f"{each.weights}, {each.answer}" if many else each.weights
        table.add_row(name, f"{each.covered:.1%}", number(each.size), f"{each.unbounded:.1%}")
    return table


def _risk(found: "Correction") -> str:
    def shown(risk: object) -> str:
        interval = risk.interval  # type: ignore[attr-defined]
        return f"{interval.value:.3g} ({interval.low:.3g} to {interval.high:.3g})"

    risk = found.risk
    return (
        f"Target loss without target labels, of models trained on four fifths: {shown(risk.weighted_risk)} by "
        f"importance weighting, {shown(risk.robust_risk)} doubly robust. Least at exponent "
        f"{risk.best_exponent:g} of {', '.join(f'{e:g}' for e in risk.fitted.exponents)} (the run's is "
        f"{risk.exponent:g})."
    )


def _table(first: str, *others: str, text: Sequence[str] = ()) -> "Table":
    """A table without lines: names on the left, numbers on the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name in text else "right")
    return table
