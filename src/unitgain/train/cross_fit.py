"""Many variants of one run trained as one pack that leaves nothing on disk, and losses of rows that none of them saw.

Shapes: K members, E exponents, F folds, N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.data import Prepared, Split, training_weights
from unitgain.errors import ConfigError
from unitgain.pack.build import build_mlp, build_pack, epochs
from unitgain.pack.engine import Pack
from unitgain.spec import Probe, RunSpec
from unitgain.train.scores import Scores
from unitgain.train.settings import process_settings
from unitgain.train.tracker import Tracker
from unitgain.train.warm_start import begin_from, warm_starts

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""That importance-weighted cross-validation compares."""

FOLDS = 5

Floats = NDArray[np.float64]


def train_unrecorded(
    spec: RunSpec,
    tables: Sequence[Prepared],
    device: torch.device,
    *,
    seeds: Sequence[int] | None = None,
) -> Pack:
    """Train one configuration on several tables as one pack, each member left at its best epoch.

    As `unitgain.train.fit` trains, early stopping included, without Lightning, files or measurements.

    Args:
        spec: of every member.
        tables: one a member, with parts of equal size.
        device: where to.
        seeds: one a member; None: the configuration's for all.
    """
    spec = spec.model_copy(update={"probe": Probe(every=None, quantities=())})
    given = [spec.seed] * len(tables) if seeds is None else seeds
    specs = [spec.model_copy(update={"seed": seed}) for seed in given]
    scores, early = Scores(spec), spec.callbacks.early_stopping
    tracker = Tracker(len(specs), scores.mode(spec), early.patience, early.min_delta)
    with process_settings(spec), torch.no_grad():
        mlp = build_mlp(specs, tables).to(device)
        pack = build_pack(specs, tables, mlp, device)
        begin_from(mlp, warm_starts(specs, mlp))
        for epoch in range(epochs(spec)):
            pack.train_epoch(epoch)
            value_K = scores.of(pack, "val")[spec.monitor.removeprefix("val/")]
            for k in tracker.update(epoch, value_K, mlp.block_state()):
                tracker.status[k] = "finished"
            if not tracker.running:
                break
        if tracker.best_state is None or (tracker.best_epoch_K < 0).any():
            raise ConfigError(
                "optimizer.lr: must let every fold train, but the loss of some was never finite; lower it"
            )
        mlp.load_block_state(tracker.best_state)
    return pack


@final
@dataclass(frozen=True, eq=False)
class CrossFit:
    """Losses of source rows under models that weren't trained on them.

    Attributes:
        exponents: of the training weights, one a variant.
        rows: (N,) the numbers of the rows that were left out once, in the table.
        loss_EN: their losses under each variant.
        train_loss_E: the mean loss of each variant on its own training rows, unweighted.
    """

    exponents: tuple[float, ...]
    rows: NDArray[np.int64]
    loss_EN: Tensor
    train_loss_E: tuple[float, ...]

    def loss_of(self, exponent: float) -> Tensor:
        """The losses (N,) of one variant."""
        return self.loss_EN[self.exponents.index(exponent)]


def cross_fit(
    spec: RunSpec,
    table: Prepared,
    full_N: Floats,
    exponents: Sequence[float],
    *,
    folds: int = FOLDS,
    device: torch.device | str = "cpu",
    plain: bool = True,
) -> CrossFit:
    r"""Leave each fold of the source out once, for each exponent of the weights, all in one pack.

    A member trains on the source rows outside its fold with weights :math:`w^\lambda`, bounded as the run's and
    normalised over them; a part of them, as large a share as in the run, is its validation part, weighted in full.
    Folds are of one size; up to F - 1 rows are never left out. All begin from the initializer, whatever the run does.

    Args:
        spec: the run.
        table: of the run.
        full_N: (N,) the weight of every row of the table; the target's are not read.
        exponents: lambda of each variant, within [0, 1].
        folds: F, at least two.
        device: where to train.
        plain: whether :math:`\lambda = 0` stands for the run without weighting, whose validation has no weights either.

    Raises:
        ConfigError: fewer than two folds, or the source has fewer rows than folds.

    Reference:
        Sugiyama, Krauledat and Mueller (2007), JMLR 8, section 4.
    """
    source = np.sort(np.concatenate([table.split.train, table.split.val]))
    if not 2 <= folds <= len(source):
        raise ConfigError(
            f"folds: must be at least 2 and at most the {len(source)} source rows, got {folds}; leave the default"
        )
    rng = np.random.default_rng([spec.weighting.seed, len(source)])
    order, size = rng.permutation(source), len(source) // folds
    left_out = [order[f * size : (f + 1) * size] for f in range(folds)]
    share = len(table.split.val) / len(source)
    splits = [_split(order, fold, share) for fold in left_out]
    largest = spec.weighting.largest
    tables = [
        _member(table, split, full_N, None if plain and e == 0 else e, largest)
        for e in exponents
        for split in splits
    ]
    # Weights to begin from may have been trained on the rows that are left out.
    fresh = spec.model_copy(update={"warm_start": None})
    pack = train_unrecorded(fresh, tables, torch.device(device))
    limit = spec.trainer.eval_batch_size
    with process_settings(spec), torch.no_grad():
        test, train = pack.predict("test", limit), pack.predict("train", limit)
        loss_KN = pack.loss(test.output_KNT, test.target).double().cpu()
        train_K = pack.loss(train.output_KNT, train.target).double().mean(1).cpu()
    members = (len(exponents), folds)
    # Validation and test rows of a member ascend: so must those whose losses these are.
    rows = np.concatenate([np.sort(fold) for fold in left_out])
    return CrossFit(
        tuple(exponents),
        rows,
        loss_KN.view(len(exponents), -1),
        tuple(train_K.view(members).mean(1).tolist()),
    )


def _split(order: NDArray[np.int64], fold: NDArray[np.int64], share: float) -> Split:
    """A fold left out; of the others, the first ``share`` in the drawn order is for validation."""
    kept = order[~np.isin(order, fold)]
    val, train = np.split(kept, [max(1, round(share * len(kept)))])
    return Split(train=np.sort(train), val=np.sort(val), test=np.sort(fold))


def _member(
    table: Prepared, split: Split, full_N: Floats, exponent: float | None, largest: float | None
) -> Prepared:
    """The table of one member: another split, with the weights that belong to it; None: without any."""
    training_N, eval_N = np.ones(len(table.x)), np.ones(len(table.x))
    if exponent is not None:
        training_N[split.train] = training_weights(full_N[split.train], exponent, largest)
        eval_N[split.val] = full_N[split.val]
    given = table.shifted.table.weight
    given_N = np.ones(len(table.x)) if given is None else given / given[split.train].mean()
    return replace(table, split=split, weight=given_N * training_N, eval_weight=given_N * eval_N)
