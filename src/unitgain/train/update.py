"""Some target rows are labelled: keep the old model, train it on, or train anew?

Shapes: B resamples, C classes, D features, K members, M graded rows, N rows, S seeds, T targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared, Shifted, Split, Table, prepare
from unitgain.data.labelled import with_labelled_rows
from unitgain.errors import ConfigError, DataError
from unitgain.nn.losses import probabilities
from unitgain.shift import ConceptTest, detect_concept_shift
from unitgain.spec import RunSpec
from unitgain.spec._shift import NoShiftNode, UniformNode
from unitgain.stats.intervals import Interval
from unitgain.train.cross_fit import train_unrecorded
from unitgain.train.evaluate import opened
from unitgain.train.settings import process_settings

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST = 20
"""Rows to train on, and rows to grade, below which nothing is compared."""
HELD_SHARE = 0.2
"""Of the labelled rows: they choose the epoch."""
RESAMPLES = 2000
_BLOCK = 100
LEVEL = 0.95
METRICS = {"classification": ("log_loss", "accuracy"), "regression": ("rmse", "mae")}
"""What candidates are graded by; the first decides."""


@final
@dataclass(frozen=True)
class Candidate:
    """One way to a model for the target.

    Attributes:
        name: what is done.
        rows: that its weights are trained on, those of the old model apart.
        seeds: how many such models were trained; one for the old one, which is what it is.
        scores: each metric on the graded target rows, the mean over seeds.
        behind: how far the first metric lies above that of the best candidate, on the same rows.
    """

    name: str
    rows: int
    seeds: int
    scores: Mapping[str, Interval]
    behind: Interval


@final
@dataclass(frozen=True)
class Update:
    """What labelled rows of the target say.

    Attributes:
        labelled: rows that the candidates may see.
        held: of these, those that choose the epoch.
        graded: other target rows, which no candidate sees.
        concept: the test on all labelled rows; None where it can't be done.
        concept_text: its finding, or why there is none.
        candidates: in the order in which they were made.
    """

    labelled: int
    held: int
    graded: int
    concept: ConceptTest | None
    concept_text: str
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        """The one with the least first metric."""
        return min(self.candidates, key=lambda each: next(iter(each.scores.values())).value)

    @property
    def tied(self) -> tuple[Candidate, ...]:
        """Those whose difference from the best one may be chance."""
        return tuple(c for c in self.candidates if c is not self.best and c.behind.low <= 0)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for ``update.json``."""
        return {**asdict(self), "best": self.best.name, "tied": [each.name for each in self.tied]}


def update_of(
    directory: Path,
    *,
    labelled: int | None = None,
    epochs: int | None = None,
    seeds: int = 5,
    seed: int = 0,
    data: Path | None = None,
    separator: str = ",",
) -> Update:
    """Compare the old model with a warm start from it and with training anew, on labelled target rows.

    The target's rows are those of the run's test part, or of a file. Some are drawn as labelled: four fifths of them
    train, one fifth chooses the epoch. All others grade, and nothing else sees them. Where the run was shifted,
    labels are those of the shifted table. Sample weights of the table are left out.

    Args:
        directory: of the run.
        labelled: how many target rows are labelled; None: half of them, 100 at most.
        epochs: of each training; None: the run's.
        seeds: S, models of each candidate, trained as one pack.
        seed: draws the labelled rows, folds and resamples.
        data: a CSV or Parquet file of labelled rows of the target.
        separator: between cells of the file.

    Raises:
        ConfigError: too few or too many labelled rows, or the run was on a GPU and none is there.
        CheckpointError: best.ckpt is missing, damaged or another configuration's.
        DataError: data that can't be read.
    """
    with opened(directory) as (spec, module):
        old, network = module.tables[0], module.mlp.unpack(0).cpu()
        device, dtype = module.mlp.theta.device, module.mlp.theta.dtype
    raw, pool = _target(spec, old, data, separator)
    train, held, graded = _drawn(pool, labelled, seed)
    seen = np.concatenate([train, held])
    tables = _tables(spec, old, raw, (train, held, graded))
    warm = tables["warm start"]
    with process_settings(spec), torch.no_grad():
        output_NT = network(torch.from_numpy(warm.x).to(dtype)).double()
    found = _concept(warm, output_NT, old.split.val, seen, seed)
    scores = {"as it is": _row_scores(warm, output_NT[graded][None], graded)}
    for name, table in tables.items():
        start = str(directory) if name == "warm start" else None
        given = _training(spec, table, epochs, start)
        pack = train_unrecorded(
            given, [table] * seeds, device, seeds=[spec.seed + s for s in range(seeds)]
        )
        with process_settings(spec), torch.no_grad():
            said_KNT = pack.predict("test", spec.trainer.eval_batch_size).output_KNT
        scores[name] = _row_scores(table, said_KNT.double().cpu(), graded)
    rows = {name: len(table.split.train) for name, table in tables.items()}
    candidates = _graded(spec.data.task, scores, rows, np.random.default_rng([seed, 2]))
    return Update(len(seen), len(held), len(graded), *found, candidates)


def _target(spec: RunSpec, old: Prepared, data: Path | None, separator: str) -> tuple[Table, Rows]:
    """The table with the target's rows in it, and which they are."""
    table = old.shifted.table
    if data is None:
        return replace(table, group=None, time=None, weight=None), old.split.test
    joined = with_labelled_rows(table, data, separator=separator, impute=spec.data.impute)
    return joined, np.arange(table.n_rows, joined.n_rows)


def _drawn(pool: Rows, labelled: int | None, seed: int) -> tuple[Rows, Rows, Rows]:
    """Rows that train, that choose the epoch and that grade; all ascend."""
    count = min(100, len(pool) // 2) if labelled is None else labelled
    if not LEAST <= count <= len(pool) - LEAST:
        raise ConfigError(
            f"--labelled: must be at least {LEAST} and leave {LEAST} of the {len(pool)} target rows to grade, "
            f"got {count}; label more rows, or set another number"
        )
    drawn = np.random.default_rng([seed, 1]).permutation(pool)
    held = round(HELD_SHARE * count)
    parts = drawn[held:count], drawn[:held], drawn[count:]
    return np.sort(parts[0]), np.sort(parts[1]), np.sort(parts[2])


def _tables(
    spec: RunSpec, old: Prepared, raw: Table, rows: tuple[Rows, Rows, Rows]
) -> dict[str, Prepared]:
    """What each candidate trains on, encoded and scaled as it would be; no row of the target's twice."""
    train, held, graded = rows
    both = np.concatenate([old.split.train, train])

    def made(training: Rows, fitted: Prepared | None) -> Prepared:
        split = Split(train=training, val=held, test=graded)
        shifted = Shifted(raw, split, "none", None, float("nan"), float("nan"))
        return prepare(shifted, node=spec.data, fitted=fitted)

    return {
        "warm start": made(train, old),
        "labelled rows alone": made(train, None),
        "source and labelled": made(both, None),
    }


def _training(spec: RunSpec, table: Prepared, epochs: int | None, start: str | None) -> RunSpec:
    """The run's configuration for a table of another size."""
    count = len(table.split.train)
    batch = min(spec.data.batch_size, count)
    # A last batch of one row has no batch statistics.
    data = {"batch_size": batch, "drop_last": spec.data.drop_last or count % batch == 1}
    length = {} if epochs is None else {"max_epochs": epochs}
    return spec.model_copy(
        update={
            "warm_start": start,
            "monitor": "val/loss",
            "shift": NoShiftNode(),
            "weighting": UniformNode(),
            "debug": None,
            "data": spec.data.model_copy(update=data),
            "trainer": spec.trainer.model_copy(update=length),
        }
    )


def _concept(
    table: Prepared, output_NT: Tensor, source: Rows, target: Rows, seed: int
) -> tuple[ConceptTest | None, str]:
    """The test on validation rows of the source and labelled rows of the target, given what the old model says."""
    x_ND, y = torch.from_numpy(table.x), torch.from_numpy(table.shifted.table.y)
    pair = torch.from_numpy(source), torch.from_numpy(target)
    rows = [each for part in pair for each in (x_ND[part], y[part])]
    draw = torch.Generator().manual_seed(seed)
    try:
        found = detect_concept_shift(
            rows[0],
            rows[1],
            rows[2],
            rows[3],
            draw,
            predictions=(output_NT[pair[0]], output_NT[pair[1]]),
        )
    except DataError as error:
        return None, f"concept shift is not tested: {error}"
    outputs = table.class_names or table.target_names
    kind = "class" if table.class_names else "output"
    text = found.text.replace(f"{kind} {found.output},", f"{outputs[found.output]},")
    if found.direction >= 0:
        name = table.feature_names[found.direction]
        text = text.replace(f"feature {found.direction}:", f"{name}:")
    return found, text


def _row_scores(table: Prepared, output_KMT: Tensor, graded: Rows) -> list[Array]:
    """What each row adds to each metric, (K, M): both are means of it, of a root mean square its square."""
    y = torch.from_numpy(table.shifted.table.y[graded])
    if table.task == "classification":
        said_KMC = probabilities(output_KMT)
        own_KM = said_KMC[:, torch.arange(len(y)), y]
        epsilon = torch.finfo(own_KM.dtype).eps
        right_KM = (said_KMC.argmax(-1) == y).double()
        return [-own_KM.clamp(epsilon, 1 - epsilon).log().numpy(), right_KM.numpy()]
    scale, mean = torch.from_numpy(table.y_scale), torch.from_numpy(table.y_mean)
    error_KMT = output_KMT * scale + mean - y
    return [error_KMT.square().mean(-1).numpy(), error_KMT.abs().mean(-1).numpy()]


def _graded(
    task: str, scores: Mapping[str, list[Array]], rows: Mapping[str, int], rng: np.random.Generator
) -> tuple[Candidate, ...]:
    """Candidates with percentile intervals: graded rows are drawn again, the same for all, and seeds within each."""
    metrics = METRICS[task]
    value = {n: [_means(v, m) for v, m in zip(scores[n], metrics, strict=True)] for n in scores}
    first = {name: float(means[0].mean()) for name, means in value.items()}
    best = min(first, key=lambda name: first[name])
    drawn = _resampled(metrics, scores, rng)
    candidates = []
    for name in scores:
        pairs = zip(metrics, value[name], drawn[name], strict=True)
        candidates.append(
            Candidate(
                name,
                rows.get(name, 0),
                len(scores[name][0]),
                {metric: _interval(float(mean_S.mean()), b) for metric, mean_S, b in pairs},
                _interval(first[name] - first[best], drawn[name][0] - drawn[best][0]),
            )
        )
    return tuple(candidates)


def _means(value_SM: Array, metric: str, count_BM: Array | None = None) -> Array:
    """A metric of each seed, (S,), or (B, S) where rows count several times or not at all."""
    mean = (
        value_SM.mean(1) if count_BM is None else count_BM @ value_SM.T / count_BM.sum(1)[:, None]
    )
    return np.asarray(np.sqrt(mean) if metric == "rmse" else mean)


def _resampled(
    metrics: Sequence[str], scores: Mapping[str, list[Array]], rng: np.random.Generator
) -> dict[str, list[Array]]:
    """Each metric of each candidate in resamples of graded rows and of seeds, (B,)."""
    size = next(iter(scores.values()))[0].shape[1]
    drawn: dict[str, list[list[Array]]] = {name: [[] for _ in metrics] for name in scores}
    # Some at a time: the counts of all would be as many numbers as rows times resamples.
    for _ in range(RESAMPLES // _BLOCK):
        count_BM = rng.multinomial(size, np.full(size, 1 / size), _BLOCK).astype(np.float64)
        for name, values in scores.items():
            seeds = len(values[0])
            pick_BS = rng.integers(seeds, size=(_BLOCK, seeds))
            for metric, value_SM, found in zip(metrics, values, drawn[name], strict=True):
                mean_BS = _means(value_SM, metric, count_BM)
                found.append(np.take_along_axis(mean_BS, pick_BS, axis=1).mean(1))
    return {name: [np.concatenate(each) for each in found] for name, found in drawn.items()}


def _interval(value: float, drawn_B: Array) -> Interval:
    low, high = np.quantile(drawn_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
